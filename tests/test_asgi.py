"""The ASGI middleware: lifespans, websockets, and frameworks besides FastAPI."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import pytest
from script_runner import HANG

import htlogging
from htlogging import htevents
from htlogging.integrations.asgi import HtEventsMiddleware

pytestmark = pytest.mark.servers

sys.path.append(str(Path(__file__).with_name("servers")))


def live(app, collector):
    """
    Start and stop an application as a server does; return what it sent.

    Before the stop one event is made; it waits until it is delivered at the end.
    """
    client = htevents.Client("KEY", host=collector.url, upload_interval=600)
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = []

    async def receive():
        if not messages[1:]:
            client.track("user123", "Before the stop")
        return messages.pop(0)

    async def send(message):
        sent.append((message["type"], len(collector.events)))

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
    asyncio.run(HtEventsMiddleware(app)(scope, receive, send))
    return sent


DELIVERED = [("lifespan.startup.complete", 0), ("lifespan.shutdown.complete", 1)]


async def with_lifespan(_scope, receive, send):
    """Have one."""
    for _ in range(2):
        message = await receive()
        await send({"type": f"{message['type']}.complete"})


async def refuses(scope, _receive, _send):
    """Have none, as Django has."""
    raise ValueError(f"can only handle http, not {scope['type']}")


async def passes_over(scope, _receive, _send):
    """Have none, and say nothing."""
    assert scope["type"] == "lifespan"


class TestLifespan:
    @pytest.mark.parametrize("app", [with_lifespan, refuses, passes_over])
    def test_its_end_delivers(self, collector, app):
        """Before the server is told that it has ended; also where the app has none."""
        assert live(app, collector) == DELIVERED

    def test_the_event_loop_goes_on(self, collector):
        """While events are delivered, at the end too."""
        loop_went_on = threading.Event()
        # The answer waits for the loop, so a blocked one would never have it.
        collector.always(lambda _: loop_went_on.wait(HANG) and None)

        async def app(scope, receive, send):
            asyncio.get_running_loop().call_later(0.05, loop_went_on.set)
            await with_lifespan(scope, receive, send)

        assert live(app, collector) == DELIVERED

    def test_a_startup_that_fails(self, collector):
        """It fails as without us: the server is told."""

        async def raises(_scope, receive, _send):
            await receive()
            raise LookupError

        async def fails(_scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})

        with pytest.raises(LookupError):
            live(raises, collector)
        assert live(fails, collector) == [("lifespan.startup.failed", 0)]

    def test_is_no_scope(self):
        """What is bound while it starts is bound there, as without us."""
        seen = []

        async def app(_scope, _receive, send):
            htlogging.bind(a=1)
            await send({"type": "lifespan.startup.complete"})
            seen.append(htlogging.get())

        async def send(_message):
            pass

        asyncio.run(HtEventsMiddleware(app)({"type": "lifespan"}, None, send))
        assert seen == [{"a": 1}]


class TestOtherScopes:
    def test_are_passed_on(self):
        """What a later version of ASGI brings is the application's alone."""
        seen = []

        async def app(scope, receive, send):
            seen.append((scope, receive, send))

        scope = {"type": "webtransport"}
        asyncio.run(HtEventsMiddleware(app)(scope, 1, 2))
        assert seen == [(scope, 1, 2)]

    def test_a_bare_one(self, ht_events):
        """A scope that has the least still makes an event, with nothing made up."""

        async def app(_scope, _receive, _send):
            htevents.track("u", "e")

        scope = {"type": "http", "path": "/", "server": ("/run/shop.sock", None)}
        asyncio.run(HtEventsMiddleware(app)(scope, None, None))
        assert ht_events[0]["context"]["page"] == {"path": "/"}

    def test_a_mounted_application(self, ht_events):
        """The service's path is below the mount, the event's is the whole one."""
        sent = []

        async def app(_scope, _receive, _send):
            htevents.track("u", "e")

        async def send(message):
            sent.append(message.get("status"))

        middleware = HtEventsMiddleware(app, cookie_service="/ht")
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/shop/ht/renew",
            "root_path": "/shop",
            "headers": [(b"host", b"a"), (b"origin", b"http://a")],
        }
        asyncio.run(middleware(scope, None, send))
        assert sent[0] == 200
        asyncio.run(middleware({**scope, "path": "/shop/buy"}, None, send))
        assert ht_events[0]["context"]["page"]["path"] == "/shop/buy"

    def test_cookies_on_several_lines(self, ht_events):
        """HTTP/2 splits them."""

        async def app(_scope, _receive, _send):
            htevents.track(event="e")

        headers = [(b"cookie", b"a=b"), (b"cookie", b"htjs_anonymous_id=c")]
        scope = {"type": "websocket", "scheme": "wss", "path": "/", "headers": headers}
        asyncio.run(HtEventsMiddleware(app)(scope, None, None))
        assert ht_events[0]["anonymousId"] == "c"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestFrameworks:
    """The middleware around what these frameworks make."""

    def ask(self, app):
        """Send a request as a user."""
        from test_crowd import ask_asgi

        async def ask():
            await ask_asgi(HtEventsMiddleware(app), "/buy", late=False, user="user123")

        asyncio.run(ask())

    def test_litestar(self, ht_events):
        """A sync handler runs on a thread; a hook before it binds."""
        litestar = pytest.importorskip("litestar")

        def before(request: litestar.Request) -> None:
            htlogging.bind(ht_user_id=request.headers["x-user"])

        @litestar.get("/buy", sync_to_thread=True)
        def buy() -> str:
            htevents.track(event="Order completed")
            return "ok"

        self.ask(litestar.Litestar([buy], before_request=before))
        assert ht_events.one("Order completed")["userId"] == "user123"

    def test_quart(self, ht_events):
        """So does a view of Quart's, and a streaming body."""
        quart = pytest.importorskip("quart")
        app = quart.Quart("shop")

        @app.before_request
        def before():
            htlogging.bind(ht_user_id=quart.request.headers["x-user"])

        @app.get("/buy")
        def buy():
            htevents.track(event="Order completed")

            async def parts():
                yield "a"
                htevents.track(event="Streamed")

            return parts()

        self.ask(app)
        assert {e["event"]: e["userId"] for e in ht_events} == {
            "Order completed": "user123",
            "Streamed": "user123",
        }

    def test_starlette_mount(self, ht_events):
        """An application in an application: the path is the visitor's."""
        pytest.importorskip("starlette")
        from starlette.applications import Starlette
        from starlette.responses import PlainTextResponse
        from starlette.routing import Mount, Route

        def buy(_request):
            htevents.track("u", "Order completed")
            return PlainTextResponse("ok")

        inner = Starlette(routes=[Route("/", buy)])
        self.ask(Starlette(routes=[Mount("/buy", inner), Route("/buy", buy)]))
        assert ht_events[0]["context"]["page"]["path"] == "/buy"
