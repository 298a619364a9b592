"""Whether the spool's file is left alone for a while, because it failed, and why."""

from __future__ import annotations

from htlogging._process.clock import clock
from htlogging._queue.spool.schema import SpoolBusy, SpoolUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging.exceptions import InvalidSetting

# Seconds for which the file is not tried again, once it could not be used.
AWAY = 5.0


class Outage:
    """Whether reading, or writing, has failed and is not tried for a while; and why."""

    def __init__(self) -> None:
        self._until = 0.0
        self.trouble = ""  # not reported yet
        self.broken = False  # the open connections may be useless
        self.damaged = False  # the file does not hold what was written to it

    def is_on(self) -> bool:
        """Return whether it must not be tried now."""
        return self._until > 0 and clock.monotonic() < self._until

    def note(self, exc: SpoolUnavailable | InvalidSetting) -> None:
        """Note a failure."""
        if isinstance(exc, SpoolBusy):
            return
        self.trouble = str(exc)
        if isinstance(exc, SpoolUnavailable):
            self.damaged |= exc.damaged
            self.broken |= exc.broken
            if exc.passing:
                return
        self._until = clock.monotonic() + AWAY

    def end(self) -> None:
        """Try again at once."""
        self._until = 0.0
        self.broken = self.damaged = False
