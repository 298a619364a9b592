"""A FastAPI application that tracks an event for each request, named by its path."""

import asyncio
import contextlib
import os

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from htlogging import htevents

# Longer than any test: events that wait at the end are delivered by that end alone.
htevents.upload_interval = 600


@contextlib.asynccontextmanager
async def lifespan(app):  # noqa: ARG001
    """Deliver what waits when the server stops."""
    yield
    await asyncio.to_thread(htevents.join)


application = FastAPI(lifespan=lifespan)


@application.get("/{name}", response_class=PlainTextResponse)
async def track(name):
    """Answer whether the event was queued, and by whom."""
    queued, _ = htevents.track("user", name)
    return f"{queued:d} {os.getpid()}"
