"""What the tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from htlogging._process import shutdown
from htlogging.collector import Collector


@pytest.fixture(autouse=True)
def _leave_no_events() -> Iterator[None]:
    """Forget handlers that keep events for a server that is gone: others' flush waits."""
    yield
    for handler in shutdown.living():
        if handler.stats.queued:
            shutdown._handlers.discard(handler)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Return a running collector that takes any write key."""
    with Collector() as running:
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse names that differ from process to process: pytest-xdist needs one order."""
    bad = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if bad:
        raise pytest.UsageError(f"give these parameters ids: {bad}")
