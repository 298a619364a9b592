"""The block behind `htevents.flushed`."""

from __future__ import annotations

import sys

from htlogging._scopes.block import Block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class FlushedBlock(Block):
    """
    Flush at the end of the block.

    Args:
        flush: Called at the end; for a coroutine, on a thread of the loop's executor.
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
        """Flush while the event loop keeps running, if it is one of asyncio's."""
        asyncio = sys.modules.get("asyncio")
        loop = asyncio and asyncio._get_running_loop()  # noqa: SLF001
        if loop is None:
            self._flush()
        else:
            await loop.run_in_executor(None, self._flush)
