"""What waits for a lock with a limit leaves it as it was, whatever comes between."""

from __future__ import annotations

import signal
import threading

import pytest

from htlogging._process.locks import do_within

HANG = 60


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


@pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="no timers by signals here"
)
class TestSignals:
    def test_at_random_moments(self):
        """However often a handler raises, another thread gets the lock."""
        lock = threading.RLock()

        def strike(*_):
            raise Raised

        before = signal.signal(signal.SIGALRM, strike)
        try:
            for n in range(3_000):
                try:
                    try:
                        signal.setitimer(signal.ITIMER_REAL, 1e-6 + n % 50 * 1e-6)
                        for _ in range(200):
                            do_within(lock, HANG, int)
                    finally:
                        # A busy machine may be late with it: not outside of this.
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except Raised:
                    pass
                assert not lock._is_owned()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
