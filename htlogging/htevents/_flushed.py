"""Several handlers that flush side by side, and the block behind `htevents.flushed`."""

from __future__ import annotations

from htlogging._handler import pipeline_of
from htlogging._process.clock import clock, timeout_seconds
from htlogging._process.threads import run_beside
from htlogging._scopes.block import Block
from htlogging.exceptions import DeliveryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from htlogging._handler import HtEventsHandler


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


def flush_all(
    handlers: Sequence[HtEventsHandler], timeout: float | None, *, check: bool
) -> bool:
    """Flush handlers side by side; as `HtEventsHandler.flush` for all of them."""
    deadline = clock.monotonic() + timeout_seconds(timeout)
    for handler in handlers[1:]:
        pipeline_of(handler).start_flush()
    done = True
    error: DeliveryError | None = None
    for handler in handlers:
        left = None if timeout is None else max(deadline - clock.monotonic(), 0.0)
        try:
            done = handler.flush(left, check=check) and done
        except DeliveryError as exc:
            error = error or exc
    if error is not None:
        raise error
    return done
