"""Real events by real actors, all the way to the collector."""

import gzip
import json
import logging
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest

import htlogging
from htlogging import EventTooLarge, HtEventsHandler, htevents

# Beside the repository; not part of it, nor of the package.
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="the data are not beside the repository"
)

# Seconds; the hang guard of a flush.
GUARD = 120

LIMIT = 32_768

FIELDS = {
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "group_id": "groupId",
    "event": "event",
    "message_id": "messageId",
    "properties": "properties",
    "traits": "traits",
}


def rows(name):
    """Return the file's rows."""
    path = DATA / f"{name}.ndjson.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]


def github(row):
    """Yield the calls that a row of GitHub's timeline makes."""
    uid = row["actor"]["id"]
    when = datetime.fromisoformat(row["created_at"].replace("Z", "+00:00"))
    yield "identify", {"user_id": uid, "traits": row["actor"], "timestamp": when}
    if "org" in row:
        org = row["org"]
        yield (
            "group",
            {"user_id": uid, "group_id": org["id"], "traits": org, "timestamp": when},
        )
    yield (
        "track",
        {
            "user_id": uid,
            "event": row["type"],
            "timestamp": when,
            "message_id": row["id"],
            "properties": {
                **row["payload"],
                "repo": row["repo"],
                "public": row["public"],
            },
        },
    )


def order(row):
    """Yield the calls that an order of the shop makes."""
    london = ZoneInfo("Europe/London")
    when = datetime.fromisoformat(row["InvoiceDate"]).replace(tzinfo=london)
    if row["CustomerID"] is not None:
        who = {"user_id": row["CustomerID"]}
        traits = {"country": row["Country"]}
        yield "identify", {"traits": traits, "timestamp": when, **who}
    else:
        who = {"anonymous_id": "invoice-" + row["InvoiceNo"]}
    refunded = row["InvoiceNo"].startswith("C")
    total = sum(item["Quantity"] * item["UnitPrice"] for item in row["Items"])
    properties = {
        "order_id": row["InvoiceNo"],
        "currency": "GBP",
        "country": row["Country"],
        "total": round(total, 2),
        "products": [
            {
                "product_id": item["StockCode"],
                "name": item["Description"],
                "quantity": item["Quantity"],
                "price": item["UnitPrice"],
            }
            for item in row["Items"]
        ],
    }
    yield (
        "track",
        {
            "event": "Order Refunded" if refunded else "Order Completed",
            "timestamp": when,
            "properties": properties,
            **who,
        },
    )


# File → how its rows become calls, the calls of each type, and how many are too large.
FILES = {
    "shop-orders": (order, {"identify": 6_702, "track": 7_915}, 42),
    "github-events": (
        github,
        {"identify": 2_000, "group": 778, "track": 2_000},
        2,
    ),
}


def calls_of(name):
    """Return all calls that a file makes, each with a message id."""
    try:
        ZoneInfo("Europe/London")
    except ZoneInfoNotFoundError:
        pytest.skip("no time zones on this machine")
    mapping = FILES[name][0]
    calls = [call for row in rows(name) for call in mapping(row)]
    return [
        (kind, {"message_id": f"{name}-{n}", **given})
        for n, (kind, given) in enumerate(calls)
    ]


def expected(kind, given):
    """Return the event that a call makes, as JSON has it, without its context."""
    event = {"type": kind, "userId": None, "anonymousId": None, "integrations": {}}
    ids = ("user_id", "anonymous_id", "group_id", "message_id")
    for name, value in given.items():
        if name == "timestamp":
            event["timestamp"] = value.isoformat(timespec="milliseconds")
        else:
            event[FIELDS[name]] = str(value) if name in ids else value
    return event


def arrived(collector):
    """Return the events that came in by id, without their context; none came twice."""
    events = collector.events
    by_id = {event["messageId"]: event for event in events}
    assert len(by_id) == len(events)
    for event in events:
        assert event.pop("context")["library"]["name"] == "htlogging"
    return by_id


def size(event):
    """Return the bytes of an event with the context that it had, as it is sent."""
    library = {"name": "htlogging", "version": htlogging.__version__}
    whole = {**event, "context": {"library": library}}
    return len(json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode())


def check(collector, calls, refused, name):
    """Compare what came in with what was sent and with what was refused."""
    got = arrived(collector)
    counts = FILES[name][1]
    kinds = [kind for kind, _ in calls]
    assert {kind: kinds.count(kind) for kind in counts} == counts
    assert len(refused) == FILES[name][2]
    for kind, given in calls:
        event = expected(kind, given)
        message_id = event["messageId"]
        if message_id in refused:
            assert message_id not in got
            assert size(event) > LIMIT
        else:
            assert got.pop(message_id) == event
            assert size(event) <= LIMIT
    assert got == {}
    assert collector.problems == []
    for request in collector.requests:
        assert len(request.body) <= 475_000
        assert len(request.events) <= 2_500


@pytest.fixture
def facade(collector, monkeypatch):
    """Return the module, set to the collector; it is as new afterwards."""
    logger = logging.getLogger("htevents")
    monkeypatch.setattr(htevents, "default_client", None)
    monkeypatch.setattr(htevents, "write_key", "KEY")
    monkeypatch.setattr(htevents, "host", collector.url)
    monkeypatch.setattr(htevents, "max_queue_size", 100_000)
    monkeypatch.setattr(
        logger, "propagate", False
    )  # no other handler keeps the records
    yield htevents
    for handler in list(logger.handlers):
        if isinstance(handler, HtEventsHandler):
            logger.removeHandler(handler)
            handler.close()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name == "shop-orders" else name
        for name in FILES
    ],
)
class TestRealEvents:
    def test_through_the_facade(self, facade, collector, name):
        """Each event within the limit arrives once, as given; the others raise."""
        calls = calls_of(name)
        refused = set()

        def call(kind, given):
            try:
                return getattr(facade, kind)(**given)[0]
            except EventTooLarge:
                refused.add(given["message_id"])
                return True

        assert all(call(kind, given) for kind, given in calls)
        assert facade.flush(GUARD)
        stats = facade.default_client.stats
        check(collector, calls, refused, name)
        assert stats["rejected"] == len(refused)
        assert stats["delivered"] == stats["accepted"] == len(calls) - len(refused)

    @pytest.mark.once
    def test_through_plain_logging(self, collector, name):
        """The same through `extra=`; the others go to `handleError`."""
        calls = calls_of(name)
        refused = set()

        class Handler(HtEventsHandler):
            def handleError(self, record):  # noqa: N802
                refused.add(record.ht_message_id)

        handler = Handler(
            write_key="KEY", host=collector.url, thread=2, max_queue_size=100_000
        )
        log = logging.Logger("shop")  # noqa: LOG001  (not kept)
        log.addHandler(handler)
        for kind, given in calls:
            extra = {f"ht_{field}": value for field, value in given.items()}
            if kind == "track":
                # What `extra=` takes by its own name, and the name as the message.
                log.info(
                    extra.pop("ht_event"),
                    extra={**extra.pop("ht_properties"), **extra},
                )
            else:
                log.info(kind, extra={**extra, "ht_type": kind})
        assert handler.flush(GUARD)
        stats = handler.stats
        handler.close()
        check(collector, calls, refused, name)
        assert stats["rejected"] == len(refused)
        assert stats["delivered"] == len(calls) - len(refused)
