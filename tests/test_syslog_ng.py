"""A log shipper: what HtEventsFormatter writes goes through a real syslog-ng."""

from __future__ import annotations

import logging
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from script_runner import HANG

from htlogging import HtEventsFormatter
from htlogging.collector import Collector

SYSLOG_NG = shutil.which("syslog-ng")
CONFIG = Path(__file__).parent.parent / "examples/fleet/syslog-ng.conf"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SYSLOG_NG is None, reason="no syslog-ng"),
]


@pytest.fixture
def log(tmp_path):
    """Return a logger that writes events into a file."""
    path = tmp_path / "events.ndjson"
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(HtEventsFormatter())
    log = logging.getLogger("htlogging_test_shipper")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    yield log
    log.removeHandler(handler)
    handler.close()


@pytest.fixture
def collector():
    """Return a collector."""
    with Collector() as collector:
        yield collector


@pytest.fixture
def syslog_ng(tmp_path, log, collector):  # noqa: ARG001  (its file must be there)
    """Run syslog-ng with the example's configuration, and other places."""
    text = CONFIG.read_text("utf-8")
    for before, after in {
        "/var/log/app/events.ndjson": str(tmp_path / "events.ndjson"),
        "https://us-east-1.hightouch-events.com": collector.url,
        "follow-freq(1)": "follow-freq(0.1)",
        "batch-timeout(1000)": "batch-timeout(100)",
        "time-reopen(5)": "time-reopen(1)",
        "reliable(yes)": f'reliable(yes) dir("{tmp_path}")',
        "1073741824": "33554432",
    }.items():
        assert before in text
        text = text.replace(before, after)
    config = tmp_path / "syslog-ng.conf"
    config.write_text(text, "utf-8")
    process = subprocess.Popen(
        [
            *(SYSLOG_NG, "-F", "--no-caps", "-f", str(config)),
            *("-R", str(tmp_path / "persist"), "-c", str(tmp_path / "control")),
            *("-p", str(tmp_path / "pid")),
        ],
        stderr=subprocess.DEVNULL,
    )
    yield process
    process.terminate()
    process.wait(HANG)


class TestSyslogNg:
    @pytest.mark.usefixtures("syslog_ng")
    def test_an_outage(self, log, collector):
        """1,000 of 1,000 events arrive in order, with an outage in between."""
        for n in range(500):
            log.info("Order completed", extra={"ht_user_id": "user123", "n": n})
        assert collector.wait_for(500, HANG)
        collector.always(500)
        for n in range(500, 1000):
            log.info("Order completed", extra={"ht_user_id": "user123", "n": n})
        before = len(collector.requests)
        end = time.monotonic() + HANG
        while len(collector.requests) < before + 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert len(collector.events) == 500
        collector.always(None)
        assert collector.wait_for(1000, HANG)
        assert [e["properties"]["n"] for e in collector.events] == [*range(1000)]
        assert {r.write_key for r in collector.requests} == {"WRITE_KEY"}
        # Its limit: no sentAt.
        wrong = {problem.text for problem in collector.problems}
        assert wrong == {"sentAt must be ISO 8601 with an offset"}
