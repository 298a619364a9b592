"""A Flask application whose views make events in all the ways there are."""

import flask

from htlogging import bind, htevents
from htlogging.integrations.flask import HtEvents

app = flask.Flask(__name__)
HtEvents(app, cookie_service="/ht")


def track(name):
    """Make an event that says whose it should be."""
    htevents.track(event=name, properties={"of": flask.request.headers["X-User"]})


@app.before_request
def believe():
    """Bind whom the header claims, but for those who bind late."""
    if (
        flask.request.headers.get("X-Late") is None
        and "X-User" in flask.request.headers
    ):
        bind(ht_user_id=flask.request.headers["X-User"])


@app.get("/view")
def view():
    """Make one event."""
    if flask.request.headers.get("X-Late"):
        bind(ht_user_id=flask.request.headers["X-User"])
    track("view")
    return "ok"


@app.get("/stream")
def stream():
    """Make an event between the parts of a response, and one at its end."""

    @flask.stream_with_context
    def parts():
        try:
            yield "a"
            if flask.request.headers.get("X-Late"):
                bind(ht_user_id=flask.request.headers["X-User"])
            track("stream")
            yield "b"
        finally:
            track("stream end")

    return flask.Response(parts())


@app.get("/closed")
def closed():
    """Make an event when the response is closed."""
    bind(ht_user_id=flask.request.headers["X-User"])
    response = flask.Response("ok")
    response.call_on_close(lambda: htevents.track(event="closed"))
    return response


@app.get("/anyone")
def anyone():
    """Answer what is bound."""
    from htlogging import get

    return {k: v for k, v in get().items() if k != "ht_context"}


@app.get("/fails")
def fails():
    """Bind, and fail."""
    bind(ht_user_id="leaks")
    raise LookupError
