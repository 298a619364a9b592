"""SIGPIPE, which must not end the application when a server closes a connection."""

from __future__ import annotations

import signal
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def blocked() -> Iterator[None]:
    """
    Make a write to a closed connection only raise on this thread.

    Python ignores SIGPIPE, but many command-line programs restore its default, which ends
    the process. The signal goes to the thread that writes. While it is blocked there it
    stays pending, and it is removed before the thread's mask is restored.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows has no such signal
        yield
        return
    # Read first, not taken from the call that blocks: a signal handler that runs in that
    # call may raise, and the mask must be restored then, too.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
        yield
    finally:
        if signal.SIGPIPE not in before:
            if signal.SIGPIPE in signal.sigpending():
                signal.sigwait({signal.SIGPIPE})  # it is pending, so that does not wait
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
