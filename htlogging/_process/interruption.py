"""Exceptions that a signal handler of the application has raised into our calls."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any


def by_signal(exceptions: Iterable[BaseException]) -> BaseException | None:
    """
    Return the one of these that a signal handler raised; `None` if there is none.

    Such an exception is the application's (a time limit, say), and is not a fault of the
    network that it interrupted, though it may be a `TimeoutError` and libraries may have
    wrapped it. The handler's frame is in its traceback.
    """
    if threading.current_thread() is not threading.main_thread():
        return None  # Python runs handlers on the main thread alone
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
    while hasattr(handler, "func"):  # a partial
        handler = handler.func
    if not hasattr(handler, "__code__") and not hasattr(handler, "__func__"):
        handler = getattr(type(handler), "__call__", None)  # noqa: B004
    handler = getattr(handler, "__func__", handler)
    return getattr(handler, "__code__", None)
