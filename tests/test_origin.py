"""What of a record is the event's own; and a record is one event, whoever sees it."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import logging.handlers
import pickle
import queue
import sys
import threading
from collections import OrderedDict, UserDict

import pytest
from script_runner import HANG

import htlogging
from htlogging import HtEventsFormatter, HtEventsHandler, htevents
from htlogging._event import origin, record_hook
from htlogging.htevents import Client

# Seconds; the hang guard.


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    monkeypatch.delenv("HTEVENTS_WRITE_KEY", raising=False)
    monkeypatch.delenv("HTEVENTS_HOST", raising=False)
    htlogging.clear()
    yield
    htlogging.clear()


@pytest.fixture
def make(collector):
    """Return what makes a handler; all are closed."""
    made = []

    def make(**settings):
        made.append(HtEventsHandler(write_key="KEY", host=collector.url, **settings))
        return made[-1]

    yield make
    for handler in made:
        handler.close()


@pytest.fixture
def sent(collector):
    """Return what flushes all, and returns the events that came in."""

    def sent():
        assert htevents.flush(HANG)
        return collector.events

    return sent


@pytest.fixture
def attach():
    """Return what gives a logger handlers; it is as before after the test."""
    before = []

    def attach(name, *handlers, propagate=False):
        logger = logging.getLogger(name)
        state = (list(logger.handlers), list(logger.filters), logger.level)
        before.append((logger, state, logger.propagate))
        logger.handlers[:] = handlers
        logger.setLevel(logging.INFO)
        logger.propagate = propagate
        return logger

    yield attach
    for logger, (handlers, filters, level), propagate in reversed(before):
        logger.handlers[:], logger.filters[:] = handlers, filters
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.fixture
def factory():
    """Return what sets a record factory that marks records; it is removed again."""

    def factory(**marks):
        def make(*args, **kwargs):
            record = before(*args, **kwargs)
            record.__dict__.update(marks)
            return record

        logging.setLogRecordFactory(make)

    before = logging.getLogRecordFactory()
    yield factory
    logging.setLogRecordFactory(before)


def formatted_to(stream, formatter):
    """Return a handler that writes to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    return handler


class Marking(logging.Filter):
    """A filter of another handler's; it marks, and changes, what it sees."""

    def filter(self, record):
        """Let it pass."""
        record.request_id = "R-1"
        record.color = "none"
        return True


class MarkingFormatter(logging.Formatter):
    """A formatter as Tornado's or Celery's: it notes things on the record."""

    def format(self, record):
        """Return the message."""
        record.message = record.getMessage()
        record.color = "\033[1m"
        record.task_id = "???"
        record.msg = f"{record.color}{record.msg}"
        return record.message


