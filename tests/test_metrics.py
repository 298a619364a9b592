"""What operators see: OpenMetrics text, and OpenTelemetry's instruments."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from script_runner import HANG

import htlogging
from htlogging import _stats, metrics
from htlogging._process import shutdown
from htlogging._stats import Figures, reason_of
from htlogging.collector import Reply
from htlogging.exceptions import DeliveryError
from htlogging.htevents import Client


@pytest.fixture(autouse=True)
def figures(monkeypatch):
    """Count from 0 in each test."""
    mine = _stats.figures
    monkeypatch.setattr(mine, "observers", ())
    mine._begin()
    # Clients of other tests are not looked at.
    monkeypatch.setattr(shutdown, "_handlers", type(shutdown._handlers)())
    return mine


def samples():
    """Return name → {sorted label values: value}, as Prometheus' own parser has them."""
    found = {}
    for family in text_string_to_metric_families(metrics.openmetrics()):
        for sample in family.samples:
            key = tuple(sample.labels[name] for name in sorted(sample.labels))
            found.setdefault(sample.name, {})[key] = sample.value
    return found


class TestOpenMetrics:
    def test_names(self):
        """The names and labels are part of what is promised."""
        families = text_string_to_metric_families(metrics.openmetrics())
        assert {family.name: family.type for family in families} == {
            "htlogging_events": "counter",
            "htlogging_requests": "counter",
            "htlogging_request_seconds": "histogram",
            "htlogging_queue_events": "gauge",
            "htlogging_queue_bytes": "gauge",
            "htlogging_queue_capacity_events": "gauge",
            "htlogging_queue_capacity_bytes": "gauge",
            "htlogging_oldest_event_age_seconds": "gauge",
            "htlogging_spool_bytes": "gauge",
            "htlogging_spool_capacity_bytes": "gauge",
        }

    def test_delivered(self, collector):
        """Events and requests are counted, and how long requests took."""
        client = Client("K", host=collector.url)
        for _ in range(3):
            client.track("u", "e")
        assert client.flush(HANG)
        found = samples()
        assert found["htlogging_events_total"]["delivered", ""] == 3
        requests = found["htlogging_requests_total"]["200",]
        assert requests == found["htlogging_request_seconds_count"][()] >= 1
        assert found["htlogging_request_seconds_bucket"]["+Inf",] == requests
        assert found["htlogging_request_seconds_sum"][()] > 0

    def test_given_up(self, collector):
        """The reason is the status; the server's own word is no label."""
        collector.always(Reply(401, body=b'{"code": "invented"}'))
        client = Client("K", host=collector.url)
        client.track("u", "Secret event")
        client.flush(HANG)
        found = samples()
        assert found["htlogging_events_total"]["failed", "http_401"] == 1
        assert found["htlogging_requests_total"]["401",] == 1
        text = metrics.openmetrics()
        assert "invented" not in text
        assert "Secret event" not in text

    def test_no_answer(self):
        """A request without an answer is an error."""
        client = Client("K", host="http://127.0.0.1:9", max_retries=0)
        client.track("u", "e")
        client.flush(HANG)
        found = samples()
        assert found["htlogging_requests_total"]["error",] == 1
        assert found["htlogging_events_total"]["failed", "network"] == 1

    @pytest.mark.parametrize(
        ("event", "reason"), [({}, "invalid"), ({"x": "y" * 400}, "too_large")]
    )
    def test_rejected(self, collector, event, reason):
        """Invalid events are counted, the too large ones apart."""
        client = Client("K", host=collector.url, max_event_size=400)
        with pytest.raises(htlogging.InvalidEvent):
            client.track("u", "e" if event else "", event)
        assert samples()["htlogging_events_total"]["rejected", reason] == 1

    @pytest.mark.parametrize(
        "setting", [{"max_queue_size": 1}, {"max_queue_bytes": 300}]
    )
    def test_dropped(self, setting):
        """The reason is the bound that was met."""
        client = Client("K", host="http://127.0.0.1:9", shutdown_timeout=0, **setting)
        while client.track("u", "e")[0]:
            pass
        assert samples()["htlogging_events_total"][("dropped", *setting)] == 1
        client.join()
        # Nothing listens there; whether that was found out by then is the threads' affair.
        found = samples()["htlogging_events_total"]
        assert found["failed", "shutdown"] + found["failed", "network"] >= 1

    def test_queue(self):
        """What waits, how long, and how much could wait."""
        client = Client(
            "K",
            host="http://127.0.0.1:9",
            max_queue_size=70,
            max_queue_bytes=50_000,
            shutdown_timeout=0,
        )
        before = samples()
        client.track("u", "e")
        found = samples()
        assert found["htlogging_queue_events"][()] == 1
        assert found["htlogging_queue_bytes"][()] == client.stats.queued_bytes > 0
        assert found["htlogging_queue_capacity_events"][()] >= 70
        assert found["htlogging_queue_capacity_bytes"][()] >= 50_000
        while samples()["htlogging_oldest_event_age_seconds"][()] < 0.01:
            pass
        client.join()
        assert before["htlogging_oldest_event_age_seconds"][()] == 0
        assert samples()["htlogging_oldest_event_age_seconds"][()] == 0

    def test_spool(self, collector, tmp_path):
        """The bytes of the file, and its bound."""
        path = tmp_path / "spool"
        client = Client("K", host=collector.url, spool=path, spool_max_bytes=2**21)
        client.track("u", "e")
        found = samples()
        assert found["htlogging_spool_bytes"][()] >= path.stat().st_size > 0
        assert found["htlogging_spool_capacity_bytes"][()] == 2**21
        client.join()

    def test_outlives_handlers(self, collector):
        """A counter never falls, whatever handlers come and go."""
        client = Client("K", host=collector.url)
        client.track("u", "e")
        client.join()
        del client
        gc.collect()
        assert samples()["htlogging_events_total"]["delivered", ""] == 1

    def test_not_sent(self):
        """What is not sent is not counted."""
        Client(send=False).track("u", "e")
        assert samples()["htlogging_events_total"]["delivered", ""] == 0

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
    @pytest.mark.filterwarnings("ignore:This process")  # of forks, from 3.12 on
    def test_fork(self, figures):
        """A child counts its own."""
        figures.delivered(3)
        pid = os.fork()
        if not pid:
            os._exit(figures.events["delivered", ""])
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert figures.events["delivered", ""] == 3

    @pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool")
    def test_promtool(self):
        """Promtool parses it; it wants a counter's help under another name."""
        done = subprocess.run(
            ["promtool", "check", "metrics"],
            input=metrics.openmetrics(),
            capture_output=True,
            text=True,
            timeout=HANG,
            check=False,
        )
        lines = [x for x in done.stderr.splitlines() if "_total no help text" not in x]
        assert (done.returncode, lines) in ((3, []), (0, []))


