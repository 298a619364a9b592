"""The examples, as people run them: real processes against the collector."""

from __future__ import annotations

import importlib.util
import json
import os
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from script_runner import on_terminal, python

pytestmark = pytest.mark.once

EXAMPLES = Path(__file__).parent.parent / "examples"
ORDERS = EXAMPLES / "data" / "shop-orders.ndjson"
LIMIT = 32_768  # bytes of an event


def run(name, collector, *arguments, cwd, **environ):
    """Run an example to its end, with a collector to send to."""
    names = {
        "PYTHONIOENCODING": "utf-8",
        "HTEVENTS_HOST": collector.url,
        "HTEVENTS_WRITE_KEY": "KEY",
        **environ,
    }
    return python(EXAMPLES / name, *arguments, cwd=cwd, **names)


def as_sent(event):
    """Return an event without what differs from run to run."""
    fields = "messageId timestamp integrations".split()
    return {k: v for k, v in event.items() if k not in fields and k != "context"}


def size(event):
    """Return the bytes of an event as it is sent."""
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode())


class TestQuickstart:
    @pytest.fixture
    def done(self, collector, tmp_path):
        """Return the process, which has ended well."""
        done = run("quickstart.py", collector, cwd=tmp_path)
        assert (done.status, done.err) == (0, "")
        assert collector.problems == []
        return done

    @pytest.mark.usefixtures("done")
    def test_every_call_arrives_once(self, collector):
        """The six calls, the anonymous one and the one with bound fields, in order."""
        nobody = {"anonymousId": None}
        ada = {"userId": "user123", **nobody}
        assert [as_sent(event) for event in collector.events] == [
            {
                "type": "identify",
                **ada,
                "traits": {"name": "Ada", "email": "ada@example.com"},
            },
            {
                "type": "track",
                **ada,
                "event": "Order Completed",
                "properties": {"order_id": "5012", "total": 15.3},
            },
            {
                "type": "page",
                **ada,
                "category": "Docs",
                "name": "Quickstart",
                "properties": {"path": "/docs/quickstart"},
            },
            {
                "type": "screen",
                **ada,
                "category": None,
                "name": "Basket",
                "properties": {"items": 2},
            },
            {
                "type": "group",
                **ada,
                "groupId": "acme",
                "traits": {"name": "Acme Ltd", "employees": 12},
            },
            {"type": "alias", **ada, "previousId": "visitor-7f3a"},
            {
                "type": "track",
                "userId": None,
                "anonymousId": "visitor-7f3a",
                "event": "Product Viewed",
                "properties": {},
            },
            {
                "type": "track",
                **ada,
                "event": "Coupon Applied",
                "properties": {"plan": "pro"},
            },
        ]

    @pytest.mark.usefixtures("done")
    def test_own_time_id_and_context(self, collector):
        """A timestamp, a message id and a bound context are sent as they were given."""
        viewed, applied = collector.events[-2:]
        assert viewed["timestamp"] == "2024-03-12T09:30:00.000+00:00"
        assert viewed["messageId"] == "view-1"
        assert applied["context"]["ip"] == "203.0.113.7"

    def test_says_what_the_calls_answered(self, done, collector):
        """Queued under an id, refused for its reason, and all done."""
        queued, refused, flushed = done.out.splitlines()
        assert queued == f"queued {collector.events[-1]['messageId']}"
        assert refused.startswith("refused: ")
        assert flushed == "all delivered or given up: True"