class TestMarksOfOthers:
    @pytest.mark.parametrize("name", ["htevents", "htevents.orders", "shop", "own"])
    @pytest.mark.parametrize("how", ["filter", "formatter"])
    def test_of_a_handler_before(self, make, attach, sent, how, name):
        """What another handler's filter or formatter puts or changes is no property."""
        other = logging.StreamHandler(io.StringIO())
        if how == "filter":
            other.addFilter(Marking())
        else:
            other.setFormatter(MarkingFormatter())
        ours = make()
        logger = attach(name, other, ours)
        extra = {"color": "red", "task_id": "T-1"}
        if name == "own":  # a logger of the handler's own, and bound fields alone
            htlogging.bind(ht_user_id="u")
        else:
            extra["ht_user_id"] = "u"
        logger.info("Order completed", extra=extra)
        (event,) = sent()
        assert event["event"] == "Order completed"
        assert event["properties"] == {"color": "red", "task_id": "T-1"}
        assert event["anonymousId"] is None

    @pytest.mark.parametrize("kind", ["logger", "handler"])
    def test_filter_of_ours_counts(self, make, attach, sent, kind):
        """What a filter of our logger or handler sets, changes, removes counts."""

        def change(record):
            record.plan = "pro"
            record.email = "***"
            del record.secret
            return True

        ours = make()
        plain = logging.StreamHandler(io.StringIO())
        logger = attach("htevents", plain, ours)
        (logger if kind == "logger" else ours).addFilter(change)
        extra = {"ht_user_id": "u", "email": "a@b", "secret": 1}
        logger.info("Order completed", extra=extra)
        (event,) = sent()
        assert event["properties"] == {"email": "***", "plan": "pro"}

    def test_filters_of_both(self, make, attach, sent):
        """Ours count, and those of a handler before do not."""
        other = logging.StreamHandler(io.StringIO())
        other.addFilter(Marking())
        ours = make()
        ours.addFilter(lambda record: setattr(record, "plan", "pro") or True)
        logger = attach("htevents", other, ours)
        logger.info("Order completed", extra={"ht_user_id": "u", "a": 1})
        (event,) = sent()
        assert event["properties"] == {"a": 1, "plan": "pro"}

    @pytest.mark.parametrize("way", ["plain", "facade"])
    def test_filters_of_the_logger_and_of_a_handler_before(
        self, make, attach, sent, way
    ):
        """What the logger's filter adds, changes and removes counts, and no more."""

        def change(record):
            record.plan = "pro"
            record.ht_context = {"ip": "::1"}
            record.__dict__.pop("secret", None)
            if way == "plain":
                record.msg = "Order paid"
            return True

        other = logging.StreamHandler(io.StringIO())
        other.addFilter(Marking())
        other.addFilter(lambda record: record.__dict__.pop("a", None) or True)
        other.setFormatter(MarkingFormatter())
        logger = attach("htevents", other, make())
        logger.addFilter(change)
        if way == "plain":
            extra = {"ht_user_id": "u", "color": "red", "a": 1, "secret": 2}
            logger.info("Order %s", 5, extra=extra)
        else:
            htevents.track("u", "Order paid", {"color": "red", "a": 1})
        (event,) = sent()
        assert event["event"] == "Order paid"
        assert event["properties"] == {"color": "red", "a": 1, "plan": "pro"}
        assert event["context"]["ip"] == "::1"
        assert event["anonymousId"] is None

    def test_filter_that_makes_an_event(self, make, attach, sent):
        """It gives a field to an ordinary record, and a handler before marks it."""
        attach("", make())
        other = logging.StreamHandler(io.StringIO())
        other.addFilter(Marking())
        logger = attach("app", other, propagate=True)
        logger.addFilter(lambda record: setattr(record, "ht_user_id", "u") or True)
        logger.info("Order completed", extra={"color": "red"})
        (event,) = sent()
        assert (event["userId"], event["properties"]) == ("u", {"color": "red"})

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="filters return a bool")
    @pytest.mark.parametrize("is_copy", [True, False])
    def test_filter_of_the_logger_that_returns_another_record(
        self, make, attach, sent, is_copy
    ):
        """Its attributes are what the filter has changed."""

        def change(record):
            if is_copy:
                other = copy.copy(record)
            else:
                about = ("name", "levelno", "msg", "ht_user_id")
                other = logging.makeLogRecord({k: vars(record)[k] for k in about})
            other.plan = "pro"
            other.__dict__.pop("secret", None)
            return other

        logger = attach("htevents", make())
        logger.addFilter(change)
        logger.info("Order completed", extra={"ht_user_id": "u", "secret": 1})
        (event,) = sent()
        assert event["event"] == "Order completed"
        assert (event["userId"], event["properties"]) == ("u", {"plan": "pro"})

    @pytest.mark.parametrize("how", ["formatter", "filter", "queue", "socket"])
    def test_fields_of_a_factory(self, make, attach, sent, factory, how):
        """They are no event's, whatever comes before our handler."""
        factory(ht_anonymous_id="nobody", request_id="R-1")
        ours = make()
        attach("", ours)  # a record of the root logger's is looked at, too
        if how == "formatter":
            logger = attach("shop", logging.StreamHandler(io.StringIO()), ours)
        elif how == "filter":
            logger = attach("shop", ours)
            logger.addFilter(lambda record: setattr(record, "message", "") or True)
        else:
            logger = attach("shop", Passing(how, ours))
        logger.info("Order %s", 5, extra={"ht_user_id": "u", "a": 1})
        logger.info({"event": "Order %s", "ht_user_id": "u", "a": 1})
        events = sent()
        assert len(events) == 2
        for event in events:
            assert event["event"] == "Order %s"
            assert (event["anonymousId"], event["properties"]) == (None, {"a": 1})

    @pytest.mark.parametrize("how", ["queue", "socket", "handler"])
    def test_message_of_a_factory(self, make, attach, sent, factory, how):
        """A name is what the call gave, not what a factory makes of it."""
        factory(msg="R-1: Order completed")
        ours = make()
        logger = attach("shop", ours if how == "handler" else Passing(how, ours))
        logger.info("Order completed", extra={"ht_user_id": "u"})
        logger.info({"event": "Order completed", "ht_user_id": "u"})
        assert [event["event"] for event in sent()] == ["Order completed"] * 2

    def test_of_a_facade_with_a_further_handler(self, make, attach, sent):
        """The facade's event comes from the call."""
        other = logging.StreamHandler(io.StringIO())
        other.addFilter(Marking())
        other.setFormatter(MarkingFormatter())
        attach("htevents", other, make())
        queued, event = htevents.track("u", "Order completed", {"color": "red"})
        assert queued
        assert event["properties"] == {"color": "red"}
        assert sent() == [event]

    def test_of_a_formatter_beside(self, attach):
        """`HtEventsFormatter` on another handler has the call's fields, too."""
        other = logging.StreamHandler(io.StringIO())
        other.addFilter(Marking())
        stream = io.StringIO()
        logger = attach("htevents", other, formatted_to(stream, HtEventsFormatter()))
        logger.info("Order completed", extra={"ht_user_id": "u", "color": "red"})
        assert json.loads(stream.getvalue())["properties"] == {"color": "red"}

    def test_a_format_may_ask_for_a_mark(self, attach):
        """What the formatter's own format names is there."""
        other = logging.StreamHandler(io.StringIO())
        other.addFilter(Marking())
        stream = io.StringIO()
        ours = formatted_to(stream, HtEventsFormatter("%(levelname)s %(request_id)s"))
        logger = attach("htevents", other, ours)
        logger.info("Order completed", extra={"ht_user_id": "u"})
        properties = json.loads(stream.getvalue())["properties"]
        assert properties == {"levelname": "INFO", "request_id": "R-1"}

    def test_logger_that_makes_records_by_itself(self, make, attach, sent):
        """Without the standard library's `makeRecord` the record's attributes count."""

        class Own(logging.Logger):
            def makeRecord(self, name, level, fn, lno, msg, args, exc, *rest):  # noqa: N802, PLR0913, PLR0917
                record = logging.LogRecord(name, level, fn, lno, msg, args, exc)
                record.__dict__.update(rest[1] or {})
                return record

        logger = attach("own", make())
        logger.__class__ = Own
        try:
            logger.info("Order completed", extra={"ht_user_id": "u", "a": 1})
        finally:
            logger.__class__ = logging.Logger
        assert [event["properties"] for event in sent()] == [{"a": 1}]

    def test_record_made_by_hand(self, make, attach, sent):
        """A bridge may make a record of its own, and set fields later."""
        logger = attach("htevents", make())
        record = logger.makeRecord("htevents", 20, "", 0, "a", (), None, extra={"a": 1})
        record.ht_user_id = "u"
        logger.handle(record)
        about = {"msg": "b", "levelno": 20, "ht_user_id": "u", "b": 2}
        logger.handle(logging.makeLogRecord(about))
        assert [event["properties"] for event in sent()] == [{"a": 1}, {"b": 2}]


