"""Record in, event delivered: what plain logging through the handler does."""

import asyncio
import logging
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from logging.handlers import QueueHandler

import pytest
from script_runner import HANG

import htlogging
from htlogging import HtEventsHandler, InvalidSetting
from htlogging.htevents import Client

# Seconds; the hang guard of whatever waits for another thread or process.

WHEN = datetime(2024, 3, 12, 9, 30, 0, 123456, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def _own_state(monkeypatch):
    """Leave no key, no level and no switch to other tests, nor take any from them."""
    monkeypatch.delenv("HTEVENTS_WRITE_KEY", raising=False)
    monkeypatch.delenv("HTEVENTS_HOST", raising=False)
    htlogging.clear()
    level = logging.root.level
    yield
    htlogging.clear()
    logging.root.setLevel(level)


@pytest.fixture
def attach():
    """Return a function that puts a handler on a logger; all are taken off again."""
    made = []

    def attach(handler, name="shop"):
        logger = logging.getLogger(name)
        made.append((logger, handler, logger.level, logger.propagate))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        return logger

    yield attach
    for logger, handler, level, propagate in reversed(made):
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
        handler.close()


@pytest.fixture
def handler(collector):
    """Return one that sends to the collector, on no logger yet."""
    return HtEventsHandler(write_key="KEY", host=collector.url)


@pytest.fixture
def log(handler, attach):
    """Return a logger of its own for the handler."""
    logger = attach(handler)
    logger.propagate = False
    return logger


@pytest.fixture
def sent(handler, collector):
    """Return a function that flushes, and returns the events that came in."""

    def sent():
        assert handler.flush(HANG)
        return collector.events

    return sent


class TestThreeWaysIn:
    def test_make_the_same_event(self, collector, log, sent):
        """Plain logging, the facade and a client make the same event."""
        log.info(
            "Order completed", extra={"ht_user_id": "user123", "product_id": "123"}
        )
        sent()
        script = """
import sys
from htlogging import htevents
htevents.write_key, htevents.host = "KEY", sys.argv[1]
htevents.track("user123", "Order completed", {"product_id": "123"})
"""
        subprocess.run(
            [sys.executable, "-c", script, collector.url], check=True, timeout=HANG
        )
        client = Client("KEY", host=collector.url)
        client.track("user123", "Order completed", {"product_id": "123"})
        assert client.flush(HANG)
        client.join()
        first, second, third = collector.events
        assert uuid.UUID(first.pop("messageId"))
        assert datetime.fromisoformat(first.pop("timestamp"))
        for other in (second, third):
            del other["messageId"], other["timestamp"]
            assert other == first
        assert first == {
            "type": "track",
            "event": "Order completed",
            "userId": "user123",
            "anonymousId": None,
            "properties": {"product_id": "123"},
            "context": {
                "library": {"name": "htlogging", "version": htlogging.__version__}
            },
            "integrations": {},
        }
        assert len({str(request.headers) for request in collector.requests}) <= 3
        assert collector.problems == []

    def test_request_is_that_of_the_contract(self, collector, log, sent):
        """Path, headers and the body's fields are those of the Events API."""
        log.info("a", extra={"ht_user_id": "u"})
        sent()
        (request,) = collector.requests
        assert request.path == "/v1/batch"
        assert request.headers["Content-Type"] == "application/json"
        assert request.headers["User-Agent"] == f"htlogging/{htlogging.__version__}"
        assert request.headers["Authorization"] == "Basic S0VZOg=="
        assert request.write_key == "KEY"
        assert datetime.fromisoformat(request.sent_at).utcoffset() == timedelta()


class TestFields:
    """The record's fields, row by row."""

    @pytest.mark.parametrize(
        ("extra", "expected"),
        [
            ({}, {"type": "track", "event": "the message"}),
            ({"ht_type": "track"}, {"type": "track", "event": "the message"}),
            ({"ht_event": "Signed up"}, {"type": "track", "event": "Signed up"}),
            ({"ht_type": "identify"}, {"type": "identify", "traits": {}}),
            (
                {"ht_type": "page"},
                {"type": "page", "category": None, "name": None, "properties": {}},
            ),
            (
                {"ht_type": "page", "ht_category": "Docs", "ht_name": "Index"},
                {"category": "Docs", "name": "Index"},
            ),
            (
                {"ht_type": "screen", "ht_category": "Docs", "ht_name": "Index"},
                {"type": "screen", "category": "Docs", "name": "Index"},
            ),
            (
                {"ht_type": "group", "ht_group_id": 7},
                {"type": "group", "groupId": "7", "traits": {}},
            ),
            (
                {"ht_type": "alias", "ht_previous_id": 7},
                {"type": "alias", "previousId": "7", "userId": "u"},
            ),
            # ids: strings in the end
            ({"ht_user_id": 0}, {"userId": "0", "anonymousId": None}),
            ({"ht_user_id": 12.5}, {"userId": "12.5"}),
            ({"ht_user_id": Decimal(12)}, {"userId": "12"}),
            ({"ht_user_id": uuid.UUID(int=1)}, {"userId": f"{uuid.UUID(int=1)}"}),
            (
                {"ht_user_id": None, "ht_anonymous_id": "a"},
                {"userId": None, "anonymousId": "a"},
            ),
            ({"ht_anonymous_id": 5}, {"userId": "u", "anonymousId": "5"}),
            ({"ht_message_id": "m1"}, {"messageId": "m1"}),
            ({"ht_message_id": uuid.UUID(int=2)}, {"messageId": f"{uuid.UUID(int=2)}"}),
            # dicts
            ({"ht_properties": {"name": "n"}}, {"properties": {"name": "n"}}),
            ({"ht_properties": {"a": 1}, "b": 2}, {"properties": {"a": 1, "b": 2}}),
            ({"ht_properties": None}, {"properties": {}}),
            ({"ht_properties": []}, {"properties": {}}),
            ({"ht_properties": ""}, {"properties": {}}),
            (
                {"ht_type": "identify", "ht_traits": {"a": 1}, "b": 2},
                {"traits": {"a": 1, "b": 2}},
            ),
            ({"ht_integrations": {"All": False}}, {"integrations": {"All": False}}),
            ({"ht_integrations": ()}, {"integrations": {}}),
            # any other extra
            ({"plan": "pro", "n": 1}, {"properties": {"plan": "pro", "n": 1}}),
            ({"ht_type": "page", "n": 1}, {"properties": {"n": 1}}),
            ({"ht_type": "screen", "n": 1}, {"properties": {"n": 1}}),
            (
                {"ht_type": "group", "ht_group_id": "g", "n": 1},
                {"traits": {"n": 1}},
            ),
            ({"user_id": "u2"}, {"userId": "u", "properties": {"user_id": "u2"}}),
            # time
            ({"ht_timestamp": WHEN}, {"timestamp": "2024-03-12T09:30:00.123+00:00"}),
            (
                {"ht_timestamp": WHEN.replace(tzinfo=None)},  # not now: UTC
                {"timestamp": "2024-03-12T09:30:00.123+00:00"},
            ),
            (
                {"ht_timestamp": WHEN.astimezone(timezone(timedelta(hours=2)))},
                {"timestamp": "2024-03-12T11:30:00.123+02:00"},
            ),
        ],
    )
    def test_make_the_event(self, collector, log, sent, extra, expected):
        """Each field of a record has its place in the event."""
        log.info("the message", extra={"ht_user_id": "u", **extra})
        (event,) = sent()
        assert {name: event[name] for name in expected} == expected
        assert collector.problems == []

    @pytest.mark.parametrize("kind", ["track", "identify", "page", "screen", "group"])
    def test_of_each_type(self, log, sent, kind):
        """An event has the fields of its type, and no others."""
        extra = {"ht_group_id": "g"} if kind == "group" else {}
        log.info("a", extra={"ht_user_id": "u", "ht_type": kind, **extra})
        (event,) = sent()
        common = "type userId anonymousId context integrations timestamp messageId"
        own = {
            "track": "event properties",
            "identify": "traits",
            "page": "category name properties",
            "screen": "category name properties",
            "group": "groupId traits",
        }[kind]
        assert set(event) == {*common.split(), *own.split()}

    def test_context_is_merged_and_the_library_stays(self, log, sent):
        """`ht_context` lies over what is bound; `context.library` stays ours."""
        htlogging.bind(ht_context={"ip": "1.2.3.4", "locale": "de"})
        context = {"locale": "en", "library": {"name": "mine"}}
        log.info("a", extra={"ht_user_id": "u", "ht_context": context})
        (event,) = sent()
        library = {"name": "htlogging", "version": htlogging.__version__}
        assert event["context"] == {
            "ip": "1.2.3.4",
            "locale": "en",
            "library": library,
        }
        assert context == {"locale": "en", "library": {"name": "mine"}}

    def test_time_is_when_it_was_logged(self, log, sent):
        """The default time is the record's, in UTC and milliseconds."""
        before = datetime.now(timezone.utc)
        log.info("a", extra={"ht_user_id": "u"})
        after = datetime.now(timezone.utc)
        (event,) = sent()
        when = datetime.fromisoformat(event["timestamp"])
        assert before - timedelta(milliseconds=1) <= when <= after
        assert event["timestamp"].endswith("+00:00")
        assert len(event["timestamp"]) == len("2024-03-12T09:30:00.123+00:00")

    def test_naive_time_of_now_is_local(self, log, sent):
        """A naive time within 5 s of now is local time, so the moment stays."""
        naive = datetime.now()  # noqa: DTZ005
        log.info("a", extra={"ht_user_id": "u", "ht_timestamp": naive})
        (event,) = sent()
        when = datetime.fromisoformat(event["timestamp"])
        assert abs(when - naive.astimezone()) < timedelta(milliseconds=1)

    def test_name_is_the_message_before_its_arguments(self, log, sent):
        """A name is one of few: each becomes a table."""
        log.info("Order %s completed", 7, extra={"ht_user_id": "u"})
        (event,) = sent()
        assert event["event"] == "Order %s completed"

    @pytest.mark.parametrize("message", [ValueError("Refused"), ["a"], 5, None])
    def test_message_that_is_no_str(self, log, handler, sent, caplog, message):
        """An object logged as message is no name."""
        log.info(message, extra={"ht_user_id": "u"})
        log.info(message, extra={"ht_user_id": "u", "ht_event": "named"})
        (event,) = sent()
        assert event["event"] == "named"
        assert handler.stats["rejected"] == 1
        assert "ht_event (event)" in caplog.text

    def test_adapter_adds_fields(self, log, sent):
        """A LoggerAdapter is a way to give the same fields to many records."""
        adapter = logging.LoggerAdapter(log, {"ht_user_id": "u", "plan": "pro"})
        adapter.info("a")
        (event,) = sent()
        assert (event["userId"], event["properties"]) == ("u", {"plan": "pro"})

    def test_exception_is_no_property(self, log, sent):
        """What logging itself puts into a record is no part of the event."""
        try:
            raise KeyError("secret")  # noqa: TRY301
        except KeyError:
            log.exception("Payment failed", extra={"ht_user_id": "u"}, stack_info=True)
        (event,) = sent()
        assert event["properties"] == {}

    def test_message_noted_by_another_handler(self, log, sent):
        """`message` and `asctime`, which formatters add to a record, stay out."""
        first = logging.StreamHandler(open("/dev/null", "w"))  # noqa: SIM115
        first.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.handlers.insert(0, first)
        log.info("a %s", 1, extra={"ht_user_id": "u"})
        log.removeHandler(first)
        first.stream.close()
        (event,) = sent()
        assert event["properties"] == {}

    def test_is_a_snapshot(self, log, sent):
        """What changes after the call does not change the event."""
        cart = {"items": [1]}
        log.info("a", extra={"ht_user_id": "u", "cart": cart})
        cart["items"].append(2)
        (event,) = sent()
        assert event["properties"] == {"cart": {"items": [1]}}


class TestBoundFields:
    def test_are_defaults(self, log, sent):
        """Bound ids and others join each event; what a call gives wins."""
        htlogging.bind(ht_user_id="bound", plan="pro", ht_properties={"a": 1})
        log.info("first")
        log.info("second", extra={"ht_user_id": "own", "plan": "free", "b": 2})
        first, second = sent()
        assert first["userId"] == "bound"
        assert first["properties"] == {"plan": "pro", "a": 1}
        assert second["userId"] == "own"
        assert second["properties"] == {"plan": "free", "a": 1, "b": 2}

    def test_bound_unbind_clear_get(self, log, sent):
        """`bound` ends with its block, `unbind` takes names, `clear` all."""
        htlogging.bind(ht_user_id="outer", plan="pro")
        with htlogging.bound(ht_user_id="inner"):
            log.info("a")
        htlogging.unbind("plan", "never bound")
        log.info("b")
        assert htlogging.get() == {"ht_user_id": "outer"}
        htlogging.clear()
        log.info("c", extra={"ht_user_id": "own"})
        assert [(e["userId"], e["properties"]) for e in sent()] == [
            ("inner", {"plan": "pro"}),
            ("outer", {}),
            ("own", {}),
        ]

    def test_tasks_do_not_mix(self, log, sent):
        """Tasks that take turns keep each its own; they begin with their maker's."""

        async def task(n, turn):
            htlogging.bind(ht_user_id=f"user{n}")
            await turn.wait()
            log.info("a", extra={"n": n})

        async def main():
            turn = asyncio.Event()
            htlogging.bind(plan="pro")
            tasks = [asyncio.create_task(task(n, turn)) for n in range(20)]
            await asyncio.sleep(0)  # each has bound its own
            turn.set()
            await asyncio.gather(*tasks)

        asyncio.run(main())
        events = sent()
        assert len(events) == 20
        for event in events:
            n = event["properties"]["n"]
            assert event["userId"] == f"user{n}"
            assert event["properties"] == {"plan": "pro", "n": n}

    def test_threads_do_not_mix(self, log, sent):
        """A new thread begins with nothing bound, and keeps its own."""
        htlogging.bind(ht_user_id="main", plan="pro")
        together = threading.Barrier(4, timeout=HANG)

        def thread(n):
            assert htlogging.get() == {}
            htlogging.bind(ht_user_id=f"user{n}")
            together.wait()
            log.info("a", extra={"n": n})

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(thread, range(4)))
        log.info("main")
        events = sent()
        assert {(e["userId"], e["properties"].get("n")) for e in events} == {
            ("user0", 0),
            ("user1", 1),
            ("user2", 2),
            ("user3", 3),
            ("main", None),
        }


