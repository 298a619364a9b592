"""The lines of one handler: losses, outages, mistakes, and how often each is written."""

from __future__ import annotations

import logging
import math
import re

from htlogging._process import locks
from htlogging._process.clock import clock
from htlogging._process.lines import events, first_delivery, no_event, say, sent_twice
from htlogging._process.locks import do_anyway

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

# Seconds between two lines of the same kind.
QUIET = 60.0

# Seconds for which a thread waits for another one that reports.
_WAIT = 0.1

# The most kinds of lines that are counted separately: there may be no end of mistakes.
MAX_KINDS = 200

# A pattern, compiled when it is used.
_NUMBER = r"[\d,]+"


class Report:
    """
    The lines of one handler.

    A log handler that raises does no harm: its line is lost, but no event.

    Args:
        clock: Monotonic seconds.
        host: Where the handler sends.
    """

    def __init__(
        self, clock: Callable[[], float] = clock.monotonic, host: str = ""
    ) -> None:
        self._clock = clock
        self._host = host
        # Guards what is below; never held while logging, for a log handler may come
        # back here. Re-entrant for signal handlers, and taken by `_do` alone: senders
        # and callers both report. A forked child has its own.
        self._lock = locks.rlock()
        # kind -> events that no line has counted yet, their outcome, and why the last of
        # them were lost
        self._losses: dict[str, tuple[int, str, str]] = {}
        # A time, not a flag: `report_rest` may not come, after an interruption.
        self._deferred_until = -math.inf
        self._written: dict[str, float] = {}  # kind -> when a line was last written
        self._outage_since: float | None = None
        self._outage_written = False  # whether a line said that this outage began
        self.outage = ""  # the reason for the outage; empty while there is none
        # The last loss: its time, outcome and reason; and the last answer that settled
        # events. For `health`.
        self.loss: tuple[float, str, str] | None = None
        self.last_answer = -math.inf
        # When the spool could not be used, the last time, and why.
        self.spool_failure: tuple[float, str] | None = None

    def lost(self, outcome: str, count: int, why: str, kind: str = "") -> None:
        """
        Report lost events, now or together with later ones.

        Args:
            outcome: `dropped`, `failed` or `rejected`.
            count: Events, >= 1.
            why: The reason, which ends the line.
            kind: Lines are counted by it; by default by the outcome.
        """
        now = self._clock()
        kind = kind or outcome
        if outcome != "rejected":
            self.loss = (now, outcome, why)
        total = self._do(lambda: self._count(kind, now, (count, outcome, why)))
        if total:
            say("%d %s %s: %s", total, events(total), outcome, why)

    def _count(self, kind: str, now: float, loss: tuple[int, str, str]) -> int:
        """Return how many events a line reports now; 0: a later line will."""
        total = self._losses.pop(kind, (0, "", ""))[0] + loss[0]
        if now < self._deferred_until or not self._may_write(kind, now):
            self._losses[kind] = (total, *loss[1:])
            return 0
        return total

    def rejected(self, why: str, where: str) -> None:
        """
        Report an invalid event.

        Args:
            why: What is wrong, and what to do. Its kind is this text without numbers.
            where: Where it was logged.
        """
        kind = f"rejected {re.sub(_NUMBER, '', why)}"
        if kind not in self._written and len(self._written) > MAX_KINDS:
            kind = "rejected"
        why = f"{why}; logged by {where}, for {self._host}"
        self.lost("rejected", 1, why, kind)

    def unknown_field(self, name: str, near: str, where: str) -> None:
        """
        Report a misspelt `ht_` name beside good ones: once for each name.

        Args:
            name: The name.
            near: The field that may be meant, or nothing.
            where: Where it was logged.
        """
        if len(self._written) > MAX_KINDS or not self._is_first(f"field {name}"):
            return
        hint = f"; did you mean {near}?" if near else ""
        say(
            "no such field: %s%s It was sent as a property; logged by %s, for %s",
            name[:40],
            hint or ".",
            where,
            self._host,
        )

    def duplicate(self, logger: str) -> None:
        """Report that another handler sends the same records to the same place."""
        sent_twice(logger, self._host)

    def odd_logger(self, line: str) -> None:
        """Report, once, a logger that drops what is meant as an event."""
        if self._is_first(line):
            say("%s (events go to %s)", line, self._host)

    def delivered(self, count: int) -> None:
        """Report the first delivery of this process, at INFO."""
        first_delivery(count, self._host)

    def clock_skew(self, seconds: float) -> None:
        """Report, once, a clock that is far from the server's."""
        if not self._is_first("clock"):
            return
        say(
            "the clock of this machine is %d minutes %s that of %s: set it, or events "
            "get wrong times",
            round(abs(seconds) / 60),
            "ahead of" if seconds > 0 else "behind",
            self._host,
        )

    def defer(self, until: float) -> None:
        """
        Hold lines back until `report_rest`: all losses then make one line.

        Args:
            until: Monotonic seconds, by which `report_rest` should have come.
        """
        self._deferred_until = until

    def has_unreported(self) -> bool:
        """Return whether there are losses that no line has counted."""
        return bool(self._losses)

    def report_rest(self) -> None:
        """Report the losses that no line has counted yet; called at the end."""
        losses, told = self._do(self._take_losses)
        for kind, (count, outcome, why) in losses.items():
            more = "more " if kind in told else ""
            say("%d %s%s %s: %s", count, more, events(count), outcome, why)

    def _take_losses(self) -> tuple[dict[str, tuple[int, str, str]], set[str]]:
        self._deferred_until = -math.inf
        losses, self._losses = self._losses, {}
        return losses, set(self._written)

    def outage_seconds(self) -> float:
        """Return the seconds that the outage has lasted; 0 while there is none."""
        since = self._outage_since
        return 0.0 if since is None else self._clock() - since

    def try_failed(self, why: str, *, closing: bool = False) -> None:
        """
        Note a failed try that will be repeated; the first one begins an outage.

        Args:
            why: The reason, in a few words.
            closing: Whether there is no other try, or hardly time for one. Then there is
                no line about the outage, only one about the events that are lost.
        """
        if self._do(lambda: self._begin_outage(why, closing=closing)):
            host = self._host
            say("events do not get through to %s (%s); trying again", host, why)

    def _begin_outage(self, why: str, *, closing: bool) -> bool:
        """Note an outage, perhaps one that lasts; return whether to write a line about it."""
        now = self._clock()
        if self._outage_since is None:
            self._outage_since = now
        self.outage = why
        if closing or self._outage_written or not self._may_write("outage", now):
            return False
        self._outage_written = True
        return True

    def answered(self) -> None:
        """Note an answer that settles events; it ends an outage."""
        self.last_answer = self._clock()
        if self._outage_since is None:
            return
        since, written = self._do(self._end_outage)
        if since is not None and written:
            seconds = self._clock() - since
            say("events get through again to %s, after %.1f s", self._host, seconds)

    def _end_outage(self) -> tuple[float | None, bool]:
        """Return when the outage began, if there was one, and whether a line was written then."""
        since, self._outage_since = self._outage_since, None
        written, self._outage_written, self.outage = self._outage_written, False, ""
        return since, written

    def on_error_raised(self, exc: BaseException) -> None:
        """Report an `on_error` that raised, by the name of the exception's class."""
        if self._is_due("on_error"):
            error, host = type(exc).__name__, self._host
            say("on_error raised %s; it was given events for %s", error, host)

    def no_thread(self) -> None:
        """Report that no sending thread can be started: a subinterpreter may have none."""
        if self._is_due("threads"):
            line = (
                "no thread can be started; events for %s are sent at flush or at exit"
            )
            say(line, self._host)

    def unspooled(self, why: str) -> None:
        """Report that the spool cannot be used, and events are kept in memory."""
        self.spool_failure = (self._clock(), why)
        line = f"the spool cannot be used ({why}); events for {self._host} are kept in"
        self.spool("use", f"{line} memory")

    def spool_unread(self, why: str) -> None:
        """Report that the spool cannot be read, and that what is in it waits."""
        line = f"the spool cannot be read ({why}); events for {self._host} wait in it"
        self.spool("use", line)

    def spool(self, kind: str, line: str) -> None:
        """
        Report what has become of the spool.

        Args:
            kind: There is at most one line of a kind a minute.
            line: The whole line, without anything of an event.
        """
        if self._is_due(f"spool {kind}"):
            say("%s", line)

    def not_an_event(self, why: str, where: str) -> None:
        """Report a record that looks like an event and is not one."""
        no_event(why, where, self._host)

    def left_in_spool(self, count: int) -> None:
        """Report the events that stay in the spool at the end."""
        verb = "stays" if count == 1 else "stay"
        line = "%d %s not delivered yet to %s %s in the spool"
        say(line, count, events(count), self._host, verb)

    def requested(self, count: int, size: int, outcome: str, seconds: float) -> None:
        """
        Report a request, at DEBUG.

        Args:
            count: Events in it.
            size: Bytes of its body before compression.
            outcome: The answer's status, or why there was no answer.
            seconds: How long that took.
        """
        line = "%d %s, %d bytes: %s from %s in %.3f s"
        outcome_of = (count, events(count), size, outcome, self._host, seconds)
        say(line, *outcome_of, level=logging.DEBUG)

    def _do(self, work: Callable[[], T]) -> T:
        """
        Do work with the lock, or soon without it: it is done all the same.

        Its owner may have been stopped by a signal handler that waits for this thread,
        which sends. A line too many does no harm.
        """
        return do_anyway(self._lock, _WAIT, work)

    def _is_first(self, kind: str) -> bool:
        """Return whether no line of this kind was written, and note that one is."""
        now = self._clock()

        def note() -> bool:
            is_first = kind not in self._written
            self._written.setdefault(kind, now)
            return is_first

        return self._do(note)

    def _is_due(self, kind: str) -> bool:
        """Return whether a line of this kind may be written now."""
        now = self._clock()
        return self._do(lambda: self._may_write(kind, now))

    def _may_write(self, kind: str, now: float) -> bool:
        """Return whether a line of this kind may be written, and note that it is."""
        if now - self._written.get(kind, -math.inf) < QUIET:
            return False
        self._written[kind] = now
        return True