class TestDictConfig:
    EVENTS = (
        {
            "type": "identify",
            "userId": "user123",
            "anonymousId": None,
            "traits": {"name": "Zoë", "plan": "pro"},
        },
        {
            "type": "page",
            "userId": "user123",
            "anonymousId": None,
            "category": None,
            "name": "Welcome",
            "properties": {},
        },
        *(
            {
                "type": "track",
                "userId": "user123",
                "anonymousId": None,
                "event": name,
                "properties": {"order_id": 536365, **more},
            }
            for name, more in {
                "Checkout Started": {"total": 15.3},
                "Order Completed": {"total": 15.3, "currency": "GBP"},
                "Receipt Mailed": {},
            }.items()
        ),
    )

    @pytest.fixture
    def done(self, collector, tmp_path):
        """Return the process, which has ended well."""
        done = run("dictconfig.py", collector, cwd=tmp_path)
        assert done.status == 0
        assert collector.problems == []
        return done

    @pytest.mark.usefixtures("done")
    def test_events_arrive(self, collector):
        """What was logged as an event arrives without a flush; the rest does not."""
        assert tuple(as_sent(event) for event in collector.events) == self.EVENTS

    def test_stdout_has_the_same_events(self, done):
        """The formatter on stdout writes what the handler of its logger sends."""
        written = [as_sent(json.loads(line)) for line in done.out.splitlines()]
        assert tuple(written) == self.EVENTS[:-1]

    def test_console_has_the_rest(self, done):
        """Ordinary records, and events among them, are lines on the console."""
        *lines, delivered = done.err.splitlines()
        assert lines == ["INFO shop: paid 15.30", "INFO shop: mailing user123"]
        assert delivered.startswith("INFO htlogging: 5 events delivered to http://")


