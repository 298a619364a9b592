"""Policy: how many events wait, and for how long → send a batch now, or wait."""

from __future__ import annotations

# Seconds between two full batches while the sender keeps up: under load they grow to a
# request of some size, instead of one for every 100 events. 50,000 events took 60
# requests instead of 300, and a fifth less CPU time.
PACE = 0.02


class Send:
    """Take a batch now."""


class Wait:
    """
    Wait for more.

    Args:
        wake_at: How many waiting events end the wait.
        seconds: How long it is at most.
    """

    __slots__ = ("seconds", "wake_at")

    def __init__(self, wake_at: int, seconds: float) -> None:
        self.wake_at = wake_at
        self.seconds = seconds


class Pacing:
    """
    When a batch goes; a value, like a date: what follows is another one.

    Args:
        full: Events that make a batch go.
        plenty: Events that make it go without a pause after the one before.
        interval: Seconds that an event waits for others.
        due: When the batch that is being filled goes; `None`: nothing waits.
        free: When the next full batch may go.
    """

    __slots__ = ("due", "free", "full", "interval", "plenty")

    def __init__(
        self,
        full: int,
        plenty: int,
        interval: float,
        due: float | None = None,
        free: float = 0.0,
    ) -> None:
        self.full = full
        self.plenty = plenty
        self.interval = interval
        self.due = due
        self.free = free

    def _with(self, due: float | None, free: float) -> Pacing:
        return Pacing(self.full, self.plenty, self.interval, due, free)

    def empty(self) -> Pacing:
        """Return it for a queue where nothing waits."""
        return self if self.due is None else self._with(None, self.free)

    def begun(self, now: float) -> Pacing:
        """Return it for a queue where events wait: from now on, if they are new."""
        return (
            self if self.due is not None else self._with(now + self.interval, self.free)
        )

    def taken(self, now: float, waiting: int) -> Pacing:
        """
        Return it for when a batch has been taken.

        Args:
            now: Monotonic seconds.
            waiting: Events that stay behind.
        """
        # What comes while this is sent waits from now on; what stays behind has waited
        # already.
        due = self.due if waiting else now + self.interval
        return self._with(due, 0.0 if waiting >= self.full else now + PACE)

    def decide(self, now: float, waiting: int, *, urgent: bool) -> Send | Wait:
        """
        Decide what to do; after `begun`.

        Args:
            now: Monotonic seconds.
            waiting: Events, 1 or more.
            urgent: Whether a caller waits for them.
        """
        assert self.due is not None
        if urgent or waiting >= self.plenty:
            return Send()
        if waiting >= self.full:
            left = self.free - now
            return Wait(self.plenty, left) if left > 0 else Send()
        left = self.due - now
        return Wait(self.full, left) if left > 0 else Send()
