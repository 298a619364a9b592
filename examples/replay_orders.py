"""
Replay a shop's orders: who ordered what, with the times of the orders.

In one terminal::

    python -m htlogging collect

and in another::

    export HTEVENTS_HOST=http://127.0.0.1:8765 HTEVENTS_WRITE_KEY=anything
    python examples/replay_orders.py

Without HTEVENTS_HOST, and with a key of yours, the events go to Hightouch. Another file
of the same kind may be named as an argument.

An order that is too long for one event is reported and not sent. The exit status is 0 when
all other orders were delivered, 1 when some were not, and 2 when it could not begin. Message
ids are computed from the orders: a second run sends the same events, not new ones.

The shop's clock is Europe/London, from the time zones of the system. Windows and slim
containers have none: run `pip install tzdata` there first.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from htlogging import EventTooLarge, InvalidSetting
from htlogging.htevents import Client

ORDERS = Path(__file__).parent / "data" / "shop-orders.ndjson"
BAR = 40  # characters


def events(order: dict[str, Any], clock: ZoneInfo) -> Iterator[tuple[str, Any]]:
    """Yield the calls for an order: a method's name and its arguments."""
    number, date = order["InvoiceNo"], order["InvoiceDate"]
    when = datetime.fromisoformat(date).replace(tzinfo=clock)
    who = {"user_id": order["CustomerID"]}
    if order["CustomerID"] is None:
        who = {"anonymous_id": f"invoice-{number}"}
    else:
        traits = {"country": order["Country"]}
        key = f"identify {number} {date}"
        yield (
            "identify",
            {**who, "traits": traits, "timestamp": when, "message_id": key},
        )
    properties = {
        "order_id": number,
        "currency": "GBP",
        "total": round(sum(i["Quantity"] * i["UnitPrice"] for i in order["Items"]), 2),
        "products": [
            {
                "product_id": item["StockCode"],
                "name": item["Description"],
                "quantity": item["Quantity"],
                "price": item["UnitPrice"],
            }
            for item in order["Items"]
        ],
    }
    yield (
        "track",
        {
            **who,
            "event": "Order Refunded" if number.startswith("C") else "Order Completed",
            "properties": properties,
            "timestamp": when,
            "message_id": f"track {number} {date}",
        },
    )


def show(done: int, total: int, what: str) -> None:
    """Draw the progress bar; do nothing if stderr is not a terminal."""
    if sys.stderr.isatty():
        bar = "#" * (BAR * done // max(total, 1))
        end = "\n" if done == total else ""
        line = f"\r{what} [{bar:<{BAR}}] {done:,}/{total:,}"
        print(line, end=end, file=sys.stderr, flush=True)


def send(order: dict[str, Any], client: Client, clock: ZoneInfo) -> str | None:
    """Send an order's events; return a message if it was not sent."""
    try:
        for method, arguments in events(order, clock):
            getattr(client, method)(**arguments)
    except EventTooLarge as exc:
        return f"order {order['InvoiceNo']} was not sent: {exc}"
    return None


def replay(orders: list[str], client: Client, clock: ZoneInfo) -> list[str]:
    """Send the orders; return messages about those that were not sent."""
    reports = []
    for done, line in enumerate(orders, 1):
        report = send(json.loads(line), client, clock)
        if report is not None:
            reports.append(report)
        show(done, len(orders), "read")
    return reports


def deliver(client: Client) -> None:
    """Wait until all events are delivered or given up."""
    while not client.flush(timeout=0.2):
        stats = client.stats
        show(stats.accepted - stats.queued, stats.accepted, "sent")
    show(client.stats.accepted, client.stats.accepted, "sent")


def on_error(exception: Exception, lost: list[dict[str, Any]]) -> None:
    """Print what was given up; called on the sending thread."""
    print(f"{len(lost)} events were given up: {exception}", file=sys.stderr)


def main() -> int:
    """Replay a file, and return the exit status."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ORDERS
    try:
        clock = ZoneInfo("Europe/London")
        orders = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        # A job may wait when the queue is full; a web request should not.
        client = Client(overflow="block", on_error=on_error)
    except ZoneInfoNotFoundError as exc:
        print(f"{exc.args[0]}: python -m pip install tzdata", file=sys.stderr)
        return 2
    except (OSError, InvalidSetting) as exc:
        print(exc, file=sys.stderr)
        return 2
    too_large = replay(orders, client, clock)
    deliver(client)
    for report in too_large:
        print(report, file=sys.stderr)
    stats = client.stats
    print(
        f"{len(orders)} orders: {stats.delivered} of {stats.accepted} events delivered, "
        f"{len(too_large)} too large, {stats.failed + stats.dropped} lost"
    )
    return 1 if stats.failed or stats.dropped else 0


if __name__ == "__main__":
    sys.exit(main())
