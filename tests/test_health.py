"""`htlogging.health()`: ok, degraded or failing, and why."""

from __future__ import annotations

import pytest
from script_runner import HANG, until

import htlogging
from htlogging._health import assess
from htlogging._process import shutdown
from htlogging._report import Report
from htlogging._settings import Settings
from htlogging.htevents import Client

AWAY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """Hide the handlers of other tests."""
    monkeypatch.setattr(shutdown, "_handlers", type(shutdown._handlers)())


def reason_of(status):
    """Return the reason, as soon as the status is this one."""
    return until(lambda: (now := htlogging.health()).status == status and now.reason)


class TestHealth:
    def test_nothing(self):
        """Without a handler there is nothing wrong."""
        assert htlogging.health() == ("ok", "no handler sends events in this process")
        Client(send=False)
        assert htlogging.health().status == "ok"

    def test_ok(self, collector):
        """Events get through."""
        client = Client("K", host=collector.url)
        client.track("u", "e")
        assert client.flush(HANG)
        found = htlogging.health()
        assert found.status == "ok"
        assert collector.url in found.reason
        assert found == htlogging.Health("ok", found.reason)

    def test_before_the_first_answer(self, collector):
        """It does not say that events get through before one has."""
        client = Client("K", host=collector.url)
        found = htlogging.health()
        assert found.status == "ok"
        assert f"no request to {collector.url} has been answered yet" in found.reason
        client.track("u", "e")
        assert client.flush(HANG)
        assert "events get through" in htlogging.health().reason

    def test_wrong_key(self, collector):
        """Every event is lost: failing, until one gets through; then some were lost."""
        collector.script(401)
        client = Client("SECRETKEY", host=collector.url)
        client.track("u", "e")
        client.flush(HANG)
        found = htlogging.health()
        assert found.status == "failing"
        assert "is the write key right?" in found.reason
        assert collector.url in found.reason
        assert "SECRETKEY" not in found.reason
        client.track("u", "e")
        client.flush(HANG)
        assert htlogging.health().status == "degraded"

    def test_one_bad_event(self, collector):
        """One that the server finds invalid says nothing about others."""
        collector.script(400)
        client = Client("K", host=collector.url)
        client.track("u", "e")
        client.flush(HANG)
        assert htlogging.health().status == "degraded"

    def test_outage(self):
        """Events wait: degraded."""
        client = Client("K", host=AWAY, shutdown_timeout=0)
        client.track("u", "e")
        reason = reason_of("degraded")
        assert AWAY in reason
        assert "Connection refused" in reason
        assert "1 event waits" in reason
        client.join()

    @pytest.mark.parametrize(
        ("seconds", "more", "status"),
        [
            (59.0, {}, "degraded"),
            (61.0, {}, "failing"),
            (61.0, {"spool": "events.spool"}, "degraded"),
        ],
    )
    def test_long_outage(self, seconds, more, status):
        """After a minute events in memory are at stake; a spool holds them."""
        now = [0.0]
        report = Report(lambda: now[0], AWAY)
        report.try_failed("Connection refused")
        now[0] = seconds
        settings = Settings({"write_key": "K", "host": AWAY, **more})
        found = assess(settings, report, 2, 0.0, now[0])
        assert found.status == status
        assert AWAY in found.reason
        assert found.reason.endswith("(Connection refused); 2 events wait")

    def test_spool_that_cannot_be_used(self, collector, tmp_path):
        """Events go by memory, which is worth knowing."""
        path = tmp_path / "file" / "spool"
        path.parent.write_text("no folder")
        client = Client("K", host=collector.url, spool=path)
        client.track("u", "e")
        client.flush(HANG)
        found = htlogging.health()
        assert found.status == "degraded"
        assert "the spool cannot be used" in found.reason

    def test_full(self):
        """A queue that is almost full, before anything is lost."""
        client = Client("K", host=AWAY, max_queue_size=5, shutdown_timeout=0)
        client._handlers[0]._pipeline.worker.stop_sending()
        for _ in range(4):
            client.track("u", "e")
        assert "80% full" in reason_of("degraded")
        client.join()

    def test_worst(self, collector):
        """Of several handlers the worst one counts."""
        good, bad = Client("K", host=collector.url), Client("L", host=AWAY)
        good.track("u", "e")
        good.flush(HANG)
        bad._handlers[0]._pipeline.report.lost("failed", 1, "why")
        assert htlogging.health().status == "failing"