class TestReplayOrders:
    def orders(self):
        """Return the file's orders."""
        with ORDERS.open(encoding="utf-8", newline="\n") as file:
            return [json.loads(line) for line in file]

    def expected(self):
        """Return id → type, user, anonymous id, name, time and total, of each event."""
        found = {}
        for order in self.orders():
            number, date = order["InvoiceNo"], order["InvoiceDate"]
            user = None if order["CustomerID"] is None else str(order["CustomerID"])
            anonymous = f"invoice-{number}" if user is None else None
            # Without a time zone database: summer began on 27 March, at 01:00 UTC.
            hours = 1 if "2011-03-27" <= date < "2011-10-30" else 0
            zone = timezone(timedelta(hours=hours))
            when = datetime.fromisoformat(date).replace(tzinfo=zone)
            if user is not None:
                key = f"identify {number} {date}"
                found[key] = ("identify", user, anonymous, None, when, None)
            name = "Order Refunded" if number.startswith("C") else "Order Completed"
            total = round(
                sum(i["Quantity"] * i["UnitPrice"] for i in order["Items"]), 2
            )
            key = f"track {number} {date}"
            found[key] = ("track", user, anonymous, name, when, total)
        return found

    def arrived(self, events):
        """Return the same of the events that arrived."""
        return {
            event["messageId"]: (
                event["type"],
                event["userId"],
                event["anonymousId"],
                event.get("event"),
                datetime.fromisoformat(event["timestamp"]),
                event.get("properties", {}).get("total"),
            )
            for event in events
        }

    def test_every_order_once_or_reported(self, collector, tmp_path):
        """Each event within the limit arrives once; the others are named on stderr."""
        done = run("replay_orders.py", collector, cwd=tmp_path)
        assert done.status == 0
        expected, arrived = self.expected(), self.arrived(collector.events)
        assert len(collector.events) == len(arrived)
        too_large = [key for key in expected if key not in arrived]
        assert arrived == {k: v for k, v in expected.items() if k not in too_large}
        reports = done.err.splitlines()
        assert [line.split()[:5] for line in reports] == [
            ["order", key.split()[1], "was", "not", "sent:"] for key in too_large
        ]
        assert len(too_large) == 3
        assert collector.problems == []

    def test_nothing_of_an_order_is_lost(self, collector, tmp_path):
        """Lines, names in their alphabet and numbers arrive as they stand in the file."""
        run("replay_orders.py", collector, cwd=tmp_path)
        lines = {
            (order["InvoiceNo"], order["InvoiceDate"]): [
                tuple(item.values()) for item in order["Items"]
            ]
            for order in self.orders()
        }
        tracks = [event for event in collector.events if event["type"] == "track"]
        for event in tracks:
            number, date = event["messageId"].split(" ", 1)[1].split(" ", 1)
            products = event["properties"]["products"]
            assert [tuple(p.values()) for p in products] == lines[number, date]
        assert any("£" in json.dumps(e, ensure_ascii=False) for e in tracks)
        sizes = sorted(size(event) for event in collector.events)
        assert LIMIT - 3_000 < sizes[-1] <= LIMIT

    def test_the_summary_counts(self, collector, tmp_path):
        """One line on stdout tells orders, events, and what was not sent."""
        done = run("replay_orders.py", collector, cwd=tmp_path)
        count = len(collector.events)
        assert done.out == (
            f"66 orders: {count} of {count} events delivered, 3 too large, 0 lost\n"
        )

    def test_again_sends_the_same_ids(self, collector, tmp_path):
        """A second run repeats the message ids, for the warehouse to know them by."""
        for _ in range(2):
            run("replay_orders.py", collector, cwd=tmp_path)
        ids = Counter(event["messageId"] for event in collector.events)
        assert set(ids.values()) == {2}

    def test_another_file(self, collector, tmp_path):
        """A file of the same kind may be named, relative to the current folder."""
        first = ORDERS.read_text(encoding="utf-8").partition("\n")[0]
        (tmp_path / "one.ndjson").write_text(first + "\n", encoding="utf-8")
        done = run("replay_orders.py", collector, "one.ndjson", cwd=tmp_path)
        assert done.out.startswith("1 orders: 2 of 2 events delivered")
        assert len(collector.events) == 2

    def test_what_is_given_up_is_told(self, collector, tmp_path):
        """Where the server refuses, the lost events are told and the status is 1."""
        collector.always(401)
        done = run("replay_orders.py", collector, cwd=tmp_path)
        assert done.status == 1
        assert "events were given up" in done.err
        assert ": 0 of 119 events delivered, 3 too large, 119 lost" in done.out

    @pytest.mark.parametrize(
        ("arguments", "environ", "said"),
        [
            (["none.ndjson"], {}, "none.ndjson"),
            ([], {"HTEVENTS_WRITE_KEY": ""}, "HTEVENTS_WRITE_KEY"),
            ([], {"HTEVENTS_HOST": "example.com"}, "HTEVENTS_HOST"),
        ],
    )
    def test_cannot_begin(self, collector, tmp_path, arguments, environ, said):
        """Without a file, a key or a usable host it says so, and its status is 2."""
        done = run("replay_orders.py", collector, *arguments, cwd=tmp_path, **environ)
        assert (done.status, done.out) == (2, "")
        assert said in done.err
        assert "Traceback" not in done.err

    @pytest.mark.skipif(
        importlib.util.find_spec("tzdata") is not None, reason="tzdata is installed"
    )
    def test_without_time_zones(self, collector, tmp_path):
        """Where the machine has no time zones it says what to install."""
        done = run("replay_orders.py", collector, cwd=tmp_path, PYTHONTZPATH="")
        assert (done.status, done.out) == (2, "")
        assert "Europe/London" in done.err
        assert "pip install tzdata" in done.err
        assert collector.requests == []

    @pytest.mark.skipif(os.name != "posix", reason="no pseudo-terminals")
    def test_a_bar_on_a_terminal(self, collector, tmp_path):
        """Where stderr is a terminal there is a bar, and it comes to its end."""
        ended = on_terminal(
            EXAMPLES / "replay_orders.py",
            cwd=tmp_path,
            HTEVENTS_HOST=collector.url,
            HTEVENTS_WRITE_KEY="KEY",
        )
        assert ended.status == 0
        full = "#" * 40
        assert f"read [{full}] 66/66" in ended.err
        assert f"sent [{full}] 119/119" in ended.err


class TestData:
    def test_the_edges_are_in_it(self):
        """Guests, refunds, `£`, both clocks and too large orders: the hard cases."""
        orders = TestReplayOrders().orders()
        assert any(order["CustomerID"] is None for order in orders)
        assert any(order["InvoiceNo"].startswith("C") for order in orders)
        assert "£" in ORDERS.read_text(encoding="utf-8")
        assert sum(size(order) > LIMIT for order in orders) >= 2
        assert any(order["InvoiceDate"] > "2011-03-27" for order in orders)
