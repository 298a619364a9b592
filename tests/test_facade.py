"""The facade `htevents` and clients: calls that are records, and so events."""

import asyncio
import contextlib
import copy
import gc
import inspect
import logging
import logging.handlers
import pickle
import sys
import threading
import unittest
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timezone
from decimal import Decimal

import pytest
from script_runner import HANG, python

import htlogging
from htlogging import (
    DeliveryError,
    EventTooLarge,
    HtEventsHandler,
    InvalidEvent,
    InvalidSetting,
    htevents,
)
from htlogging.collector import Collector
from htlogging.htevents import Client

# Seconds; the hang guard of whatever waits for another thread or process.

WHEN = datetime(2024, 3, 12, 9, 30, 0, 123456, tzinfo=timezone.utc)

# At the interpreter's end urllib3 leaves sockets to it; they are closed all the same.
WARNINGS = ["-W", "error", "-W", "ignore::ResourceWarning"]

METHODS = ["identify", "track", "page", "screen", "group", "alias"]

PAGE = (
    "user_id category name properties context timestamp anonymous_id integrations "
    "message_id"
)
SIGNATURES = {
    "identify": "user_id traits context timestamp anonymous_id integrations message_id",
    "track": (
        "user_id event properties context timestamp anonymous_id integrations "
        "message_id"
    ),
    "page": PAGE,
    "screen": PAGE,
    "group": (
        "user_id group_id traits context timestamp anonymous_id integrations message_id"
    ),
    "alias": "previous_id user_id context timestamp integrations message_id",
}

# A parameter → a value for it, the event's field, and what is there.
PARAMETERS = {
    "user_id": (123, "userId", "123"),
    "previous_id": (456, "previousId", "456"),
    "group_id": (789, "groupId", "789"),
    "anonymous_id": (uuid.UUID(int=1), "anonymousId", str(uuid.UUID(int=1))),
    "message_id": ("m1", "messageId", "m1"),
    "event": ("Order completed", "event", "Order completed"),
    "category": ("Docs", "category", "Docs"),
    "name": ("Index", "name", "Index"),
    "properties": ({"a": 1}, "properties", {"a": 1}),
    "traits": ({"b": 2}, "traits", {"b": 2}),
    "context": (
        {"ip": "::1"},
        "context",
        {
            "ip": "::1",
            "library": {"name": "htlogging", "version": htlogging.__version__},
        },
    ),
    "timestamp": (WHEN, "timestamp", "2024-03-12T09:30:00.123+00:00"),
    "integrations": ({"All": False}, "integrations", {"All": False}),
}

# The least that makes each call an event.
LEAST = {
    "identify": {"user_id": "u"},
    "track": {"user_id": "u", "event": "e"},
    "page": {"user_id": "u"},
    "screen": {"user_id": "u"},
    "group": {"user_id": "u", "group_id": "g"},
    "alias": {"user_id": "u", "previous_id": "p"},
}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    monkeypatch.delenv("HTEVENTS_WRITE_KEY", raising=False)
    monkeypatch.delenv("HTEVENTS_HOST", raising=False)
    htlogging.clear()


@pytest.fixture
def logger():
    """Return the facade's logger, and leave it as it was."""
    logger = logging.getLogger("htevents")
    before = (list(logger.handlers), list(logger.filters), logger.level)
    yield logger
    for handler in list(logger.handlers):
        if isinstance(handler, HtEventsHandler):
            logger.removeHandler(handler)
            handler.close()
    logger.handlers[:], logger.filters[:], level = before
    logger.setLevel(level)
    logger.propagate, logger.disabled = True, False
    logging.disable(logging.NOTSET)


@pytest.fixture
def facade(collector, logger):
    """Return the module, set to the collector; it is as new afterwards."""
    assert logger
    before = dict(vars(htevents))
    htevents.default_client = None
    htevents.write_key = "KEY"
    htevents.host = collector.url
    yield htevents
    for name in set(vars(htevents)) - set(before):
        delattr(htevents, name)
    vars(htevents).update(before)
    htevents.default_client = None


@pytest.fixture
def clients(collector):
    """Return a function that makes clients; they are shut down afterwards."""
    made = []

    def make(write_key="KEY", **settings):
        client = Client(write_key, **{"host": collector.url, **settings})
        made.append(client)
        return client

    yield make
    for client in made:
        client.shutdown()


@pytest.fixture(params=["facade", "client"])
def caller(request):
    """Return what has the six calls: the facade's module, then a client."""
    if request.param == "facade":
        return request.getfixturevalue("facade")
    return request.getfixturevalue("clients")()


def run(script, *args):
    """Run a script to its end; it must succeed and write nothing to stderr."""
    done = python(*WARNINGS, "-c", script, *args)
    assert (done.status, done.err) == (0, "")
    return done.out


class TestSignatures:
    @pytest.mark.parametrize("method", METHODS)
    def test_are_the_promised_ones(self, caller, method):
        """The parameters and their order are part of the contract; all have defaults."""
        parameters = inspect.signature(getattr(caller, method)).parameters
        assert list(parameters) == SIGNATURES[method].split()
        for parameter in parameters.values():
            assert parameter.default is None
            assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("by_name", [False, True])
    def test_all_parameters(self, caller, collector, method, by_name):
        """Each parameter, by position or by name, has its place in the event."""
        names = SIGNATURES[method].split()
        values = [copy.copy(PARAMETERS[name][0]) for name in names]
        call = getattr(caller, method)
        if by_name:
            queued, event = call(**dict(zip(names, values, strict=True)))
        else:
            queued, event = call(*values)
        assert queued is True
        expected = {PARAMETERS[name][1]: PARAMETERS[name][2] for name in names}
        expected.setdefault("anonymousId", None)
        assert event == {"type": method, **expected}
        assert values == [PARAMETERS[name][0] for name in names]  # left as they were
        assert caller.flush(HANG)
        assert collector.events == [event]
        assert collector.problems == []

    @pytest.mark.parametrize("method", METHODS)
    def test_the_least(self, caller, collector, method):
        """Everything that the type does not need may be left out."""
        queued, event = getattr(caller, method)(**LEAST[method])
        assert queued
        assert uuid.UUID(event["messageId"])
        assert datetime.fromisoformat(event["timestamp"]).utcoffset() is not None
        assert event["integrations"] == {}
        assert list(event["context"]) == ["library"]
        assert caller.flush(HANG)
        assert collector.events == [event]

    def test_help_shows_parameters_and_docs(self):
        """The module's functions have the names and docstrings of the calls."""
        for method in (*METHODS, "flush", "join", "shutdown"):
            function = getattr(htevents, method)
            assert function.__name__ == method
            assert function.__doc__
            assert "self" not in inspect.signature(function).parameters


