"""Deliver waiting events when a server or a worker ends."""

from __future__ import annotations

from htlogging._process import shutdown
from htlogging._process.event_loop import run_beside


def deliver() -> None:
    """Flush and close every handler of this process; a later event opens it again."""
    shutdown.close_all()


async def deliver_async() -> None:
    """Do what `deliver` does, on another thread; the event loop keeps running."""
    await run_beside(deliver)
