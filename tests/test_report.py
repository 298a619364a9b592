"""What the package says of itself, and how seldom."""

import logging
import threading

import pytest

from htlogging._process.lines import log, show_debug
from htlogging._report import MAX_KINDS, QUIET, Report


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self):
        """Return the time."""
        return self.now


@pytest.fixture
def clock():
    """Return the clock of the report."""
    return Clock()


@pytest.fixture
def report(clock):
    """Return a report."""
    return Report(clock, "HOST")


@pytest.fixture
def lines(caplog):
    """Return a function for the lines since it was last called."""

    def take():
        messages = [record.getMessage() for record in caplog.records]
        assert all(message.endswith(" [htlogging]") for message in messages)
        messages = [message.removesuffix(" [htlogging]") for message in messages]
        assert {(r.name, r.levelname, r.exc_info) for r in caplog.records} <= {
            ("htlogging", "WARNING", None)
        }
        caplog.clear()
        return messages

    return take


class TestLost:
    def test_at_once_then_once_a_minute(self, report, clock, lines):
        """The first loss is told at once, those that follow by their count."""
        report.lost("failed", 1, "why")
        assert lines() == ["1 event failed: why"]
        report.lost("failed", 2, "why")
        clock.now += QUIET - 1
        report.lost("failed", 3, "why")
        assert lines() == []
        clock.now += 1
        report.lost("failed", 4, "why else")
        assert lines() == ["9 events failed: why else"]

    def test_kinds_apart(self, report, lines):
        """A line of one kind silences no other."""
        report.lost("failed", 1, "why")
        report.lost("dropped", 2, "full")
        assert lines() == ["1 event failed: why", "2 events dropped: full"]

    def test_remainder(self, report, lines):
        """At the end, what no line has told of is told, once."""
        report.lost("failed", 1, "why")
        report.lost("dropped", 1, "full")
        report.lost("failed", 2, "why")
        report.lost("failed", 1, "why else")
        lines()
        report.report_rest()
        assert lines() == ["3 more events failed: why else"]
        report.report_rest()
        assert lines() == []

    def test_hold(self, report, clock, lines):
        """What is lost while a handler closes is one line, with the last reason."""
        report.defer(clock.now + 2 * QUIET)
        report.lost("failed", 1, "why")
        clock.now += QUIET
        report.lost("failed", 2, "why else")
        assert lines() == []
        report.report_rest()
        assert lines() == ["3 events failed: why else"]
        report.lost("dropped", 1, "full")
        assert lines() == ["1 event dropped: full"]

    def test_hold_ends(self, report, clock, lines):
        """A close that was cut short holds no line back for long."""
        report.defer(clock.now + QUIET)
        report.lost("failed", 1, "why")
        clock.now += QUIET
        report.lost("failed", 2, "why else")
        assert lines() == ["3 events failed: why else"]

    def test_first_ever(self, lines):
        """A clock that begins at 0 makes the first line no later."""
        report = Report(lambda: 0.0)
        report.lost("failed", 1, "why")
        assert lines() == ["1 event failed: why"]


class TestRejected:
    def test_by_kind(self, report, clock, lines):
        """The first of a kind at once, later ones once a minute with their count."""
        for n in range(40):
            report.rejected(f"too large: {n},{n}00 bytes", f"'shop' at a.py:{n}")
        report.rejected("no id", "'shop' at b.py:1")
        assert lines() == [
            "1 event rejected: too large: 0,000 bytes; logged by 'shop' at a.py:0, for HOST",
            "1 event rejected: no id; logged by 'shop' at b.py:1, for HOST",
        ]
        clock.now += QUIET
        report.rejected("too large: 9 bytes", "'shop' at a.py:9")
        assert lines() == [
            "40 events rejected: too large: 9 bytes; logged by 'shop' at a.py:9, for HOST"
        ]

    def test_kinds_are_bounded(self, report, lines):
        """Mistakes without end are not lines without end."""
        for n in range(1_000):
            report.rejected("x" * n, "'shop' at a.py:1")
        assert len(lines()) <= MAX_KINDS + 2

    def test_unknown_field(self, report, clock, lines):
        """A misspelt name is a line once, with the field that is meant if one is."""
        for _ in range(3):
            report.unknown_field("ht_usr_id", "ht_user_id", "'shop' at a.py:1")
            report.unknown_field("ht_q", "", "'shop' at a.py:2")
            clock.now += QUIET
        first, second = lines()
        assert first == (
            "no such field: ht_usr_id; did you mean ht_user_id? It was sent as a "
            "property; logged by 'shop' at a.py:1, for HOST"
        )
        assert second.startswith("no such field: ht_q. It was sent as a property; ")


class TestDelivered:
    def test_first_of_the_process(self, clock, caplog, monkeypatch):
        """The first delivery is a line at INFO: how many, and where to."""
        monkeypatch.setattr("htlogging._process.lines._delivered", 0)
        caplog.set_level(logging.INFO, "htlogging")
        for host in ("https://a", "https://b"):
            Report(clock, host).delivered(3)
        (record,) = caplog.records
        assert record.levelname == "INFO"
        assert record.getMessage() == (
            "3 events delivered to https://a: the first of this process [htlogging]"
        )