class TestReturnedEvent:
    def test_holds_the_callers_own_values(self, caller):
        """Inside `properties` and `traits` are the values that were given."""
        price, items, day = Decimal("9.90"), [object()], date(2024, 3, 12)
        _, event = caller.track("u", "e", {"price": price, "items": items, "day": day})
        assert event["properties"]["price"] is price
        assert event["properties"]["items"] is items
        assert event["properties"]["day"] is day
        _, event = caller.identify("u", {"day": day})
        assert event["traits"]["day"] is day

    def test_is_nobody_elses(self, caller, collector):
        """Neither the returned event nor the caller's dicts change what is sent."""
        properties, context = {"a": 1}, {"ip": "::1"}
        _, event = caller.track("u", "e", properties, context)
        properties["a"] = event["event"] = event["properties"]["b"] = "changed"
        assert context == {"ip": "::1"}
        assert caller.flush(HANG)
        (sent,) = collector.events
        assert (sent["event"], sent["properties"]) == ("e", {"a": 1})

    @pytest.mark.parametrize("falsy", [None, {}, [], (), "", 0, False, set()])
    def test_falsy_containers_are_empty_ones(self, caller, falsy):
        """Whatever is falsy stands for `{}`."""
        _, event = caller.track(
            "u", "e", properties=falsy, context=falsy, integrations=falsy
        )
        assert event["properties"] == event["integrations"] == {}
        assert list(event["context"]) == ["library"]
        _, event = caller.identify("u", traits=falsy)
        assert event["traits"] == {}

    def test_names_that_extra_refuses(self, caller, collector):
        """Properties may have the names that `extra=` keeps for logging."""
        names = {"name": 1, "message": 2, "args": 3, "created": 4, "ht_event": 5}
        caller.track("u", "e", names)
        assert caller.flush(HANG)
        assert collector.events[0]["properties"] == names

    def test_name_with_percent_signs(self, caller, collector):
        """An event's name is text, not a format."""
        caller.track("u", "100 % done, %s %d")
        assert caller.flush(HANG)
        assert collector.events[0]["event"] == "100 % done, %s %d"

    def test_bound_fields_join(self, caller):
        """Fields bound to the task stand in for what a call leaves out."""
        with htlogging.bound(ht_user_id="bound", ht_context={"ip": "::1"}, plan="pro"):
            _, event = caller.track(event="e", properties={"a": 1})
            _, own = caller.track("own", "e", {"plan": "free"})
        assert event["userId"] == "bound"
        assert event["properties"] == {"plan": "pro", "a": 1}
        assert event["context"]["ip"] == "::1"
        assert own["userId"] == "own"
        assert own["properties"] == {"plan": "free"}


MISTAKES = [
    ("track", {"event": "e"}, "user_id"),
    ("identify", {}, "user_id"),
    ("page", {"name": "n"}, "user_id"),
    ("screen", {}, "user_id"),
    ("track", {"user_id": "", "event": "e"}, "user_id"),
    ("track", {"user_id": True, "event": "e"}, "user_id"),
    ("track", {"user_id": ["u"], "event": "e"}, "user_id"),
    ("track", {"anonymous_id": False, "event": "e"}, "anonymous_id"),
    ("track", {"user_id": "u"}, "event"),
    ("track", {"user_id": "u", "event": ""}, "event"),
    ("track", {"user_id": "u", "event": 7}, "event"),
    ("track", {"user_id": "u", "event": "e", "properties": [1]}, "properties"),
    ("track", {"user_id": "u", "event": "e", "properties": "text"}, "properties"),
    ("track", {"user_id": "u", "event": "e", "context": "text"}, "context"),
    ("track", {"user_id": "u", "event": "e", "integrations": 7}, "integrations"),
    ("track", {"user_id": "u", "event": "e", "timestamp": "now"}, "timestamp"),
    ("track", {"user_id": "u", "event": "e", "timestamp": WHEN.date()}, "timestamp"),
    ("track", {"user_id": "u", "event": "e", "timestamp": 1.5}, "timestamp"),
    ("track", {"user_id": "u", "event": "e", "message_id": ""}, "message_id"),
    ("identify", {"user_id": "u", "traits": [1]}, "traits"),
    ("page", {"user_id": "u", "name": 7}, "name"),
    ("page", {"user_id": "u", "category": 7}, "category"),
    ("group", {"user_id": "u"}, "group_id"),
    ("group", {"group_id": "g"}, "user_id"),
    ("alias", {"user_id": "u"}, "previous_id"),
    ("alias", {"previous_id": "p"}, "user_id"),
]


