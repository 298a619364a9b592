"""An ASGI application that tracks an event for each request, named by its path."""

import asyncio
import os

from htlogging import htevents

# Longer than any test: events that wait at the end are delivered by that end alone.
htevents.upload_interval = 600


async def application(scope, receive, send):
    """Answer whether the event was queued, and by whom."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    queued, _ = htevents.track("user", scope["path"].strip("/"))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d %d" % (queued, os.getpid())})


async def lifespan(receive, send):
    """Deliver what waits when the server stops."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.to_thread(htevents.join)
    await send({"type": "lifespan.shutdown.complete"})