class TestWhichRecordsAreEvents:
    @pytest.fixture
    def root(self, handler, attach):
        """Return the root logger with the handler on it."""
        return attach(handler, None)

    def test_on_the_root_those_with_a_field(self, root, sent):
        """On a logger that carries ordinary records, an `ht_` field makes an event."""
        htlogging.bind(ht_user_id="bound")
        logging.getLogger("app").info("ordinary")
        logging.getLogger("app").warning("ordinary %s", 1, extra={"request": 7})
        logging.getLogger("app.shop").info("event", extra={"ht_user_id": "u"})
        logging.getLogger("app.shop").info("event", extra={"ht_type": "track"})
        root.info("event", extra={"ht_event": "named"})
        assert [e["event"] for e in sent()] == ["event", "event", "named"]

    def test_ordinary_ones_are_not_counted(self, root, handler, capsys):
        """A record that is no event is no rejected one either."""
        root.error("ordinary")
        assert handler.flush(HANG)
        assert set(handler.stats.values()) == {0}
        assert capsys.readouterr().err == ""

    def test_names_of_extras_that_are_no_str(self, root, sent):
        """A record with whatever extras does no harm."""
        root.info("ordinary", extra={1: 2, None: 3})
        root.info("event", extra={1: 2, "ht_user_id": "u"})
        (event,) = sent()
        assert event["properties"] == {"1": 2}

    def test_on_its_own_every_one(self, log, sent):
        """On a logger that has the handler, each record is an event."""
        htlogging.bind(ht_user_id="bound")
        log.info("plain")
        log.warning("warned")
        assert [e["event"] for e in sent()] == ["plain", "warned"]

    @pytest.mark.usefixtures("log")
    def test_below_its_own_those_with_a_field(self, sent):
        """A child of it may be a module's ordinary logger."""
        htlogging.bind(ht_user_id="bound")
        logging.getLogger("shop.module").info("ordinary")
        logging.getLogger("shop.module").info("event", extra={"ht_user_id": "u"})
        assert [e["event"] for e in sent()] == ["event"]

    @pytest.mark.parametrize(
        "name", ["htlogging", "requests", "urllib3", "urllib3.connectionpool"]
    )
    def test_never_those_about_sending(self, root, sent, attach, handler, name):
        """Records of these loggers are none, whatever fields they have."""
        htlogging.bind(ht_user_id="bound")
        logger = logging.getLogger(name)
        logger.warning("a", extra={"ht_user_id": "u"})
        attach(handler, name)
        logger.warning("b", extra={"ht_user_id": "u"})
        root.info("event", extra={"ht_user_id": "u"})
        assert [e["event"] for e in sent()] == ["event"]

    @pytest.mark.parametrize("name", ["htloggings", "requestsx", "my.urllib3"])
    def test_names_alike_are_not_meant(self, root, sent, name):
        """Another logger may have a name that begins alike."""
        logging.getLogger(name).info("event", extra={"ht_user_id": "u"})
        assert len(sent()) == 1
        assert root

    def test_ordinary_ones_of_the_sending_thread(self, collector, attach):
        """What is logged on the sending thread is an event if it says so itself."""
        threads = []

        def on_error(exc, events):  # noqa: ARG001
            threads.append(threading.current_thread())
            logging.getLogger("htevents").warning("ordinary")
            logging.getLogger("app").error("explicit", extra={"ht_user_id": "u"})

        handler = HtEventsHandler(write_key="K", host=collector.url, on_error=on_error)
        root = attach(handler, None)
        collector.script(403)
        root.info("event", extra={"ht_user_id": "u"})
        assert handler.flush(HANG)
        assert threads != [threading.current_thread()]
        assert handler.flush(HANG)
        assert [event["event"] for event in collector.events] == ["explicit"]
        assert handler.stats["accepted"] == 2
        assert handler.stats["rejected"] == 0

    def test_debug_level_on_the_root_feeds_nothing_back(self, handler, attach, sent):
        """With everything logged, sending does not make events to send."""
        root = attach(handler, None)
        root.setLevel(logging.DEBUG)
        root.info("event", extra={"ht_user_id": "u"})
        assert len(sent()) == 1
        assert handler.stats["accepted"] == 1


