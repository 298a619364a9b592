"""Batch → request → answer → outcome: delivered, split, sent again or given up."""

from __future__ import annotations

import math
import time

from htlogging._delivery.attempts import (
    MANY,
    REPEATED,
    Attempts,
    Parked,
    Result,
    uniform,
)
from htlogging._delivery.exchange import Unreachable, room
from htlogging._delivery.outcomes import cause
from htlogging._delivery.retry import (
    Verdict,
    judge,
    may_be_of_one_event,
    part_of,
    wait,
    whole_tries,
)
from htlogging._delivery.waits import Once
from htlogging._process.clock import clock
from htlogging._queue.claims import TOO_OLD
from htlogging._settings import MAX_BODY_EVENTS, UPLOAD_SIZE
from htlogging._stats import figures
from htlogging.exceptions import DeliveryError

# Seconds that our clock and the server's may differ.
MAX_SKEW = 300.0

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from htlogging._delivery.exchange import Answer, Transport
    from htlogging._delivery.outcomes import Outcomes
    from htlogging._delivery.waits import Time
    from htlogging._queue.claims import Batch

# How often a batch may end in a fault of ours before it is given up.
MAX_FAULTS = 10


class Sender:
    """
    Sends and settles batches, for one thread.

    Args:
        outcomes: What all senders of the handler share.
        transport: The thread's.
        others: Returns whether other events wait. Then events that the server fails at,
            while it takes others, are parked; `None`: they are not.
    """

    def __init__(
        self,
        outcomes: Outcomes,
        transport: Transport,
        others: Callable[[], object] | None = None,
    ) -> None:
        self._outcomes = outcomes
        self._transport = transport
        self._settings = outcomes.settings
        self._queue = outcomes.queue
        self._report = outcomes.report
        # How many bytes of events a request may have.
        self.room = room(self._settings.write_key)
        self.parked = Parked(others)
        self._faults = 0  # of the server, since something got through last
        self.open = transport.open
        self.close = transport.close

    def deliver(self, batch: Batch, deadline: Time) -> bool:
        """
        Send a batch until each of its events is delivered, given up or released.

        Events are released when the deadline comes and they can be sent later.

        Args:
            batch: Claimed events.
            deadline: This thread's time.

        Returns:
            Whether none was released. If some were, nothing more gets through before the
            deadline, because the next try would come after it.
        """
        parts = [batch]
        delivered, halving = self._outcomes.delivered, False
        try:
            while parts:
                part = parts.pop()
                work = Attempts(delivered, self.parked, halving=halving)
                if part is not batch and deadline.left() <= 0:
                    self._outcomes.put_back([part, *reversed(parts)])
                    return False
                verdict, failure = self._send_guarded(part, deadline, work)
                halving |= work.halving
                if verdict is Verdict.SPLIT:
                    parts += reversed(self._queue.split(part))
                elif verdict is Verdict.PART:
                    parts += self._ack_part(part, work)
                elif verdict is Verdict.RETRY:
                    self._outcomes.put_back([part, *reversed(parts)])
                    return False
                elif verdict is Verdict.PARK:
                    self.parked.add(part, work.tries, rarely=self._faults > MANY)
                elif failure is None:
                    self._ack(part)
                else:
                    self._outcomes.give_up(part, failure)
        except BaseException:
            # For example a Ctrl+C where a caller's thread sends, perhaps in on_error.
            self._outcomes.put_back(list(reversed(parts)))
            raise
        return True

    def deliver_parked(self, deadline: Time) -> None:
        """Try once more what was parked and is due; everything, when the worker ends."""
        while (found := self.parked.pop(at_once=deadline.is_last())) is not None:
            batch, tries = found
            work = Attempts(self._outcomes.delivered, self.parked, tries, once=True)
            verdict, failure = self._send_guarded(batch, deadline, work)
            if verdict is Verdict.PARK and not deadline.is_last():
                self.parked.add(batch, work.tries, rarely=self._faults > MANY)
            elif failure is None:
                self._ack(batch)
            elif verdict is Verdict.RETRY or self._queue.outlives(batch):
                self._outcomes.put_back([batch])
            else:
                self._outcomes.give_up(batch, failure)

    def deliver_once(self, batch: Batch, seconds: float) -> None:
        """
        Send a batch of one event without retries: with `sync_mode`, or at exit.

        If it does not get through and outlives the process, it is released and sent
        later.

        Args:
            batch: One event.
            seconds: How long it may take.

        Raises:
            DeliveryError: The event was given up; it is counted and reported, too.
        """
        work = Attempts(self._outcomes.delivered, self.parked)
        verdict, failure = self._send_guarded(batch, Once(seconds), work)
        if failure is None:
            self._ack(batch)
        elif verdict is Verdict.RETRY:
            self._outcomes.put_back([batch])
        else:
            self._outcomes.give_up(batch, failure)
            raise failure

    def _ack(self, batch: Batch) -> None:
        self._report.answered()
        self._report.delivered(len(batch))
        self._faults = 0
        outcomes = self._outcomes
        outcomes.delivered += 1
        outcomes.limit = min(outcomes.limit * 2, MAX_BODY_EVENTS)
        outcomes.acknowledge(batch)

    def _ack_part(self, batch: Batch, work: Attempts) -> list[Batch]:
        """Settle the part that got through; return the others, the first one last."""
        before: list[Batch] = []
        behind: list[Batch] = []
        for half in bin(work.part)[3:]:
            one, two = self._queue.split(batch)
            if half == "1":
                before.append(one)
                batch = two
            else:
                behind.append(two)
                batch = one
        self._ack(batch)
        return [*behind, *reversed(before)]

    def _send_guarded(
        self, part: Batch, deadline: Time, work: Attempts
    ) -> tuple[Verdict, DeliveryError | None]:
        try:
            return self._send(part, deadline, work)
        except BaseException as exc:
            # A fault of ours; or what passes: something that a signal handler raised, or
            # another thread, or a lack of memory.
            passes = isinstance(exc, MemoryError) or not isinstance(exc, Exception)
            part.faults += not passes
            if passes or part.faults < MAX_FAULTS:
                self._outcomes.put_back([part])
            else:
                self._outcomes.give_up(
                    part, DeliveryError(None, "internal", _name(exc))
                )
            raise

    def _send(
        self, part: Batch, deadline: Time, work: Attempts
    ) -> tuple[Verdict, DeliveryError | None]:
        """Try until the verdict is another than RETRY, or there is no time left."""
        stale = False
        while True:
            result = self._try(part, deadline, work)
            # After a stale connection it is tried again at once: not twice in a row.
            stale = result.stale and not stale
            verdict, failure = result.verdict, result.failure
            if failure is None:
                work.halving |= work.part > 1
                return (verdict if work.part == 1 else Verdict.PART), None
            if verdict is Verdict.UNCOMPRESSED:
                self._outcomes.compress = False
                if deadline.left() <= 0:
                    return Verdict.RETRY, failure
                continue
            if verdict is not Verdict.RETRY:
                # A part's refusal says nothing of the whole, which is tried as such.
                return (verdict if work.part == 1 else Verdict.SPLIT), failure
            if not stale:
                end = self._after_failure(part, result, failure, deadline, work)
                if end is not None:
                    return end
            self._outcomes.counters.add("retries")

    def _try(self, part: Batch, deadline: Time, work: Attempts) -> Result:
        """Send once."""
        work.tries += 1
        compress = self._outcomes.compress
        timeout = min(self._settings.timeout, max(deadline.left(), 0.001))
        first, end = part_of(len(part), work.part)
        events = part.events[first:end]
        try:
            answer = self._post(events, timeout, compress=compress)
        except Unreachable as exc:
            failure = DeliveryError(exc.status, exc.code, exc.reason, work.tries)
            verdict = Verdict.GIVE_UP if exc.final else Verdict.RETRY
            asked, stale = exc.retry_after, exc.stale
            return Result(verdict, failure, asked, stale=stale, fault=exc.cut)
        verdict = judge(answer.status, len(events), compressed=compress)
        if verdict is Verdict.DELIVERED:
            return Result(verdict)
        failure = DeliveryError(answer.status, answer.code, answer.message, work.tries)
        fault = may_be_of_one_event(answer.status)
        return Result(verdict, failure, answer.retry_after, fault=fault)

    def _after_failure(
        self,
        part: Batch,
        result: Result,
        failure: DeliveryError,
        deadline: Time,
        work: Attempts,
    ) -> tuple[Verdict, DeliveryError] | None:
        """Decide how to go on, and wait for the next try; or return what ends them."""
        closing = deadline.is_last() and deadline.left() < math.inf
        work.faults = work.faults + 1 if result.fault else 0
        self._faults += result.fault
        well = self._outcomes.delivered != work.delivered
        if result.fault and len(part) > 1:
            # The server takes others: it is one of these events, or some.
            work.halving |= well and work.faults >= REPEATED
            if work.halving:
                self._outcomes.counters.add("retries")
                return self._go_on(Verdict.SPLIT, part, result, failure, deadline)
        # Events on disk are tried until the outage ends, and outlive the process. Events in
        # memory, because the file could not be used, are not and do not.
        outlives = self._queue.outlives(part)
        if failure.tries > self._settings.max_retries and not outlives:
            self._report.try_failed(cause(failure), closing=True)
            return Verdict.GIVE_UP, failure
        if work.once:
            return Verdict.PARK, failure
        if result.fault and not closing and work.may_park(part, well=well):
            return self._go_on(Verdict.PARK, part, result, failure, deadline)
        self._report.try_failed(cause(failure), closing=closing)
        self._outcomes.limit = UPLOAD_SIZE
        most = whole_tries(self._settings.max_retries if not outlives else 2**31)
        if len(part) > 1 and result.fault and work.faults >= most:
            work.next_part(len(part))
        elif not result.fault:
            work.part = 1
        if not deadline.pause(wait(failure.tries, result.retry_after, uniform)):
            lost = deadline.is_last() and not outlives
            return Verdict.GIVE_UP if lost else Verdict.RETRY, failure
        if self._queue.overdue(part):
            why = DeliveryError(None, "spool", TOO_OLD, failure.tries)
            return Verdict.GIVE_UP, why
        return None

    def _go_on(
        self,
        verdict: Verdict,
        part: Batch,
        result: Result,
        failure: DeliveryError,
        deadline: Time,
    ) -> tuple[Verdict, DeliveryError]:
        """Return the verdict, after a wait if this looks like an outage by now."""
        over = self._faults - MANY
        if over <= 0:
            return verdict, failure
        outlives = self._queue.outlives(part)
        has_tries = outlives or over <= self._settings.max_retries
        self._report.try_failed(cause(failure), closing=not has_tries)
        if has_tries and deadline.pause(wait(over, result.retry_after, uniform)):
            return verdict, failure
        lost = not has_tries or (deadline.is_last() and not outlives)
        return Verdict.GIVE_UP if lost else Verdict.RETRY, failure

    def _post(
        self, events: Sequence[bytes], timeout: float, *, compress: bool
    ) -> Answer:
        """Send once, and report it at DEBUG."""
        request = self._transport.body(events)
        began, outcome, status = clock.monotonic(), "interrupted", "error"
        try:
            answer = self._transport.post(request, compress=compress, timeout=timeout)
            status = str(answer.status)
            outcome = f"HTTP {status}"
            if answer.date is not None:
                self._look_at_clock(answer.date)
        except Unreachable as exc:
            outcome = exc.reason
            raise
        finally:
            seconds = clock.monotonic() - began
            self._report.requested(len(events), len(request), outcome, seconds)
            figures.request(status, seconds)
        return answer

    def _look_at_clock(self, date: float) -> None:
        """Report a clock that is far from the server's: it gives events their times."""
        off = time.time() - date
        if abs(off) > MAX_SKEW:
            self._report.clock_skew(off)


def _name(exc: BaseException) -> str:
    return type(exc).__name__