class TestMistakes:
    @pytest.mark.parametrize("mistake", MISTAKES)
    @pytest.mark.parametrize("error", [InvalidEvent, ValueError, AssertionError])
    def test_raise(self, clients, capsys, mistake, error):
        """A caller's mistake raises `InvalidEvent`, and nothing is queued."""
        method, given, named = mistake
        client = clients()
        with pytest.raises(error, match=named) as caught:
            getattr(client, method)(**given)
        assert type(caught.value) is InvalidEvent
        assert client.stats == dict.fromkeys(client.stats, 0) | {"rejected": 1}
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize(
        "error", [EventTooLarge, InvalidEvent, RuntimeError, ValueError, AssertionError]
    )
    def test_too_large(self, caller, error):
        """An event over the limit raises `EventTooLarge`, all that it may be caught by."""
        with pytest.raises(error, match="max_event_size") as caught:
            caller.track("u", "e", {"text": "x" * 32_768})
        assert type(caught.value) is EventTooLarge
        assert caught.value.limit == 32_768

    def test_just_within_the_limit(self, caller, collector):
        """The limit is the event's bytes as sent, compact UTF-8 JSON."""
        with pytest.raises(EventTooLarge) as caught:
            caller.track("u", "e", {"text": "é" * 16_300}, timestamp=WHEN)
        # A name of as many bytes less.
        over = caught.value.size - 32_768
        text = "é" * (16_300 - (over + 1) // 2) + "x" * (over % 2)
        caller.track("u", "e", {"text": text}, timestamp=WHEN)
        with pytest.raises(EventTooLarge):
            caller.track("u", "e", {"text": text + "x"}, timestamp=WHEN)
        assert caller.flush(HANG)
        assert collector.events[0]["properties"]["text"] == text
        assert collector.problems == []

    def test_unknown_parameter(self, caller):
        """A parameter that there is not is a TypeError, as of any function."""
        with pytest.raises(TypeError, match="userid"):
            caller.track(userid="u")


class TestSettings:
    def test_are_the_attributes(self):
        """Every setting is an attribute of the module, with its default."""
        names = (
            "write_key host send sync_mode debug on_error max_queue_size upload_size "
            "upload_interval gzip timeout max_retries proxies thread shutdown_timeout "
            "overflow max_event_size spool"
        ).split()
        assert [name for name in names if not hasattr(htevents, name)] == []
        assert htevents.upload_interval == 0.5
        assert htevents.max_queue_size == 10_000
        assert htevents.shutdown_timeout == 10

    def test_are_read_at_first_need(self, facade, collector):
        """What is set before the first call holds; what is set later does not."""
        facade.max_event_size = 1_000
        facade.track("u", "a")
        facade.max_event_size = 32_768
        facade.write_key = "OTHER"
        with pytest.raises(EventTooLarge):
            facade.track("u", "b", {"text": "x" * 2_000})
        facade.track("u", "c")
        assert facade.flush(HANG)
        assert {request.write_key for request in collector.requests} == {"KEY"}

    def test_reset(self, facade, collector, logger):
        """`default_client = None` reads them anew; nothing of before is lost."""
        facade.upload_interval = 3600.0
        facade.track("u", "old")
        (old,) = logger.handlers
        with Collector() as other:
            facade.host, facade.write_key = other.url, "OTHER"
            facade.default_client = None
            facade.track("u", "new")
            assert facade.flush(HANG)
            assert [e["event"] for e in other.events] == ["new"]
            assert other.requests[0].write_key == "OTHER"
            assert collector.wait_for(1, HANG)
            assert [e["event"] for e in collector.events] == ["old"]
            (new,) = logger.handlers
            assert new is not old
            new.close()

    def test_no_key(self, facade):
        """Without a key the first call says what to set; set, it goes on."""
        facade.write_key = None
        for _ in range(2):
            with pytest.raises(InvalidSetting, match="HTEVENTS_WRITE_KEY"):
                facade.track("u", "e")
        facade.write_key = "KEY"
        assert facade.track("u", "e")[0]

    def test_key_from_the_environment(self, facade, collector, monkeypatch):
        """`HTEVENTS_WRITE_KEY` and `HTEVENTS_HOST` stand in."""
        monkeypatch.setenv("HTEVENTS_WRITE_KEY", "ENVKEY")
        monkeypatch.setenv("HTEVENTS_HOST", collector.url)
        facade.write_key = facade.host = None
        facade.track("u", "e")
        assert facade.flush(HANG)
        assert collector.requests[0].write_key == "ENVKEY"

    @pytest.mark.parametrize("name", ["write_kye", "Host", "uploadsize", "_sync_mode"])
    def test_misspelt(self, facade, name):
        """An attribute that is no setting is refused by the first call."""
        setattr(facade, name, "x")
        with pytest.raises(InvalidSetting, match=name):
            facade.track("u", "e")

    @pytest.mark.parametrize("name", ["__warningregistry__", "__mine__"])
    def test_what_python_adds_is_no_setting(self, facade, name):
        """The interpreter's own names (a warning leaves one) are no settings."""
        setattr(facade, name, {})
        assert facade.track("u", "e")[0]

    def test_send_false(self, facade, collector):
        """With `send=False` a call says it was queued, and nothing is sent."""
        facade.send, facade.write_key = False, None
        assert facade.track("u", "e")[0] is True
        assert facade.flush() is True
        assert collector.requests == []
        with pytest.raises(InvalidEvent):
            facade.track("u")

    def test_unknown_of_a_client(self):
        """A client refuses a setting that there is not, and names the one meant."""
        with pytest.raises(InvalidSetting, match="upload_size"):
            Client("KEY", uploadsize=7)


class TestHandlerOfTheLogger:
    def test_is_used(self, facade, collector, logger):
        """A handler that the logger has is used, and none is added."""
        handler = HtEventsHandler(write_key="CONFIGURED", host=collector.url)
        logger.addHandler(handler)
        facade.write_key = None  # not needed, then
        assert facade.track("u", "e")[0]
        assert facade.flush(HANG)
        assert logger.handlers == [handler]
        assert handler.stats["delivered"] == 1
        assert collector.requests[0].write_key == "CONFIGURED"

    def test_is_used_on_the_root(self, facade, collector, logger):
        """So is one that the logger inherits."""
        handler = HtEventsHandler(write_key="CONFIGURED", host=collector.url)
        logging.root.addHandler(handler)
        try:
            assert facade.track("u", "e")[0]
            assert facade.flush(HANG)
        finally:
            logging.root.removeHandler(handler)
            handler.close()
        assert not [h for h in logger.handlers if isinstance(h, HtEventsHandler)]
        assert len(collector.events) == 1

    def test_two_of_them(self, facade, collector, logger):
        """With two on the logger, each call is an event of both; flush waits for both."""
        with Collector() as other:
            for host in (collector.url, other.url):
                logger.addHandler(HtEventsHandler(write_key="K", host=host))
            assert facade.track("u", "e")[0]
            assert facade.flush(HANG)
            assert facade.default_client.stats["delivered"] == 2
            assert len(collector.events) == len(other.events) == 1
            facade.join()

    def test_nearest_alone(self, facade, collector, logger):
        """One on the logger and one on the root: the call is an event of the first."""
        with Collector() as other:
            root = HtEventsHandler(write_key="K", host=other.url)
            logging.root.addHandler(root)
            logger.addHandler(HtEventsHandler(write_key="K", host=collector.url))
            try:
                facade.track("u", "e")
                assert facade.flush(HANG)
                assert root.flush(HANG)
            finally:
                logging.root.removeHandler(root)
                root.close()
            assert len(collector.events) == 1
            assert other.requests == []

    def test_added_once(self, facade, logger):
        """The first call adds one handler, and later ones none."""
        for _ in range(3):
            facade.track("u", "e")
        assert [type(handler) for handler in logger.handlers] == [HtEventsHandler]

    def test_plain_logging_on_the_logger(self, facade, collector, logger):
        """Plain records on the facade's logger go the same way."""
        facade.track("u", "first")
        logger.warning("second", extra={"ht_user_id": "u"})
        assert facade.flush(HANG)
        assert [e["event"] for e in collector.events] == ["first", "second"]


class TestRecords:
    """The calls are log records: filters and further handlers see them."""

    def test_filter_on_the_logger_drops(self, caller, collector):
        """A filter may refuse; the call then says `False`, with the event."""
        logger = logging.getLogger("htevents")
        if isinstance(caller, Client):
            logger = caller.logger
        logger.addFilter(lambda record: record.getMessage() != "b")
        results = [caller.track("u", name) for name in "abc"]
        assert [queued for queued, _ in results] == [True, False, True]
        assert [event["event"] for _, event in results] == ["a", "b", "c"]
        assert caller.flush(HANG)
        assert [e["event"] for e in collector.events] == ["a", "c"]

    def test_filter_on_the_handler_drops(self, facade, collector, logger):
        """A filter of the handler may refuse as well."""
        facade.track("u", "a")
        (handler,) = logger.handlers
        handler.addFilter(lambda record: record.getMessage() != "b")
        queued, event = facade.track("u", "b")
        assert (queued, event["event"]) == (False, "b")
        assert facade.flush(HANG)
        assert [e["event"] for e in collector.events] == ["a"]

    def test_mistake_shows_though_it_is_filtered(self, facade, logger):
        """A call that is refused by a filter raises for mistakes all the same."""
        logger.addFilter(lambda record: False)  # noqa: ARG005
        with pytest.raises(InvalidEvent):
            facade.track("u", "")

    def test_filter_that_raises(self, caller, caplog, collector):
        """A broken filter raises nothing into the application."""

        def broken(record):
            raise KeyError(record.msg)

        logger = logging.getLogger("htevents")
        if isinstance(caller, Client):
            logger = caller.logger
        logger.addFilter(broken)
        assert caller.track("u", "e")[0] is False
        assert "raised KeyError at " in caplog.text
        assert caller.flush(HANG)
        assert collector.requests == []

    def test_formatter_that_raises(self, facade, logger, caplog, collector):
        """Nor does a broken hook of the handler's formatter; the event is reported."""

        class Broken(htlogging.HtEventsFormatter):
            def process_log_record(self, log_data):
                if log_data["ht_event"] == "b":
                    raise KeyError("hook")
                return super().process_log_record(log_data)

        handler = HtEventsHandler(write_key="K", host=collector.url)
        handler.setFormatter(Broken())
        logger.addHandler(handler)
        results = [facade.track("u", name) for name in "abc"]
        assert [queued for queued, _ in results] == [True, False, True]
        assert [event["event"] for _, event in results] == ["a", "b", "c"]
        assert "a formatter or a value raised KeyError at " in caplog.text
        assert facade.flush(HANG)
        assert handler.stats["rejected"] == 1
        assert [e["event"] for e in collector.events] == ["a", "c"]

    def test_filter_may_change_fields(self, caller, collector):
        """A filter sees the fields by the names of `extra`, and may change them."""

        def redact(record):
            assert record.ht_type == "identify"
            record.ht_traits = {"email": "***"}
            return True

        logger = logging.getLogger("htevents")
        if isinstance(caller, Client):
            logger = caller.logger
        logger.addFilter(redact)
        _, event = caller.identify("u", {"email": "a@example.com"})
        assert event["traits"] == {"email": "***"}
        assert caller.flush(HANG)
        assert collector.events == [event]

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
    def test_filter_may_return_another_record(self, clients, collector):
        """From 3.12 on a filter may answer with a record to go on with."""

        def redact(record):
            other = copy.copy(record)
            other.ht_traits = {"email": "***"}
            return other

        client = clients()
        client.logger.addFilter(redact)
        queued, event = client.identify("u", {"email": "a@example.com"})
        assert (queued, event["traits"]) == (True, {"email": "***"})
        assert client.flush(HANG)
        assert collector.events == [event]

    def test_level_of_the_handler(self, facade, collector, logger):
        """Calls are records of level INFO: a handler above that has none of them."""
        facade.track("u", "a")
        (handler,) = logger.handlers
        handler.setLevel(logging.WARNING)
        assert facade.track("u", "b")[0] is False
        logger.removeHandler(handler)  # as a reconfiguration does; it is used still
        assert facade.track("u", "c")[0] is False
        handler.setLevel(logging.INFO)
        assert facade.track("u", "d")[0] is True
        assert facade.flush(HANG)
        assert [e["event"] for e in collector.events] == ["a", "d"]
        handler.close()

    def test_first_calls_at_once(self, facade, collector, logger):
        """Threads that make the first call together make one handler."""
        together = threading.Barrier(8, timeout=HANG)

        def call(n):
            together.wait()
            return facade.track("u", "e", {"n": n})[0]

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(call, range(8)))
        assert facade.flush(HANG)
        assert len(logger.handlers) == 1
        assert len(collector.events) == 8

    @pytest.mark.parametrize("how", ["__del__", "signal"])
    def test_call_during_the_first_call(
        self, facade, collector, logger, monkeypatch, how
    ):
        """A `__del__` or a signal handler that tracks meanwhile makes no second one."""
        make = HtEventsHandler.__init__

        class Late:
            def __init__(self):
                self.me = self

            def __del__(self):
                facade.track("u", "inner")

        def made_in_between(self, *args, **settings):
            monkeypatch.undo()
            make(self, *args, **settings)
            if how == "signal":
                facade.track("u", "inner")
            else:
                Late()
                gc.collect()

        monkeypatch.setattr(HtEventsHandler, "__init__", made_in_between)
        assert facade.track("u", "outer")[0]
        assert facade.track("u", "next")[0]
        assert facade.flush(HANG)
        names = sorted(event["event"] for event in collector.events)
        assert names == ["inner", "next", "outer"]
        assert len(logger.handlers) == 1

    def test_caplog_sees_them(self, caller, caplog):
        """The fixture `caplog` has a record for each call."""
        caplog.set_level(logging.INFO)
        caller.track("u", "Order completed", {"a": 1})
        (record,) = [r for r in caplog.records if r.name.startswith("htevents")]
        assert record.getMessage() == "Order completed"
        assert record.levelno == logging.INFO
        assert record.ht_user_id == "u"
        assert record.ht_properties == {"a": 1}
        assert record.filename == "test_facade.py"
        assert record.funcName == "test_caplog_sees_them"

    def test_assert_logs_sees_them(self, caller, collector):
        """So has unittest's assertLogs, and the event is delivered all the same."""
        case = unittest.TestCase()
        with case.assertLogs("htevents", "INFO") as logs:
            assert caller.track("u", "during")[0]
        assert [r.getMessage() for r in logs.records] == ["during"]
        assert caller.track("u", "after")[0]
        with case.assertLogs(level="INFO") as logs:
            assert caller.track("u", "on the root")[0]
        assert [r.getMessage() for r in logs.records] == ["on the root"]
        assert caller.flush(HANG)
        sent = [e["event"] for e in collector.events]
        assert sent == ["during", "after", "on the root"]

    def test_further_handlers_see_them(self, facade, logger):
        """A further handler on the logger sees each call, once."""
        seen = []

        class Seeing(logging.Handler):
            def emit(self, record):
                seen.append(record.getMessage())

        logger.addHandler(Seeing())
        facade.track("u", "a")
        facade.identify("u")
        assert seen == ["a", "identify"]

    def test_records_can_be_pickled(self, caller, caplog):
        """Handlers that send records elsewhere (SocketHandler, queues) can do so."""
        caplog.set_level(logging.INFO)
        caller.track("u", "e", {"a": 1})
        record = next(r for r in caplog.records if r.name.startswith("htevents"))
        sender = logging.handlers.SocketHandler("localhost", None)
        fields = pickle.loads(sender.makePickle(record)[4:])
        sender.close()
        assert fields["ht_properties"] == {"a": 1}
        assert not [v for v in fields.values() if "htlogging" in type(v).__module__]
        assert copy.deepcopy(record).ht_properties == {"a": 1}

    def test_level_of_the_logger_does_not_matter(self, caller, collector, logger):
        """An unset level, or any other, loses nothing."""
        logging.root.setLevel(logging.WARNING)
        caller.track("u", "unset")
        logger.setLevel(logging.CRITICAL)
        assert caller.track("u", "critical")[0]
        assert caller.flush(HANG)
        assert [e["event"] for e in collector.events] == ["unset", "critical"]

    @pytest.mark.usefixtures("logger")
    def test_disable_does_not_matter(self, caller, collector):
        """`logging.disable()` is for the application's logs."""
        logging.disable()
        assert caller.track("u", "e")[0]
        assert caller.flush(HANG)
        assert len(collector.events) == 1

    def test_disabled_logger_does_not_matter(self, caller, collector, logger):
        """Reconfigurations disable loggers that they do not know."""
        caller.track("u", "a")
        logger.disabled = True
        assert caller.track("u", "b")[0]
        assert caller.flush(HANG)
        assert [e["event"] for e in collector.events] == ["a", "b"]