class TestLevelsAndFilters:
    def test_filter_of_the_handler_drops(self, log, handler, sent):
        """A record that a filter of the handler refuses is no event."""
        handler.addFilter(lambda record: record.msg != "b")
        for name in "abc":
            log.info(name, extra={"ht_user_id": "u"})
        assert [e["event"] for e in sent()] == ["a", "c"]
        assert handler.stats["accepted"] == 2

    def test_filter_of_the_logger_drops(self, log, sent):
        """A record that a filter of the logger refuses is no event."""

        def odd(record):
            return record.msg != "b"

        log.addFilter(odd)
        try:
            for name in "abc":
                log.info(name, extra={"ht_user_id": "u"})
        finally:
            log.removeFilter(odd)
        assert [e["event"] for e in sent()] == ["a", "c"]

    def test_filter_may_add_fields(self, log, handler, sent):
        """A filter may complete the record, as it may on any handler."""

        def complete(record):
            record.ht_user_id = "filtered"
            return True

        handler.addFilter(complete)
        log.info("a")
        (event,) = sent()
        assert event["userId"] == "filtered"

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
    def test_filter_may_return_another_record(self, log, handler, sent):
        """From 3.12 on a filter may answer with a record to go on with."""

        def redact(record):
            other = logging.makeLogRecord(record.__dict__)
            other.email = "***"
            return other

        handler.addFilter(redact)
        log.info("a", extra={"ht_user_id": "u", "email": "a@example.com"})
        (event,) = sent()
        assert event["properties"] == {"email": "***"}

    def test_filter_that_raises(self, log, handler, sent, caplog):
        """A broken filter costs its record alone, and is reported."""

        def broken(record):
            if record.msg == "b":
                raise KeyError(record.msg)
            return True

        handler.addFilter(broken)
        for name in "abc":
            log.info(name, extra={"ht_user_id": "u"})
        assert [e["event"] for e in sent()] == ["a", "c"]
        assert handler.stats["rejected"] == 1
        assert "raised KeyError at " in caplog.text

    def test_level_of_the_handler(self, log, handler, sent):
        """A record below the handler's level is no event."""
        handler.setLevel(logging.WARNING)
        log.info("a", extra={"ht_user_id": "u"})
        log.warning("b", extra={"ht_user_id": "u"})
        assert [e["event"] for e in sent()] == ["b"]