class TestNothingOfOurs:
    """What stands on a record is the application's, and `ht_` fields of plain types."""

    @pytest.mark.parametrize("way", ["plain", "facade", "client"])
    def test_strict_formatter(self, make, attach, way):
        """A formatter that prints all attributes as JSON can, and sees no others."""
        texts = []

        class Strict(logging.Handler):
            def emit(self, record):
                texts.append(json.dumps(record.__dict__))

        ours, strict = make(), Strict()
        logger = attach("htevents", strict, ours, strict)
        with htlogging.bound(ht_anonymous_id="anon", when=object()):
            if way == "plain":
                logger.info("a", extra={"ht_user_id": "u", "a": 1})
            elif way == "facade":
                htevents.track("u", "a", {"a": 1})
            else:
                client = Client("KEY", host=ours.host)
                client.logger.addHandler(strict)
                client.track("u", "a", {"a": 1})
                client.join()
        assert len(texts) >= 2
        bare = vars(logging.LogRecord("", 0, "", 0, "", (), None))
        for text in texts:
            names = json.loads(text).keys() - bare.keys()
            assert {n for n in names if not n.startswith("ht_")} <= {"a", "taskName"}

    def test_ordinary_records_are_left_alone(self, make, attach):
        """A record that can be no event has nothing of ours."""
        seen = []
        other = logging.Handler()
        other.emit = seen.append
        attach("htevents", make())
        logger = attach("app", other)
        logger.info("ordinary", extra={"a": 1})
        bare = logging.LogRecord("", 0, "", 0, "", (), None)
        assert vars(seen[0]).keys() - vars(bare).keys() == {"a"}


