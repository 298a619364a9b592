"""Django's middleware, with real requests to a real project."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

pytest.importorskip("django")
sys.path.append(str(Path(__file__).with_name("servers")))
pytestmark = pytest.mark.servers

import django_app
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.db import connection
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext

import htlogging
from htlogging.integrations.django import HtEventsMiddleware

pytestmark = pytest.mark.servers

VISITOR = "3f6d1c1e-6f0e-4b57-9a55-0f5d7b3c0a11"


class Sync:
    """A client that goes the way of WSGI."""

    def __init__(self, **options):
        self.client = Client(**options)

    def get(self, path, **headers):
        """Return the response and its whole body."""
        response = self.client.get(path, headers=headers)
        body = b"".join(response) if response.streaming else response.content
        response.close()
        return response, body

    def post(self, path, **headers):
        """Return the response."""
        return self.client.post(path, headers=headers)


class Async(Sync):
    """A client that goes the way of ASGI."""

    def __init__(self, **options):
        self.client = AsyncClient(**options)

    def get(self, path, **headers):
        """Return the response and its whole body."""

        async def get():
            response = await self.client.get(path, headers=headers)
            if not response.streaming:
                body = response.content
            elif response.is_async:
                body = b"".join([part async for part in response])
            else:
                body = b"".join(response)
            response.close()
            return response, body

        return asyncio.run(get())

    def post(self, path, **headers):
        """Return the response."""
        return asyncio.run(self.client.post(path, headers=headers))


@pytest.fixture(scope="module", autouse=True)
def ada():
    """Return a user of a database in memory, which lives as long as this connection."""
    connection.ensure_connection()
    call_command("migrate", verbosity=0, run_syncdb=True)
    return User.objects.create_user("ada")


@pytest.fixture(params=[Sync, Async])
def client(request):
    """Return each kind of client."""
    return request.param()


@pytest.fixture
def logged_in(client, ada):
    """Return a client whose session is a user's."""
    client.client.force_login(ada)
    return client


class TestUser:
    @pytest.mark.parametrize("path", ["/looks", "/looks_async"])
    def test_whom_the_view_has_looked_at(self, logged_in, ada, ht_events, path):
        """The authenticated user's key, by `request.user` or `request.auser()`."""
        assert logged_in.get(path)[1] == b"True"
        assert ht_events.one("Looked")["userId"] == str(ada.pk)

    @pytest.mark.parametrize("path", ["/ignores", "/ignores_async"])
    def test_no_query_no_session_of_its_own(self, logged_in, ht_events, path):
        """A view that does not ask who it is stays as cacheable as it was."""
        with CaptureQueriesContext(connection) as queries:
            response, _ = logged_in.get(path)
        assert queries.captured_queries == []
        assert "Cookie" not in response.get("Vary", "")
        assert not response.cookies
        assert ht_events.one("Ignored")["userId"] is None

    def test_nobody(self, client, ht_events):
        """Whoever is not logged in is no user."""
        assert client.get("/looks")[1] == b"False"
        assert ht_events.one("Looked")["userId"] is None

    def test_login_and_logout(self, client, ada, ht_events):
        """Each event has whom it finds, within one request too."""
        client.get("/in_and_out")
        made = [(event["event"], event["userId"]) for event in ht_events]
        assert made == [("Before", None), ("In", str(ada.pk)), ("Out", None)]

    def test_by_an_option(self, logged_in, ht_events):
        """`user_id`, a function of the request, is asked where it is given."""

        def email(request):
            return request.headers.get("X-Email")

        with override_settings(HTEVENTS_MIDDLEWARE={"user_id": email}):
            type(logged_in)().get("/ignores", **{"X-Email": "ada@example.com"})
        assert ht_events.one("Ignored")["userId"] == "ada@example.com"

    @pytest.mark.parametrize(
        "key", [True, None, [], object()], ids=lambda key: type(key).__name__
    )
    def test_an_odd_user(self, client, ht_events, key, monkeypatch):
        """A user model without an id that an event could have costs no event."""
        monkeypatch.setattr(django_app, "Claimed", lambda _: type("U", (), {
            "is_authenticated": True, "pk": key})())  # fmt: skip
        client.get("/ignores", **{"X-User": "x"})
        assert ht_events.one("Ignored")["userId"] is None