class Raises:
    def __str__(self):
        raise RuntimeError("no text")


BAD = [
    ({"ht_user_id": None}, "ht_user_id"),
    ({"ht_user_id": ""}, "ht_user_id"),
    ({"ht_user_id": True}, "ht_user_id"),
    ({"ht_user_id": ["u"]}, "ht_user_id"),
    ({"ht_user_id": float("nan")}, "ht_user_id"),
    ({"ht_anonymous_id": b"a"}, "ht_anonymous_id"),
    ({"ht_type": "order"}, "ht_type"),
    ({"ht_type": 7}, "ht_type"),
    ({"ht_event": ""}, "ht_event"),
    ({"ht_event": 7}, "ht_event"),
    ({"ht_type": "page", "ht_name": 7}, "ht_name"),
    ({"ht_type": "screen", "ht_category": 7}, "ht_category"),
    ({"ht_type": "group"}, "ht_group_id"),
    ({"ht_type": "group", "ht_group_id": ""}, "ht_group_id"),
    ({"ht_type": "alias"}, "ht_previous_id"),
    ({"ht_type": "alias", "ht_user_id": None, "ht_previous_id": 1}, "ht_user_id"),
    ({"ht_properties": [1]}, "ht_properties"),
    ({"ht_properties": "text"}, "ht_properties"),
    ({"ht_context": [1]}, "ht_context"),
    ({"ht_integrations": 7}, "ht_integrations"),
    ({"ht_type": "identify", "ht_traits": "text"}, "ht_traits"),
    ({"ht_timestamp": "2024-03-12"}, "ht_timestamp"),
    ({"ht_timestamp": WHEN.date()}, "ht_timestamp"),
    ({"ht_timestamp": 1710235800}, "ht_timestamp"),
    ({"ht_message_id": ""}, "ht_message_id"),
    ({"text": "x" * 40_000}, "max_event_size"),
]


