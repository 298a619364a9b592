"""
The demo's application: a shop that logs what its customers do, and ends.

It is an example of an application with htlogging: `dictConfig` at the start, fields bound
once per request, events where they happen, and no flush. `python -m htlogging demo` runs it
against a collector. Run by itself, it sends where the environment says::

    HTEVENTS_WRITE_KEY=... python -m htlogging._cli.demo_app

That is the real service, unless HTEVENTS_HOST names another.
"""

from __future__ import annotations

import json
import logging.config
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import htlogging
from htlogging import htevents

# The key and the host are in the environment: HTEVENTS_WRITE_KEY, HTEVENTS_HOST.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"htevents": {"()": "htlogging.HtEventsHandler"}},
    "loggers": {
        "htevents": {"handlers": ["htevents"], "level": "INFO", "propagate": False}
    },
}

log = logging.getLogger("htevents")


def web_visit() -> None:
    """Serve a visitor of the web shop: events by plain logging."""
    with htlogging.bound(ht_anonymous_id="visitor-7f3a", campaign="spring"):
        log.info("page", extra={"ht_type": "page", "ht_name": "Home", "path": "/"})
        log.info("screen", extra={"ht_type": "screen", "ht_name": "Basket"})
        log.info("Product Viewed", extra={"product_id": "85123A"})
    with htlogging.bound(ht_user_id="ada"):
        log.info("alias", extra={"ht_type": "alias", "ht_previous_id": "visitor-7f3a"})
        log.info(
            "identify",
            extra={"ht_type": "identify", "ht_traits": {"name": "Ada", "plan": "free"}},
        )
        log.info(
            "group",
            extra={"ht_type": "group", "ht_group_id": "acme", "industry": "Toys"},
        )
        # The event's name is the message without its arguments: one table for all.
        log.info("Order Completed", extra={"order_id": 536365, "total": 15.3})


def app_visit() -> None:
    """Serve a user of the app: the same kinds of events by the facade."""
    with htlogging.bound(ht_anonymous_id="device-22c1", channel="app"):
        htevents.page(category="Help", name="Delivery times")
        htevents.screen(name="Basket", properties={"items": 2})
        htevents.track(event="Product Viewed", properties={"product_id": "71053"})
    with htlogging.bound(ht_user_id=17850):
        htevents.alias(previous_id="device-22c1")
        htevents.identify(traits={"name": "Zoë", "plan": "pro"})
        htevents.group(group_id=42, traits={"name": "Müller & Söhne", "employees": 12})
        htevents.track(
            event="Order Completed",
            properties={"order_id": 536366, "total": Decimal("22.20")},
        )


def main() -> int:
    """
    Serve both at the same time, print the handler's counters, and end.

    Returns:
        The process's exit status: 2 without a usable write key or host.
    """
    try:
        logging.config.dictConfig(LOGGING)
    except ValueError as exc:
        print(f"{exc}: {exc.__cause__}", file=sys.stderr)
        return 2
    with ThreadPoolExecutor() as pool:
        for request in [pool.submit(web_visit), pool.submit(app_visit)]:
            request.result()
    (handler,) = log.handlers
    assert isinstance(handler, htlogging.HtEventsHandler)
    print(json.dumps(handler.stats))
    # No flush: queued events are delivered while the interpreter exits.
    return 0


if __name__ == "__main__":
    sys.exit(main())
