"""LogRecord → event → JSON, on any handler of the standard library."""

import io
import json
import logging
import subprocess
import sys
import threading
from datetime import date, datetime, timezone

import pytest

import htlogging
from htlogging import EventTooLarge, HtEventsFormatter, HtEventsHandler, InvalidEvent
from htlogging._process import fork


@pytest.fixture
def logger():
    """Return a logger of its own, and take off what the test puts on it."""
    logger = logging.getLogger("formatted")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


@pytest.fixture
def lines(logger):
    """Return a function that gives a formatter to a StreamHandler, and its stream."""

    def start(formatter):
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        logger.addHandler(handler)
        return stream

    return start


def record(msg="Order completed", *args, **extra):
    """Return a record as a logger makes it."""
    made = logging.makeLogRecord({"name": "shop", "msg": msg, "args": args})
    made.__dict__.update({"ht_user_id": "user123", **extra})
    return made


def formatted(*args, formatter=None, **extra):
    """Return the event that the formatter makes of a record."""
    return json.loads((formatter or HtEventsFormatter()).format(record(*args, **extra)))


class TestFormat:
    def test_is_the_event_of_the_wire(self):
        """A record becomes the event that the handler would send, and no more."""
        made = record(
            "Order completed",
            product_id="123",
            ht_message_id="m1",
            ht_timestamp=datetime(2024, 3, 12, 9, 30, 0, 123456, tzinfo=timezone.utc),
        )
        assert json.loads(HtEventsFormatter().format(made)) == {
            "type": "track",
            "event": "Order completed",
            "userId": "user123",
            "anonymousId": None,
            "properties": {"product_id": "123"},
            "context": {
                "library": {"name": "htlogging", "version": htlogging.__version__}
            },
            "integrations": {},
            "timestamp": "2024-03-12T09:30:00.123+00:00",
            "messageId": "m1",
        }

    def test_is_compact(self):
        """No blank stands between the JSON's parts, as the size limit counts."""
        text = HtEventsFormatter().format(record("a", n=1))
        assert '"properties":{"n":1},"context"' in text

    def test_time_is_that_of_the_record(self):
        """Without `ht_timestamp` the event has the time at which it was logged."""
        made = record(created=1710235800.123)
        text = HtEventsFormatter().format(made)
        assert json.loads(text)["timestamp"] == "2024-03-12T09:30:00.123+00:00"

    def test_name_is_the_message_before_its_arguments(self):
        """A name stays the same whatever the arguments are."""
        assert formatted("Order %s completed", 7)["event"] == "Order %s completed"

    def test_what_another_handler_noted_is_no_property(self):
        """`message` and `asctime`, which formatting leaves in a record, stay out."""
        made = record("Order %s completed", 7)
        logging.Formatter("%(asctime)s %(message)s").format(made)
        assert json.loads(HtEventsFormatter().format(made))["properties"] == {}

    def test_bound_fields_join(self):
        """Fields bound to the task are in the event."""
        with htlogging.bound(ht_user_id="bound", plan="pro"):
            event = formatted(ht_user_id=None)
        assert event["userId"] == "bound"
        assert event["properties"] == {"plan": "pro"}

    @pytest.mark.parametrize("name", ["_private", "__very", "items"])
    def test_any_other_extra_joins(self, name):
        """An extra is a property whatever its name, with this formatter or without."""
        assert formatted(**{name: 1})["properties"] == {name: 1}

    def test_values_are_made_valid(self):
        """The line is JSON whatever the values are."""
        event = formatted(bad=float("nan"), when=date(2024, 1, 2), some={1})
        assert event["properties"] == {
            "bad": None,
            "when": "2024-01-02",
            "some": [1],
        }

    def test_invalid_event_is_an_error(self):
        """A record that makes no event raises: the handler's emit reports it."""
        with pytest.raises(InvalidEvent, match="ht_user_id"):
            HtEventsFormatter().format(logging.makeLogRecord({"msg": "a"}))

    @pytest.mark.parametrize("size", [32_768, 1_000])
    def test_size_limit(self, size):
        """An event over `max_event_size` raises, as the handler's does."""
        formatter = HtEventsFormatter(max_event_size=size)
        assert formatted(formatter=formatter, text="x" * (size - 500))
        with pytest.raises(EventTooLarge):
            formatter.format(record(text="x" * size))


class TestStreamHandler:
    def test_one_event_per_line(self, logger, lines):
        """Each event is a line, whatever line breaks its values hold."""
        stream = lines(HtEventsFormatter())
        logger.info("first", extra={"ht_user_id": 1, "text": "a\nb\r\u2028c"})
        logger.info("second", extra={"ht_user_id": 2})
        first, second = stream.getvalue().split("\n")[:-1]
        assert json.loads(first)["properties"] == {"text": "a\nb\r\u2028c"}
        assert json.loads(second)["event"] == "second"

    def test_invalid_record_goes_to_handle_error(self, logger, lines, capsys):
        """A record that makes no event is reported as logging does, and no line."""
        stream = lines(HtEventsFormatter())
        logger.info("nobody")
        logger.info("somebody", extra={"ht_user_id": 1})
        assert json.loads(stream.getvalue())["event"] == "somebody"
        assert "InvalidEvent" in capsys.readouterr().err


