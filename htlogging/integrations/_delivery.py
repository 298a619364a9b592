"""Deliver waiting events when a server or a worker ends."""

from __future__ import annotations

import sys

from htlogging._process import shutdown


def deliver() -> None:
    """Flush and close every handler of this process; a later event opens it again."""
    shutdown.close_all()


async def deliver_async() -> None:
    """Do what `deliver` does, on another thread; the event loop keeps running."""
    asyncio = sys.modules.get("asyncio")
    loop = asyncio and asyncio._get_running_loop()  # noqa: SLF001
    if loop is not None:
        await loop.run_in_executor(None, deliver)
    else:
        # Hypercorn's worker for trio.
        trio = sys.modules["trio"]
        await trio.to_thread.run_sync(deliver)
