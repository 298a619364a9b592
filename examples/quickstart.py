"""
Use every call of the facade once.

In one terminal::

    python -m htlogging collect

and in another::

    export HTEVENTS_HOST=http://127.0.0.1:8765 HTEVENTS_WRITE_KEY=anything
    python examples/quickstart.py

Without HTEVENTS_HOST, and with a key of yours, the events go to Hightouch.
"""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from typing import Any

from htlogging import InvalidEvent, bound, htevents


def on_error(exception: Exception, events: list[dict[str, Any]]) -> None:
    """Print events that were given up; called on the sending thread."""
    print(f"{len(events)} events lost: {exception}", file=sys.stderr)


# Settings are attributes; write_key and host may also come from the environment.
htevents.on_error = on_error

# Who a user is, what they did, what they saw, which group they belong to.
htevents.identify("user123", {"name": "Ada", "email": "ada@example.com"})
htevents.track("user123", "Order Completed", {"order_id": "5012", "total": 15.3})
htevents.page("user123", "Docs", "Quickstart", {"path": "/docs/quickstart"})
htevents.screen("user123", None, "Basket", {"items": 2})
htevents.group("user123", "acme", {"name": "Acme Ltd", "employees": 12})
htevents.alias("visitor-7f3a", "user123")

# Before the user signs in there is only an anonymous id; a past event has a time.
htevents.track(
    anonymous_id="visitor-7f3a",
    event="Product Viewed",
    timestamp=datetime(2024, 3, 12, 9, 30, tzinfo=timezone.utc),
    message_id="view-1",  # an id of your own: the event sent twice stays one event
)

# Bound fields join all events of a request.
with bound(ht_user_id="user123", ht_context={"ip": "203.0.113.7"}, plan="pro"):
    queued, event = htevents.track(event="Coupon Applied")
print("queued" if queued else "not queued", event["messageId"])

# A mistake raises at once, and costs no other event.
try:
    htevents.track("user123", "")
except InvalidEvent as exc:
    print(f"refused: {exc}")

# Not needed, because queued events are delivered at exit; but a job may wait for them.
print("all delivered or given up:", htevents.flush(timeout=30))
