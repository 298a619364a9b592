"""A Flask shop whose visitors come with a browser."""

import flask
from browser_page import PAGE, SDK, log

from htlogging.integrations.flask import HtEvents

application = flask.Flask(__name__)
HtEvents(application, cookie_service="/ht")


@application.get("/")
def page():
    """Show the page."""
    return PAGE


@application.get("/events.min.js")
def sdk():
    """Send the browser SDK."""
    return flask.send_file(SDK)


@application.post("/buy")
def buy():
    """Log an event with nothing but properties."""
    log.info("Order completed", extra={"total": 15.3})
    return {}