class TestMakingRecords:
    """Records come as the standard library makes them."""

    @pytest.mark.parametrize(
        "extra", [None, {}, {"a": 1, "b": "c"}, {("a", 1): 2}, UserDict(a=1)]
    )
    def test_same_attributes(self, extra):
        """Each attribute is there that `Logger.makeRecord` of its own sets."""
        given = ("app", 20, "f.py", 7, "a %s", (1,), None, "run", extra, "stack")
        logger = logging.getLogger("app")
        ours, its = logger.makeRecord(*given), record_hook.ORIGINAL(logger, *given)
        # Once more: which names `extra` may have is remembered.
        again = logger.makeRecord(*given)
        volatile = {"created", "msecs", "relativeCreated"}
        for made in (ours, again):
            assert vars(made).keys() == vars(its).keys()
            assert {k: v for k, v in vars(made).items() if k not in volatile} == {
                k: v for k, v in vars(its).items() if k not in volatile
            }

    @pytest.mark.parametrize("name", ["message", "asctime", "name", "msg", "args"])
    def test_refused_names(self, name):
        """What `extra` must not have is refused in the same words."""
        given = (
            "app",
            20,
            "f.py",
            7,
            "a",
            (),
            None,
            "run",
            {name: 1, "ht_user_id": "u"},
        )
        with pytest.raises(KeyError) as ours:
            logging.getLogger("app").makeRecord(*given)
        with pytest.raises(KeyError) as its:
            record_hook.ORIGINAL(logging.getLogger("app"), *given)
        assert ours.value.args == its.value.args

    def test_names_that_are_taken_later(self, monkeypatch):
        """What `extra` may have depends on the record: a tool may add a name later."""
        log = logging.getLogger("app")
        given = ("app", 20, "f.py", 7, "a", (), None, "run", {"trace": 1, "b": 2})
        for _ in range(2):
            assert log.makeRecord(*given).trace == 1
        begin = logging.LogRecord.__init__

        def marked(record, *args, **kwargs):
            begin(record, *args, **kwargs)
            record.trace = "mine"

        def factory(*args, **kwargs):
            record = logging.LogRecord(*args, **kwargs)
            record.trace = "mine"
            return record

        def exchanging(*args, **kwargs):
            record = factory(*args, **kwargs)
            del record.processName
            return record

        for each in (factory, exchanging):
            monkeypatch.setattr(logging, "_logRecordFactory", each)
            with pytest.raises(KeyError):
                log.makeRecord(*given)
        monkeypatch.setattr(logging, "_logRecordFactory", logging.LogRecord)
        monkeypatch.setattr(logging.LogRecord, "__init__", marked)
        with pytest.raises(KeyError):
            log.makeRecord(*given)

    def test_names_that_exchanging_factories_leave_free(self, monkeypatch):
        """A name that only a factory's records lack is not remembered as free."""

        def exchanging(*args, **kwargs):
            record = logging.LogRecord(*args, **kwargs)
            record.other = record.__dict__.pop("processName")
            return record

        log = logging.getLogger("app")
        given = ("app", 20, "f.py", 7, "a", (), None, "run", {"processName": "x"})
        monkeypatch.setattr(logging, "_logRecordFactory", exchanging)
        assert log.makeRecord(*given).processName == "x"
        monkeypatch.setattr(logging, "_logRecordFactory", logging.LogRecord)
        with pytest.raises(KeyError):
            log.makeRecord(*given)

    def test_many_names(self):
        """Names without an end are not remembered without an end."""
        log = logging.getLogger("app")
        for n in range(record_hook._MAX_USUAL + 10):
            extra = {f"name_{n}": n, "ht_user_id": "u"}
            record = log.makeRecord("app", 20, "f", 7, "a", (), None, "run", extra)
            assert vars(record)[f"name_{n}"] == n
            assert origin.find(record).explicit
        assert len(record_hook._usual) <= record_hook._MAX_USUAL
        record_hook._usual.clear()

    def test_what_the_standard_library_does(self):
        """Its method uses these names alone: else ours has to be looked at again."""
        assert set(record_hook.ORIGINAL.__code__.co_names) <= {
            *("_logRecordFactory", "__dict__", "KeyError"),
        }
        # And a call of the class makes an object and initializes it: no more.
        assert type(logging.LogRecord) is type
        assert logging.LogRecord.__new__ is object.__new__

    def test_fields_inside_properties(self, make, attach, sent):
        """A field's name among the properties does not hide it in later records."""
        attach("app", make())
        log = logging.getLogger("app.orders")
        log.propagate = True
        for extra in ({"ht_properties": {"ht_event": "x", "ht_name": "y"}}, {}):
            log.info("a", extra={"ht_user_id": "u", **extra})
        log.info("b", extra={"ht_name": "n", "ht_type": "page", "ht_anonymous_id": "v"})
        assert len(sent()) == 3


class TestOnce:
    """One record is one event: one id, and a handler takes it once."""

    def test_handler_on_two_levels(self, make, attach, sent):
        """The same handler here and on a logger above sends once."""
        ours = make()
        attach("shop", ours)
        logger = attach("shop.orders", ours, propagate=True)
        logger.info("a", extra={"ht_user_id": "u"})
        assert len(sent()) == 1
        attach("htevents", ours, ours)
        htevents.track("u", "b")
        assert [event["event"] for event in sent()] == ["a", "b"]
        assert ours.stats["accepted"] == 2

    def test_several_handlers(self, make, attach, sent):
        """A cell that is run three times sends one id."""
        stream = io.StringIO()
        logger = attach("htevents")
        for _ in range(3):
            logger.addHandler(make())
        logger.addHandler(formatted_to(stream, HtEventsFormatter()))
        logger.info("a", extra={"ht_user_id": "u"})
        htevents.track("u", "b")
        written = [json.loads(line) for line in stream.getvalue().splitlines()]
        events = sent()
        assert len(events) == 6
        ids = {(event["event"], event["messageId"]) for event in events}
        assert ids == {(event["event"], event["messageId"]) for event in written}
        assert len(ids) == 2

    def test_dedicated_logger(self, make, attach, sent):
        """Where only bound fields make it an event, too."""
        stream = io.StringIO()
        htlogging.bind(ht_user_id="u")
        logger = attach("shop", formatted_to(stream, HtEventsFormatter()), make())
        logger.info("a")
        logger.info("b")
        ids = [json.loads(line)["messageId"] for line in stream.getvalue().splitlines()]
        assert ids == [event["messageId"] for event in sent()]
        assert len(set(ids)) == 2

    def test_id_that_was_given(self, make, attach, sent):
        """An id of the application's stays, for several records too."""
        logger = attach("htevents", make())
        for name in "ab":
            logger.info(name, extra={"ht_user_id": "u", "ht_message_id": "m"})
        assert [event["messageId"] for event in sent()] == ["m", "m"]


