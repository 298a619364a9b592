"""The sending threads: when to take a batch, when to wait, when to end."""

from __future__ import annotations

import math
import queue
import threading
import time
from contextlib import closing, suppress
from contextvars import Context

from htlogging._delivery.request import room
from htlogging._event.encoder import prefer_orjson
from htlogging._process import hosts, shutdown
from htlogging._process.suppression import is_sending, sending
from htlogging._settings import MAX_BODY_EVENTS, UPLOAD_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from htlogging._delivery.sender import Delivery, Transport
    from htlogging._queue.base import Batch, EventQueue
    from htlogging._settings import Settings

# More events than a queue can hold: nobody needs to be woken.
_NEVER = 2**62

# Seconds between two full batches while the sender keeps up: under load they grow to a
# request of some size, instead of one for every 100 events. 50,000 events took 60
# requests instead of 300, and a fifth less CPU time.
PACE = 0.02

# Seconds after which a thread that waits for others looks whether they still live.
_LOOK = 1.0

# The same, when one of them has ended for good.
_HASTY = 0.05


class Worker:
    """
    Daemon threads that send what is in a queue, started when the first event is.

    One thread at a time, in turn, waits for a batch to fill; the others send theirs or
    stand in line. Any thread may call the methods. The handler takes a new worker before
    it stops one, on the same queue; in a forked child, where the threads are gone, on
    another queue.

    Args:
        settings: upload_size, upload_interval, thread and the write key's length.
        queue: Where events come from.
        delivery: How a batch is sent and settled.
        make_transport: Called once by each thread.
    """

    def __init__(
        self,
        settings: Settings,
        queue: EventQueue,
        delivery: Delivery,
        make_transport: Callable[[], Transport],
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._delivery = delivery
        self._make_transport = make_transport
        self._room = room(settings.write_key)
        # An upload_size that was set is the most as well; the default grows with the
        # backlog, or throughput would be bound to one round trip per 100 events.
        size = settings.upload_size or UPLOAD_SIZE
        self._full = min(size, settings.max_queue_size)  # a full queue shall empty
        self._most = settings.upload_size or MAX_BODY_EVENTS
        # As many as wait for no pause between requests: the queue must not run full.
        self._plenty = min(self._most, max(self._full, settings.max_queue_size // 2))
        # How many waiting events it takes for `put` to call `wake`: read by every
        # caller, without a lock. It is 1 while nobody sends, `_full` while a batch
        # fills, and out of reach while a thread is about to look by itself.
        self.wake_at = 1
        self._make_waits()
        self._own = threading.local()  # a transport for each thread that uses send_now
        self._paced = 0.0  # when the next full batch may go, with _turn
        self._due: float | None = None  # when the batch being filled goes, with _turn
        # Whether a batch was ever sent. Not guarded: seen late, it costs one more by json.
        self._sent = False
        # Guards what is below: never held while sending. Notified when events settle,
        # and when there is a deadline.
        self._changed = delivery.settled
        self._threads: list[threading.Thread] = []
        self._starting = False
        self._flush_to: Any = queue.mark()  # events up to this mark go at once
        self._deadline: float | None = None  # set by stop
        self._stuck = False  # a thread ended: nothing gets through by the deadline
        self._over = False  # set when the deadline has passed

    def _make_waits(self) -> None:
        """Make what threads wait on: again when they start, for gevent's patch."""
        # SimpleQueue: its put is re-entrant, so a signal handler may wake us while its
        # thread is waking us (gh-58634).
        self._signal: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._turn = threading.Lock()  # held by the thread that waits for a batch

    def wake(self) -> None:
        """Have the waiting thread look at the queue; start the threads if need be."""
        # Before the signal: the thread that it wakes sets this anew.
        self.wake_at = _NEVER
        if not self._alive():
            self._start()
        self._signal.put(None)

    def flush(self, deadline: float) -> bool:
        """
        Wait until all events accepted so far are settled, or until the deadline.

        Where no thread can be had, this one sends.

        Args:
            deadline: Monotonic seconds.
        """
        mark = self.nudge()
        while True:
            with self._changed:
                if self._settled_to(mark):
                    return True
                left = deadline - time.monotonic()
                # A sending thread would wait for itself: on_error may call this.
                if left <= 0 or is_sending():
                    return False
                if self._alive() or self._queue.claimed_to(mark):
                    self._changed.wait(min(left, _HASTY if self._stuck else _LOOK))
                    continue
                if self._stuck:
                    return False
            if not self._send_here(mark, deadline):
                return False

    def send_now(self, event: bytes, seconds: float) -> None:
        """
        Send an event on this thread, once, past all that waits.

        Args:
            event: Its JSON.
            seconds: How long that may take.

        Raises:
            DeliveryError: It was not delivered; it was counted and reported as well.
        """
        if not hasattr(self._own, "transport"):
            self._own.transport = self._make_transport()
        elif not shutdown.is_exiting():
            prefer_orjson()
        with sending():
            batch = self._queue.claim_new(event)
            self._delivery.deliver_once(batch, self._own.transport, seconds)

    def nudge(self) -> Any:
        """Have everything accepted so far sent now; return the queue's mark of it."""
        with self._changed:
            # A later mark includes the ones before it.
            mark: Any = self._queue.mark()
            self._flush_to = mark
        if not self._queue.settled_to(mark):
            self.wake()
        return mark

    def put_when_room(self, event: bytes, deadline: float) -> int:
        """Put an event as soon as there is room; 0: there was none by the deadline."""
        self.wake()
        with self._changed:
            while not (waiting := self._queue.put(event)):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, _LOOK))
        return waiting

    def disown(self) -> None:
        """
        Have nothing more sent; in a forked child, of the parent's worker.

        Its threads are not there, but greenlets survive a fork.
        """
        self._over = True

    def retire(self) -> None:
        """Have the threads send what is there, then end; without waiting for it."""
        with self._changed:
            self._deadline = math.inf
        self.nudge()
        self._signal.put(None)

    def stop(self, deadline: float) -> bool:
        """
        Send what is there, then end the threads.

        Returns:
            Whether all was settled in time. If not, a thread may still be waiting for
            an answer; it will send nothing more.
        """
        with self._changed:
            self._deadline = deadline
            self._changed.notify_all()
        done = self.flush(deadline)
        self._over = True
        self._signal.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                # An idle thread ends at once, a sending one may take its timeout.
                thread.join(max(deadline - time.monotonic(), 0.0) if done else 0.0)
        return done

    def _settled_to(self, mark: Any) -> bool:
        with self._changed:
            return self._queue.settled_to(mark) and self._delivery.idle()

    def _alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _start(self) -> None:
        # The first event's caller starts the threads: a running thread makes os.fork
        # warn from 3.12 on, and servers import the application before they fork.
        refused = False
        with self._changed:
            if self._alive() or self._starting or self._over:
                return
            self._threads.clear()
            if not hosts.may_start_threads():
                self._wait_for_more()
                return
            self._starting = True
            # A server may load the application, then fork, then have gevent patch
            # threading: threads are greenlets from then on, and one that waited on a
            # lock of before would stop them all. Nobody waits yet; whoever put into the
            # old one is in time all the same, for a new thread looks before it waits.
            self._make_waits()
            try:
                for n in range(self._settings.thread):
                    thread = threading.Thread(
                        target=self._run, name=f"htlogging-{n}", daemon=True
                    )
                    # With an empty context. A copy of the caller's, which free-threaded
                    # builds (sys.flags.thread_inherit_context) and gevent give to a
                    # new thread, would keep a request alive as long as the sender.
                    Context().run(thread.start)
                    self._threads.append(thread)
            except RuntimeError:
                # No thread to be had: at the interpreter's end, or out of resources.
                # Events wait for flush or exit; a later batch's worth tries again.
                self._wait_for_more()
                refused = True
            finally:
                self._starting = False
        if refused and not self._alive() and not shutdown.is_exiting():
            # Without the lock: log handlers are the application's.
            self._delivery.report_no_thread()

    def _wait_for_more(self) -> None:
        # At most a full queue: a put that finds none free comes here no more.
        self.wake_at = min(
            self._queue.counts().queued + self._full, self._settings.max_queue_size
        )

    def _run(self) -> None:
        """Send batch after batch: a thread's life."""
        hosts.leave_signals_to_others()
        transport = self._make_transport()
        patience = Patience(self, math.inf)
        with sending(), closing(transport):
            with suppress(Exception):  # `post` will say what is wrong
                # At once, side by side with the application's start: were it left to
                # the exit, imports there would change the exit status of a Ctrl+C.
                transport.open()
            while (batch := self._next()) is not None:
                settled = True
                # Whatever it raises: the events were given up, the thread shall live.
                with suppress(BaseException):
                    # Not at the end: an import there changes a Ctrl+C's exit status.
                    if self._sent and not (self._deadline or shutdown.is_exiting()):
                        prefer_orjson()
                    self._sent = True
                    settled = self._delivery.deliver(batch, transport, patience)
                if not settled:
                    # There is a deadline, and no use in trying again before it: a
                    # server that asks for patience is left alone.
                    with self._changed:
                        self._stuck = True
                        self._changed.notify_all()
                    return

    def _next(self) -> Batch | None:
        """Wait for a batch and claim it; `None`: the thread shall end."""
        while not self._over:
            # Not in its turn: it may call on_error, and the others shall send meanwhile.
            # Whatever that raises, the thread shall live.
            with suppress(BaseException):
                self.maintain()
            with self._turn:
                if self._over:
                    # It was woken to end; the next in line shall see that too.
                    return None  # type: ignore[unreachable]  # `stop` may set it
                if not self._queue.backlog():
                    self._due = None
                    if self._deadline is not None:
                        return None
                    self._listen(1, self._queue.maintain_every)
                    continue
                now = time.monotonic()
                if self._due is None:
                    self._due = now + self._settings.upload_interval
                full = self._queue.backlog() >= self._full
                if now >= (self._paced if full else self._due) or self._is_urgent():
                    self.wake_at = _NEVER
                    batch = self._claim()
                    if not self._queue.backlog():
                        # What comes while this is sent waits from now on; what stays
                        # behind has waited already.
                        self._due = now + self._settings.upload_interval
                    behind = self._queue.backlog() >= self._full
                    self._paced = 0.0 if behind else now + PACE
                    if batch is None:
                        # A spool that cannot be read, or whose events were taken out.
                        continue
                    return batch
                if full:
                    self._listen(self._plenty, self._paced - now)
                else:
                    self._listen(self._full, self._due - now)
        return None

    def maintain(self, *, at_once: bool = False) -> None:
        """Have the queue do what is due, and give up what had to leave it."""
        for batch, failure in self._queue.maintain(at_once=at_once):
            with sending():
                self._delivery.give_up(batch, failure)

    def _claim(self) -> Batch | None:
        return self._queue.claim(min(self._most, self._delivery.limit()), self._room)

    def _is_urgent(self) -> bool:
        """Tell whether a batch goes at once, however young and whatever went before."""
        return (
            self._queue.backlog() >= self._plenty
            or self._deadline is not None
            or not self._queue.claimed_to(self._flush_to)
        )

    def _listen(self, wake_at: int, timeout: float | None) -> None:
        """Wait for a signal: that so many events are there, or another change."""
        self.wake_at = wake_at
        # An event put before that line was seen by nobody; `fill` sees it.
        if self._queue.backlog() >= wake_at:
            return
        try:
            self._signal.get(timeout=timeout)
        except queue.Empty:
            return

    def _send_here(self, mark: Any, deadline: float) -> bool:
        """Send on this thread, for want of others; `False`: it is of no use in time."""
        transport = self._make_transport()
        patience = Patience(self, deadline)
        with sending(), closing(transport):
            while (
                not self._queue.claimed_to(mark)
                and patience.left() > 0
                and (batch := self._claim())
            ):
                if not self._delivery.deliver(batch, transport, patience):
                    return False
        return True


class Patience:
    """
    How long a thread may wait: until its own deadline, or its worker's.

    Args:
        worker: Whose `stop` may set a deadline at any time.
        deadline: Monotonic seconds.
    """

    def __init__(self, worker: Worker, deadline: float) -> None:
        self._worker = worker
        self._deadline = deadline

    def _end(self) -> float:
        stop = self._worker._deadline  # noqa: SLF001
        return self._deadline if stop is None else min(stop, self._deadline)

    def left(self) -> float:
        """Return the seconds left; infinite without a deadline."""
        return self._end() - time.monotonic()

    def pause(self, seconds: float) -> bool:
        """Wait, or return `False` as soon as a deadline comes before the wait's end."""
        until = time.monotonic() + seconds
        changed = self._worker._changed  # noqa: SLF001
        queue = self._worker._queue  # noqa: SLF001
        while until <= self._end():
            left = until - time.monotonic()
            if left <= 0:
                return True
            # An outage may be long, and a spool's bounds hold in it, too.
            self._worker.maintain()
            with changed:
                if until <= self._end():
                    changed.wait(min(left, queue.maintain_every or left))
        return False

    def is_last(self) -> bool:
        """Tell whether nobody sends after the deadline: the handler is closing."""
        return self._worker._deadline is not None  # noqa: SLF001
