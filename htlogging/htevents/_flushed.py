"""The block behind `htevents.flushed`."""

from __future__ import annotations

from htlogging._process.event_loop import run_beside
from htlogging._scopes.block import Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class FlushedBlock(Block):
    """
    Flush at the end of the block.

    Args:
        flush: Called at the end; for a coroutine, on another thread.
    """

    def __init__(self, flush: Callable[[], object]) -> None:
        self._flush = flush

    def fresh(self) -> FlushedBlock:
        """Return a block that does the same."""
        return FlushedBlock(self._flush)

    def end(self) -> None:
        """Flush."""
        self._flush()

    async def end_async(self) -> None:
        """Flush while the event loop keeps running."""
        await run_beside(self._flush)