class Keeping(logging.Handler):
    """Keeps the records."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        """Keep it."""
        self.records.append(record)


def queue_copy(record):
    """Pass a record through a `QueueHandler`."""
    return logging.handlers.QueueHandler(queue.Queue()).prepare(record)


def socket_copy(record):
    """Pass a record through a `SocketHandler`."""
    data = logging.handlers.SocketHandler("localhost", 0).makePickle(record)
    return logging.makeLogRecord(pickle.loads(data[4:]))


COPIES = {
    "queue": queue_copy,
    "socket": socket_copy,
    "pickle": lambda record: pickle.loads(pickle.dumps(record)),
    "pickled queue": lambda record: pickle.loads(pickle.dumps(queue_copy(record))),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


class Passing(logging.Handler):
    """Passes copies of records on, as a server for sockets does."""

    def __init__(self, how, target):
        super().__init__()
        self.how, self.target = how, target

    def emit(self, record):
        """Pass it on."""
        self.target.handle(COPIES[self.how](record))


class Text(str):
    """A text of a type of its own."""

    __slots__ = ()


class TestCopies:
    """What comes as a copy is the same event as at home."""

    @pytest.mark.parametrize("how", COPIES)
    @pytest.mark.parametrize("name", ["htevents", "app"])
    @pytest.mark.parametrize("way", ["plain", "dict", "facade"])
    def test_is_the_same_event(self, make, attach, sent, how, name, way):  # noqa: PLR0913, PLR0917
        """Name, extras, bound fields and id, with arguments and a traceback."""
        marking, keeping, ours = logging.StreamHandler(io.StringIO()), Keeping(), make()
        marking.addFilter(Marking())
        logger = attach(name, marking, keeping)
        attach("htevents", marking, keeping, make())
        with htlogging.bound(ht_context={"ip": "::1"}, plan="pro"):
            if way == "facade":
                if name == "app":
                    pytest.skip("the facade has a logger of its own")
                htevents.track("u", "Order completed", {"a": 1})
            elif way == "dict":
                message = {"event": "Order completed", "ht_user_id": "u", "a": 1}
                logger.info(message)
            else:
                # A traceback cannot be pickled.
                error = KeyError() if how in ("queue", "socket") else None
                extra = {"ht_user_id": "u", "a": 1}
                logger.info("Order %s completed", 5, exc_info=error, extra=extra)
        (record,) = keeping.records
        ours.handle(record)
        copied = COPIES[how](record)
        del record
        done = threading.Thread(target=make().handle, args=(copied,))
        done.start()
        done.join()
        sent()
        assert htevents.flush(HANG)
        first, *others = sent()
        assert others
        assert all(event == first for event in others), (first, others)
        assert first["event"] == (
            "Order %s completed" if way == "plain" else "Order completed"
        )
        assert first["properties"] == {"a": 1, "plan": "pro"}
        assert first["context"]["ip"] == "::1"

    def test_queue_listener(self, make, attach, sent):
        """A real one; what is ordinary stays so."""
        htlogging.bind(ht_user_id="u")
        waiting = queue.SimpleQueue()
        listener = logging.handlers.QueueListener(waiting, make())
        logger = attach("htevents", logging.handlers.QueueHandler(waiting))
        app = attach("app", logging.handlers.QueueHandler(waiting))
        listener.start()
        logger.info("Order %s completed", 5, extra={"a": 1})
        app.info("ordinary %s", 5)
        app.info("Order %s paid", 5, extra={"ht_user_id": "v"})
        htevents.default_client = None
        listener.stop()
        assert [(e["event"], e["userId"]) for e in sent()] == [
            ("Order %s completed", "u"),
            ("Order %s paid", "v"),
        ]

    def test_memory_handler(self, make, attach, sent):
        """A record that is kept back has what was bound when it was made."""
        memory = logging.handlers.MemoryHandler(10, target=make())
        logger = attach("htevents", memory)
        with htlogging.bound(ht_user_id="u", plan="pro"):
            logger.info("a")
        memory.flush()
        memory.close()
        (event,) = sent()
        assert (event["userId"], event["properties"]) == ("u", {"plan": "pro"})

    @pytest.mark.parametrize("how", ["queue", "socket", "pickled queue"])
    @pytest.mark.parametrize("message", [["a"], 5, KeyError("a"), None, b"a"])
    def test_object_as_message(self, make, attach, sent, caplog, how, message):  # noqa: PLR0913, PLR0917
        """Its text is no name on the other side, either."""
        ours = make()
        logger = attach("shop", Passing(how, ours))
        logger.info(message, extra={"ht_user_id": "u"})
        assert ours.stats["rejected"] == 1
        assert message is None or f"not {type(message).__name__}" in caplog.text
        logger.info(message, extra={"ht_user_id": "u", "ht_event": "b"})
        assert [event["event"] for event in sent()] == ["b"]

    @pytest.mark.parametrize("how", ["queue", "socket", "pickled queue"])
    def test_text_of_another_type(self, make, attach, sent, how):
        """Its arguments are not in the name, either."""
        logger = attach("shop", Passing(how, make()))
        logger.info(Text("Order %s"), 5, extra={"ht_user_id": "u"})
        assert [event["event"] for event in sent()] == ["Order %s"]

    def test_without_this_package(self, attach):
        """A pickled record can be read where this package is not installed."""
        keeping = Keeping()
        logger = attach("htevents", keeping)
        logger.info("a", extra={"ht_user_id": "u"})
        assert b"htlogging" not in pickle.dumps(keeping.records[0])


class TestMessages:
    def test_dict(self, make, attach, sent):
        """A dict is the event's fields, `event` its name; `extra=` joins."""
        logger = attach("htevents", make())
        logger.info({"event": "a", "ht_user_id": "u", "name": "Ada"}, extra={"b": 2})
        logger.info({"event": "b", "ht_type": "identify", "ht_user_id": "u", "c": 3})
        first, second = sent()
        assert (first["event"], first["properties"]) == ("a", {"name": "Ada", "b": 2})
        assert (second["type"], second["traits"]) == ("identify", {"c": 3})

    def test_names_of_attributes(self, make, attach, sent):
        """Fields of a dict may have any name; a formatter's event is the same."""
        fields = dict.fromkeys((*vars(logging.makeLogRecord({})), "message"), 1)
        stream = io.StringIO()
        logger = attach("htevents", make(), formatted_to(stream, HtEventsFormatter()))
        logger.info({"event": "a", "ht_user_id": "u", **fields})
        (event,) = sent()
        assert event["properties"] == fields
        assert json.loads(stream.getvalue()) == event

    @pytest.mark.parametrize(
        "message", [{"ht_user_id": "u"}, {"ht_user_id": "u", "event": 5}, ["a"], 5]
    )
    def test_no_name(self, make, attach, sent, caplog, message):
        """What has no name is refused, and reported."""
        ours = make()
        logger = attach("htevents", ours)
        logger.info(message, extra={"ht_user_id": "u"})
        assert sent() == []
        assert ours.stats["rejected"] == 1
        assert "ht_event" in caplog.text

    @pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r", "\x0b", "\u2028"])
    def test_line_break(self, make, attach, sent, caplog, line_break):
        """A traceback, say, is no name."""
        ours = make()
        logger = attach("htevents", ours)
        for name in (f"a{line_break}b", f"a{line_break}"):
            logger.info(name, extra={"ht_user_id": "u"})
        with pytest.raises(htlogging.InvalidEvent, match="line break"):
            htevents.track("u", f"a{line_break}b")
        assert sent() == []
        assert ours.stats["rejected"] == 3
        assert "line break" in caplog.text