RECONFIGURATIONS = {
    "dictConfig": """
logging.config.dictConfig({
    "version": 1,
    "handlers": {"null": {"class": "logging.NullHandler"}},
    "root": {"handlers": ["null"], "level": "WARNING"},
})
""",
    "fileConfig": """
logging.config.fileConfig(io.StringIO('''
[loggers]
keys=root
[handlers]
keys=null
[formatters]
keys=
[logger_root]
level=WARNING
handlers=null
[handler_null]
class=NullHandler
args=()
'''))
""",
    "basicConfig": """
logging.basicConfig(force=True, handlers=[logging.NullHandler()])
""",
    "logger": """
logging.config.dictConfig({
    "version": 1,
    "loggers": {"htevents": {"level": "ERROR", "propagate": False}},
})
""",
    "shutdown": """
logging.shutdown()
""",
}


class TestReconfiguration:
    @pytest.mark.parametrize(
        ("name", "end"),
        [*((name, "") for name in RECONFIGURATIONS), ("logger", "flush")],
    )
    def test_loses_nothing(self, collector, name, end):
        """Events from before and after it are delivered, at the script's end or before."""
        script = """
import io, logging, logging.config, sys
from htlogging import htevents
from htlogging.htevents import Client
htevents.write_key, htevents.host = "KEY", sys.argv[1]
client = Client("KEY", host=sys.argv[1])
for caller in (htevents, client):
    assert caller.track("u", "before", {"n": 1})[0]
{}
for caller in (htevents, client):
    assert caller.track("u", "after", {"n": 2})[0]
if sys.argv[2]:
    assert htevents.flush(60) and client.flush(60)
""".replace("{}", RECONFIGURATIONS[name])
        run(script, collector.url, end)
        events = sorted(e["event"] for e in collector.events)
        assert events == ["after"] * 2 + ["before"] * 2

    def test_its_own_handler_takes_over(self, collector):
        """One that gives the logger a handler: later events are that handler's."""
        script = """
import logging.config, sys
from htlogging import htevents
htevents.write_key, htevents.host = "FIRST", sys.argv[1]
htevents.track("u", "before")
logging.config.dictConfig({
    "version": 1,
    "handlers": {
        "ht": {
            "()": "htlogging.HtEventsHandler",
            "write_key": "SECOND",
            "host": sys.argv[1],
        }
    },
    "loggers": {"htevents": {"handlers": ["ht"], "level": "INFO"}},
})
assert htevents.track("u", "after")[0]
"""
        run(script, collector.url)
        got = [(r.write_key, e["event"]) for r in collector.requests for e in r.events]
        assert sorted(got) == [("FIRST", "before"), ("SECOND", "after")]


