"""What an event costs, counted rather than timed: a gross regression fails here."""

from __future__ import annotations

import gc
import io
import logging
import sys
import threading
import tracemalloc
from datetime import datetime, timezone

import pytest

from htlogging import HtEventsFormatter
from htlogging._event import encoder as json_encoder
from htlogging.htevents import Client

PROPERTIES = {
    "order_id": "order-1",
    "product_id": "SKU-4711",
    "quantity": 3,
    "price": 19.99,
    "currency": "GBP",
    "first": True,
    "coupon": None,
    "customer": {"plan": "pro", "country": "United Kingdom", "age_days": 412},
    "tags": ["gift", "express", "newsletter"],
    "ordered_at": datetime(2024, 3, 12, 9, 30, tzinfo=timezone.utc),
}


def calls_of(function):
    """Return how many functions, of Python and of C, one call of it calls."""
    calls = 0

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    function()  # imports and caches
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


@pytest.fixture
def client():
    """Return a client whose records no other handler sees, and whose events stay queued."""
    client = Client(
        "KEY", host="http://127.0.0.1:1", upload_interval=3600, max_queue_size=30_000
    )
    client.logger.propagate = False  # to pytest's handlers
    (handler,) = client.logger.handlers
    held = threading.Lock()
    held.acquire()
    handler._pipeline.worker.wake_when = (sys.maxsize, held)  # no thread is started
    yield client
    handler.queue.abandon()
    client.join()


@pytest.fixture(params=["orjson", "stdlib"], autouse=True)
def encoder(request, monkeypatch):
    """Return the name of the encoder in use."""
    if request.param == "orjson":
        pytest.importorskip("orjson")
        monkeypatch.setattr(json_encoder, "_dumps", json_encoder._choose_dumps())
    else:
        monkeypatch.setattr(json_encoder, "_dumps", json_encoder._stdlib_dumps)
    return request.param


class TestCalls:
    def test_facade(self, client):
        """A call of the facade is 60 function calls; events-sdk-python's is 200."""
        count = calls_of(lambda: client.track("user", "Order completed", PROPERTIES))
        assert client.stats.accepted == 2
        assert count <= 75

    def test_logging(self, client):
        """A record is 135 function calls, those of `Logger.info` included."""
        log = client.logger
        extra = {"ht_user_id": "user", **PROPERTIES}
        log.setLevel("INFO")
        count = calls_of(lambda: log.info("Order completed", extra=extra))
        assert client.stats.accepted == 2
        assert count <= 165

    def test_formatter(self):
        """A record that is formatted is 260 function calls."""
        log = logging.Logger("shop")  # noqa: LOG001  (not kept)
        lines = io.StringIO()
        log.addHandler(logging.StreamHandler(lines))
        log.handlers[0].setFormatter(HtEventsFormatter())
        extra = {"ht_user_id": "user", **PROPERTIES}
        count = calls_of(lambda: log.info("Order completed", extra=extra))
        assert len(lines.getvalue().splitlines()) == 2
        assert count <= 300


@pytest.mark.slow
class TestMemory:
    def test_queued_event(self, client):
        """A queued event takes its bytes and little more, whatever encoded it."""
        (handler,) = client.logger.handlers
        for _ in range(500):
            client.track("user", "Order completed", PROPERTIES)
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20_000):
            client.track("user", "Order completed", PROPERTIES)
        gc.collect()
        used = (tracemalloc.get_traced_memory()[0] - before) / 20_000
        tracemalloc.stop()
        assert not client.stats.dropped
        (event, *_) = handler.queue.abandon()
        assert used <= len(event) + 90
