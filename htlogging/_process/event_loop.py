"""Event loops, asyncio's and trio's: they must keep running."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def is_running() -> bool:
    """Return whether an event loop runs on this thread, asyncio's or trio's."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:  # noqa: SLF001
        return True
    return _runs_trio()


def _runs_trio() -> bool:
    trio = sys.modules.get("trio.lowlevel")
    try:
        # Raises RuntimeError where trio does not run.
        return trio is not None and bool(trio.current_trio_token())
    except RuntimeError:
        return False


async def run_beside(work: Callable[[], object]) -> None:
    """
    Do work on another thread and wait for it; the event loop keeps running.

    In a loop that is neither asyncio's nor trio's the work is done on this thread.
    """
    asyncio = sys.modules.get("asyncio")
    loop = asyncio and asyncio._get_running_loop()  # noqa: SLF001
    if loop is not None:
        await loop.run_in_executor(None, work)
    elif _runs_trio():
        await sys.modules["trio"].to_thread.run_sync(work)
    else:
        work()
