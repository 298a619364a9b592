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
