"""Whether the system's clock can be believed when it says that an event is too old."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds by which the clock may be set without being a jump: NTP's corrections.
TOLERANCE = 30.0

# Seconds for which a clock that jumped must have stood before it is believed.
PROBATION = 3_600.0

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Clock:
    """
    The system's clock, watched by one that cannot be set.

    Within a boot of the machine the two go side by side. The moment at which the boot
    began, by the system's clock, is noted in the file; when it is another one, the
    clock was set. A new boot has nothing to compare with, and is believed. Each operation on
    an attribute is atomic, and any thread may look.

    Args:
        wall: Seconds since 1970.
        steady: Seconds that cannot be set.
        boot: What this boot of the machine is known by.
    """

    def __init__(
        self,
        wall: Callable[[], float] = lambda: time.time(),  # noqa: PLW0108  (patched later)
        steady: Callable[[], float] | None = None,
        boot: str | None = None,
    ) -> None:
        self._wall = wall
        self._steady = steady or _since_boot
        self._boot = _boot_id() if boot is None else boot
        self.note: tuple[str, float] = (self._boot, self._started())  # to be kept
        self.jump = 0.0  # seconds by which the clock was set, not yet believed
        self._standing: tuple[float, float] | None = None  # began then, since
        # When the clock was set forward and is believed by now: the times that it showed
        # before, from and to, and by how many seconds it was behind.
        self.behind: tuple[float, ...] = ()

    def _started(self) -> float:
        return self._wall() - self._steady()

    def now(self, noted: tuple[bytes, float] | None = None) -> float | None:
        """
        Return the time; `None`: the clock is not believed just now.

        Args:
            noted: What the file says, if it does: the boot, and when that began.
        """
        self.see(noted)
        started = self._started()
        self.jump = started - self.note[1]
        if abs(self.jump) > TOLERANCE:
            since = self._has_stood(started)
            if since is None:
                return None
            if self.jump > 0:
                self.behind = self.note[1], self.note[1] + since, self.jump
        self.jump = 0.0
        self._standing = None
        self.note = self._boot, started
        return self._wall()

    def look(self) -> float | None:
        """Return the time as `now` does, but believe nothing new."""
        is_set = abs(self._started() - self.note[1]) > TOLERANCE
        return None if is_set else self._wall()

    def see(self, noted: tuple[bytes, float] | None) -> None:
        """Believe what the file says of this boot: it is from the first process that looked."""
        if noted is not None and noted[0] == self._boot.encode():
            self.note = self._boot, noted[1]

    def differs(self, noted: tuple[bytes, float] | None) -> bool:
        """Return whether `note` says something else than the file, by a second or more."""
        boot, started = self.note
        same = noted is not None and noted[0] == boot.encode()
        return not same or noted is None or abs(noted[1] - started) >= 1

    def time(self) -> float:
        """
        Return the time for what is written: the believed one, or the clock's if that is later.

        Whichever turns out to be right, nothing seems older than it is.
        """
        return max(self._wall(), self.note[1] + self._steady())

    def _has_stood(self, started: float) -> float | None:
        """Return since when, by the steady clock; `None`: not for long enough."""
        now = self._steady()
        if self._standing is None or abs(started - self._standing[0]) > TOLERANCE:
            self._standing = started, now
        since = self._standing[1]
        return since if now - since >= PROBATION else None


def _since_boot() -> float:
    # Unlike the monotonic clock, it goes on while the machine sleeps.
    boottime = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(boottime)


def _boot_id() -> str:
    try:
        with open(_BOOT_ID, "rb") as file:
            return file.read().strip().decode("latin-1")
    except OSError:
        return ""  # not on Linux: each process watches for itself
