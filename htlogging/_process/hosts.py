"""
Hosts that fork or end a process in a way of their own, in one table.

A process that ends by `os._exit` runs no atexit hook. `call_at_end`, called with the first
events of a process, finds out which host will end it and registers with that host. Hosts
without such a hook (Ray, Spark, RQ) need a line in the application: docs/servers.md.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import weakref

from htlogging._process.loggers import makes_events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # A function that closes all handlers of this process.
    Close = Callable[[], None]

# The process that imported this module.
_home = os.getpid()

# Host → the process in which we have registered with it. Two threads may register twice at
# the same time; handlers are closed only once all the same. A forked child registers anew.
_asked: dict[str, int] = {}


def call_at_end(close: Close) -> None:
    """
    Make a host call `close` before this process ends, if atexit hooks will not run.

    Called often, because a host may be imported, or atexit cleared, at any time.
    """
    for host in (_multiprocessing, _celery, _cleared_atexit):
        host(close)


def _multiprocessing(close: Close) -> None:
    """Children run no atexit hooks (up to 3.12), or none of the parent's (3.13)."""
    process = sys.modules.get("multiprocessing.process")
    if process is None or _asked.get("multiprocessing") == os.getpid():
        return
    if process.parent_process() is not None:
        from multiprocessing.util import Finalize

        _asked["multiprocessing"] = os.getpid()
        # The lowest priority: after the application's own.
        Finalize(None, close, exitpriority=-100)


def _celery(close: Close) -> None:
    """Processes of the pool end by `os._exit`, and send a signal just before."""
    if "celery" in _asked:  # forked children have the connection, too
        return
    # It may be half imported by another thread; a later event tries again.
    signals = sys.modules.get("celery.signals")
    signal = getattr(signals, "worker_process_shutdown", None)
    if signal is not None:
        signal.connect(lambda **_: close(), weak=False, dispatch_uid="htlogging")
        _asked["celery"] = os.getpid()


# Our handlers on the root logger when a Celery worker began, until its logging is set up.
_on_root: list[logging.Handler] = []


def keep_on_root() -> None:
    """Keep our handlers on the root logger in a Celery worker, which removes them all."""
    signals = sys.modules.get("celery.signals")
    begins = getattr(signals, "celeryd_init", None)
    is_set_up = getattr(signals, "after_setup_logger", None)
    if begins is not None and is_set_up is not None:
        begins.connect(_remember, weak=False, dispatch_uid="htlogging.root")
        is_set_up.connect(_put_back, weak=False, dispatch_uid="htlogging.root")


def _remember(**_: object) -> None:
    _on_root[:] = [h for h in logging.root.handlers if makes_events(h)]


def _put_back(**_: object) -> None:
    for handler in _on_root:
        logging.root.addHandler(handler)
    _on_root.clear()


class _Hook:
    """An atexit hook that is held by atexit alone, so that its end can be seen."""

    def __init__(self, close: Close) -> None:
        self._close = close

    def __call__(self) -> None:
        self._close()


def _register(close: Close) -> weakref.ref[_Hook]:
    hook = _Hook(close)
    atexit.register(hook)
    return weakref.ref(hook)


def _nothing() -> None:
    pass


# Dead once atexit was cleared: the hooks of `logging` and ours are gone as well.
_alive = _register(_nothing)


def _cleared_atexit(close: Close) -> None:
    """
    Airflow's supervisor clears atexit in a task's process.

    It runs the hooks that were registered later, then ends by `os._exit`. If this module
    is imported after that, the clearing is not visible; so every forked process gets the
    hook.
    """
    global _alive  # noqa: PLW0603
    pid = os.getpid()
    if _alive() is None or (
        pid == _home and _asked.setdefault("atexit", 0) != pid and _was_forked()
    ):
        _alive = _register(close)
    _asked["atexit"] = pid


def _was_forked() -> bool:
    """Return whether this process was forked and runs no program of its own; Linux."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return bool(int(fields[6]) & 0x40)  # proc(5): flags; PF_FORKNOEXEC
    except (OSError, ValueError, IndexError):
        return False


def may_start_threads() -> bool:
    """
    Return whether threads may be started; not in uWSGI's master, before it forks.

    A thread that runs while uWSGI forks may hold the interpreter's lock: its copy in the
    child does so for ever.
    """
    uwsgi = _uwsgi()
    return uwsgi is None or bool(uwsgi.worker_id() or uwsgi.mule_id())


def block_signals() -> None:
    """Block signals in uWSGI, whose handlers end the process on the thread they run on."""
    if _uwsgi() is not None:
        import signal

        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _uwsgi() -> Any:
    """Return the module `uwsgi`, which only a process of uWSGI has."""
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi if hasattr(uwsgi, "worker_id") else None
