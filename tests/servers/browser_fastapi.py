"""A FastAPI shop whose visitors come with a browser."""

from browser_page import PAGE, SDK, log
from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse

from htlogging.integrations.asgi import HtEventsMiddleware

application = FastAPI()
application.add_middleware(HtEventsMiddleware, cookie_service="/ht")


@application.get("/", response_class=HTMLResponse)
def page():
    """Show the page."""
    return PAGE


@application.get("/events.min.js")
def sdk():
    """Send the browser SDK."""
    return FileResponse(SDK)


@application.post("/buy")
def buy():
    """Log an event with nothing but properties."""
    log.info("Order completed", extra={"total": 15.3})
