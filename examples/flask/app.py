"""
A shop in Flask whose views log events.

    export HTEVENTS_WRITE_KEY=...
    gunicorn app:app
"""

import logging.config
import os
from collections.abc import Iterator

from flask import Flask, Response, request, session, stream_with_context

from htlogging.integrations.flask import HtEvents

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "htevents": {
                "()": "htlogging.HtEventsHandler",
                # Without a key, on a developer's machine, nothing is sent.
                "send": "HTEVENTS_WRITE_KEY" in os.environ,
            }
        },
        "loggers": {
            "htevents": {"handlers": ["htevents"], "level": "INFO", "propagate": False}
        },
    }
)
log = logging.getLogger("htevents")

app = Flask(__name__)
app.secret_key = os.environ.get("SECRET_KEY", "only for a look at it")

# Whoever has logged in is in the session; with Flask-Login it is current_user.get_id().
HtEvents(app, user_id=lambda _: session.get("user"), cookie_service="/ht")


@app.post("/login")
def login() -> str:
    """Log a user in; a real shop checks a password."""
    session["user"] = request.form["user"]
    log.info("Logged in")
    return "Welcome\n"


@app.post("/buy")
def buy() -> str:
    """Take an order."""
    log.info("Order completed", extra={"total": float(request.form["total"])})
    return "Thank you\n"


@app.get("/export")
def export() -> Response:
    """Send a report part by part; the event is made when the last one is sent."""

    @stream_with_context
    def lines() -> Iterator[str]:
        for number in range(3):
            yield f"order {number}\n"
        log.info("Report exported", extra={"orders": 3})

    return Response(lines())
