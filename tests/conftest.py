"""What the tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from htlogging.collector import Collector


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