class TestReasons:
    @pytest.mark.parametrize(
        ("status", "code", "reason"),
        [
            (500, "anything", "http_500"),
            (None, "network", "network"),
            (None, "spool", "spool"),
            (None, "anything", "other"),
            (400, "oauth.invalid_client", "oauth"),
        ],
    )
    def test_are_few_words(self, status, code, reason):
        """A label's values are bounded, whatever a server answers."""
        assert reason_of(DeliveryError(status, code, "", 1)) == reason

    def test_observer_that_raises(self):
        """An exporter's error harms nothing."""
        figures = Figures()
        figures.observers += (lambda *_: 1 / 0,)
        figures.request("200", 99.0)
        assert figures.requests == {"200": 1}
        assert figures.buckets[-1] == 1


class TestOpenTelemetry:
    def test_without_the_package(self, monkeypatch):
        """The error says what to install."""
        monkeypatch.setitem(sys.modules, "opentelemetry.metrics", None)
        with pytest.raises(ImportError, match="pip install opentelemetry-api"):
            metrics.instrument(None)

    def test_instruments(self, collector):
        """The same figures, under names with dots."""
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader])
        metrics.instrument(provider.get_meter("app"))
        client = Client("K", host=collector.url)
        client.track("u", "e")
        assert client.flush(HANG)
        data = reader.get_metrics_data()
        (scope,) = data.resource_metrics[0].scope_metrics
        points = {metric.name: metric.data.data_points for metric in scope.metrics}
        (delivered,) = (
            point
            for point in points["htlogging.events"]
            if point.attributes["outcome"] == "delivered"
        )
        assert delivered.value == 1
        assert points["htlogging.request.seconds"][0].count == 1
        assert points["htlogging.requests"][0].attributes == {"status": "200"}
        assert len(points) == len(metrics._GAUGES) + 3
        provider.shutdown()


class TestImport:
    @pytest.mark.parametrize(
        "before",
        [
            "",
            "import htlogging._health",
            "import htlogging.metrics",
            "import htlogging.testing",
        ],
    )
    def test_is_lazy(self, before):
        """`import htlogging` loads neither; both are there all the same."""
        script = (
            "import sys, htlogging\n"
            "assert not {'htlogging.metrics', 'htlogging._health'} & set(sys.modules)\n"
            f"{before}\n"
            "assert htlogging.health().status == 'ok'\n"
            "assert htlogging.metrics.openmetrics().endswith('# EOF\\n')\n"
            "from htlogging import health, metrics\n"
            "assert callable(health)\n"
            "assert not {'opentelemetry', 'prometheus_client'} & set(sys.modules)\n"
        )
        subprocess.run([sys.executable, "-c", script], check=True, timeout=HANG)
