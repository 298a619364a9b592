"""The sending threads of a handler: started when they are needed, ended when idle."""

from __future__ import annotations

import itertools
import math
import threading
from contextlib import closing

from htlogging._delivery.ages import Ages
from htlogging._delivery.thread_group import ThreadGroup
from htlogging._delivery.waits import Deadline, Ending, Waiter
from htlogging._event.encoder import prefer_orjson
from htlogging._process import fork, locks, shutdown
from htlogging._process.clock import clock
from htlogging._process.threads import is_sending, run_sending
from htlogging._settings import MAX_BODY_EVENTS, UPLOAD_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from htlogging._delivery.exchange import Transport
    from htlogging._delivery.outcomes import Outcomes
    from htlogging._delivery.pacing import Pacing
    from htlogging._delivery.resolution import Resolved
    from htlogging._delivery.sender import Sender
    from htlogging._queue.base import EventQueue, Holder
    from htlogging._queue.claims import Batch
    from htlogging._settings import Settings

# Seconds after which a thread that waits for others looks whether they still live.
_LOOK = 1.0

# The same, when one of them has ended for good, or none can be started.
_HASTY = 0.05


# Late: the import of the facade takes 3 % less.
@fork.late_import
def _sender() -> type[Sender]:
    from htlogging._delivery.sender import Sender

    return Sender


@fork.late_import
def _resolved() -> type[Resolved]:
    from htlogging._delivery.resolution import Resolved

    return Resolved


