"""A Django project in one file, whose views make events in all the ways there are."""

import asyncio
import os
import time

import django
from asgiref.sync import iscoroutinefunction
from django.conf import settings

from htlogging import bind, htevents

# Longer than any test where a server is to deliver at its end.
if "UPLOAD_INTERVAL" in os.environ:
    htevents.upload_interval = float(os.environ["UPLOAD_INTERVAL"])

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["testserver", "127.0.0.1"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": "file:htevents?mode=memory&cache=shared",
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
        ],
        MIDDLEWARE=[
            "htlogging.integrations.django.HtEventsMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django_app.claim",
        ],
        HTEVENTS_MIDDLEWARE={"cookie_service": "/ht"},
        LOGGING_CONFIG=None,
        ROOT_URLCONF="django_app",
        SECRET_KEY="of a test",
        USE_TZ=True,
    )
    django.setup()

from django.contrib.auth import login as log_in
from django.contrib.auth import logout as log_out
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.utils.decorators import sync_and_async_middleware

from htlogging.integrations.asgi import HtEventsMiddleware


class Claimed:
    """A user as the header `X-User` claims."""

    is_authenticated = True

    def __init__(self, pk):
        self.pk = pk


@sync_and_async_middleware
def claim(get_response):
    """Believe the header, as an authentication of the application's own would."""

    def believe(request):
        name = request.headers.get("X-User")
        if name and request.headers.get("X-Late") is None:
            request.user = Claimed(name)

    if not iscoroutinefunction(get_response):

        def middleware(request):
            believe(request)
            return get_response(request)

        return middleware

    async def middleware(request):
        believe(request)
        return await get_response(request)

    return middleware


def track(request, name):
    """Make an event that says whose it should be."""
    htevents.track(event=name, properties={"of": request.headers.get("X-User")})


def view(request):
    """Make one event at once, or as soon as the user is known."""
    time.sleep(0)
    bind(ht_user_id=request.headers["X-User"])
    track(request, "view")
    return HttpResponse("ok")


async def async_view(request):
    """Do the same in the event loop."""
    await asyncio.sleep(0)
    bind(ht_user_id=request.headers["X-User"])
    await asyncio.sleep(0)
    track(request, "async view")
    return HttpResponse("ok")


def claimed(request):
    """Make an event of whom the middleware believes."""
    track(request, "claimed")
    return HttpResponse("ok")


def stream(request):
    """Make an event between the parts of a response."""
    late = request.headers.get("X-Late")

    def parts():
        try:
            yield "a"
            if late:
                bind(ht_user_id=request.headers["X-User"])
            track(request, "stream")
            yield "b"
        finally:
            track(request, "stream end")

    return StreamingHttpResponse(parts())


async def async_stream(request):
    """Do the same in the event loop."""

    async def parts():
        yield "a"
        await asyncio.sleep(0)
        if request.headers.get("X-Late"):
            bind(ht_user_id=request.headers["X-User"])
        await asyncio.sleep(0)
        track(request, "async stream")
        yield "b"

    return StreamingHttpResponse(parts())


async def endless_stream(request):
    """Make parts until the visitor has gone, and then an event."""

    async def parts():
        try:
            yield "a"
            yield "b"
            await asyncio.Event().wait()
        finally:
            track(request, "gone")
            await asyncio.sleep(0)
            track(request, "tidied up")

    return StreamingHttpResponse(parts())


def looks(request):
    """Look at the user, as most views do."""
    name = str(request.user.is_authenticated)
    htevents.track(event="Looked", anonymous_id="a", properties={"in": name})
    return HttpResponse(name)


async def looks_async(request):
    """Look at the user without blocking the event loop."""
    user = await request.auser()
    htevents.track(event="Looked", anonymous_id="a")
    return HttpResponse(str(user.is_authenticated))


def ignores(_request):
    """Make an event, the user being of no interest."""
    htevents.track(event="Ignored", anonymous_id="a")
    return HttpResponse("ok")


async def ignores_async(_request):
    """Do the same in the event loop."""
    htevents.track(event="Ignored", anonymous_id="a")
    return HttpResponse("ok")


def in_and_out(request):
    """Log the user in and out again, with an event each."""
    user = User.objects.get(username="ada")
    htevents.track(event="Before", anonymous_id="a")
    log_in(request, user)
    htevents.track(event="In", anonymous_id="a")
    log_out(request)
    htevents.track(event="Out", anonymous_id="a")
    return HttpResponse("ok")


def file(_request):
    """Send this file."""
    return FileResponse(open(__file__, "rb"))


def fails(_request):
    """Bind, and fail."""
    bind(ht_user_id="leaks")
    raise LookupError


def pid(_request, name):
    """Answer whether an event was queued, and by whom."""
    queued, _ = htevents.track("user", name)
    return HttpResponse(f"{queued:d} {os.getpid()}")


VIEWS = (
    *(view, async_view, claimed, stream, async_stream, looks, looks_async),
    endless_stream,
    *(ignores, ignores_async, in_and_out, file, fails),
)
urlpatterns = [
    *(path(each.__name__, each) for each in VIEWS),
    path("<str:name>", pid),
]

wsgi = get_wsgi_application()
asgi = get_asgi_application()
# What uvicorn and gunicorn are told to serve.
application = HtEventsMiddleware(asgi)
