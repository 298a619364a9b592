"""
What is measured: our ways in, other SDKs, and the floors of the standard library.

A subject is a function that gets the sink's address and returns `(given, call, flush)`:
`given(n)` is what the application has, `call(given(n))` makes one event of it, and
`flush()` returns when all have been delivered.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import queue
import sys
import tempfile
from datetime import datetime, timezone

# More than any measurement queues.
ROOM = 2_000_000
WHEN = datetime(2024, 3, 12, 9, 30, tzinfo=timezone.utc)


def properties(n):
    """Return a typical event's: ten values, a dict, a list and a datetime among them."""
    return {
        "order_id": f"order-{n}",
        "product_id": "SKU-4711",
        "quantity": 3,
        "price": 19.99,
        "currency": "GBP",
        "first": n % 7 == 0,
        "coupon": None,
        "customer": {"plan": "pro", "country": "United Kingdom", "age_days": 412},
        "tags": ["gift", "express", "newsletter"],
        "ordered_at": WHEN,
    }


def _user_and_properties(n):
    return f"user-{n}", properties(n)


def _extra(n):
    return {"ht_user_id": f"user-{n}", **properties(n)}


def _logs_to(handler):
    log = logging.getLogger("htevents")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)

    def call(extra):
        log.info("Order completed", extra=extra)

    return _extra, call


def _tracks_with(client):
    def call(given):
        user, about = given
        client.track(user, "Order completed", about)

    return _user_and_properties, call, client.flush


def _nothing():
    pass


def ours_logging(host):
    from htlogging import HtEventsHandler

    handler = HtEventsHandler(write_key="K", host=host, max_queue_size=ROOM)
    return *_logs_to(handler), handler.flush


def ours_facade(host, **settings):
    from htlogging.htevents import Client

    return _tracks_with(Client("K", host=host, max_queue_size=ROOM, **settings))


def ours_four_senders(host):
    return ours_facade(host, thread=4)


def ours_spool(host):
    # Where `run.py` says, who takes it away.
    return ours_facade(host, spool=os.path.join(tempfile.mkdtemp(), "events.db"))


def events_sdk_python(host):
    from hightouch.htevents.client import Client

    return _tracks_with(Client("K", host=host, max_queue_size=ROOM))


def posthog(host):
    from posthog import Posthog

    client = Posthog("K", host=host, max_queue_size=ROOM)

    def call(given):
        user, about = given
        client.capture("Order completed", distinct_id=user, properties=about)

    return _user_and_properties, call, client.flush


def floor_null(_host):
    """`Logger.info` without a handler, with the same extras."""
    return *_logs_to(logging.NullHandler()), _nothing


def floor_queue(_host):
    """`Logger.info` to the stdlib's `QueueHandler` on a `SimpleQueue`."""
    handler = logging.handlers.QueueHandler(queue.SimpleQueue())
    return *_logs_to(handler), _nothing


def floor_dumps(_host):
    """`json.dumps` of the properties alone."""

    def given(n):
        return {**properties(n), "ordered_at": "2024-03-12T09:30:00+00:00"}

    return given, json.dumps, _nothing


SUBJECTS = {
    "logging": ours_logging,
    "facade": ours_facade,
    "facade, 4 senders": ours_four_senders,
    "facade, spool": ours_spool,
    "events-sdk-python": events_sdk_python,
    "posthog": posthog,
    "Logger.info + NullHandler": floor_null,
    "Logger.info + QueueHandler": floor_queue,
    "json.dumps": floor_dumps,
}


def without_orjson():
    """Hide orjson from what is imported later."""
    sys.modules["orjson"] = None