class TestJsonLoggerOptions:
    """python-json-logger's options and hooks hold."""

    def test_is_one_of_its_formatters(self):
        """It can be used wherever a python-json-logger formatter can."""
        from pythonjsonlogger.core import BaseJsonFormatter

        assert issubclass(HtEventsFormatter, BaseJsonFormatter)

    def test_static_fields(self):
        """Static fields join every event; `ht_` ones do what they do in a record."""
        formatter = HtEventsFormatter(
            static_fields={"env": "prod", "ht_context": {"app": {"name": "shop"}}}
        )
        event = formatted(formatter=formatter, n=1)
        assert event["properties"] == {"env": "prod", "n": 1}
        assert event["context"]["app"] == {"name": "shop"}
        assert event["context"]["library"]["name"] == "htlogging"

    def test_defaults(self):
        """Defaults hold where the record has nothing by that name."""
        formatter = HtEventsFormatter(defaults={"env": "prod", "plan": "free"})
        event = formatted(formatter=formatter, plan="pro")
        assert event["properties"] == {"env": "prod", "plan": "pro"}

    @pytest.mark.parametrize(
        ("fmt", "style"),
        [
            ("%(levelname)s %(message)s", "%"),
            ("{levelname} {message}", "{"),
            ("${levelname} ${message}", "$"),
        ],
    )
    def test_fmt_names_properties(self, fmt, style):
        """What `fmt` names of a record joins, the message with its arguments in."""
        formatter = HtEventsFormatter(fmt, style=style)
        event = formatted("Order %s", 7, formatter=formatter, levelname="INFO")
        assert event["event"] == "Order %s"
        assert event["properties"] == {"levelname": "INFO", "message": "Order 7"}

    def test_fmt_with_the_time(self):
        """`asctime` is the record's time, by `datefmt`."""
        formatter = HtEventsFormatter("%(asctime)s", "%Y")
        event = formatted(formatter=formatter, created=1710235800.0)
        assert event["properties"] == {"asctime": "2024"}

    def test_fmt_as_a_list(self):
        """A list of names, which python-json-logger 4 takes, does the same."""
        try:
            formatter = HtEventsFormatter(["lineno"])
        except (AttributeError, TypeError, ValueError):
            pytest.skip("this python-json-logger takes no list")
        event = formatted(formatter=formatter, lineno=7)
        assert event["event"] == "Order completed"
        assert event["properties"] == {"lineno": 7}

    def test_rename_fields(self):
        """Extras are renamed; the event's own name and time stay what they are."""
        names = {"plan": "tier", "msg": "m", "created": "c"}
        formatter = HtEventsFormatter(rename_fields=names)
        event = formatted(formatter=formatter, plan="pro", created=1710235800.0)
        assert event["event"] == "Order completed"
        assert event["timestamp"] == "2024-03-12T09:30:00.000+00:00"
        assert event["properties"] == {"tier": "pro"}

    def test_reserved_attrs(self):
        """A reserved name is no property."""
        from pythonjsonlogger.core import RESERVED_ATTRS

        formatter = HtEventsFormatter(reserved_attrs=[*RESERVED_ATTRS, "request"])
        assert formatted(formatter=formatter, request=1, n=2)["properties"] == {"n": 2}

    def test_fewer_reserved_attrs(self):
        """A record's attribute that is not reserved is a property."""
        formatter = HtEventsFormatter(reserved_attrs=["msg", "created"])
        properties = formatted(formatter=formatter, n=2)["properties"]
        assert properties.items() >= {"lineno": 0, "n": 2}.items()

    def test_add_fields(self):
        """A subclass's `add_fields` is given the record's attributes and its extras."""

        class Levelled(HtEventsFormatter):
            def add_fields(self, log_data, record, message_dict):
                super().add_fields(log_data, record, message_dict)
                log_data["names"] = [n for n in ("levelname", "n") if n in vars(record)]

        properties = formatted(formatter=Levelled(), n=2)["properties"]
        assert properties == {"n": 2, "names": ["levelname", "n"]}

    def test_prefix(self):
        """A prefix stands before the JSON."""
        text = HtEventsFormatter(prefix="EVENT ").format(record())
        assert text.startswith('EVENT {"type":')

    def test_process_log_record(self):
        """A subclass changes events in `process_log_record`."""

        class Shouting(HtEventsFormatter):
            def process_log_record(self, log_data):
                event = super().process_log_record(log_data)
                event["properties"]["loud"] = event["event"].upper()
                return event

        event = formatted(formatter=Shouting())
        assert event["properties"] == {"loud": "ORDER COMPLETED"}

    def test_process_log_record_is_given_the_fields(self):
        """Before the parent's it sees the record's fields by their names."""

        class Hashing(HtEventsFormatter):
            def process_log_record(self, log_data):
                log_data.pop("email", None)
                log_data["ht_user_id"] = log_data["ht_user_id"][::-1]
                return super().process_log_record(log_data)

        event = formatted(formatter=Hashing(), email="a@example.com")
        assert event["userId"] == "321resu"
        assert event["properties"] == {}


