"""SIGPIPE, which must not end the application when a server closes a connection."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
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
    # Not by `signal`, which makes enums of all that these return: 2 us in place of 8 for
    # each request, and its import takes 0.5 % of a process with one event.
    if not hasattr(_signal, "pthread_sigmask"):  # Windows has no such signal
        yield
        return
    # Read first, not taken from the call that blocks: a signal handler that runs in that
    # call may raise, and the mask must be restored then, too.
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
    try:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGPIPE})
        yield
    finally:
        if _signal.SIGPIPE not in before:
            if _signal.SIGPIPE in _signal.sigpending():
                # It is pending, so that does not wait.
                _signal.sigwait({_signal.SIGPIPE})
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
