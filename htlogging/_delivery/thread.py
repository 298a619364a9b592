"""A sending thread: when to take a batch, when to wait, when to end."""

from __future__ import annotations

import math
import threading
from contextlib import closing, suppress

from htlogging._delivery.pacing import Send
from htlogging._delivery.waits import NEVER, Deadline
from htlogging._event.encoder import prefer_orjson
from htlogging._process import hosts, locks, shutdown
from htlogging._process.clock import clock
from htlogging._process.threads import own_thread, run_sending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging._delivery.sender import Sender
    from htlogging._delivery.worker import Worker
    from htlogging._queue.base import Holder
    from htlogging._queue.claims import Batch

# Seconds after which a thread that has nothing to do ends, and closes its connection.
IDLE_SECONDS = 5.0

# Seconds before a thread begins anew after something was raised on it again; and if that
# was for lack of a module or of memory.
REST = (0.01, 1.0)


class SendingThread:
    """
    One thread of a worker, for as long as there is something to send.

    It lives through whatever is raised on it: what it was sending is put back, and it
    begins anew. Should it end all the same, its lock is free, and the next event starts
    another.

    Args:
        worker: Whose queue it serves.
        name: The thread's.
    """

    def __init__(self, worker: Worker, name: str) -> None:
        self._worker = worker
        self._life = locks.lock()  # held as long as the thread serves the queue
        self._thread = own_thread(self._run, name)
        self._idle_seconds = 0.0
        self._tries = 0  # to get what delivery needs, in a row
        # Whether a batch was ever sent. If a thread sees it late, json encodes one more
        # event.
        self._sent = False

    def announce(self) -> None:
        """
        Let callers not wake it until it has looked for events.

        Before that it imports `requests`; to wake it meanwhile takes 1.5 us an event.
        """
        self._worker.wake_when = (NEVER, self._life)

    def start(self) -> None:
        """Start it; raise RuntimeError if the system refuses a thread."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Return whether it serves the queue."""
        return self._life.locked()

    def settle(self) -> bool:
        """Wait until it has begun or ended; return whether it serves the queue."""
        while not self._life.locked():
            if not self._thread.is_alive():
                return False
            self._thread.join(0.01)
        return True

    def join(self, seconds: float) -> None:
        """Wait for its end."""
        if self._thread is not threading.current_thread() and self._thread.ident:
            # It may have its number already, and not have begun: it soon ends then.
            with suppress(RuntimeError):
                self._thread.join(seconds)

    def _run(self) -> None:
        hosts.block_signals()
        worker = self._worker
        try:
            with self._life:
                run_sending(self._live)
        except BaseException:  # noqa: BLE001, S110
            pass  # it lacks the memory to begin: the last line here starts another
        # Threads that wait for this one look again.
        worker.outcomes.settled.notify_all()
        if worker.ending.at is not None:
            self._report_if_idle()
            if worker.ending.at == math.inf:
                # Of a handler that is gone or was replaced: nothing else closes its spool.
                with suppress(Exception):
                    worker.queue.close()
        elif worker.queue.backlog():
            # A caller may have seen the lock still held, too.
            worker.wake()

    def _live(self) -> None:
        raised: BaseException | None = None
        while True:
            try:
                if raised is not None and not self._pause_after(raised):
                    return
                # Claims are held by this lock. Once it is free, they are put back: what
                # was sent here when something was raised goes again, under its ids.
                holder = locks.lock()
                with holder:
                    self._serve(holder)
            except BaseException as exc:  # noqa: BLE001, PERF203
                # A fault of ours, something set from another thread, no memory, a module
                # that is not there any more: an outage. The thread lives.
                raised = exc.with_traceback(None)
            else:
                return

    def _pause_after(self, exc: BaseException) -> bool:
        """Wait before a new beginning; `False`: nothing gets through in time."""
        worker = self._worker
        if worker.is_over:
            return False
        self._tries += 1
        if self._tries > 1:
            with suppress(Exception):
                worker.outcomes.cannot_send(exc)
        self.announce()
        deadline = Deadline(worker.ending)
        if self._tries == 1 and deadline.left() > 0:
            return True
        if deadline.pause(REST[isinstance(exc, (ImportError, MemoryError))]):
            return True
        worker.is_stuck = True
        return False

    def _serve(self, holder: Holder) -> None:
        """Send batch after batch, until there is nothing more to do."""
        worker = self._worker
        worker.queue.recover()
        deadline = Deadline(
            worker.ending,
            meanwhile=worker.maintain,
            every=worker.queue.maintain_every,
        )
        with closing(worker.make_sender(others=worker.queue.backlog)) as sender:
            # At once, side by side with the application's start: were it left to the
            # exit, imports there would change the exit status of a Ctrl+C. And what is
            # imported late may be gone by then. `post` says what is wrong.
            with suppress(Exception):
                sender.open()
            while True:
                batch = self._next(holder, sender)
                if batch is None and not sender.parked:
                    return
                self._prepare()
                sender.deliver_parked(deadline)
                if batch is None:
                    continue
                if not sender.deliver(batch, deadline):
                    # There is a deadline, and the next try comes after it: the
                    # server may have asked for a longer wait.
                    worker.is_stuck = True
                    worker.outcomes.settled.notify_all()
                    return
                self._tries = 0

    def _prepare(self) -> None:
        # Not at the end: an import there changes a Ctrl+C's exit status.
        if self._sent and self._worker.ending.at is None and not shutdown.is_exiting():
            prefer_orjson()
        self._sent = True

    def _next(self, holder: Holder, sender: Sender) -> Batch | None:
        """Wait for a batch and claim it; `None`: the thread ends, or parked ones are due."""
        worker = self._worker
        while not worker.is_over:
            # Not in its turn: it may call on_error, and others send meanwhile.
            worker.maintain()
            worker.queue.recover()
            with worker.turn:
                if worker.is_over:
                    # It was woken to end; the next thread sees that, too.
                    break  # type: ignore[unreachable]  # another thread sets it
                if sender.parked.next_due() <= clock.monotonic():
                    return None
                if not worker.queue.backlog():
                    worker.pacing = worker.pacing.empty()
                    if worker.ending.at is not None:
                        return None
                    if not self._idle(sender) and not sender.parked:
                        return None
                    continue
                batch = self._take(holder, sender)
            if batch is not None:
                return batch
        worker.signal.notify()
        sender.parked.clear()
        return None

    def _take(self, holder: Holder, sender: Sender) -> Batch | None:
        """Claim a batch if it is time, else wait; with `turn`."""
        worker = self._worker
        now = clock.monotonic()
        worker.pacing = worker.pacing.begun(now)
        waiting = worker.queue.backlog()
        decision = worker.pacing.decide(now, waiting, urgent=worker.is_flushing())
        if not isinstance(decision, Send):
            self._listen(decision.wake_at, decision.seconds, sender)
            return None
        worker.wake_when = (NEVER, self._life)
        # None: a spool that cannot be read, or whose events were taken out.
        batch = worker.claim(holder, sender.room)
        worker.pacing = worker.pacing.taken(now, worker.queue.backlog())
        return batch

    def _idle(self, sender: Sender) -> bool:
        """Wait for the first event; `False`: there was none for a while."""
        worker = self._worker
        self._report_if_idle()
        began = clock.monotonic()
        every = worker.queue.maintain_every
        if self._listen(1, every or IDLE_SECONDS, sender):
            self._idle_seconds = 0.0
            return True
        self._idle_seconds += clock.monotonic() - began
        if self._idle_seconds < IDLE_SECONDS:
            return True
        self._idle_seconds = 0.0
        if every is not None:
            sender.close()  # the next request opens it again
            return True
        # From now on callers start a thread; what came before this line is seen.
        worker.wake_when = (1, locks.lock())
        return bool(worker.queue.backlog())

    def _report_if_idle(self) -> None:
        if not self._worker.queue.counts().queued:
            self._worker.on_idle()

    def _listen(self, wake_at: int, seconds: float, sender: Sender) -> bool:
        """Wait for a call: this many events are there, or another change."""
        worker = self._worker
        worker.wake_when = (wake_at, self._life)
        # An event that was put before that line woke no thread; it is seen here.
        if worker.queue.backlog() >= wake_at:
            return True
        due = sender.parked.next_due() - clock.monotonic()
        return worker.signal.wait(min(seconds, due))