class TestOtherLoggers:
    def test_loguru(self, make, sent):
        """`logger.add(HtEventsHandler(), format="{message}")` is all it takes."""
        loguru = pytest.importorskip("loguru")
        ours = make()
        sink = loguru.logger.add(ours, format="{message}")
        try:
            loguru.logger.bind(ht_user_id="u", a=1).info("Order completed")
            loguru.logger.info("ordinary")
            try:
                raise KeyError  # noqa: TRY301
            except KeyError:
                loguru.logger.bind(ht_user_id="u").exception("Order failed")
            assert ours.flush(HANG)
        finally:
            loguru.logger.remove(sink)
        first, second = sent()
        assert (first["event"], first["properties"]) == ("Order completed", {"a": 1})
        assert (second["event"], second["properties"]) == ("Order failed", {})

    @pytest.mark.parametrize("last", ["wrap_for_formatter", "render_to_log_kwargs"])
    @pytest.mark.parametrize("name", ["htevents", "app"])
    def test_structlog(self, make, attach, sent, last, name):
        """Either of structlog's own last processors hands the fields over."""
        structlog = pytest.importorskip("structlog")
        final = {
            "wrap_for_formatter": structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            "render_to_log_kwargs": structlog.stdlib.render_to_log_kwargs,
        }[last]
        ours = make()
        attach("app", ours, propagate=False)
        logger = attach(name, ours)
        log = structlog.wrap_logger(
            logger, processors=[final], wrapper_class=structlog.stdlib.BoundLogger
        )
        log.info("Order completed", ht_user_id="u", a=1)
        try:
            raise KeyError  # noqa: TRY301
        except KeyError:
            log.exception("Order failed", ht_user_id="u", stack_info=True)
        first, second = sent()
        assert (first["event"], first["properties"]) == ("Order completed", {"a": 1})
        assert (second["event"], second["properties"]) == ("Order failed", {})