class TestRequest:
    def test_what_is_bound(self, client, ht_events):
        """What WSGI's and ASGI's middlewares bind."""
        client.client.cookies["htjs_anonymous_id"] = VISITOR
        client.get("/claimed?a=1", **{"X-User": "u", "User-Agent": "Mozilla"})
        (event,) = ht_events
        assert event["anonymousId"] == VISITOR
        assert event["userId"] == "u"
        assert event["context"]["ip"] == "127.0.0.1"
        assert event["context"]["userAgent"] == "Mozilla"
        assert event["context"]["page"] == {
            "url": "http://testserver/claimed",
            "path": "/claimed",
        }

    def test_a_host_that_is_not_allowed(self, client, ht_events):
        """Django refuses it by itself; an event made there is one all the same."""
        with override_settings(ALLOWED_HOSTS=["other.example"]):
            client.get("/claimed", **{"X-User": "u"})
        assert len(ht_events) <= 1

    def test_an_error_leaves_nothing(self, client):
        """A view that raises ends its scope."""
        client.client.raise_request_exception = False
        htlogging.clear()
        assert client.get("/fails")[0].status_code == 500
        assert htlogging.get() == {}


class TestStreaming:
    @pytest.mark.parametrize("path", ["/stream", "/async_stream"])
    @pytest.mark.parametrize("late", [{}, {"X-Late": "1"}])
    def test_parts_are_made_in_the_scope(self, client, ht_events, path, late):
        """Sync and async generators, by WSGI and ASGI; they may bind, too."""
        if isinstance(client, Async) == (path == "/stream"):
            pytest.skip("Django warns of the other kind of generator")
        htlogging.clear()
        _, body = client.get(path, **{"X-User": "u", **late})
        assert body == b"ab"
        assert [event["userId"] for event in ht_events] == ["u"] * len(ht_events)
        assert len(ht_events) == (2 if path == "/stream" else 1)
        assert htlogging.get() == {}

    def test_closed_half_way(self, ht_events):
        """What a generator does when the visitor is gone is in the scope."""
        response = Client().get("/stream", headers={"X-User": "u"})
        next(iter(response))
        response.close()
        assert ht_events.one("stream end")["userId"] == "u"

    @pytest.mark.parametrize("parts", [1, 2])
    def test_cut_by_the_client(self, ht_events, parts):
        """Under ASGI, while a part is sent or made: what follows is in the scope."""

        async def main():
            application = get_asgi_application()
            gone, sent = asyncio.Event(), 0
            messages = [{"type": "http.request"}]

            async def receive():
                if messages:
                    return messages.pop()
                await gone.wait()
                return {"type": "http.disconnect"}

            async def send(message):
                nonlocal sent
                sent += bool(message.get("body"))
                if sent == parts:
                    gone.set()
                    # The first is never taken; after the second the next is waited for.
                    await asyncio.sleep(0 if parts == 2 else 60)

            request = {
                "type": "http",
                "method": "GET",
                "path": "/endless_stream",
                "headers": [(b"host", b"testserver"), (b"x-user", b"u")],
            }
            await application(request, receive, send)

        asyncio.run(main())
        made = [(event["event"], event["userId"]) for event in ht_events]
        assert made == [("gone", "u"), ("tidied up", "u")]

    def test_a_file_stays_one(self):
        """The server may send it by itself."""
        middleware = HtEventsMiddleware(django_app.file)
        response = middleware(RequestFactory().get("/file"))
        assert response.file_to_stream is not None
        response.close()


class TestCookieService:
    def test_renew(self, client):
        """The ids are set again; before any other middleware, CSRF's too."""
        client.client.cookies["htjs_anonymous_id"] = "Zo%C3%AB"
        response = client.post("/ht/renew", Origin="http://testserver")
        assert response.status_code == 200
        assert response.cookies["htjs_anonymous_id"].coded_value == "Zo%C3%AB"
        server = response.cookies["htjs_anonymous_id_srvr"]
        assert server["httponly"]
        assert (server["max-age"], server["path"]) == ("31536000", "/")
        assert (server["samesite"], server["secure"]) == ("Lax", "")

    def test_of_another_origin(self, client):
        """403."""
        response = client.post("/ht/renew", Origin="http://evil.example")
        assert response.status_code == 403
        assert not response.cookies


class TestOptions:
    def test_wrong_ones(self):
        """They are told when the application starts."""
        with (
            override_settings(HTEVENTS_MIDDLEWARE={"trusted_proxies": -1}),
            pytest.raises(htlogging.InvalidSetting, match="trusted_proxies"),
        ):
            HtEventsMiddleware(lambda _: None)
