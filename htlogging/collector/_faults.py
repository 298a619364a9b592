"""Faults that the page switches on: what the collector answers instead."""

from __future__ import annotations

import threading

from htlogging.collector._messages import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Fault → the answer, given the number of seconds.
FAULTS: dict[str, Callable[[float], Reply]] = {
    "slow": lambda seconds: Reply(delay=seconds),
    "429": lambda seconds: Reply(429, retry_after=f"{seconds:g}"),
    "500": lambda _: Reply(500),
    "413": lambda _: Reply(413),
    "cut": lambda _: Reply(drop="middle"),
    "lost": lambda _: Reply(drop="after"),
}
_MAX_SECONDS = 300  # of a slow answer, or of Retry-After


class InvalidFault(ValueError):
    """There is no such fault, or a number is out of range; the message says what is allowed."""


class Faults:
    """
    A fault for every request, or for every Nth one; at first there is none.

    Requests that a test's script or `always` answers are not affected.
    """

    def __init__(self) -> None:
        # Guards what is below. The connections' threads read it, the page sets it. A
        # forked child serves nothing, and does not use it.
        self._lock = threading.Lock()
        self._fault: str | None = None
        self._seconds = 2.0
        self._every = 1
        self._count = 0

    def choose(self, said: Any) -> None:
        """
        Choose the fault.

        Args:
            said: `{"fault": NAME | null, "seconds": S, "every": N}`; the last two are
                optional. With `every` only each Nth request fails.

        Raises:
            InvalidFault: A name or a number is invalid.
        """
        if not isinstance(said, dict):
            raise InvalidFault('a fault is chosen with {"fault": NAME}')
        fault = said.get("fault")
        if fault is not None and not (isinstance(fault, str) and fault in FAULTS):
            raise InvalidFault(f"fault must be null or one of {', '.join(FAULTS)}")
        seconds, every = said.get("seconds", 2), said.get("every", 1)
        if not _is_number(seconds) or not 0 <= seconds <= _MAX_SECONDS:
            raise InvalidFault(f"seconds must be a number from 0 to {_MAX_SECONDS}")
        if type(every) is not int or every < 1:
            raise InvalidFault("every must be a whole number from 1 on")
        with self._lock:
            self._fault, self._seconds = fault, float(seconds)
            self._every, self._count = every, 0

    def setting(self) -> dict[str, Any]:
        """Return the fault, its seconds, and which requests have it."""
        with self._lock:
            return {
                "fault": self._fault,
                "seconds": self._seconds,
                "every": self._every,
            }

    def reply(self) -> Reply | None:
        """Return the fault for the next request; `None`: the usual answer."""
        with self._lock:
            if self._fault is None:
                return None
            self._count += 1
            if self._count % self._every:
                return None
            return FAULTS[self._fault](self._seconds)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