class TestPassedOver:
    """An ordinary record is not swallowed, and what looks like an event is told of."""

    @pytest.mark.parametrize(
        ("message", "extra"),
        [
            ({"event": "a"}, {}),
            ("a", {"data": {"ht_user_id": "u"}}),
            ("a", {"data": OrderedDict(ht_user_id="u")}),
            ("Order ht_user_id='u' total=5", {}),
            ('{"ht_user_id": "u", "event": "Order"}', {}),
            ("Order \x1b[36mht_user_id\x1b[0m=\x1b[35mu\x1b[0m", {}),
        ],
    )
    def test_looks_meant(self, make, attach, sent, caplog, message, extra):  # noqa: PLR0913, PLR0917
        """It is reported, once."""
        attach("app", make(), propagate=True)
        logger = logging.getLogger("app.orders")
        for _ in range(3):
            logger.info(message, extra=extra)
        assert sent() == []
        lines = [r.getMessage() for r in caplog.records if r.name == "htlogging"]
        assert len(lines) == 1
        assert "is no event" in lines[0]
        assert __file__ in lines[0]

    def test_fields_as_arguments(self, make, attach, sent, caplog):
        """What was to be `extra=` is an argument of the message."""
        attach("app", make(), propagate=True)
        logging.getLogger("app.orders").info("Order", {"ht_user_id": "u"})  # noqa: PLE1205
        assert sent() == []
        assert "its ht_ fields are inside 'args'" in caplog.text

    def test_fields_in_the_text_of_an_event(self, make, attach, sent, caplog):
        """With them a name would be another one each time: it is refused."""
        ours = make()
        logger = attach("htevents", ours)
        with htlogging.bound(ht_user_id="u"):
            logger.info('{"ht_user_id": "v", "event": "Order completed"}')
            logger.info("Order ht_user_id")
        assert [event["event"] for event in sent()] == ["Order ht_user_id"]
        assert ours.stats["rejected"] == 1
        assert "structlog must end with" in caplog.text

    @pytest.mark.parametrize(
        "message", ["give ht_user_id", "ht_ =", "ht_mode=1", "x" * 2_000 + "ht_event=1"]
    )
    def test_looks_ordinary(self, make, attach, caplog, message):
        """A text that only names a field, or another name, is one."""
        attach("app", make(), propagate=True)
        logging.getLogger("app.orders").info(message)
        assert [r for r in caplog.records if r.name == "htlogging"] == []

    @pytest.mark.parametrize("renderer", ["ConsoleRenderer", "JSONRenderer"])
    def test_structlog_that_renders(self, make, attach, caplog, renderer):
        """It puts the fields into the text: the line says what to do."""
        structlog = pytest.importorskip("structlog")
        attach("app", make(), propagate=True)
        final = (
            getattr(structlog.dev, renderer, None) or structlog.processors.JSONRenderer
        )
        log = structlog.wrap_logger(
            logging.getLogger("app.orders"),
            processors=[final()],
            wrapper_class=structlog.stdlib.BoundLogger,
        )
        log.info("Order completed", ht_user_id="u", a=1)
        (line,) = [r.getMessage() for r in caplog.records if r.name == "htlogging"]
        assert "ht_user_id is part of its text" in line
        assert "render_to_log_kwargs" in line

    def test_last_resort(self, make, attach, monkeypatch):
        """Where only ours would see it, `logging.lastResort` does, once."""
        last = logging.StreamHandler(io.StringIO())
        last.setLevel(logging.WARNING)
        monkeypatch.setattr(logging, "lastResort", last)
        ours = make()
        attach("app", ours, make(), propagate=False)
        logger = logging.getLogger("app.orders")
        logger.error("shown")
        logger.info("too low")
        logger.error("event", extra={"ht_user_id": "u"})
        assert last.stream.getvalue() == "shown\n"
        other = logging.StreamHandler(io.StringIO())
        logging.getLogger("app").addHandler(other)
        logger.error("not shown")
        assert last.stream.getvalue() == "shown\n"
        assert other.stream.getvalue() == "event\nnot shown\n"[6:]

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="no QueueHandler.listener")
    def test_last_resort_behind_a_queue(self, make, attach, monkeypatch):
        """Where `dictConfig` has put a queue before ours, too."""
        last = logging.StreamHandler(io.StringIO())
        last.setLevel(logging.WARNING)
        monkeypatch.setattr(logging, "lastResort", last)
        before = logging.handlers.QueueHandler(queue.SimpleQueue())
        ours = (make(), make())
        before.listener = logging.handlers.QueueListener(before.queue, *ours)
        attach("app", before)
        before.listener.start()
        logging.getLogger("app.orders").error("shown %s", 1)
        logging.getLogger("app.orders").error("event", extra={"ht_user_id": "u"})
        before.listener.stop()
        assert last.stream.getvalue() == "shown 1\n"