class TestInvalidRecords:
    @pytest.mark.parametrize("bad", BAD)
    def test_go_to_handle_error(self, log, sent, caplog, bad):
        """A mistake raises nothing, is reported and counted, and costs nothing else."""
        extra, named = bad
        log.info("before", extra={"ht_user_id": "u"})
        log.info("bad", extra={"ht_user_id": "u", **extra})
        log.info("after", extra={"ht_user_id": "u"})
        assert [e["event"] for e in sent()] == ["before", "after"]
        (handler,) = [h for h in log.handlers if isinstance(h, HtEventsHandler)]
        assert handler.stats["rejected"] == 1
        assert handler.stats["accepted"] == handler.stats["delivered"] == 2
        (line,) = [r.getMessage() for r in caplog.records if r.name == "htlogging"]
        assert line.startswith("1 event rejected: ")
        assert named in line
        assert f"logged by {log.name!r} at {__file__}:" in line

    def test_empty_message(self, log, handler, sent, caplog):
        """A record without a name for its event is invalid too."""
        log.info("", extra={"ht_user_id": "u"})
        assert sent() == []
        assert handler.stats["rejected"] == 1
        assert "ht_event" in caplog.text

    def test_message_whose_text_raises(self, handler, sent, caplog):
        """A message that cannot be turned into text is invalid, and no more."""
        bad = {"name": "shop", "msg": Raises(), "ht_user_id": "u"}
        handler.handle(logging.makeLogRecord(bad))
        assert sent() == []
        assert handler.stats["rejected"] == 1
        assert "rejected: " in caplog.text

    @pytest.mark.parametrize("loud", [True, False])
    def test_no_traceback(self, log, capsys, caplog, monkeypatch, loud):
        """One line in the log, nothing on stderr, whatever `raiseExceptions` says."""
        monkeypatch.setattr(logging, "raiseExceptions", loud)
        log.info("bad")
        assert capsys.readouterr().err == ""
        (line,) = [r for r in caplog.records if r.name == "htlogging"]
        assert line.exc_info is None
        assert "\n" not in line.getMessage()

    def test_many_are_one_line(self, log, handler, caplog):
        """A hundred of a kind are one line at once; another kind is a line too."""
        for _ in range(100):
            log.info("bad")
        log.info("bad", extra={"ht_user_id": "u", "ht_context": [1]})
        lines = [r.getMessage() for r in caplog.records if r.name == "htlogging"]
        assert [line.startswith("1 event rejected: ") for line in lines] == [True] * 2
        assert handler.stats["rejected"] == 101

    def test_handle_error_counts(self, handler, caplog):
        """Whoever calls `handleError`, as a handler's `emit` does, has it counted."""
        record = logging.makeLogRecord({"name": "shop", "pathname": "a.py"})
        try:
            {}["secret"]
        except KeyError:
            handler.handleError(record)
        assert handler.stats["rejected"] == 1
        assert f"raised KeyError at {__file__}:" in caplog.text
        assert "secret" not in caplog.text
        assert "logged by 'shop' at a.py:" in caplog.text

    def test_misspelt_name_beside_good_ones(self, log, sent, caplog):
        """The event is sent; each wrong name is reported once, with the right one."""
        for _ in range(3):
            log.info("a", extra={"ht_user_id": "u", "ht_propertys": {}})
            log.info("b", extra={"ht_user_id": "u", "ht_annonymous_id": 1, "size": 1})
        assert len(sent()) == 6
        lines = [r.getMessage() for r in caplog.records if r.name == "htlogging"]
        assert [line.partition("? ")[0] for line in lines] == [
            "no such field: ht_propertys; did you mean ht_properties",
            "no such field: ht_annonymous_id; did you mean ht_anonymous_id",
        ]
        assert all(f"logged by {log.name!r} at {__file__}:" in line for line in lines)

    def test_a_subclass_may_handle_them(self, collector, attach):
        """`handleError` is called with the record, while the error is handled."""
        seen = []

        class Handler(HtEventsHandler):
            def handleError(self, record):  # noqa: N802
                seen.append((record.msg, sys.exc_info()[0]))

        handler = Handler(write_key="K", host=collector.url)
        attach(handler).info("bad")
        assert seen == [("bad", htlogging.InvalidEvent)]

    def test_message_holds_no_value(self, log, caplog):
        """What is reported names fields, not what was in them."""
        log.info("bad", extra={"ht_user_id": "u", "ht_timestamp": "4111-1111"})
        (line,) = [r.getMessage() for r in caplog.records if r.name == "htlogging"]
        assert "4111" not in line


