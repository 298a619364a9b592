"""The sending threads of a worker as a group: whether there are any, and their start."""

from __future__ import annotations

import _thread
import functools
import itertools
from contextlib import suppress

from htlogging._delivery.waits import NEVER, Deadline
from htlogging._process import fork, hosts, locks, shutdown, threads
from htlogging._process.clock import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from htlogging._delivery.pacing import Pacing
    from htlogging._delivery.thread import SendingThread
    from htlogging._delivery.worker import Worker

# Seconds after which threads are asked for again that have not begun, or were refused.
_AGAIN = 1.0

# Seconds before the threads are started again if the start was cut short.
_REST = 0.1


# Late: with `sender`, the import of the facade takes 5 % less.
@fork.late_import
def _parts() -> tuple[type[Pacing], type[SendingThread]]:
    from htlogging._delivery.pacing import Pacing
    from htlogging._delivery.thread import SendingThread

    return Pacing, SendingThread


class _OnTheWay:
    """Stands for threads that are being started: locked until they should be there."""

    __slots__ = ("locked",)

    def __init__(self, locked: Callable[[], bool]) -> None:
        self.locked = locked


class _Start:
    """
    One start of the threads, on a thread of its own.

    A new thread has its creator's number until it runs. So an exception that another
    thread sets for the creator may end the new one before its first line, as a lack of
    memory may. Then this object goes, and begins after all: on the new thread, or, if that
    has ended before its creator let go of this object, on another one.

    Args:
        begin: Starts the threads.
    """

    _has_begun = True  # until it is complete

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin = begin
        self._creator = _thread.get_ident()
        self._is_made = False  # whether there was a new thread
        self._has_begun = False

    @classmethod
    def on_a_thread(cls, begin: Callable[[], None]) -> None:
        """Have it begin on a new thread; raise RuntimeError if there is none."""
        start = cls(begin)
        _thread.start_new_thread(start, ())
        start._is_made = True

    def __call__(self) -> None:
        self._has_begun = True
        self._begin()

    def __del__(self) -> None:
        """Begin, unless that has happened or there is no new thread."""
        if self._has_begun:
            return
        if _thread.get_ident() != self._creator:
            self()
        elif self._is_made:
            with suppress(RuntimeError):  # a later event, flush or exit tries again
                self.on_a_thread(self._begin)


class ThreadGroup:
    """
    The sending threads of one worker.

    Any thread may call the methods. What starts threads changes the list; all others
    look at the locks that living threads hold.

    Args:
        count: How many threads send.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        # Changed by who starts threads, with `_roster`; read by anyone. It is waited for
        # with a limit: for lack of memory a new thread may end so early that its
        # `Thread.start` never returns. Then there may be a thread more for a while.
        self._threads: list[SendingThread] = []
        self._roster = locks.rlock()
        # The last time that threads were asked for: its number, and until when it counts.
        self._asked = (0, 0.0)
        self._answered = 0  # the number of the last one that has been dealt with
        self._numbers = itertools.count(1)
        self._refused_until = 0.0  # monotonic: no thread can be started before this

    def alive(self) -> int:
        """Return how many threads send, or look for events."""
        return sum(thread.is_alive() for thread in self._threads)

    def join(self, deadline: float) -> None:
        """Wait until all have ended, or until a monotonic time."""
        for thread in self._threads[:]:
            thread.join(max(deadline - clock.monotonic(), 0.0))

    def is_starting(self) -> bool:
        """Return whether threads were asked for and may still begin."""
        number, until = self._asked
        return number > self._answered and clock.monotonic() < until

    def start(self, worker: Worker) -> bool:
        """
        Start the threads; return whether they were not refused.

        The first event's caller does: a running thread makes os.fork warn from 3.12 on,
        and servers import the application before they fork.
        """
        now = clock.monotonic()
        if self.is_starting():
            return True
        if worker.is_over or now < self._refused_until:
            return False
        if not hosts.may_start_threads():
            # Without `_refused_until`: a fork that Python does not know of copies it.
            return False
        if not threads.are_allowed():
            # Not even the one that starts them: CPython may end amid its imports, whose
            # lock the exit hooks would wait for.
            self._refuse(worker, RuntimeError("daemon threads are disabled"))
            return False
        number = next(self._numbers)
        # Other callers need not ask for as long as the threads are on their way; they
        # write theirs, and the look of the new threads sees events that came between.
        worker.wake_when = (NEVER, _OnTheWay(self.is_starting))
        try:
            # Not Thread.start: it waits for the thread, and an exception that a signal
            # handler raises meanwhile comes out as another one.
            _Start.on_a_thread(functools.partial(self._begin, worker, number))
        except RuntimeError as exc:
            # No thread can be started: at the interpreter's end, or out of resources.
            # Events wait for flush or exit, and a later one tries again.
            self._refuse(worker, exc)
            return False
        # Only now: cut short before, the next caller asks again, which does no harm.
        self._asked = (number, now + _AGAIN)
        return True

    def _refuse(self, worker: Worker, why: RuntimeError) -> None:
        self._refused_until = clock.monotonic() + _AGAIN
        # CPython 3.12 refuses threads before our hook runs; it will send the events.
        if not shutdown.is_exiting() and "interpreter shutdown" not in str(why):
            worker.outcomes.report_no_thread()

    def _begin(self, worker: Worker, number: int) -> None:
        """Start all missing threads; on a thread of its own."""
        deadline = Deadline(worker.ending)
        try:
            while not self._start_all(worker) and deadline.pause(_REST):
                pass
        finally:
            self._answered = max(self._answered, number)
            worker.signal.notify()
            worker.outcomes.settled.notify_all()

    def _start_all(self, worker: Worker) -> bool:
        """Start them; return whether trying again is useless."""
        try:
            locks.do_anyway(self._roster, _AGAIN, lambda: self._complete(worker))
        except ImportError as exc:
            # An outage: a later event, flush or exit tries again.
            self._refused_until = clock.monotonic() + _AGAIN
            worker.outcomes.cannot_send(exc)
            return True
        except RuntimeError as exc:
            if not self._settled():
                self._refuse(worker, exc)
            return True
        except BaseException:  # noqa: BLE001
            # No memory, or what another thread set: as on a sending thread.
            return worker.is_over
        return bool(
            self._settled()
            or worker.is_over
            or worker.is_stuck
            or not worker.queue.backlog()
        )

    def _complete(self, worker: Worker) -> None:
        """Start the missing threads; with `_roster` held."""
        pacing, thread = _parts()
        if not self._settled():
            # A server may load the application, then fork, then have gevent patch
            # threading: threads are greenlets from then on, and one that waited on a lock
            # made before would stop them all. A call of the old object is not lost: a new
            # thread looks at the queue first.
            worker.make_waits()
            worker.pacing = pacing(*worker.paces)
        while len(self._threads) < self._count:
            one = thread(worker, f"htlogging-{len(self._threads)}")
            if not self._threads:
                one.announce()  # no other one waits to be woken
            self._threads = [*self._threads, one]
            one.start()

    def _settled(self) -> list[SendingThread]:
        """Keep and return the threads that serve the queue; wait for those that begin."""
        self._threads = [one for one in self._threads if one.settle()]
        return self._threads