class TestClients:
    def test_do_not_mix(self, facade, collector, clients):
        """Two clients and the facade each send with their own key."""
        callers = {"A": clients("A"), "B": clients("B"), "KEY": facade}
        for n in range(3):
            for key, caller in callers.items():
                caller.track("u", key, {"n": n})
        for caller in callers.values():
            assert caller.flush(HANG)
        got = [(r.write_key, e["event"]) for r in collector.requests for e in r.events]
        assert sorted(got) == [(key, key) for key in callers for _ in range(3)]

    def test_have_loggers_of_their_own(self, clients):
        """A client's logger is its own."""
        one, two = clients("A"), clients("B")
        assert one.logger is not two.logger
        assert one.logger.handlers != two.logger.handlers

    def test_of_the_same_key(self, clients, collector):
        """Two clients of one key do not send each other's events."""
        one, two = clients(), clients()
        one.track("u", "one")
        two.track("u", "two")
        assert one.flush(HANG)
        assert two.flush(HANG)
        assert sorted(e["event"] for e in collector.events) == ["one", "two"]

    def test_stats(self, clients):
        """A client has its handler's counters."""
        client = clients()
        client.track("u", "e")
        assert client.flush(HANG)
        assert client.stats["accepted"] == client.stats.delivered == 1

    def test_repr_holds_no_key(self, clients):
        """A client can be shown."""
        assert "SECRETKEY" not in repr(clients("SECRETKEY"))

    def test_key_is_the_first_argument(self, collector):
        """The key is given by position or by name."""
        for client in (
            Client("KEY", host=collector.url),
            Client(write_key="KEY", host=collector.url),
        ):
            client.track("u", "e")
            client.shutdown()
        assert [r.write_key for r in collector.requests] == ["KEY", "KEY"]

    def test_one_that_is_dropped_delivers(self, collector):
        """An event of a client that is not kept is delivered at the script's end."""
        script = """
import sys
from htlogging.htevents import Client
Client("K", host=sys.argv[1]).track("u", "e")
"""
        run(script, collector.url)
        assert [e["event"] for e in collector.events] == ["e"]

    def test_one_that_is_dropped_is_forgotten(self, collector):
        """A client that has nothing to send, or is shut down, takes no memory."""
        import weakref

        client = Client("K", host=collector.url)
        client.logger.propagate = False  # pytest keeps the records that it sees
        client.track("u", "e")
        client.shutdown()
        handler = weakref.ref(client.logger.handlers[0])
        del client
        gc.collect()
        assert handler() is None


