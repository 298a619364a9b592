"""Chaos for applications, relays, Redis and the receiver; tests/soak/fleet.py runs longer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from redis_server import REDIS

pytest.importorskip("redis")
sys.path.insert(0, str(Path(__file__).parent / "soak"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(REDIS is None, reason="no redis-server"),
]


class TestFleet:
    def test_100_rounds(self):
        """What Redis acknowledged arrives or is a dead letter, whoever is killed."""
        from fleet import run

        wanted, missing, left, said = run(rounds=100, seed=2024)
        assert wanted > 100
        assert (missing, left) == ([], 0)
        assert "Traceback" not in said
