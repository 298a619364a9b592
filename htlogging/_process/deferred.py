"""
Work that cannot be done at once: its thread holds a lock, or it is too early.

Each piece has a thread of its own, which ends with it.
"""

from __future__ import annotations

import _thread
import atexit
import os
import threading
from contextlib import suppress

from htlogging._process import hosts, locks, threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Work = Callable[[], object]


class _Piece:
    """Some work, and the process that it is for: a forked child has a copy."""

    __slots__ = ("lock", "pid", "work")

    def __init__(self, work: Work) -> None:
        self.lock = locks.lock()  # held while it is done; not taken in a forked child
        self.pid = os.getpid()
        self.work = work

    def do(self) -> None:
        """Do it, or wait until it is done."""
        if self.pid != os.getpid():
            return
        with self.lock:
            if self in _waiting:
                self.work()
                _waiting.remove(self)


# What is to be done now. Added to by any thread; a list's own operations are atomic.
_waiting: list[_Piece] = []


def do(work: Work) -> None:
    """
    Do some work on another thread; at the interpreter's exit at the latest.

    Args:
        work: Called once, and raises nothing.
    """
    piece = _Piece(work)
    _waiting.append(piece)
    _start(piece.do)


def later(work: Work, seconds: float) -> None:
    """
    Do some work on another thread after a while, if the process lives that long.

    Args:
        work: Called once, and raises nothing.
        seconds: How long to wait.
    """

    def wait() -> None:
        threading.Event().wait(seconds)
        work()

    _start(wait)


def _start(run: Work) -> None:
    if hosts.may_start_threads() and threads.are_allowed():
        with suppress(RuntimeError):  # refused
            _thread.start_new_thread(_run, (run,))


def _run(run: Work) -> None:
    hosts.block_signals()
    run()


@atexit.register
def finish() -> None:
    """Do, or wait for, what is to be done now."""
    for piece in _waiting[:]:
        piece.do()