class Masking(HtEventsFormatter):
    def process_log_record(self, log_data):
        """Take an address out."""
        event = super().process_log_record(log_data)
        event["properties"].pop("email", None)
        return event


class TestOnOurHandler:
    @pytest.fixture
    def handler(self, logger, collector):
        """Return one that sends to the collector, on the logger."""
        handler = HtEventsHandler(write_key="K", host=collector.url)
        logger.addHandler(handler)
        return handler

    def test_is_used(self, logger, handler, collector):
        """The handler makes its events with an `HtEventsFormatter` that it is given."""
        handler.setFormatter(Masking(static_fields={"env": "prod"}))
        logger.info("a", extra={"ht_user_id": "u", "email": "a@example.com"})
        assert handler.flush(30)
        (event,) = collector.events
        assert event["properties"] == {"env": "prod"}

    @pytest.mark.parametrize("method", ["format", "jsonify_log_record"])
    @pytest.mark.parametrize("made", ["null", "[]", "5", "", "{}", "no JSON", None])
    def test_writes_no_event(self, logger, handler, caplog, method, made):
        """What a subclass writes itself is an object, or it is rejected and told."""
        kind = type("Broken", (HtEventsFormatter,), {method: lambda *_: made})
        handler.setFormatter(kind())
        logger.info("a", extra={"ht_user_id": "u"})
        assert handler.stats.rejected == 1
        assert "1 event rejected" in caplog.text

    def test_writes_the_event(self, logger, handler, collector):
        """What a subclass writes is sent."""

        class Writing(HtEventsFormatter):
            def format(self, record):
                return super().format(record).replace("a@example.com", "***")

        handler.setFormatter(Writing())
        logger.info("a", extra={"ht_user_id": "u", "email": "a@example.com"})
        assert handler.flush(30)
        assert collector.events[0]["properties"] == {"email": "***"}

    def test_size_limit_is_the_handlers(self, logger, handler, collector):
        """The handler's `max_event_size` holds, not the formatter's."""
        handler.setFormatter(HtEventsFormatter(max_event_size=300))
        logger.info("a", extra={"ht_user_id": "u", "text": "x" * 1000})
        assert handler.flush(30)
        assert len(collector.events) == 1

    def test_the_same_event_with_and_without(self, logger, handler, collector):
        """A plain `HtEventsFormatter` changes nothing."""
        extra = {"ht_user_id": 7, "ht_properties": {"name": "n"}, "_n": 1, "é": [1]}
        for formatter in (None, HtEventsFormatter()):
            handler.setFormatter(formatter)
            logger.info("Order %s", 7, extra={**extra, "ht_message_id": "m"})
        assert handler.flush(30)
        first, second = collector.events
        del first["timestamp"], second["timestamp"]
        assert first == second

    def test_another_formatter_changes_nothing(self, logger, handler, collector):
        """A formatter for text is not asked: what goes out is an event."""
        handler.setFormatter(logging.Formatter("%(levelname)s %(nothing)s"))
        logger.info("Order %s", 7, extra={"ht_user_id": "u"})
        assert handler.flush(30)
        assert collector.events[0]["event"] == "Order %s"


class TestMaking:
    def test_waits_for_nothing(self):
        """`dictConfig`, with logging's lock, makes one while a thread imports requests."""
        began, over = threading.Event(), threading.Event()

        def hold():
            began.set()
            over.wait(60)

        holding = threading.Thread(target=fork.do_whole, args=(hold,))
        holding.start()
        assert began.wait(60)
        making = threading.Thread(target=HtEventsFormatter)
        making.start()
        making.join(30)
        made = not making.is_alive()
        over.set()
        holding.join()
        making.join()
        assert made


class TestDictConfig:
    def test_by_name(self):
        """`{"()": "htlogging.HtEventsFormatter"}` makes one; options are keywords."""
        script = """
import logging, logging.config
logging.config.dictConfig({
    "version": 1,
    "formatters": {
        "event": {
            "()": "htlogging.HtEventsFormatter",
            "static_fields": {"env": "prod"},
            "max_event_size": 600,
        }
    },
    "handlers": {
        "out": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stdout",
            "formatter": "event",
        }
    },
    "loggers": {"shop": {"handlers": ["out"], "level": "INFO"}},
})
logging.raiseExceptions = False
logging.getLogger("shop").info("a", extra={"ht_user_id": "u"})
logging.getLogger("shop").info("b", extra={"ht_user_id": "u", "text": "x" * 600})
"""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            capture_output=True,
            check=False,
            timeout=60,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        (line,) = done.stdout.splitlines()
        assert json.loads(line)["properties"] == {"env": "prod"}