class TestSkewed:
    @pytest.mark.parametrize(
        ("seconds", "told"),
        [(3_601.5, "60 minutes ahead of that"), (-600, "10 minutes behind that")],
    )
    def test_once(self, report, lines, seconds, told):
        """A clock that is off is told once, with how much and which way."""
        report.clock_skew(seconds)
        report.clock_skew(seconds)
        (line,) = lines()
        assert line.startswith(f"the clock of this machine is {told} of HOST: ")


class TestOutage:
    def test_begins_and_ends(self, report, clock, lines):
        """An outage is a line when it begins and one when it ends."""
        report.try_failed("HTTP 503")
        report.try_failed("HTTP 500")
        assert lines() == ["events do not get through to HOST (HTTP 503); trying again"]
        clock.now += 90
        report.try_failed("HTTP 500")
        assert lines() == []
        report.answered()
        report.answered()
        assert lines() == ["events get through again to HOST, after 90.0 s"]

    def test_none(self, report, lines):
        """Where all goes well nothing is said."""
        report.answered()
        assert lines() == []

    def test_many_short_ones(self, report, clock, lines):
        """Outages that come and go are told once a minute, not at each request."""
        for _ in range(30):
            report.try_failed("HTTP 429")
            report.answered()
            clock.now += 1
        assert lines() == [
            "events do not get through to HOST (HTTP 429); trying again",
            "events get through again to HOST, after 0.0 s",
        ]

    def test_long_one_after_a_short_one(self, report, clock, lines):
        """An outage that lasts is told, though it began in the quiet minute."""
        report.try_failed("HTTP 429")
        report.answered()
        lines()
        clock.now += 1
        report.try_failed("HTTP 503")
        assert lines() == []
        clock.now += QUIET
        report.try_failed("HTTP 503")
        assert lines() == ["events do not get through to HOST (HTTP 503); trying again"]
        report.answered()
        assert lines() == ["events get through again to HOST, after 60.0 s"]

    def test_while_closing(self, report, lines):
        """Nothing is said to be tried again; the reason is there for the loss's line."""
        report.try_failed("HTTP 503", closing=True)
        assert (lines(), report.outage) == ([], "HTTP 503")
        report.answered()
        assert (lines(), report.outage) == ([], "")


class TestRaised:
    def test_once_a_minute(self, report, clock, lines):
        """An `on_error` that raises is told of by the error's name alone."""
        report.on_error_raised(ValueError("secret"))
        report.on_error_raised(ValueError("secret"))
        assert lines() == ["on_error raised ValueError; it was given events for HOST"]
        clock.now += QUIET
        report.on_error_raised(KeyError("secret"))
        assert lines() == ["on_error raised KeyError; it was given events for HOST"]


class TestHandlers:
    def test_a_line_within_a_handler(self, report, lines, monkeypatch):
        """CPython 3.13.4 and 3.13.5 ignore what handlers log; not these lines."""
        handling = getattr(logging.Logger, "_tls", threading.local())
        monkeypatch.setattr(logging.Logger, "_tls", handling, raising=False)
        monkeypatch.setattr(handling, "in_progress", True, raising=False)
        report.lost("dropped", 1, "full")
        assert lines() == ["1 event dropped: full"]
        assert handling.in_progress

    @pytest.fixture(params=["handler", "filter"])
    def _broken(self, request):
        def fail(_):
            raise OSError

        if request.param == "filter":
            log.addFilter(fail)
            yield
            log.removeFilter(fail)
        else:
            handler = logging.Handler()
            handler.emit = fail
            log.addHandler(handler)
            yield
            log.removeHandler(handler)

    @pytest.mark.usefixtures("_broken")
    def test_that_raise_harm_nothing(self, report):
        """What the application's log handlers raise reaches no caller."""
        report.try_failed("why")
        report.answered()
        report.lost("failed", 1, "why")
        report.lost("failed", 1, "why")
        report.report_rest()
        report.on_error_raised(ValueError())

    def test_that_come_back(self, report, caplog):
        """A log handler whose own record is lost comes back here without hanging."""
        handler = logging.Handler()
        handler.emit = lambda _: report.lost("dropped", 1, "full")
        log.addHandler(handler)
        try:
            report.lost("failed", 1, "why")
        finally:
            log.removeHandler(handler)
        assert "1 event failed: why [htlogging]" in caplog.messages


class TestShowDebug:
    @pytest.fixture(autouse=True)
    def _restore(self):
        before, handlers, propagate = log.level, log.handlers[:], log.propagate
        yield
        log.setLevel(before)
        log.handlers[:] = handlers
        log.propagate = propagate

    def test_with_logging_configured(self):
        """Where there are log handlers, the level alone changes."""
        show_debug()
        assert log.level == logging.DEBUG
        assert log.handlers == []  # pytest's own are on the root logger

    def test_without(self, capsys):
        """Where there are none, lines go to stderr."""
        log.propagate = False
        show_debug()
        show_debug()
        log.debug("a line")
        assert capsys.readouterr().err == "a line\n"