class TestValuesThatLog:
    @pytest.mark.skipif(
        hasattr(logging.Logger, "_tls"), reason="CPython 3.13.4, 3.13.5: gh-91555"
    )
    def test_their_text_may_be_an_event(self, log, sent):
        """A value whose `str()` logs, through the same logger, makes two events."""

        class Logs:
            def __str__(self):
                log.info("inner", extra={"ht_user_id": "u"})
                return "text"

        log.info("outer", extra={"ht_user_id": "u", "value": Logs()})
        inner, outer = sent()
        assert inner["event"] == "inner"
        assert outer["properties"] == {"value": "text"}

    @pytest.mark.skipif(
        hasattr(logging.Logger, "_tls"), reason="CPython 3.13.4, 3.13.5: gh-91555"
    )
    def test_signal_handlers_may_log(self, collector):
        """A signal handler may log while its thread is logging: none hangs, none lost."""
        script = """
import logging, signal, sys
from htlogging import HtEventsHandler
handler = HtEventsHandler(write_key="K", host=sys.argv[1], max_queue_size=200_000)
log = logging.getLogger("shop")
log.addHandler(handler)
log.setLevel(logging.INFO)
count = 0

def on_signal(number, frame):
    global count
    count += 1
    log.info("signal", extra={"ht_user_id": "u"})
    if count < 300:
        signal.setitimer(signal.ITIMER_REAL, 0.0002)

signal.signal(signal.SIGALRM, on_signal)
signal.setitimer(signal.ITIMER_REAL, 0.0002)
logged = 0
while count < 300:
    log.info("main", extra={"ht_user_id": "u"})
    logged += 1
    if logged % 50 == 0:
        handler.flush(0)
        handler.stats
assert handler.flush(60)
assert handler.stats["delivered"] == logged + count, (handler.stats, logged, count)
"""
        done = subprocess.run(
            [sys.executable, "-c", script, collector.url],
            capture_output=True,
            check=False,
            text=True,
            timeout=HANG,
        )
        assert (done.returncode, done.stderr) == (0, "")