class Worker:
    """
    Daemon threads that send what is in a queue, started when the first event is.

    One thread at a time waits for a batch to fill; the others send theirs, or wait for
    their turn. Any thread may call the methods. The handler takes a new worker before
    it stops one, on the same queue; in a forked child, where the threads are gone, on
    another queue.

    An exception that a signal handler raises may cut any method short. So no caller
    changes what a sending thread decides by: they look at the queue, and callers look at
    the lock that each thread holds as long as it lives.

    Locks, in the order in which they are taken: a thread's own, `turn`, a file's (the
    spool says which), the queue's, the counters', the report's. A thread that waits for
    others (`flush`, `close`, `put_when_room`) holds none, and waits until its deadline.

    Args:
        settings: upload_size, upload_interval and thread.
        queue: Where events come from.
        outcomes: How a batch is settled.
        make_transport: Called once by each thread.
        on_idle: Called when a thread finds nothing queued.
    """

    def __init__(
        self,
        settings: Settings,
        queue: EventQueue,
        outcomes: Outcomes,
        make_transport: Callable[[], Transport],
        *,
        on_idle: Callable[[], object] = int,
    ) -> None:
        self._settings = settings
        self.queue = queue
        self.outcomes = outcomes
        self._make_transport = make_transport
        self.ages = Ages(queue)
        self.on_idle = on_idle
        # An upload_size that was set is the most as well; the default grows with the
        # backlog, or throughput would be bound to one round trip per 100 events.
        self._most = settings.upload_size or MAX_BODY_EVENTS
        full = min(settings.upload_size or UPLOAD_SIZE, settings.max_queue_size)
        # With this many there is no pause between requests, so that the queue does not
        # run full.
        plenty = min(self._most, max(full, settings.max_queue_size // 2))
        self.paces = (full, plenty, settings.upload_interval)
        self.pacing: Pacing  # with `turn`; made when threads start
        # How many waiting events make `put` call `wake`, and the lock of the thread that
        # has set this: once it is unlocked, every `put` calls `wake`. Written by sending
        # threads, and by a caller that starts them; read by callers, without a lock.
        self.wake_when: tuple[int, Holder] = (1, locks.lock())
        self.make_waits()
        self._own = threading.local()  # a sender for each thread that uses send_now
        self.ending = Ending()
        self.is_over = False  # set when the deadline has passed
        self.is_stuck = False  # a thread ended: nothing gets through by the deadline
        # Marks that a caller waits for: events before them are sent at once. Callers add
        # to it, sending threads clear it.
        self._marks: list[Any] = []
        self._threads = ThreadGroup(settings.thread)
        # The last time that the queue's regular work was asked for, and done: numbers.
        self._asks = itertools.count(1)
        self._look_asked = self._looked = 0

    def make_waits(self) -> None:
        """Make the objects that threads wait on; once more when they start, for gevent."""
        self.signal = Waiter()
        self.turn = locks.lock()  # held by the thread that waits for a batch

    def wake(self) -> None:
        """Have a thread look at the queue; start the threads if need be."""
        if not self.is_running():
            self._threads.start(self)
        self.signal.notify()

    def is_running(self) -> bool:
        """Return whether there is a thread that sends, or looks for events."""
        return self._threads.alive() > 0

    def start_flush(self) -> Any:
        """Send everything accepted so far now; return the queue's mark of it."""
        mark: Any = self.queue.mark()
        if not self.queue.settled_to(mark):
            self._marks.append(mark)
            self.wake()
        return mark

    def is_flushing(self) -> bool:
        """Return whether a batch goes at once, however young; on a sending thread."""
        if self.ending.at is not None:
            return True
        for mark in self._marks[:]:
            if self.queue.claimed_to(mark):
                self._marks.remove(mark)
        return bool(self._marks)

    def claim(self, holder: Holder, room: int) -> Batch | None:
        """Take a batch of the size that is right now, and of this many bytes at most."""
        self.ages.sample()
        most = min(self._most, self.outcomes.limit)
        return self.queue.claim(most, room, holder)

    def maintain(self) -> None:
        """Have the queue do its regular work, and give up the events that it removed."""
        asked = self._look_asked
        at_once = asked > self._looked
        for batch, failure in self.queue.maintain(at_once=at_once):
            # As on a sending thread: what on_error logs is no event.
            run_sending(self.outcomes.give_up, batch, failure)
        if at_once:
            self._looked = max(self._looked, asked)
            self.outcomes.settled.notify_all()

    def maintain_now(self, deadline: float) -> None:
        """
        Have the queue's regular work done now, and wait for that, until the deadline.

        A sending thread does it: a signal handler may stop a caller in the middle, who
        holds locks then that sending threads need. Where no thread can be started, this
        one does it.
        """
        if self.queue.maintain_every is None or self.queue.stops_senders():
            return
        waiter = self.outcomes.settled.waiter()
        asked = next(self._asks)
        while self._looked < asked:
            if self._look_asked < asked:  # also if another caller has just asked
                self._look_asked = asked
                self.wake()
            left = deadline - clock.monotonic()
            if left <= 0 or self._hangs():
                return
            if is_sending() or not (self.is_running() or self._threads.start(self)):
                self.maintain()
                return
            waiter.wait(min(left, _LOOK))

    def flush(self, deadline: float) -> bool:
        """
        Wait until all events accepted so far are settled, or until the deadline.

        Where no thread can be started, this one sends.

        Args:
            deadline: Monotonic seconds.
        """
        mark = self.start_flush()
        waiter = self.outcomes.settled.waiter()
        while True:
            if self.queue.settled_to(mark) and self.outcomes.idle():
                return True
            left = deadline - clock.monotonic()
            # A sending thread would wait for itself: on_error may call this. So would
            # a signal handler that has interrupted what sending threads wait for.
            if left <= 0 or is_sending() or self._hangs() or self.queue.stops_senders():
                return False
            lost = self.queue.has_lost()
            if lost:
                # Sending threads put it back: no signal handler interrupts them.
                self.wake()
            if self.is_running() or self._threads.is_starting():
                waiter.wait(min(left, _HASTY if self.is_stuck else _LOOK))
            elif self.is_stuck:
                return False
            elif not lost and self.queue.claimed_to(mark):
                # Another thread sends them, which flushes as well.
                waiter.wait(min(left, _LOOK))
            elif not self._threads.start(self):
                if not self._send_here(mark, deadline):
                    return False
                # At once if something was settled; else a spool cannot be read now.
                waiter.wait(min(left, _HASTY))

    def _hangs(self) -> bool:
        """Return whether every thread is in an `on_error` that does not return."""
        hanging = self.outcomes.hanging()
        return bool(hanging) and hanging >= self._threads.alive()

    def send_now(self, event: bytes, seconds: float) -> None:
        """
        Send an event on this thread, once, before all events that wait.

        Args:
            event: Its JSON.
            seconds: How long that may take.

        Raises:
            DeliveryError: It was not delivered; it was counted and reported as well.
        """
        holder = locks.lock()
        if not hasattr(self._own, "sender"):
            try:
                self._own.sender = self._callers_sender()
            except ImportError as exc:
                with holder:
                    batch = self.queue.claim_new(event, holder)
                    raise self.outcomes.fail(batch, exc) from None
        elif not shutdown.is_exiting():
            prefer_orjson()
        try:
            with holder:
                batch = self.queue.claim_new(event, holder)
                run_sending(self._own.sender.deliver_once, batch, seconds)
        finally:
            self.queue.recover()  # if something has cut this short

    def make_sender(self, *, others: Callable[[], object]) -> Sender:
        """Return what a sending thread sends with; `others` as for `Sender`."""
        return _sender()(self.outcomes, self._make_transport(), others)

    def _callers_sender(self) -> Sender:
        transport = _resolved()(self._make_transport(), self._settings)
        return _sender()(self.outcomes, transport)

    def put_when_room(self, event: bytes, deadline: float) -> int:
        """Put an event as soon as there is room; 0: there was none by the deadline."""
        waiter = self.outcomes.settled.waiter()
        while True:
            self.wake()
            waiting = self.queue.put(event)
            left = deadline - clock.monotonic()
            if waiting or left <= 0:
                return waiting
            waiter.wait(min(left, _LOOK))

    def stop_sending(self) -> None:
        """
        Send nothing more: called in a forked child, for the parent's worker.

        The parent's threads are not there, but greenlets survive a fork.
        """
        self.is_over = True

    def stop_when_sent(self) -> None:
        """Send what is queued, then end the threads; do not wait for that."""
        self.ending.set(math.inf)
        self.start_flush()
        self.signal.notify()

    def stop(self, deadline: float) -> bool:
        """
        Send what is queued, then end the threads.

        Returns:
            Whether all was settled in time. If not, a thread may still be waiting for
            an answer; it will send nothing more.
        """
        self.ending.set(deadline)
        done = self.flush(deadline)
        if done:
            self.maintain_now(deadline)  # leaves a spool's file small
        self.is_over = True
        self.signal.notify()
        # An idle thread ends at once, a sending one may take its timeout.
        self._threads.join(deadline if done else -math.inf)
        return done

    def _send_here(self, mark: Any, deadline: float) -> bool:
        """Send on this thread, because no other can be started; `False`: time is up."""
        try:
            sender = self._callers_sender()
        except ImportError as exc:
            self.outcomes.cannot_send(exc)
            return False
        holder = locks.lock()
        time = Deadline(self.ending, deadline)
        with holder, closing(sender):
            self.queue.recover()
            while (
                not self.queue.claimed_to(mark)
                and time.left() > 0
                and (batch := self.claim(holder, sender.room))
            ):
                if not run_sending(sender.deliver, batch, time):
                    return False
        return True