class TestRespected:
    """Whoever watches records sees the facade's."""

    @pytest.mark.parametrize(
        "method", ["filter", "handle", "makeRecord", "callHandlers"]
    )
    @pytest.mark.parametrize("where", ["instance", "class"])
    def test_patched(self, make, attach, sent, monkeypatch, method, where):  # noqa: PLR0913, PLR0917
        """A method that was replaced is called."""
        logger = attach("htevents", make())
        called = []
        target = logging.Logger if where == "class" else logger
        before = getattr(target, method)

        def patched(*args, **kwargs):
            called.append(method)
            return before(*args, **kwargs)

        monkeypatch.setattr(target, method, patched)
        assert htevents.track("u", "a")[0]
        monkeypatch.undo()
        assert called == [method]
        assert len(sent()) == 1

    def test_patched_for_handlers_too(self, make, attach, sent, monkeypatch):
        """A tool may replace what loggers and handlers filter by."""
        logger = attach("htevents", make())
        before, called = logging.Filterer.filter, []

        def patched(self, record):
            called.append(self)
            return before(self, record)

        monkeypatch.setattr(logging.Filterer, "filter", patched)
        htevents.track("u", "a")
        logger.addFilter(lambda record: record.levelno > logging.DEBUG)
        logger.info("b", extra={"ht_user_id": "u"})
        monkeypatch.undo()
        assert called.count(logger) == 2
        assert [event["event"] for event in sent()] == ["a", "b"]

    @pytest.mark.parametrize("name", ["htevents", "app"])
    def test_patched_by_a_descriptor(self, make, attach, sent, monkeypatch, name):
        """As `wrapt` does it: the method is another object each time."""

        class Wrapped:
            def __get__(self, logger, kind=None):
                return lambda *about: before(
                    *about if logger is None else (logger, *about)
                )

        def mark(self, record):
            record.mark = 1
            call_handlers(self, record)

        before, call_handlers = logging.Logger.filter, logging.Logger.callHandlers
        logger = attach(name, make())
        monkeypatch.setattr(logging.Logger, "filter", Wrapped())
        monkeypatch.setattr(logging.Logger, "callHandlers", mark)
        logger.info("a", extra={"ht_user_id": "u"})
        monkeypatch.undo()
        assert [event["properties"] for event in sent()] == [{}]

    def test_logger_class(self, make, attach, sent):
        """So is a class of its own; what it does to a record is not lost."""
        seen = []

        class Own(logging.Logger):
            def handle(self, record):
                seen.append(record.getMessage())
                record.ht_context = {"ip": "::1"}
                super().handle(record)

        logger = attach("htevents", make())
        logger.__class__ = Own
        try:
            assert htevents.track("u", "a")[0]
        finally:
            logger.__class__ = logging.Logger
        assert seen == ["a"]
        (event,) = sent()
        assert event["context"]["ip"] == "::1"


class TestQueuedOnce:
    @pytest.mark.parametrize("further", [False, True])
    def test_error_behind_the_queue(self, make, attach, sent, monkeypatch, further):
        """An exception after the event was queued does not make it again."""
        ours = make()
        handlers = [ours, Keeping()] if further else [ours]
        attach("htevents", *handlers)
        enqueue = HtEventsHandler.enqueue

        def interrupted(self, record):
            enqueue(self, record)
            raise RuntimeError

        monkeypatch.setattr(HtEventsHandler, "enqueue", interrupted)
        with contextlib.suppress(RuntimeError):
            htevents.track("u", "a")
        monkeypatch.undo()
        assert len(sent()) == 1


class TestFormatterThatFails:
    @pytest.mark.parametrize("made", [None, [], 5, {}, "null"])
    def test_is_told(self, make, attach, sent, caplog, made):
        """What is no event is rejected and reported, and never sent."""

        class Broken(HtEventsFormatter):
            def process_log_record(self, log_data):  # noqa: ARG002
                return made

        ours = make()
        ours.setFormatter(Broken())
        logger = attach("htevents", ours)
        logger.info("a", extra={"ht_user_id": "u"})
        assert sent() == []
        assert ours.stats["rejected"] == 1
        assert "Broken.process_log_record returned" in caplog.text
        assert "it must return a dict that is not empty; logged by" in caplog.text
        with pytest.raises(TypeError, match="must return a dict"):
            Broken().format(logging.makeLogRecord({"msg": "a", "ht_user_id": "u"}))

    @pytest.mark.parametrize(
        "option",
        ["json_default", "json_indent", "json_encoder", "json_serializer"],
    )
    def test_option_that_cannot_hold(self, option):
        """An option that says how JSON is written is refused."""
        with pytest.raises(htlogging.InvalidSetting, match=option):
            HtEventsFormatter(**{option: 2 if option == "json_indent" else str})
        HtEventsFormatter(**{option: None})
