"""Tools that stop the time in tests: what was accepted is delivered all the same."""

from __future__ import annotations

import datetime as dt
import importlib
import threading

import pytest
from script_runner import HANG

from htlogging.htevents import Client

WHEN = dt.datetime(1990, 1, 1, tzinfo=dt.timezone.utc)
LATER = dt.datetime(2070, 1, 1, tzinfo=dt.timezone.utc)


@pytest.fixture(params=["freezegun", "time_machine"])
def stopped(request):
    """Return what makes a block in which time stands still, by one tool or another."""
    tool = pytest.importorskip(request.param)
    if request.param == "freezegun":
        return tool.freeze_time
    return lambda when: tool.travel(when, tick=False)


@pytest.fixture(params=["memory", "spool"])
def client(request, collector, tmp_path):
    """Return a client whose first event has arrived."""
    spool = {"spool": tmp_path / "spool"} if request.param == "spool" else {}
    client = Client("KEY", host=collector.url, **spool)
    client.track("user123", "before")
    assert client.flush(HANG)
    yield client
    client.join()


def wait_for(collector, count):
    """Wait until this many events have arrived, by themselves."""
    waiting = threading.Event()
    for _ in range(HANG * 20):
        if len(collector.events) >= count:
            return [event["event"] for event in collector.events]
        waiting.wait(0.05)
    raise AssertionError(collector.events)


class TestOutage:
    def test_ends(self, stopped):
        """A spool that could not be used meanwhile is tried again soon, not in 2070."""
        clock = importlib.import_module("htlogging._process.clock").clock
        module = importlib.import_module("htlogging._queue.spool.outage")
        schema = importlib.import_module("htlogging._queue.spool.schema")
        outage = module.Outage()
        with stopped(LATER):
            outage.note(schema.SpoolUnavailable("the disk is full"))
        assert outage._until <= clock.monotonic() + module.AWAY


class TestStoppedTime:
    def test_flush(self, stopped, client, collector):
        """It sends, and ends; an event has the time that stands still."""
        with stopped(WHEN):
            client.track("user123", "then")
            assert client.flush(HANG)
        assert collector.events[-1]["timestamp"] == "1990-01-01T00:00:00.000+00:00"

    def test_flush_without_an_answer(self, stopped, client, collector):
        """It returns at its end, though no time goes by."""
        collector.stop()
        with stopped(WHEN):
            client.track("user123", "then")
            assert not client.flush(0.2)
        collector.start()
        assert client.flush(HANG)

    def test_goes_on(self, stopped, client, collector):
        """The sender is not asleep for decades afterwards, whichever way time went."""
        for when in (WHEN, LATER):
            with stopped(when):
                client.track("user123", "meanwhile")
                assert client.flush(HANG)
                client.track("user123", "not flushed")
            client.track("user123", "after")
        assert wait_for(collector, 7).count("after") == 2

    def test_imported_meanwhile(self, stopped):
        """A clock that is made while the time stands still is the real one."""
        clock = importlib.import_module("htlogging._process.clock")
        with stopped(WHEN):
            late = clock.Clock()
            began = late.monotonic()
            threading.Event().wait(0.01)
            assert late.monotonic() > began
        assert abs(late.monotonic() - clock.clock.monotonic()) < HANG
