"""
Calls that type checkers must judge rightly; tests/test_typing.py runs them.

A line that ends in `# wrong` holds a mistake; no other line does. Nothing here is run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import date, datetime, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any, TypedDict
from uuid import uuid4

import htlogging
from htlogging import DeliveryError, HtEventsFormatter, HtEventsHandler, htevents
from htlogging.htevents import Client
from htlogging.testing import capture
from htlogging.types import IdentifyEvent, TrackEvent


class Order(TypedDict):
    """What an order's event says."""

    order_id: str
    total: float


order: Order = {"order_id": "o1", "total": 15.3}
now = datetime.now(timezone.utc)
readonly: Mapping[str, Any] = MappingProxyType({"plan": "pro"})


def on_error(error: DeliveryError, events: list[dict[str, Any]]) -> None:
    """Take what was given up."""
    print(error.status, len(events))  # noqa: T201


def on_any_error(error: Exception, events: list[dict[str, Any]]) -> int:
    """Take any error; the result does not matter."""
    return len(events) + len(error.args)


def on_error_alone(error: DeliveryError) -> None:
    """Take too few arguments."""
    print(error)  # noqa: T201


# track
htevents.track("u", "Order completed")
htevents.track("u", "Order completed", {"total": 15.3})
htevents.track(7, "Order completed", order)
htevents.track(uuid4(), "Order completed", readonly)
htevents.track(Decimal(7), "Order completed", None, {"ip": "::1"}, now)
htevents.track(7.5, event="Order completed", integrations={"All": False})
htevents.track(event="Order completed", anonymous_id="a", message_id="m1")
htevents.track(None, "Order completed")
htevents.track()  # wrong
htevents.track("Order completed")  # wrong
htevents.track("u", None)  # wrong
htevents.track("u", 7)  # wrong
htevents.track("u", {"total": 15.3})  # wrong
htevents.track("u", "Order completed", [1])  # wrong
htevents.track("u", "Order completed", "total")  # wrong
htevents.track(["u"], "Order completed")  # wrong
htevents.track("u", "Order completed", timestamp="2024-03-12")  # wrong
htevents.track("u", "Order completed", timestamp=date(2024, 3, 12))  # wrong
htevents.track("u", "Order completed", context=[1])  # wrong
htevents.track("u", "Order completed", propertys={})  # wrong
htevents.track("u", "Order completed", {1: 2})  # wrong

# identify
htevents.identify("u", {"plan": "pro"})
htevents.identify("u", readonly, timestamp=now)
htevents.identify(traits={"plan": "pro"})
htevents.identify({"plan": "pro"})  # wrong
htevents.identify("u", "pro")  # wrong
htevents.identify("u", properties={"plan": "pro"})  # wrong

# page, screen
htevents.page("u", "Docs", "Index", {"path": "/"})
htevents.page(anonymous_id=uuid4(), name="Index")
htevents.screen("u", name="Basket", properties=order)
htevents.page("u", {"path": "/"})  # wrong
htevents.page("u", name=7)  # wrong
htevents.screen("u", "Shop", "Basket", [2])  # wrong

# group, alias
htevents.group("u", "g", {"employees": 12})
htevents.group(group_id=42)
htevents.alias("old", "new")
htevents.alias(previous_id="old", user_id=7)
htevents.group("u")  # wrong
htevents.group("u", {"employees": 12})  # wrong
htevents.alias("old")  # wrong
htevents.alias("old", {"plan": "pro"})  # wrong

# what calls return
queued, event = htevents.track("u", "Order completed")
tracked: TrackEvent = event
name: str = event["event"]
identified: tuple[bool, IdentifyEvent] = htevents.identify("u")
event["traits"]  # wrong
other: IdentifyEvent = event  # wrong

# flush, stats
done: bool = htevents.flush(5, check=True)
count: int = htevents.stats.delivered
htevents.flush("5")  # wrong
htevents.stats.lost  # wrong

# clients and handlers
client = Client("K", host="http://localhost", on_error=on_error, on_invalid="report")
client = Client(on_error=on_any_error, proxies={"https": "http://proxy:3128"})
client.track("u", "Order completed", order)
handler = HtEventsHandler(write_key="K", upload_interval=2, spool="events.db")
handler.setFormatter(HtEventsFormatter())
logging.getLogger("shop").addHandler(handler)
handler.acquire()
client.track("u")  # wrong
HtEventsHandler("K")  # wrong
Client(7)  # wrong
Client("K", hots="http://localhost")  # wrong
Client("K", send="no")  # wrong
Client("K", on_error=on_error_alone)  # wrong
Client("K", on_invalid="ignore")  # wrong
HtEventsHandler(write_key="K", overflow="wait")  # wrong
handler.stats.deliverd  # wrong

# the package's names
text: str = htlogging.metrics.openmetrics()
with htlogging.collector.Collector() as receiver:
    receiver.script(503, htlogging.collector.Reply(429, retry_after=1))
htlogging.trak("u", "Order completed")  # wrong
htlogging.htevent.track("u", "Order completed")  # wrong
htlogging.health().state  # wrong

# bound fields
htlogging.bind(ht_user_id=7, ht_context={"ip": "::1"}, plan="pro")
with htlogging.bound(ht_anonymous_id=uuid4()), htlogging.scope(plan="pro"):
    htevents.track(event="Order completed")
htlogging.bind(ht_user_id=["u"])  # wrong
htlogging.bind(ht_context="::1")  # wrong
htlogging.bind("u")  # wrong

# tests
with capture() as events:
    total: float = events.one("Order completed", plan="pro")["properties"]["total"]
    assert [found["event"] for found in events.named("Order completed")] == []
    events.only("Order completed")  # wrong
