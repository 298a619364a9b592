"""Exceptions of the application that were raised into our calls, as time limits are."""

from __future__ import annotations

import functools
import queue
import sys
import threading

from htlogging._process.suppression import OwnThread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType
    from typing import Any

# Whose errors may come with arguments while something is sent, where no `raise` stands: C
# code raises them, or they are given the traceback of what they wrap.
_LIBRARIES = {*sys.stdlib_module_names, "requests", "urllib3", "urllib3_future"}
_LIBRARIES |= {"OpenSSL", "socks", "cryptography", "hiredis", "redis"}
_LIBRARIES |= {"gevent", "eventlet", "jh2", "qh3"}

# C code raises these where no `raise` stands, and the last two without arguments.
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


def by_thread(exceptions: Iterable[BaseException]) -> BaseException | None:
    """
    Return the one of these that another thread has set; `None` if there is none.

    RQ and Dramatiq set their time limits like that where jobs run on threads
    (`PyThreadState_SetAsyncExc`). Nothing marks such an exception. But no `raise` stands
    where it appears; and unlike what C code raises there, it has no arguments, or it is of
    a class that no library has.

    That may take the error of a library that is not known here for one of these. So it is
    not looked for where none can be: in a process without `ctypes`, by which Python code
    sets them, and on our own threads, where each error is an outage and is tried again.
    """
    is_own = isinstance(threading.current_thread(), OwnThread)
    if is_own or "ctypes" not in sys.modules:
        return None
    for exc in exceptions:
        trace = exc.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is None or isinstance(exc, _OF_C):
            continue
        code, at = trace.tb_frame.f_code.co_code, trace.tb_lasti
        module = type(exc).__module__.partition(".")[0]
        if (not exc.args or module not in _LIBRARIES) and (
            0 <= at < len(code) and code[at] != RAISE
        ):
            return exc
    return None


def by_signal(exceptions: Iterable[BaseException]) -> BaseException | None:
    """
    Return the one of these that a signal handler raised; `None` if there is none.

    Such an exception is the application's (a time limit, say), and is not a fault of the
    network that it interrupted, though it may be a `TimeoutError` and libraries may have
    wrapped it. The handler's frame is in its traceback.
    """
    if threading.current_thread() is not threading.main_thread():
        return None  # Python runs handlers on the main thread alone
    signal = sys.modules.get("signal")
    if signal is None:
        return None  # nothing has set a handler; the import takes half a millisecond
    codes = {_code(signal.getsignal(number)) for number in signal.valid_signals()}
    for exc in exceptions:
        trace = exc.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code in codes:
                return exc
            trace = trace.tb_next
    return None


def _code(handler: Any) -> CodeType | None:
    """Return the code of a function, a method or an object that is called."""
    # By its type: of some objects, a mock say, each attribute has each attribute.
    while isinstance(handler, functools.partial):
        handler = handler.func
    if not hasattr(handler, "__code__") and not hasattr(handler, "__func__"):
        handler = getattr(type(handler), "__call__", None)  # noqa: B004
    handler = getattr(handler, "__func__", handler)
    return getattr(handler, "__code__", None)
