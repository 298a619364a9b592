"""Exceptions of the application that were raised into our calls, as time limits are."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import functools
import queue
import sys
import threading
from contextlib import suppress

from htlogging._process.threads import is_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, TracebackType
    from typing import Any

# C code raises these without arguments, where no `raise` stands.
_OF_C = (MemoryError, StopIteration, queue.Empty)


def _raise() -> None:
    raise StopIteration


# The instruction of a `raise`. Not from `opcode`, whose import takes 1 % of the facade's;
# tests/test_interruption.py compares. (`compile` would take three times as long.)
RAISE = _raise.__code__.co_code[-2]


def pass_on(exceptions: Iterable[BaseException]) -> None:
    """
    Raise the one of these that is the application's, if there is one.

    Args:
        exceptions: An error and its causes, the innermost first: libraries give their own
            errors the traceback of what they wrap.
    """
    found = list(exceptions)
    raised = by_signal(found) or by_thread(found)
    if raised is not None:
        raise raised


def is_passing(error: BaseException) -> bool:
    """
    Return whether a signal handler or another thread has raised an error.

    A time limit may be a `TimeoutError`, and so an `OSError`: code that takes errors of
    the system, or of the application's code, asks this first.
    """
    if isinstance(error, (RecursionError, MemoryError)):
        return False
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


def by_thread(exceptions: Iterable[BaseException]) -> BaseException | None:
    """
    Return the one of these that another thread has set; `None` if there is none.

    RQ and Dramatiq set their time limits like that where jobs run on threads
    (`PyThreadState_SetAsyncExc`). Nothing marks such an exception. But no `raise` stands
    where it appears, and its class was called without arguments, as C code hardly does.

    Still that may take an error of C code for one of these. So it is not looked for where
    none can be: in a process without `ctypes`, by which Python code sets them, and on our
    own threads, where each error is an outage and is tried again.
    """
    if is_own() or "ctypes" not in sys.modules:
        return None
    for exc in exceptions:
        trace = exc.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is None or isinstance(exc, _OF_C):
            continue
        code, at = trace.tb_frame.f_code.co_code, trace.tb_lasti
        is_raised = not 0 <= at < len(code) or code[at] == RAISE
        if not is_raised and _is_bare(exc):
            return exc
    return None


def _is_bare(exc: BaseException) -> bool:
    """Return whether an exception's class was called without arguments."""
    if not exc.args:
        return True
    try:  # it may give itself some, as RQ's time limit does
        return bool(exc.args == type(exc)().args)
    except Exception:  # noqa: BLE001  (a class that needs some)
        return False


def by_signal(exceptions: Iterable[BaseException]) -> BaseException | None:
    """
    Return the one of these that a signal handler raised; `None` if there is none.

    Such an exception is the application's (a time limit, say), and is not a fault of the
    network that it interrupted, though it may be a `TimeoutError` and libraries may have
    wrapped it. The handler's frame is in its traceback.
    """
    if threading.current_thread() is not threading.main_thread():
        return None  # Python runs handlers on the main thread alone
    # Not by `signal`, which looks for a member of an enum: 2 us in place of 120.
    found = filter(callable, map(_signal.getsignal, _signal.valid_signals()))
    codes = {code for handler in found if (code := _code(handler))}
    for exc in exceptions:
        trace = exc.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code in codes:
                return exc
            trace = trace.tb_next
    return None


def _code(handler: Any) -> CodeType | None:
    """Return the code of a function, a method or an object that is called, if it has one."""
    # By its type: some objects, such as a mock, have every attribute.
    while isinstance(handler, functools.partial):
        handler = handler.func
    if not hasattr(handler, "__code__") and not hasattr(handler, "__func__"):
        handler = getattr(type(handler), "__call__", None)  # noqa: B004
    handler = getattr(handler, "__func__", handler)
    return getattr(handler, "__code__", None)
