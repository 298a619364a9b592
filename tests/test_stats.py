from __future__ import annotations

import copy
import threading

import pytest

from htlogging._stats import Counters, Stats

NAMES = {"rejected", "dropped", "retries", "unspooled"}


class TestCounters:
    def test_start_at_zero(self):
        """Every count is there from the start."""
        assert Counters().snapshot() == dict.fromkeys(NAMES, 0)

    def test_add(self):
        """One, or as many as said."""
        counters = Counters()
        counters.add("dropped")
        counters.add("dropped", 4)
        assert counters.snapshot()["dropped"] == 5

    def test_unknown_name(self):
        """A name that is not counted is a mistake of ours, not a new count."""
        with pytest.raises(KeyError):
            Counters().add("lost")

    def test_snapshot_is_a_copy(self):
        """Changing it changes no count."""
        counters = Counters()
        counters.snapshot()["rejected"] = 9
        assert counters.snapshot()["rejected"] == 0

    def test_threads_lose_no_count(self):
        """Many threads at once are all counted."""
        counters = Counters()

        def count():
            for _ in range(1000):
                counters.add("retries")

        threads = [threading.Thread(target=count) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counters.snapshot()["retries"] == 8000


class TestStats:
    def test_items_are_attributes_too(self):
        """`stats.queued` and `stats["queued"]` are the same."""
        stats = Stats(queued=3)
        assert stats.queued == stats["queued"] == 3

    def test_unknown(self):
        """As of any object, with the name."""
        with pytest.raises(AttributeError, match="lost"):
            _ = Stats(queued=3).lost

    def test_can_be_copied(self):
        """It is a dict as any."""
        assert copy.deepcopy(Stats(queued=3)) == {"queued": 3}
