"""Chaos for applications, relays, Redis and the receiver; tests/soak/fleet.py runs longer."""

from __future__ import annotations

import pytest
from redis_server import REDIS

pytest.importorskip("redis")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(REDIS is None, reason="no redis-server"),
]


class TestFleet:
    def test_some_rounds(self):
        """What Redis acknowledged arrives or is a dead letter, whoever is killed."""
        from soak.fleet import run

        wanted, missing, left, said = run(rounds=50, seed=2024)
        assert wanted > 50
        assert (missing, left) == ([], 0)
        assert "Traceback" not in said
