"""
The monotonic clock by which everything here waits.

Tools that stop the time in tests (freezegun) replace `time.monotonic` wherever a module
has it as an attribute; a deadline that never comes would then make `flush(1)` wait for
ever. They do not look into objects.
"""

from __future__ import annotations

import math
import time
from types import BuiltinFunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """The real time, whatever `time.monotonic` is at the moment."""

    __slots__ = ("monotonic",)

    def __init__(self) -> None:
        self.monotonic: Callable[[], float] = time.monotonic
        if not isinstance(time.monotonic, BuiltinFunctionType) and hasattr(
            time, "clock_gettime"
        ):
            # A tool has stopped the time before this import.
            identity, read = time.CLOCK_MONOTONIC, time.clock_gettime
            self.monotonic = lambda: read(identity)


clock = Clock()


def timeout_seconds(timeout: float | None) -> float:
    """
    Return what a caller gave as a timeout; without an end if it is `None` or huge.

    Raises:
        TypeError: It is not a number of seconds.
    """
    if timeout is None:
        return math.inf
    if not hasattr(timeout, "__float__"):
        raise TypeError(
            f"timeout must be seconds or None, not {type(timeout).__name__}"
        )
    try:
        given = float(timeout)
    except OverflowError:
        return math.inf if timeout > 0 else 0.0
    return 0.0 if math.isnan(given) else given
