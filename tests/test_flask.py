"""Flask's extension, with real requests to a real application."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

flask = pytest.importorskip("flask")
sys.path.append(str(Path(__file__).with_name("servers")))
pytestmark = pytest.mark.servers

import identity_flask

import htlogging
from htlogging import htevents
from htlogging.integrations.flask import HtEvents

pytestmark = pytest.mark.servers


@pytest.fixture
def client():
    """Return a client of the application, on a thread where nothing is bound."""
    htlogging.clear()
    return identity_flask.app.test_client()


class TestHtEvents:
    def test_before_request_stays_in_its_request(self, client, ht_events):
        """What it binds is the request's, not the thread's."""
        client.get("/view", headers={"X-User": "a"})
        assert client.get("/anyone").json == {}
        assert ht_events.one("view")["userId"] == "a"
        assert htlogging.get() == {}

    def test_streaming(self, client, ht_events):
        """A response's parts, and its end, are made in the scope."""
        response = client.get("/stream", headers={"X-User": "a", "X-Late": "1"})
        assert response.data == b"ab"
        assert [event["userId"] for event in ht_events] == ["a", "a"]

    def test_closed_half_way(self, client, ht_events):
        """So is what a generator does when the visitor is gone."""
        response = client.get("/stream", headers={"X-User": "a"}, buffered=False)
        next(response.iter_encoded())
        response.close()
        assert ht_events.one("stream end")["userId"] == "a"

    def test_call_on_close(self, client, ht_events):
        """And what runs when the response is closed."""
        client.get("/closed", headers={"X-User": "a"}).close()
        assert ht_events.one("closed")["userId"] == "a"

    def test_an_error_leaves_nothing(self, client):
        """A view that raises ends its scope."""
        assert client.get("/fails").status_code == 500
        assert htlogging.get() == {}

    def test_cookie_service(self, client):
        """An option of the extension, too."""
        client.set_cookie("htjs_anonymous_id", "a")
        response = client.post("/ht/renew", headers={"Origin": "http://localhost"})
        assert response.status_code == 200
        assert client.get_cookie("htjs_anonymous_id_srvr").value == "a"

    def test_user_by_an_option(self, ht_events):
        """The function is asked within the request: `session` is there."""
        app = flask.Flask("shop")
        app.secret_key = "of a test"
        extension = HtEvents(user_id=lambda _: flask.session.get("user"))
        extension.init_app(app)
        extension.init_app(app)

        @app.get("/")
        def home():
            flask.session["user"] = "user123"
            htevents.track(event="Order completed")
            return "ok"

        assert app.test_client().get("/").data == b"ok"
        assert ht_events.one("Order completed")["userId"] == "user123"

    def test_wrong_options(self):
        """They are told where they are given, before there is an application."""
        with pytest.raises(htlogging.InvalidSetting, match="trusted_proxies"):
            HtEvents(trusted_proxies=-1)
