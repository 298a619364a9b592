"""The examples for operators: alerts that fire, and a dashboard of metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from script_runner import HANG

from htlogging import metrics

FOLDER = Path(__file__).parent.parent / "examples" / "operations"
PAGE = FOLDER.parent.parent / "htlogging" / "docs" / "operations.md"

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="needs promtool"
)


def names():
    """Return the names of all samples."""
    families = list(text_string_to_metric_families(metrics.openmetrics()))
    samples = {sample.name for family in families for sample in family.samples}
    # It has samples from the first request on.
    return samples | {"htlogging_requests_total"}


def used_in(text):
    """Return the names of ours that a text has."""
    return set(re.findall(r"\bhtlogging_[a-z_]+", text))


def promtool(*arguments):
    """Run promtool, and return what it says; it must be content."""
    done = subprocess.run(
        ["promtool", *arguments],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class TestAlerts:
    @needs_promtool
    def test_are_valid(self):
        """Promtool takes the rules and the configuration."""
        assert "SUCCESS" in promtool("check", "rules", "alerts.yml")
        assert "SUCCESS" in promtool("check", "config", "prometheus.yml")

    @needs_promtool
    def test_fire(self):
        """Each alert fires when it should, by promtool's own tests."""
        assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")
        rules = re.findall(
            r"(?m)alert: (\w+)", (FOLDER / "alerts.yml").read_text("utf-8")
        )
        tests = (FOLDER / "alerts_test.yml").read_text("utf-8")
        assert [rule for rule in rules if f"alertname: {rule}" not in tests] == []

    @pytest.mark.parametrize("file", ["alerts.yml", "alerts_test.yml"])
    def test_metrics_exist(self, file):
        """They name no metric that there is not."""
        assert used_in((FOLDER / file).read_text("utf-8")) <= names()


class TestDashboard:
    def test_metrics_exist(self):
        """Each panel shows metrics that there are, and all metrics are shown."""
        board = json.loads((FOLDER / "dashboard.json").read_text("utf-8"))
        shown = [
            target["expr"] for panel in board["panels"] for target in panel["targets"]
        ]
        used = used_in(" ".join(shown))
        assert used <= names()
        missing = names() - used
        assert {name for name in missing if "request_seconds" not in name} == set()

    @needs_promtool
    def test_queries_are_valid(self, tmp_path):
        """Prometheus can read each query."""
        board = json.loads((FOLDER / "dashboard.json").read_text("utf-8"))
        shown = [
            target["expr"].replace("$__rate_interval", "1m")
            for panel in board["panels"]
            for target in panel["targets"]
        ]
        rules = [{"record": f"r:{n}", "expr": expr} for n, expr in enumerate(shown)]
        path = tmp_path / "rules.yml"
        path.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
        assert f"{len(shown)} rules found" in promtool("check", "rules", str(path))


class TestPage:
    def test_each_metric_is_explained(self):
        """The manual's page lists the metrics, and no other."""
        page = PAGE.read_text("utf-8")
        listed = set(re.findall(r"(?m)^\| `(htlogging_\w+)", page))
        assert listed == {
            family.name + "_total" * (family.type == "counter")
            for family in text_string_to_metric_families(metrics.openmetrics())
        }


@pytest.mark.once
class TestApplication:
    def test_serves(self, collector, monkeypatch):
        """It makes an event, and shows its figures and its health."""
        monkeypatch.setenv("HTEVENTS_HOST", collector.url)
        monkeypatch.setenv("HTEVENTS_WRITE_KEY", "K")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, FOLDER / "serve.py", str(port)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            url = process.stdout.readline().strip()
            assert requests.get(f"{url}/order", timeout=HANG).text == "ok\n"
            delivered = 'htlogging_events_total{outcome="delivered",reason=""} 1\n'
            while (
                delivered
                not in (found := requests.get(f"{url}/metrics", timeout=HANG)).text
            ):
                pass
            assert found.headers["Content-Type"] == metrics.CONTENT_TYPE
            said = requests.get(f"{url}/health", timeout=HANG).text
            assert said.startswith("ok: events get through to http://127.0.0.1")
        finally:
            process.terminate()
            process.wait(HANG)
            process.stdout.close()