class TestFlushJoinShutdown:
    def test_nothing_to_do(self, caller):
        """With nothing to do, `flush` is `True` and the others return."""
        assert caller.flush() is True
        assert caller.flush(0) is True
        caller.join()
        caller.shutdown()
        assert caller.flush() is True

    @pytest.mark.parametrize("end", ["join", "shutdown"])
    def test_end_delivers_and_a_later_event_opens_again(self, caller, collector, end):
        """Both wait for what is queued; an event after them is delivered as well."""
        for n in range(3):
            assert caller.track("u", f"event {n}")[0]
            getattr(caller, end)()
            assert len(collector.events) == n + 1
        assert caller.track("u", "last")[0]
        assert caller.flush(HANG)
        assert len(collector.events) == 4

    def test_flushed(self, facade, collector):
        """A block and a decorated function have delivered when they end, or raise."""

        @facade.flushed()
        def function(name):
            facade.track("u", name)
            raise LookupError

        with facade.flushed(timeout=HANG):
            facade.track("u", "block")
        assert len(collector.events) == 1
        for n in range(2):
            with pytest.raises(LookupError):
                function(f"call {n}")
            assert len(collector.events) == n + 2

    def test_flushed_decorates_coroutines_and_generators(self, facade, collector):
        """They have delivered when they are done; an event loop goes on meanwhile."""

        @facade.flushed()
        async def coroutine():
            facade.track("u", "coroutine")

        @facade.flushed()
        def generator():
            yield facade.track("u", "generator")

        @facade.flushed()
        async def stream():
            yield facade.track("u", "stream")

        async def main():
            answered = threading.Event()
            loop = asyncio.get_running_loop()
            # The answer waits for the loop, so a blocked one would never have it.
            collector.always(lambda _: answered.wait(HANG) and None)
            loop.call_later(0.01, answered.set)
            await coroutine()
            assert answered.is_set()
            assert len(collector.events) == 1
            assert [n async for n in stream()]
            assert len(collector.events) == 2

        asyncio.run(main())
        assert list(generator())
        assert len(collector.events) == 3

    def test_flushed_does_not_block_trio(self, facade, collector):
        """In trio's loop it flushes on another thread, as in asyncio's."""
        trio = pytest.importorskip("trio")
        arrived, answer = threading.Event(), threading.Event()
        in_time = []

        def hold(_):
            arrived.set()
            in_time.append(answer.wait(HANG))

        collector.always(hold)

        @facade.flushed(timeout=HANG)
        async def handle():
            facade.track("u", "e")

        async def main():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(handle)
                await trio.to_thread.run_sync(arrived.wait, HANG)
                answer.set()

        trio.run(main)
        assert in_time == [True]

    def test_flushed_makes_no_client(self, facade):
        """A block without an event needs no write key, and its error is its own."""
        facade.write_key = None
        with pytest.raises(LookupError), facade.flushed():
            raise LookupError
        assert facade.default_client is None

    def test_flush_says_when_it_is_not_done(self, caller, collector):
        """A `flush` whose timeout passes is `False`, and the event goes on."""
        go_on = threading.Event()
        collector.always(lambda _: go_on.wait(HANG) and None)
        try:
            caller.track("u", "e")
            assert caller.flush(0.05) is False
        finally:
            go_on.set()
        assert caller.flush(timeout=HANG) is True


