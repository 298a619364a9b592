"""
The application's code inside its values: a `str()`, a property, an iterator, a time zone.

An error of it costs a value, not the event. But what a signal handler or another thread
raises meanwhile (a time limit, say) is no error of it, and goes to the caller.
"""

from __future__ import annotations

from htlogging._process import fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def is_passing(error: BaseException) -> bool:
    """Return whether a signal handler or another thread has raised an error."""
    if isinstance(error, (RecursionError, MemoryError)):
        return False
    # Late: it is needed seldom.
    with fork.importing:
        from htlogging._process.interruption import by_signal, by_thread
    return by_signal([error]) is not None or by_thread([error]) is not None


def text_of(value: Any) -> str:
    """Return the `str()` of an object, or its `repr()`, or a text that says it has none."""
    for write in (str, repr):
        try:
            return write(value)
        except Exception as exc:  # noqa: PERF203
            if is_passing(exc):
                raise
    return "__could_not_encode__"