class TestHandler:
    def test_is_a_queue_handler(self, handler):
        """It is one of the standard library's queue handlers."""
        assert isinstance(handler, QueueHandler)
        assert handler.lock is not None

    def test_a_foreign_queue_is_ignored(self, collector, attach):
        """`dictConfig` may give a queue by position; ours holds events."""
        import queue

        foreign = queue.Queue()
        handler = HtEventsHandler(foreign, write_key="K", host=collector.url)
        attach(handler).info("a", extra={"ht_user_id": "u"})
        assert handler.flush(HANG)
        assert foreign.empty()
        assert len(collector.events) == 1

    def test_a_listener_is_harmless(self, log, handler, sent):
        """`dictConfig` assigns a listener that is never started."""
        handler.listener = object()
        log.info("a", extra={"ht_user_id": "u"})
        assert len(sent()) == 1

    def test_a_key_by_position_is_refused(self):
        """A write key given where a queue goes is no queue: the message says so."""
        with pytest.raises(InvalidSetting, match="write_key="):
            HtEventsHandler("WRITE_KEY")

    def test_an_invalid_one_is_not_logging_s(self):
        """A handler whose settings are refused is not among those closed at exit."""
        before = len(logging._handlerList)
        with pytest.raises(InvalidSetting):
            HtEventsHandler(write_key="K", thread=0)
        assert len(logging._handlerList) == before

    def test_key_and_host_from_the_environment(self, collector, attach, monkeypatch):
        """The environment stands in for what is not given."""
        monkeypatch.setenv("HTEVENTS_WRITE_KEY", "ENVKEY")
        monkeypatch.setenv("HTEVENTS_HOST", collector.url + "/")
        handler = HtEventsHandler()
        attach(handler).info("a", extra={"ht_user_id": "u"})
        assert handler.flush(HANG)
        (request,) = collector.requests
        assert (request.path, request.write_key) == ("/v1/batch", "ENVKEY")

    def test_given_settings_win_over_the_environment(
        self, collector, attach, monkeypatch
    ):
        """What is given is used, whatever the environment says."""
        monkeypatch.setenv("HTEVENTS_WRITE_KEY", "ENVKEY")
        monkeypatch.setenv("HTEVENTS_HOST", "http://127.0.0.1:9")
        handler = HtEventsHandler(write_key="KEY", host=collector.url + "/a/path/")
        attach(handler).info("a", extra={"ht_user_id": "u"})
        assert handler.flush(HANG)
        (request,) = collector.requests
        assert (request.path, request.write_key) == ("/a/path/v1/batch", "KEY")

    def test_no_thread_before_the_first_event(self):
        """Making a handler starts no thread: servers make them before they fork."""
        before = set(threading.enumerate())
        handler = HtEventsHandler(write_key="KEY")
        assert handler.flush(0)
        assert set(threading.enumerate()) <= before
        handler.close()
        assert set(threading.enumerate()) <= before

    def test_send_false_needs_no_key_and_sends_nothing(self, collector, attach):
        """With `send=False` events are made and checked, and go nowhere."""
        handler = HtEventsHandler(send=False, host=collector.url)
        attach(handler).info("a", extra={"ht_user_id": "u"})
        assert handler.flush(0)
        handler.close()
        assert collector.requests == []

    def test_repr_holds_no_key(self, collector):
        """A handler can be shown."""
        handler = HtEventsHandler(write_key="SECRETKEY", host=collector.url)
        assert "SECRETKEY" not in repr(handler) + repr(vars(handler))
