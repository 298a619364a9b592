"""The ASGI middleware in FastAPI and Starlette: where a scope is seen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")
sys.path.append(str(Path(__file__).with_name("servers")))
pytestmark = pytest.mark.servers

import identity_fastapi
from fastapi.testclient import TestClient

import htlogging

pytestmark = pytest.mark.servers

USER = {"X-User": "a"}


@pytest.fixture
def client():
    """Return a client of the application."""
    with TestClient(identity_fastapi.app) as client:
        yield client


class TestScope:
    @pytest.mark.parametrize(
        ("path", "names"),
        [
            ("sync", ["sync"]),
            ("coroutine", ["coroutine", "thread"]),
            ("dependency", ["dependency"]),
            ("sync_dependency", ["sync dependency"]),
            ("yields", ["yields", "dependency end"]),
            ("stream", ["stream"]),
            ("sync_stream", ["sync stream"]),
            ("background", ["sync background", "background"]),
        ],
    )
    def test_is_seen_in_all_of_the_request(self, client, ht_events, path, names):
        """Whatever thread or task its parts run on, and by a middleware afterwards."""
        # A stream that binds late has not when the middleware is done.
        late = path == "stream"
        client.get(f"/{path}", headers=USER if late else {**USER, "X-After": "1"})
        made = sorted((event["event"], event["userId"]) for event in ht_events)
        assert made == sorted((n, "a") for n in [*names, *["after"] * (not late)])

    def test_run_in_executor_is_asyncios_own(self, client):
        """It takes no context along: the one place where nothing is seen."""
        assert client.get("/executor").json() == [None, 1]

    def test_websocket(self, client, ht_events):
        """A connection is one scope, with what its request told."""
        with client.websocket_connect("/talk", headers=USER) as websocket:
            for text in ("one", "two"):
                websocket.send_text(text)
                websocket.receive_text()
        assert [event["userId"] for event in ht_events] == ["a", "a"]
        assert ht_events[0]["context"]["page"]["url"] == "http://testserver/talk"
        assert htlogging.get() == {}

    def test_cookie_service(self, client):
        """An option of `add_middleware`, too."""
        client.cookies.set("htjs_anonymous_id", "a")
        response = client.post("/ht/renew", headers={"Origin": "http://testserver"})
        assert response.status_code == 200
        assert client.cookies["htjs_anonymous_id_srvr"] == "a"
