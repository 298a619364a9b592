"""
Figures for operators: OpenMetrics text, and instruments of OpenTelemetry.

They are about all handlers and clients of this process. No label holds an event's name, a
user or a secret. docs/operations.md lists the metrics.
"""

from __future__ import annotations

import os

from htlogging._handler import HtEventsHandler, pipeline_of
from htlogging._process import fork
from htlogging._process.shutdown import living
from htlogging._stats import BOUNDS, figures
from htlogging.metrics._openmetrics import CONTENT_TYPE, Family, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

__all__ = ["CONTENT_TYPE", "instrument", "openmetrics"]

# Gauges: the name, what it measures, and its unit.
_GAUGES = {
    "queue_events": ("Events that are accepted and not settled yet.", ""),
    "queue_bytes": ("Bytes of memory that queued events take, as JSON.", "bytes"),
    "queue_capacity_events": ("The most events in memory: max_queue_size.", ""),
    "queue_capacity_bytes": ("The most bytes in memory: max_queue_bytes.", "bytes"),
    "oldest_event_age_seconds": ("How long the oldest event has waited.", "seconds"),
    "spool_bytes": ("Bytes of the spools' files.", "bytes"),
    "spool_capacity_bytes": ("The most bytes of spools: spool_max_bytes.", "bytes"),
}

_EVENTS = "Events that are settled, by outcome and reason."
_REQUESTS = "Requests, by the answer's status; error: there was no answer."
_SECONDS = "How long requests took."


def openmetrics() -> str:
    """
    Return all metrics in the OpenMetrics text format.

    Serve it with the content type `CONTENT_TYPE`. It may be called on any thread.
    """
    fork.detect()
    events = Family("htlogging_events", "counter", _EVENTS)
    for (outcome, reason), count in sorted(figures.events.copy().items()):
        events.add(count, {"outcome": outcome, "reason": reason})
    requests = Family("htlogging_requests", "counter", _REQUESTS)
    for status, count in sorted(figures.requests.copy().items()):
        requests.add(count, {"status": status})
    levels = _levels()
    gauges = [
        Family(f"htlogging_{name}", "gauge", says, unit).add(levels[name])
        for name, (says, unit) in _GAUGES.items()
    ]
    return text([events, requests, _histogram(), *gauges])


def _histogram() -> Family:
    family = Family("htlogging_request_seconds", "histogram", _SECONDS, "seconds")
    buckets, total = figures.buckets.copy(), 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), buckets, strict=True):
        total += count
        family.add(total, {"le": bound}, "_bucket")
    family.add(total, suffix="_count")
    return family.add(figures.seconds, suffix="_sum")


def _levels() -> dict[str, float]:
    """Return the gauges' values, over all handlers that send."""
    levels: dict[str, float] = dict.fromkeys(_GAUGES, 0)
    spools: dict[str, int] = {}
    for handler in living():
        if not isinstance(handler, HtEventsHandler):
            continue
        pipeline = pipeline_of(handler)
        settings, counts = pipeline.settings, pipeline.queue.counts()
        if not settings.send:
            continue
        age = pipeline.worker.ages.oldest(counts.queued)
        levels["queue_events"] += counts.queued
        levels["queue_bytes"] += counts.queued_bytes
        levels["queue_capacity_events"] += settings.max_queue_size
        levels["queue_capacity_bytes"] += settings.max_queue_bytes
        levels["oldest_event_age_seconds"] = max(
            levels["oldest_event_age_seconds"], round(age, 3)
        )
        if settings.spool is not None:
            path = os.path.realpath(settings.spool)
            spools[path] = max(spools.get(path, 0), settings.spool_max_bytes)
    levels["spool_bytes"] = sum(map(_bytes_of, spools))
    levels["spool_capacity_bytes"] = sum(spools.values())
    return levels


def _bytes_of(path: str) -> int:
    size = 0
    for suffix in ("", "-wal"):
        try:
            size += os.stat(path + suffix).st_size
        except OSError:  # noqa: PERF203
            continue  # not made yet, or removed
    return size


def instrument(meter: Any) -> None:
    """
    Make instruments of OpenTelemetry that show the same metrics; call it once.

    Needs the package `opentelemetry-api`, which is loaded here.

    Args:
        meter: An `opentelemetry.metrics.Meter`.

    Raises:
        ImportError: The package is missing.
    """
    try:
        from opentelemetry.metrics import Observation
    except ImportError as exc:
        raise ImportError(
            "instrument needs OpenTelemetry: pip install opentelemetry-api"
        ) from exc

    def observe(read: Callable[[], Iterable[tuple[float, dict[str, str]]]]) -> Any:
        def callback(options: object) -> Iterator[Observation]:  # noqa: ARG001
            fork.detect()
            for value, labels in read():
                yield Observation(value, labels)

        return [callback]

    meter.create_observable_counter(
        "htlogging.events", observe(_events), unit="{event}", description=_EVENTS
    )
    meter.create_observable_counter(
        "htlogging.requests",
        observe(_requests),
        unit="{request}",
        description=_REQUESTS,
    )
    for name, (says, unit) in _GAUGES.items():
        meter.create_observable_gauge(
            f"htlogging.{_DOTTED.get(name, name)}",
            observe(lambda name=name: [(_levels()[name], {})]),  # type: ignore[misc]
            unit={"bytes": "By", "seconds": "s"}.get(unit, "{event}"),
            description=says,
        )
    seconds = meter.create_histogram(
        "htlogging.request.seconds", unit="s", description=_SECONDS
    )
    figures.observers += (
        lambda status, took: seconds.record(took, {"status": status}),
    )


# OpenTelemetry's names have dots.
_DOTTED = {
    "queue_events": "queue.events",
    "queue_bytes": "queue.bytes",
    "queue_capacity_events": "queue.capacity.events",
    "queue_capacity_bytes": "queue.capacity.bytes",
    "oldest_event_age_seconds": "oldest_event.age.seconds",
    "spool_bytes": "spool.bytes",
    "spool_capacity_bytes": "spool.capacity.bytes",
}


def _events() -> list[tuple[float, dict[str, str]]]:
    return [
        (count, {"outcome": outcome, "reason": reason})
        for (outcome, reason), count in figures.events.copy().items()
    ]


def _requests() -> list[tuple[float, dict[str, str]]]:
    return [(count, {"status": s}) for s, count in figures.requests.copy().items()]
