"""Errors that only pass through: a signal handler or another thread has raised them."""

from __future__ import annotations

from contextlib import suppress

from htlogging._process import fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


def is_passing(error: BaseException) -> bool:
    """
    Return whether a signal handler or another thread has raised an error.

    A time limit may be a `TimeoutError`, and so an `OSError`: code that takes errors of
    the system, or of the application's code, asks this first.
    """
    if isinstance(error, (RecursionError, MemoryError)):
        return False
    # Late: it is needed seldom.
    with fork.importing:
        from htlogging._process.interruption import by_signal, by_thread
    return by_signal([error]) is not None or by_thread([error]) is not None


class Ignored(suppress):
    """As `contextlib.suppress`, but for errors that pass through."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Return whether the error is ignored."""
        return super().__exit__(kind, error, trace) and not (
            error is not None and is_passing(error)
        )
