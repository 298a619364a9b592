"""Locks are left as they were, whatever a signal handler raises meanwhile."""

from __future__ import annotations

import logging
import re
import signal
import threading
from pathlib import Path

import pytest
from script_runner import HANG

import htlogging
from htlogging._process import locks
from htlogging._process.locks import (
    AroundFork,
    Guarded,
    do_within,
    is_mine,
    ownership,
)


class Raised(Exception):
    """What a handler raises."""


def held_elsewhere(lock):
    """Have another thread hold a lock; return what ends that."""
    held, free = threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            free.wait(HANG)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(HANG)

    def end():
        free.set()
        thread.join(HANG)

    return end


class TestDoWithin:
    def test_work(self):
        """It is done with the lock, which is free afterwards."""
        lock = threading.RLock()
        assert do_within(lock, HANG, lock._is_owned) is True
        assert not lock._is_owned()

    def test_held_by_this_thread(self):
        """It is done at once, and the lock stays."""
        lock = threading.RLock()
        with lock:
            assert do_within(lock, 0, lock._is_owned) is True
            assert lock._is_owned()

    def test_held_by_another_thread(self):
        """Nothing is done, and the lock stays the other's."""
        lock = threading.RLock()
        end = held_elsewhere(lock)
        assert do_within(lock, 0, list) is None
        assert not lock.acquire(blocking=False)
        end()

    def test_work_that_raises(self):
        """What it raises comes out, RuntimeError as well."""
        lock = threading.RLock()

        def work():
            raise RuntimeError("the work's")

        with pytest.raises(RuntimeError, match="the work's"):
            do_within(lock, HANG, work)
        assert not lock._is_owned()


class TestAroundFork:
    def test_held_by_another_thread(self):
        """The fork goes on without it, waits once, and leaves it as it was."""
        lock, waits = threading.RLock(), iter([0.01, HANG])
        around = AroundFork(lambda: lock, lambda: next(waits))
        end = held_elsewhere(lock)
        assert not around.acquire()
        assert not around.acquire()
        around.restore()
        end()
        assert lock.acquire(blocking=False)
        lock.release()

    def test_held_by_this_thread(self):
        """It is held by it afterwards, as it was before."""
        lock = threading.RLock()
        around = AroundFork(lambda: lock)
        with lock:
            assert around.acquire()
            around.restore()
            assert is_mine(lock)
        assert not is_mine(lock)

    def test_free(self):
        """It is held meanwhile, and free afterwards."""
        lock = threading.RLock()
        around = AroundFork(lambda: lock)
        assert around.acquire()
        assert is_mine(lock)
        around.restore()
        assert not is_mine(lock)


class TestGuarded:
    """The lock of CPython 3.14; it works on each."""

    def test_with(self):
        """It is held in the block, and by no one afterwards."""
        lock = Guarded(threading.Lock())
        with lock:
            assert lock.locked()
            assert not lock.acquire(blocking=False)
        assert not lock.locked()

    def test_an_exception(self):
        """What the block raises comes out, and the lock is free."""
        lock = Guarded(threading.Lock())
        with pytest.raises(Raised), lock:
            raise Raised
        assert not lock.locked()

    def test_reentrant(self):
        """One of a re-entrant lock is so too, and knows its owner."""
        lock = Guarded(threading.RLock())
        with lock, lock:
            assert lock._is_owned()
        assert not lock._is_owned()

    def test_others_wait(self):
        """Another thread waits until the block has ended."""
        lock = Guarded(threading.RLock())
        end = held_elsewhere(lock)
        assert not lock.acquire(blocking=False)
        end()
        with lock:
            assert lock._is_owned()


class TestOwnership:
    @pytest.mark.parametrize(
        "make", [threading.RLock, lambda: Guarded(threading.RLock())]
    )
    def test_of_a_lock(self, make):
        """It is this thread's while it holds it, however often, and no other's."""
        lock = make()
        owned = ownership(lock)
        assert not is_mine(lock)
        with lock, lock:
            assert is_mine(lock)
            assert owned()
        end = held_elsewhere(lock)
        assert not is_mine(lock)
        assert not owned()
        end()

    def test_of_no_lock(self):
        """A handler may have none."""
        assert not is_mine(None)


class TestEverywhere:
    def test_no_lock_of_another_make(self):
        """What a caller may hold is made by `locks`; the commands end when struck."""
        package = Path(htlogging.__file__).parent
        made = [
            path.relative_to(package).as_posix()
            for path in sorted(package.rglob("*.py"))
            if re.search(r"threading\.(R?Lock|Condition)\(", path.read_text("utf-8"))
        ]
        ours = [
            name
            for name in made
            if not name.startswith(("_cli/", "collector/", "integrations/"))
        ]
        assert ours == ["_process/locks.py"]


def struck_with(strikes, work):
    """Interrupt some work that often, each time a little later."""

    def strike(*_):
        raise Raised

    before = signal.signal(signal.SIGALRM, strike)
    try:
        for n in range(strikes):
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-6 + n % 50 * 1e-6)
                    for _ in range(200):
                        work()
                finally:
                    # A busy machine may be late with it: not outside of this.
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except Raised:
                pass
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="no timers by signals here"
)
class TestSignals:
    def test_do_within(self):
        """However often a handler raises, another thread gets the lock."""
        lock = locks.rlock()
        for _ in struck_with(3_000, lambda: do_within(lock, HANG, int)):
            assert not lock._is_owned()

    @pytest.mark.parametrize(
        "make",
        [
            locks.lock,
            locks.rlock,
            lambda: Guarded(threading.Lock()),
            lambda: Guarded(threading.RLock()),
        ],
        ids=["lock", "rlock", "guarded lock", "guarded rlock"],
    )
    def test_with(self, make):
        """No `with` leaves a lock locked."""
        lock = make()

        def work():
            with lock:
                pass

        for _ in struck_with(3_000, work):
            assert not (
                lock._is_owned() if hasattr(lock, "_is_owned") else lock.locked()
            )

    def test_lock_of_logging(self):
        """What closes a handler does not leave logging's lock locked."""
        handler = logging.NullHandler()
        for _ in struck_with(3_000, lambda: locks.call_logging(handler.close)):
            assert not locks.holds_logging()
