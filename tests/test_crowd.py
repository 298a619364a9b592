"""Many visitors at once: each event has its own visitor's user."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest

from htlogging import htevents

sys.path.append(str(Path(__file__).with_name("servers")))

pytestmark = [pytest.mark.slow, pytest.mark.servers]

CROWD = 1_000


def is_everyones(events, per_request):
    """Check that each visitor's events are there and have that visitor."""
    assert [e for e in events if e["userId"] != e["properties"]["of"]] == []
    found = Counter(event["userId"] for event in events)
    assert found.keys() == {f"u{n}" for n in range(CROWD)}
    assert sum(found.values()) == per_request


def ask_wsgi(application, path, late, user):
    """Send a request, and read its response to the end."""
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_X_USER": user,
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        **({"HTTP_X_LATE": "1"} if late else {}),
    }
    statuses = []
    body = application(environ, lambda status, *_: statuses.append(status))
    b"".join(body)
    if hasattr(body, "close"):
        body.close()
    assert statuses == ["200 OK"]


async def ask_asgi(application, path, late, user):
    """Send a request, and read its response to the end."""
    headers = [(b"host", b"127.0.0.1"), (b"x-user", user.encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
        "headers": [*headers, *[(b"x-late", b"1")] * late],
    }
    statuses, done = [], asyncio.Event()
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        if messages:
            return messages.pop()
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        elif not message.get("more_body"):
            done.set()

    await application(scope, receive, send)
    assert statuses == [200]


def over_threads(application, paths):
    """Send the crowd's requests from threads that are used again and again."""

    def ask(number):
        path = paths[number // 2 % len(paths)]
        ask_wsgi(application, path, number % 2, f"u{number}")

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(ask, range(CROWD)))


def over_tasks(application, paths):
    """Send the crowd's requests in one event loop."""

    async def ask(number, room):
        async with room:
            path = paths[number // 2 % len(paths)]
            await ask_asgi(application, path, number % 2, f"u{number}")

    async def main():
        room = asyncio.Semaphore(200)
        await asyncio.gather(*(ask(number, room) for number in range(CROWD)))

    asyncio.run(main())


class TestDjango:
    def test_wsgi(self, ht_events):
        """Views and streams on threads; half bind late."""
        pytest.importorskip("django")
        import django_app

        over_threads(django_app.wsgi, ["/view", "/stream"])
        is_everyones(ht_events, CROWD // 2 + CROWD)

    def test_asgi(self, ht_events):
        """Sync and async views, streams of async generators, in one event loop."""
        pytest.importorskip("django")
        import django_app

        paths = ["/view", "/async_view", "/async_stream"]
        over_tasks(django_app.application, paths)
        is_everyones(ht_events, CROWD)


class TestFlask:
    def test_threads(self, ht_events):
        """Views and streams on threads; half bind late."""
        pytest.importorskip("flask")
        import identity_flask

        over_threads(identity_flask.app, ["/view", "/stream"])
        is_everyones(ht_events, CROWD // 2 + CROWD)


class TestFastApi:
    def test_endpoints_and_dependencies(self, ht_events):
        """Sync and async endpoints, sync dependencies, streams, background tasks."""
        pytest.importorskip("fastapi")
        import identity_fastapi

        paths = {
            "/sync": 1,
            "/coroutine": 2,
            "/dependency": 1,
            "/sync_dependency": 1,
            "/yields": 2,
            "/stream": 1,
            "/sync_stream": 1,
            "/background": 2,
        }
        over_tasks(identity_fastapi.app, list(paths))
        counts = [list(paths.values())[n // 2 % len(paths)] for n in range(CROWD)]
        is_everyones(ht_events, sum(counts))


class TestNothingStays:
    def test_on_this_thread(self, ht_events):
        """After all of it, nothing is bound where nothing was."""
        pytest.importorskip("flask")
        import identity_flask

        ask_wsgi(identity_flask.app, "/view", late=True, user="u")
        with pytest.raises(ValueError, match="ht_user_id"):
            htevents.track(event="of nobody")
        assert len(ht_events) == 1
