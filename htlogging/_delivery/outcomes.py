"""The outcomes of batches: for waiting threads, for the log and for `on_error`."""

from __future__ import annotations

from collections import deque

from htlogging._delivery.waits import Signal
from htlogging._process import fork, locks
from htlogging._process.clock import clock
from htlogging._process.lines import events as word
from htlogging._process.threads import is_sending
from htlogging._queue.claims import fitting
from htlogging._settings import MAX_BODY_BYTES, MAX_BODY_EVENTS
from htlogging._stats import figures, reason_of
from htlogging.exceptions import DeliveryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from htlogging._queue.base import Claims, Holder
    from htlogging._queue.claims import Batch
    from htlogging._report import Report
    from htlogging._settings import Settings
    from htlogging._stats import Counters

# Seconds after which callers do not wait any more for an `on_error` that has not returned:
# it may itself wait for a thread that waits for it.
ON_ERROR_SECONDS = 10.0

# Seconds after its deadline that a closing handler gives an `on_error` on a sending thread.
_LAST_SECONDS = 0.5


# Late: `htlogging` does without it. A sending thread has mostly imported it.
@fork.late_import
def _json() -> ModuleType:
    import json

    return json


class Outcomes:
    """
    The outcomes of a handler's batches, and what they say of the server.

    It is there from the beginning; a sending thread has a `Sender`.

    Args:
        settings: The handler's host, gzip and on_error.
        queue: Where the batches were claimed.
        counters: The handler's.
        report: Reports losses and outages.
    """

    def __init__(
        self, settings: Settings, queue: Claims, counters: Counters, report: Report
    ) -> None:
        self.settings = settings
        self.queue = queue
        self.counters = counters
        self.report = report
        # Events in the next request at most. An outage makes it small; each request
        # that gets through doubles it: a server that has just come back is not flooded.
        self.limit = MAX_BODY_EVENTS
        # Turned off by the first 415, on any thread; never turned on again.
        self.compress = settings.gzip
        self.delivered = 0  # requests that got through: whether the server is well
        # Notified when events are settled, released or reported. No lock: see `waits`.
        self.settled = Signal()
        # Locks that are held while a batch is settled and on_error is called, with the
        # time at which that began. Each operation is atomic.
        self._reporting: dict[Holder, float] = {}
        # Events given up since `check` was last called, and why.
        self._given_up: deque[tuple[int, DeliveryError]] = deque()

    def idle(self) -> bool:
        """Return whether no `on_error` is running, but those that hang."""
        return self._running() <= self.hanging()

    def _running(self) -> int:
        for held in list(self._reporting):
            if not held.locked():
                self._reporting.pop(held, None)
        return len(self._reporting)

    def hanging(self) -> int:
        """Return how many calls of `on_error` have not returned for a long time."""
        before = clock.monotonic() - ON_ERROR_SECONDS
        return sum(
            held.locked() and began < before
            for held, began in list(self._reporting.items())
        )

    def finish(self) -> None:
        """Let sending threads end what they report: the process may end after this."""
        end = clock.monotonic() + _LAST_SECONDS
        waiter = self.settled.waiter()
        while not (self.idle() or is_sending()):
            left = end - clock.monotonic()
            if left <= 0:
                return
            waiter.wait(left)

    def check(self) -> None:
        """
        Raise if events were given up since the last call.

        Raises:
            DeliveryError: Why the first of them were; its message says how many there are.
        """
        count, failure = 0, None
        while self._given_up:
            more, why = self._given_up.popleft()
            count += more
            failure = failure or why
        if failure is not None:
            many = f"{count} {word(count)} given up"
            raise DeliveryError(
                failure.status,
                failure.code,
                f"{many}; {self.settings.host}: {failure.message}",
                failure.tries,
            )

    def give_up(self, batch: Batch, failure: DeliveryError) -> None:
        """Count events as failed, report them, and call `on_error` with them."""
        held = locks.lock()
        with held:
            # Before it is settled: so `flush` waits for what on_error does.
            self._reporting[held] = clock.monotonic()
            if self.queue.bury(batch, failure):
                self.report_lost(batch.events, failure)
        self._end(held)

    def acknowledge(self, batch: Batch) -> None:
        """Count events as delivered."""
        held = locks.lock()
        with held:
            # So that `flush` waits until they have left the spool's file as well.
            self._reporting[held] = clock.monotonic()
            if self.queue.ack(batch):
                figures.delivered(len(batch))
        self._end(held)

    def _end(self, held: Holder) -> None:
        self._reporting.pop(held, None)
        self.settled.notify_all()

    def report_lost(self, events: Sequence[bytes], failure: DeliveryError) -> None:
        """Write the line about lost events, and call `on_error` with them, in parts."""
        self._given_up.append((len(events), failure))
        figures.failed(reason_of(failure), len(events))
        self.report.lost("failed", len(events), reason(failure, self.settings.host))
        on_error = self.settings.on_error
        if on_error is None:
            return
        loads = _json().loads
        first = 0
        while first < len(events):
            some = events[first : first + MAX_BODY_EVENTS]
            some = some[: fitting(map(len, some), MAX_BODY_BYTES)]
            first += len(some)
            try:
                on_error(failure, [loads(event) for event in some])
            except (Exception, SystemExit) as exc:  # noqa: BLE001
                # The application's code, on our thread, which must go on with other events.
                self.report.on_error_raised(exc)

    def fail(self, batch: Batch, exc: BaseException) -> DeliveryError:
        """Give a batch up that nothing can send; return why."""
        failure = DeliveryError(
            None, "internal", f"cannot send: {type(exc).__name__}", 0
        )
        self.give_up(batch, failure)
        return failure

    def report_no_thread(self) -> None:
        """Report that events wait for a flush or the exit: no thread can be started."""
        self.report.no_thread()

    def cannot_send(self, exc: BaseException) -> None:
        """Note that this try lacked what delivery needs: a module, or memory."""
        self.report.try_failed(f"cannot send: {type(exc).__name__}")

    def put_back(self, batches: list[Batch]) -> None:
        """Release claimed batches, in order, and tell the threads that wait."""
        for batch in batches:
            self.queue.release(batch)
        self.settled.notify_all()


def reason(failure: DeliveryError, host: str) -> str:
    """Return the text for logs, without the server's sentence, which may quote an event."""
    status = failure.status
    tries = f"({failure.code}, tries: {failure.tries})"
    if failure.code.startswith("oauth."):
        # The refusing side has seen no event, and its sentence contains no secrets.
        return f"for {host}: {failure.message} {tries}"
    if status is None:
        at = f"{host}: " if failure.code == "network" else f"for {host}: "
        return f"{at}{failure.message} {tries}"
    question = _QUESTIONS.get(status) or _QUESTIONS.get(status // 100, "")
    return f"HTTP {status} from {host}{question} {tries}"


# What to check, by an answer's status or its first digit.
_QUESTIONS = {
    401: ": is the write key right?",
    403: ": is the write key right, and of this workspace?",
    404: ": is the path of host right?",
    408: ": the server did not get the request in time",
    429: ": the server gets too many requests",
    407: ": a proxy wants a user and a password; set them in proxies",
    413: ": the event is too large for the server",
    304: ": no answer to a POST; is host right?",
    3: ": a redirect is never followed; set host to where it leads",
    400: ": the server finds the event invalid",
    422: ": the server finds the event invalid",
    4: ": the server refuses such requests; is host right?",
    5: ": the server has a fault",
}


def cause(failure: DeliveryError) -> str:
    """Return the reason in a few words."""
    return failure.message if failure.status is None else f"HTTP {failure.status}"