class TestSyncMode:
    def test_sends_on_the_callers_thread(self, facade, collector):
        """A call returns when its event is delivered."""
        facade.sync_mode = True
        queued, event = facade.track("u", "e")
        assert queued
        assert collector.events == [event]

    @pytest.mark.parametrize("status", [400, 401, 404, 413, 429, 500, 503])
    def test_raises_after_one_try(self, clients, collector, status):
        """An event that is refused raises `DeliveryError`; it is tried once."""
        client = clients(sync_mode=True)
        collector.script(status)
        with pytest.raises(DeliveryError) as caught:
            client.track("u", "e")
        assert caught.value.status == status
        assert caught.value.code
        assert caught.value.message
        assert len(collector.requests) == 1
        assert client.stats["failed"] == client.stats["accepted"] == 1
        assert client.track("u", "e")[0]
        client.shutdown()

    def test_unreachable(self, clients):
        """A server that is not there raises too, without a status."""
        with Collector() as gone:
            url = gone.url
        client = clients(sync_mode=True, host=url)
        with pytest.raises(DeliveryError) as caught:
            client.track("u", "e")
        assert caught.value.status is None

    def test_mistake(self, clients):
        """A caller's mistake raises as it does without."""
        with pytest.raises(InvalidEvent):
            clients(sync_mode=True).track("u", "")


@pytest.fixture
def own_lines(caplog):
    """Return a function for the lines of the log `htlogging` so far."""
    return lambda: [r.getMessage() for r in caplog.records if r.name == "htlogging"]


class TestOnInvalid:
    @pytest.fixture(params=["facade", "client"])
    def reporting(self, request, facade, collector):
        """Return what calls are made on, with `on_invalid="report"`."""
        if request.param == "facade":
            facade.on_invalid = "report"
            facade.default_client = None
            yield facade
            facade.on_invalid = "raise"
        else:
            client = Client("K", host=collector.url, on_invalid="report")
            yield client
            client.join()

    @pytest.mark.parametrize("alone", [True, False])
    def test_report(self, reporting, collector, own_lines, logger, alone):
        """A mistake is no error; it is counted, and a line says where it was made."""
        if alone:
            logger.propagate = False  # only our handler sees a record
        try:
            for _ in range(3):
                assert reporting.track("u", "") == (False, {})
                assert reporting.track(event="no id") == (False, {})
            assert reporting.track("u", "large", {"a": "x" * 40_000}) == (False, {})
            assert reporting.track("u", "good")[0]
        finally:
            logger.propagate = True
        assert reporting.flush(HANG)
        assert reporting.stats.rejected == 7
        assert [event["event"] for event in collector.events] == ["good"]
        lines = own_lines()
        assert [line.partition("; ")[0] for line in lines if "rejected" in line][
            0:1
        ] == ["1 event rejected: ht_event (event) is empty"]
        assert len([line for line in lines if "rejected" in line]) == 3
        assert all(f" at {__file__}:" in line for line in lines if "rejected" in line)

    def test_from_the_environment(self, collector, monkeypatch):
        """HTEVENTS_ON_INVALID=report does it for code that says nothing."""
        monkeypatch.setenv("HTEVENTS_ON_INVALID", "report")
        assert Client("K", host=collector.url).track("u", "") == (False, {})

    @pytest.mark.parametrize("on_invalid", ["report", "raise"])
    def test_behind_a_filter(self, collector, on_invalid):
        """A mistake in what a filter drops is a mistake, and counted once."""
        client = Client("K", host=collector.url, on_invalid=on_invalid)
        client.logger.addFilter(lambda record: record is None)
        with contextlib.suppress(InvalidEvent):
            client.track("u", "")
        assert client.track("u", "dropped")[0] is False
        assert client.stats.rejected == 1

    def test_what_a_filter_drops(self, collector, own_lines):
        """A mistake in a call that a filter drops is reported, too."""
        client = Client("K", host=collector.url, on_invalid="report")
        client.logger.addFilter(lambda _: False)
        assert client.track("u", "") == (False, {})
        assert "rejected" in own_lines()[0]

    def test_delivery_errors_stay(self, collector):
        """With sync_mode, what the server refuses is an error all the same."""
        collector.always(401)
        client = Client("K", host=collector.url, on_invalid="report", sync_mode=True)
        with pytest.raises(DeliveryError):
            client.track("u", "e")


