"""The shop's views. Each event has its visitor, and none says who that is."""

import logging
from collections.abc import Iterator

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

log = logging.getLogger("htevents")


def home(request: HttpRequest) -> HttpResponse:
    """Greet. `request.user` is looked at, and so bound from here on."""
    name = request.user.get_username() or "stranger"
    log.info("Home viewed")
    return HttpResponse(f"Hello, {name}\n")


@csrf_exempt
def buy(request: HttpRequest) -> HttpResponse:
    """Take an order."""
    log.info("Order completed", extra={"total": float(request.GET.get("total", 0))})
    return HttpResponse("Thank you\n")


def export(_request: HttpRequest) -> StreamingHttpResponse:
    """Send a report part by part; the event is made when the last one is sent."""

    def lines() -> Iterator[str]:
        for number in range(3):
            yield f"order {number}\n"
        log.info("Report exported", extra={"orders": 3})

    return StreamingHttpResponse(lines())
