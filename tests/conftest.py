"""What the tests share."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Generator, Iterator

import pytest

from htlogging._handler import pipeline_of
from htlogging._process import shutdown
from htlogging.collector import Collector


@pytest.fixture(autouse=True)
def _leave_no_events() -> Iterator[None]:
    """
    Forget handlers that keep events for a server that is gone, and have them send no more.

    The flush of others would wait for them, and they would report losses meanwhile.
    """
    yield
    for handler in shutdown.living():
        if handler.stats.queued:
            shutdown._handlers.pop(handler, None)
            pipeline_of(handler).worker.stop_sending()


@pytest.fixture(autouse=True)
def _no_lines_of_others() -> Iterator[None]:
    """Drop lines of sending threads that earlier tests have left: their server is gone."""
    # Without those of `_thread`: before 3.13 a later one may be taken for one that has ended.
    earlier = {
        thread
        for thread in threading.enumerate()
        if not isinstance(thread, threading._DummyThread)
    } - {threading.current_thread()}

    def is_ours(_: logging.LogRecord) -> bool:
        return threading.current_thread() not in earlier

    log = logging.getLogger("htlogging")
    log.addFilter(is_ours)
    yield
    log.removeFilter(is_ours)


@pytest.fixture(autouse=True)
def _leave_no_lock() -> Iterator[None]:
    """
    Renew a lock of pytest's log handlers that a test has left locked.

    Exceptions at random moments and threads that end amid a record do that; all later tests
    that log would wait for ever. A lock that a living thread holds for a moment is left.
    """
    yield
    for handler in logging.root.handlers:
        if handler.lock is not None and not _is_free(handler.lock):
            handler.createLock()


def _is_free(lock: threading.RLock) -> bool:
    if lock._is_owned():  # type: ignore[attr-defined]  # this thread has left its test
        return False
    if not lock.acquire(timeout=5):
        return False
    lock.release()
    return True


@pytest.fixture(autouse=True)
def _leave_our_loggers() -> Iterator[None]:
    """
    Put level, handlers and propagation of our loggers, and of root, back.

    `debug=True` sets those of ours, a Celery worker in this process root's.
    """
    ours = [logging.getLogger(name) for name in ("htevents", "htlogging", None)]
    before = [(log.level, log.handlers[:], log.propagate, log.disabled) for log in ours]
    yield
    for log, (level, handlers, propagate, disabled) in zip(ours, before, strict=True):
        log.setLevel(level)
        log.handlers[:] = handlers
        log.propagate, log.disabled = propagate, disabled


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Return a running collector that takes any write key."""
    with Collector() as running:
        yield running


@pytest.fixture
def apart() -> Iterator[None]:
    """
    Keep records from pytest's handlers.

    An exception at a random moment may leave their locks held, those of the standard
    library's handlers, and a signal handler may come while one is held: other threads that
    log would wait for ever. Such tests use this.
    """
    ours = [logging.getLogger(name) for name in ("htevents", "htlogging")]
    before = [logger.propagate for logger in ours]
    silent = logging.NullHandler()
    ours[1].addHandler(silent)
    for logger in ours:
        logger.propagate = False
    yield
    ours[1].removeHandler(silent)
    for logger, propagate in zip(ours, before, strict=True):
        logger.propagate = propagate


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """
    Collect no garbage among the tests themselves: there are thousands, and none goes.

    Else each of the collections that tests ask for takes as long as ten tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse names that differ from process to process: pytest-xdist needs one order."""
    bad = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if bad:
        raise pytest.UsageError(f"give these parameters ids: {bad}")
