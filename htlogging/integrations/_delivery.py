"""Deliver waiting events when a server or a worker ends; import what that needs before."""

from __future__ import annotations

from htlogging._process import shutdown
from htlogging._process.threads import run_beside


def import_all() -> None:
    """Import what sending threads import: processes that are forked later have it, then."""
    import htlogging._delivery.connections
    import htlogging._delivery.limits
    import htlogging._delivery.sender
    import htlogging._delivery.thread
    import htlogging._delivery.transport
    import htlogging.htevents  # noqa: F401


def deliver() -> None:
    """Flush and close every handler of this process; a later event opens it again."""
    shutdown.close_all()


async def deliver_async() -> None:
    """Do what `deliver` does, on another thread; the event loop keeps running."""
    await run_beside(deliver)