class TestNoEffect:
    def test_logger_has_a_handler(self, facade, logger, collector, own_lines):
        """Settings of the facade beside a handler on its logger are reported once."""
        logger.addHandler(HtEventsHandler(write_key="K", host=collector.url))
        facade.upload_interval = 7
        for _ in range(3):
            facade.track("u", "e")
        (line,) = own_lines()
        assert "htevents.upload_interval" in line
        assert collector.url in line

    def test_set_after_the_first_call(self, facade, own_lines):
        """So is one that changes when it has been read: once for each."""
        facade.track("u", "e")
        for seconds in (7, 8, 9):
            facade.upload_interval = seconds
            facade.track("u", "e")
        facade.gzip = False
        facade.track("u", "e")
        first, second = own_lines()
        assert "htevents.upload_interval was set after the first call" in first
        assert "htevents.gzip was set after the first call" in second
        assert facade.host in first

    def test_unknown_name(self, facade, logger, collector):
        """A name that no setting has is an error, beside a handler, too."""
        logger.addHandler(HtEventsHandler(write_key="K", host=collector.url))
        facade.writekey = "K"
        with pytest.raises(InvalidSetting, match="did you mean write_key"):
            facade.track("u", "e")

    def test_reset(self, facade, own_lines):
        """What is read again has an effect: no line; nor for the same value again."""
        facade.track("u", "e")
        facade.upload_interval = 7
        facade.default_client = None
        facade.track("u", "e")
        facade.upload_interval = 7
        facade.track("u", "e")
        assert own_lines() == []


class TestStats:
    def test_before_the_first_call(self):
        """All are 0; looking needs no key, and settles no setting."""
        assert htevents.default_client is None
        assert set(htevents.stats.values()) == {0}
        assert htevents.stats.accepted == 0
        assert htevents.default_client is None

    def test_of_the_facade(self, facade):
        """They are the client's counters."""
        facade.track("u", "e")
        assert facade.flush(HANG)
        assert facade.stats == facade.default_client.stats
        assert facade.stats.delivered == 1
        assert "stats" in dir(facade)


class TestAllOfThem:
    """The facade's flush, join and shutdown are for the whole process."""

    def test_flush(self, collector, monkeypatch):
        """Handlers of any logger and clients are flushed; no key is needed."""
        monkeypatch.setattr(htevents, "write_key", None)
        client = Client("K", host=collector.url, upload_interval=HANG)
        handler = HtEventsHandler(
            write_key="K", host=collector.url, upload_interval=HANG
        )
        record = {"name": "shop", "msg": "e", "ht_user_id": "u"}
        handler.handle(logging.makeLogRecord(record))
        client.track("u", "e")
        assert htevents.flush(HANG)
        assert (client.stats.delivered, handler.stats.delivered) == (1, 1)
        assert htevents.default_client is None

    @pytest.mark.parametrize("end", ["join", "shutdown"])
    def test_join(self, collector, end):
        """So they are closed; a later event is delivered all the same."""
        client = Client("K", host=collector.url, upload_interval=HANG)
        client.track("u", "e")
        getattr(htevents, end)()
        assert client.stats.delivered == 1

    def test_flushed(self, collector):
        """And flushed at the end of a block, whatever made the events."""
        client = Client("K", host=collector.url, upload_interval=HANG)
        with htevents.flushed(HANG):
            client.track("u", "e")
        assert client.stats.delivered == 1


class TestCheck:
    @pytest.fixture(params=["facade", "client", "handler"])
    def checked(self, request, facade, collector):
        """Return (what is flushed, how an event is made)."""
        with contextlib.suppress(DeliveryError):
            htevents.flush(check=True)  # what other tests' clients lost
        if request.param == "facade":
            return facade, lambda: facade.track("u", "e")
        client = Client("K", host=collector.url)
        target = client if request.param == "client" else client.logger.handlers[0]
        return target, lambda: client.track("u", "e")

    def test_raises_once_for_what_was_given_up(self, checked, collector):
        """It raises for losses since the last such call, then no more."""
        target, track = checked
        collector.script(401, 401)
        track()
        assert target.flush(HANG)
        track()
        with pytest.raises(DeliveryError, match="2 events given up") as caught:
            target.flush(HANG, check=True)
        assert caught.value.status == 401
        assert collector.url in str(caught.value)
        assert target.flush(HANG, check=True)
        track()
        assert target.flush(HANG, check=True)

    def test_nothing_to_do(self, checked):
        """With nothing lost it is a flush as any."""
        assert checked[0].flush(check=True)


class TestHelp:
    def test_settings(self):
        """`help` of a client and a handler shows the settings, defaults and variables."""
        for shown in (Client.__doc__, HtEventsHandler.__doc__):
            assert "max_queue_size=10000" in shown
            assert "host=None (else HTEVENTS_HOST)" in shown

    def test_repr(self, collector):
        """A handler's repr shows where to and the counters, never the key."""
        client = Client("SECRETKEY", host=collector.url)
        (handler,) = client.logger.handlers
        assert repr(handler) == f"<HtEventsHandler to {collector.url}: no events>"
        client.track("u", "e")
        assert client.flush(HANG)
        assert repr(handler) == (
            f"<HtEventsHandler to {collector.url}: 1 accepted, 1 delivered>"
        )
