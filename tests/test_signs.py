"""What goes wrong gives a sign at once, by default settings."""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from email.utils import formatdate

import pytest
from script_runner import HANG

from htlogging import HtEventsFormatter, HtEventsHandler, InvalidSetting, htevents
from htlogging._delivery import transport
from htlogging._delivery.transport import HttpTransport
from htlogging._process import loggers
from htlogging._settings import Settings
from htlogging.collector import Reply
from htlogging.htevents import Client


@pytest.fixture
def sign():
    """Return a function that waits for a line of our log that has all these words."""
    lines = []
    come = threading.Condition()

    class Lines(logging.Handler):
        def emit(self, record):
            with come:
                lines.append(record.getMessage())
                come.notify_all()

    def wait(*words):
        def found():
            return [line for line in lines if all(word in line for word in words)]

        with come:
            assert come.wait_for(found, HANG), lines
            (line,) = found()
        assert line.endswith("[htlogging]")
        return line

    handler = Lines(logging.WARNING)
    log = logging.getLogger("htlogging")
    log.addHandler(handler)
    yield wait
    log.removeHandler(handler)


@pytest.fixture
def attach():
    """Return a function that gives a logger handlers, and takes them off again."""
    given = []

    def attach(name, *handlers, level="INFO"):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        for handler in handlers:
            logger.addHandler(handler)
            given.append((logger, handler))
        return logger

    yield attach
    for logger, handler in given:
        logger.removeHandler(handler)
        logger.setLevel("NOTSET")
        handler.close()


class TestAnswers:
    @pytest.mark.parametrize(
        ("status", "question"),
        [
            (401, "is the write key right?"),
            (403, "is the write key right, and of this workspace?"),
            (404, "is the path of host right?"),
            (301, "a redirect is never followed; set host to where it leads"),
            (304, "no answer to a POST; is host right?"),
            (400, "the server finds the event invalid"),
            (405, "the server refuses such requests; is host right?"),
            (407, "a proxy wants a user and a password; set them in proxies"),
            (408, "the server did not get the request in time"),
            (429, "the server gets too many requests"),
            (410, "the server refuses such requests; is host right?"),
        ],
    )
    def test_refused(self, collector, sign, status, question):
        """The line has the status, the host, and what to look at."""
        collector.always(status)
        Client("SECRETKEY", host=collector.url, max_retries=0).track("u", "e")
        line = sign(f"HTTP {status} from {collector.url}: {question}")
        assert "SECRETKEY" not in line

    def test_busy(self, collector, sign):
        """One that is tried again says so, and where."""
        collector.script(503)
        Client("K", host=collector.url).track("u", "e")
        sign("do not get through", collector.url, "HTTP 503")

    def test_given_up_at_once(self, collector, caplog):
        """No line says that one is tried again if it is not."""
        collector.script(503)
        client = Client("K", host=collector.url, max_retries=0)
        client.track("u", "e")
        assert client.flush(HANG)
        assert "1 event failed: HTTP 503" in caplog.text
        assert "again" not in caplog.text

    @pytest.mark.parametrize(
        ("off", "words"),
        [(3_600, "60 minutes behind"), (-3_600, "60 minutes ahead of")],
    )
    def test_clock(self, collector, sign, off, words):
        """A clock that is an hour off is told at the first answer."""
        date = formatdate(time.time() + off, usegmt=True)
        collector.always(Reply(200, headers={"Date": date}))
        Client("K", host=collector.url).track("u", "e")
        sign("the clock of this machine is", words, collector.url)

    def test_clock_that_is_right(self, collector, caplog):
        """A few minutes are none."""
        date = formatdate(time.time() + 120, usegmt=True)
        collector.always(Reply(200, headers={"Date": date}))
        client = Client("K", host=collector.url)
        client.track("u", "e")
        assert client.flush(HANG)
        assert "clock" not in caplog.text


class TestNetwork:
    @pytest.mark.htevents(send=True)
    def test_name_that_is_not_known(self, sign):
        """The wrong region's host: its name is not known, and the line names it."""
        host = "http://eu-moon-9.hightouch-events.invalid"
        client = Client("K", host=host, shutdown_timeout=0)
        client.track("u", "e")
        sign("do not get through", host)
        client.join()

    def test_nobody_listens(self, sign):
        """A port without a listener."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        client = Client("K", host=f"http://127.0.0.1:{port}", shutdown_timeout=0)
        client.track("u", "e")
        sign("do not get through", f"http://127.0.0.1:{port}", "Connection refused")
        client.join()

    @pytest.mark.htevents(send=True)
    def test_nothing_answers(self, sign):
        """A network that swallows packets is told long before a try has failed."""
        with socket.socket() as full, socket.socket() as one, socket.socket() as two:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for waits in (one, two):  # they fill it
                waits.settimeout(0)
                waits.connect_ex(full.getsockname())
            proxy = f"http://127.0.0.1:{full.getsockname()[1]}"
            client = Client(
                "K",
                host="http://away.example",
                proxies=proxy,
                shutdown_timeout=0,
            )
            client.track("u", "e")
            sign("do not get through to http://away.example", "no connection after 1 s")
            client.join()

    def test_proxy(self, collector, sign):
        """A proxy that refuses every request is named as the cause."""
        collector.always(407)
        proxies = {"http": collector.url}
        client = Client(
            "K", host="http://localhost:9", proxies=proxies, shutdown_timeout=0
        )
        client.track("u", "e")
        sign("http://localhost:9", "407")
        client.join()

    @pytest.mark.parametrize(
        ("settings", "hasty"),
        [
            ({"host": "https://a.example"}, True),
            ({"host": "https://a.example", "max_retries": 0}, False),
            ({"host": "https://a.example", "sync_mode": True}, False),
            ({"host": "http://localhost"}, False),
        ],
    )
    def test_swallowed_packets(self, settings, hasty):
        """The first connection gets less time, if a retry follows; others all of it."""
        made = HttpTransport(Settings({"write_key": "K", **settings}))
        first = transport.FIRST_CONNECT if hasty else 15.0
        assert made._limit(15.0) == (first, 15.0)
        assert made._limit(15.0) == (15.0, 15.0)


class TestConfiguration:
    def test_no_key(self, monkeypatch):
        """It is an error at once that says what to set."""
        monkeypatch.delenv("HTEVENTS_WRITE_KEY", raising=False)
        for make in (Client, HtEventsHandler):
            with pytest.raises(InvalidSetting, match="set write_key"):
                make()

    def test_misspelt_field(self, collector, attach, sign):
        """A misspelt `ht_` name beside good ones."""
        log = attach("signs", HtEventsHandler(write_key="K", host=collector.url))
        log.info("e", extra={"ht_user_id": "u", "ht_usr": 1})
        sign("no such field: ht_usr", "'signs' at", __file__)

    def test_misspelt_alone(self, collector, attach, sign):
        """One that leaves the event without a user."""
        log = attach("signs", HtEventsHandler(write_key="K", host=collector.url))
        log.info("e", extra={"ht_userid": "u"})
        sign("1 event rejected", "ht_userid", "'signs' at", __file__)

    def test_two_handlers(self, collector, attach, sign):
        """Handlers on two levels that send the same to the same place."""
        attach("signs", HtEventsHandler(write_key="K", host=collector.url))
        low = HtEventsHandler(write_key="K", host=collector.url, upload_interval=HANG)
        log = attach("signs.shop", low)
        log.info("e", extra={"ht_user_id": "u"})
        sign("'signs.shop' reach two handlers", collector.url)

    def test_two_handlers_one_behind_a_queue(self, collector, attach, sign):
        """So does one that a queue's listener feeds, beside another on the logger."""
        one = HtEventsHandler(write_key="K", host=collector.url)
        two = HtEventsHandler(write_key="K", host=collector.url)
        behind = logging.handlers.QueueHandler(queue.SimpleQueue())
        behind.listener = logging.handlers.QueueListener(behind.queue, one)
        behind.listener.start()
        attach("shop", behind, two).info("e", extra={"ht_user_id": "u"})
        behind.listener.stop()
        sign("'shop'", "two handlers", collector.url)

    def test_two_handlers_of_two_workspaces(self, collector, attach, caplog):
        """Those with keys of their own are meant."""
        handlers = [HtEventsHandler(write_key=k, host=collector.url) for k in "KL"]
        log = attach("signs", *handlers)
        log.info("e", extra={"ht_user_id": "u"})
        assert all(handler.flush(HANG) for handler in handlers)
        assert "two handlers" not in caplog.text

    def test_ignored_setting(self, collector, attach, sign, monkeypatch):
        """A facade's setting beside a handler on its logger."""
        monkeypatch.setattr(htevents, "default_client", None)
        attach("htevents", HtEventsHandler(write_key="K", host=collector.url))
        monkeypatch.setattr(htevents, "upload_size", 7)
        htevents.track("u", "e")
        sign("no effect: htevents.upload_size", collector.url)

    def test_fields_inside_another(self, collector, attach, sign):
        """Fields that a wrapper of logging puts into a dict: no event, but like one."""
        attach("signs", HtEventsHandler(write_key="K", host=collector.url))
        log = attach("signs.shop")
        log.info("Order", extra={"fields": {"ht_user_id": "u"}})
        sign("a record is no event", "inside 'fields'", "'signs.shop' at")

    def test_two_handlers_behind_the_facade(self, collector, attach, sign, monkeypatch):
        """The facade makes a handler beside one that it cannot find behind a queue."""
        monkeypatch.setattr(htevents, "default_client", None)
        monkeypatch.setattr(htevents, "host", collector.url)
        monkeypatch.setattr(htevents, "write_key", "K")
        behind = HtEventsHandler(write_key="K", host=collector.url)
        waiting = queue.SimpleQueue()
        listener = logging.handlers.QueueListener(waiting, behind)
        listener.start()
        attach("htevents", logging.handlers.QueueHandler(waiting))
        htevents.track("u", "e")
        sign("'htevents' reach two handlers", collector.url)
        listener.stop()

    def test_listener_that_does_not_run(self, collector, attach, sign):
        """A handler that a queue's listener should feed gets nothing."""
        handler = HtEventsHandler(write_key="K", host=collector.url)
        waiting = queue.SimpleQueue()
        listener = logging.handlers.QueueListener(waiting, handler)
        log = attach("shop.behind", logging.handlers.QueueHandler(waiting))
        log.info("Order", extra={"ht_user_id": "u"})
        sign("behind a queue whose listener is not started", collector.url)
        listener.start()
        listener.stop()

    def test_look_for_a_listener(self):
        """What other threads make of generators meanwhile is not held."""
        handler = logging.NullHandler()
        listener = logging.handlers.QueueListener(queue.SimpleQueue(), handler)
        found = []

        def numbers():
            yield from range(5)
            found.extend(loggers.idle_listener(handler, listeners=True))
            yield from range(5, 50)

        # CPython: SystemError, if anyone else has the tuple that is being made.
        assert tuple(numbers()) == tuple(range(50))
        assert len(found) == 1
        assert listener.handlers == (handler,)


class TestLoguru:
    def test_sink_without_a_format(self, collector, sign):
        """Its events have whole lines as their names."""
        loguru = pytest.importorskip("loguru")
        handler = HtEventsHandler(write_key="K", host=collector.url)
        sink = loguru.logger.add(handler)
        try:
            loguru.logger.bind(ht_user_id="u").info("Order completed")
            sign("a loguru sink without a format", 'format="{message}"', collector.url)
        finally:
            loguru.logger.remove(sink)

    def test_sink_with_its_format(self, collector, caplog):
        """The message alone is right."""
        loguru = pytest.importorskip("loguru")
        handler = HtEventsHandler(write_key="K", host=collector.url)
        sink = loguru.logger.add(handler, format="{message}")
        try:
            loguru.logger.bind(ht_user_id="u").info("Order completed")
            assert handler.flush(HANG)
        finally:
            loguru.logger.remove(sink)
        assert "loguru" not in caplog.text
        assert [event["event"] for event in collector.events] == ["Order completed"]


class TestWrongLogger:
    """An event on a logger that no handler of ours sees, though there is one."""

    @pytest.fixture
    def log(self, request):
        """Return a logger whose name nothing has seen yet."""
        log = logging.getLogger(f"shop.{request.node.name}")
        log.setLevel("INFO")
        return log

    def test_of_any_name(self, collector, attach, sign, log):
        """It is told at once, with the place, and the logger that is meant."""
        attach("signs", HtEventsHandler(write_key="K", host=collector.url))
        attach("shop", logging.StreamHandler(), logging.NullHandler())
        log.info("Order", extra={"ht_user_id": "u"})
        log.info("Order", extra={"ht_user_id": "u"})
        line = sign("wrong logger?", repr(log.name), __file__, collector.url)
        assert "log on 'signs', which has one" in line

    def test_of_a_dict(self, collector, attach, sign, log):
        """So is a message with fields."""
        attach("signs", HtEventsHandler(write_key="K", host=collector.url))
        log.info({"ht_event": "Order", "ht_user_id": "u"})
        sign("wrong logger?", repr(log.name))

    def test_configured_later(self, collector, attach, sign, log):
        """What came before there was any handler belongs to none."""
        log.info("Order", extra={"ht_user_id": "u"})
        attach("signs", HtEventsHandler(write_key="K", host=collector.url))
        log.info("Order", extra={"ht_user_id": "u"})
        sign("wrong logger?", repr(log.name))

    @pytest.mark.parametrize(
        "handler",
        [
            lambda: logging.handlers.QueueHandler(queue.SimpleQueue()),
            lambda: logging.handlers.MemoryHandler(10),
            lambda: logging.handlers.BufferingHandler(10),
            lambda: HtEventsHandler(send=False),
        ],
        ids=["queue", "memory", "another", "ours"],
    )
    def test_what_may_pass_it_on(self, collector, attach, caplog, log, handler):
        """A handler that may reach ours is no mistake."""
        attach("signs", HtEventsHandler(write_key="K", host=collector.url))
        attach("shop", handler())
        log.info("Order", extra={"ht_user_id": "u"})
        assert "wrong logger" not in caplog.text

    def test_a_formatter_of_ours(self, collector, attach, caplog, log):
        """It prints the event, which a log shipper takes."""
        attach("signs", HtEventsHandler(write_key="K", host=collector.url))
        prints = logging.StreamHandler()
        prints.setFormatter(HtEventsFormatter())
        attach("shop", prints)
        log.info("Order", extra={"ht_user_id": "u"})
        assert "wrong logger" not in caplog.text

    def test_what_is_no_event(self, collector, attach, caplog, log):
        """Ordinary records are on loggers of their own."""
        attach("signs", HtEventsHandler(write_key="K", host=collector.url))
        log.info("Order", extra={"product": 1})
        assert "wrong logger" not in caplog.text


class TestBelowLevel:
    """What a logger drops because of its level: no record is made."""

    @pytest.fixture
    def name(self, request, monkeypatch):
        """Return the name of a logger that nothing has seen yet; the root's level applies."""
        monkeypatch.setattr(logging.root, "level", logging.WARNING)
        name = f"shop.{request.node.name.partition('[')[0]}"
        yield name
        logging.getLogger(name).setLevel("NOTSET")

    def test_handlers_own(self, collector, attach, sign, name):
        """The logger of a handler has no level."""
        handler = HtEventsHandler(write_key="K", host=collector.url)
        attach(name, handler, level="NOTSET").info("Order")
        line = sign("has no level, so WARNING of a logger above it", collector.url)
        assert repr(name) in line

    def test_debug(self, collector, attach, sign, name):
        """It has the level DEBUG, and debugging makes events."""
        handler = HtEventsHandler(write_key="K", host=collector.url)
        log = attach(name, handler, level="DEBUG")
        log.info("Order", extra={"ht_user_id": "u"})
        assert handler.flush(HANG)
        log.debug("noise")
        sign(repr(name), "is at level DEBUG", collector.url)

    @pytest.mark.parametrize("way", ["extra", "log", "dict", "adapter", "positional"])
    def test_of_any_logger(self, collector, attach, sign, name, way):
        """An event on another logger is told with its place."""
        attach("signs", HtEventsHandler(write_key="K", host=collector.url))
        log, fields = logging.getLogger(f"{name}.{way}"), {"ht_user_id": "u"}
        if way == "extra":
            log.info("Order", extra=fields)
        elif way == "log":
            log.log(logging.INFO, "Order", extra=fields)
        elif way == "dict":
            log.info({"ht_event": "Order", **fields})
        elif way == "adapter":
            logging.LoggerAdapter(log, fields).info("Order")
        else:
            log.info("Order %s", 5, extra=fields)
        line = sign("wrong logger?", repr(log.name), f"{__file__}:", collector.url)
        assert "log on 'signs', which has one" in line

    def test_of_a_handler_further_up(self, collector, attach, sign, name):
        """It would be an event, at another level."""
        attach(
            "shop", HtEventsHandler(write_key="K", host=collector.url), level="ERROR"
        )
        logging.getLogger(name).warning("Order", extra={"ht_user_id": "u"})
        line = sign("is dropped", repr(name), f"{__file__}:", collector.url)
        assert "the level ERROR of the logger 'shop' applies" in line

    def test_in_the_text(self, collector, attach, sign, name):
        """What structlog has rendered would be no event at any level."""
        attach("signs", HtEventsHandler(write_key="K", host=collector.url))
        logging.getLogger(name).info('{"ht_user_id": "u", "event": "Order"}')
        sign("a record is no event: ht_user_id is part of its text", repr(name))

    @pytest.mark.parametrize("mean", ["level", "field", "debug", "handler", "ours"])
    def test_nothing_to_tell(self, collector, attach, caplog, name, mean):
        """A level that was set, and what is no event, are no mistake."""
        handler = HtEventsHandler(write_key="K", host=collector.url)
        fields = {} if mean == "field" else {"ht_user_id": "u"}
        if mean != "handler":
            attach("signs", handler)
        log = logging.getLogger("urllib3" if mean == "ours" else name)
        if mean == "level":
            log.setLevel("WARNING")
        log.log(logging.DEBUG if mean == "debug" else logging.INFO, "e", extra=fields)
        if mean == "handler":
            del handler
        else:
            logging.getLogger("signs").info("e", extra={"ht_user_id": "u"})
            assert handler.flush(HANG)
        assert caplog.messages in ([], ["e"])

    def test_from_many_threads(self, collector, attach, sign, name):
        """There is one line, whoever comes first."""
        attach("signs", HtEventsHandler(write_key="K", host=collector.url))
        log = logging.getLogger(name)
        each = [
            threading.Thread(
                target=log.info, args=("e",), kwargs={"extra": {"ht_type": "page"}}
            )
            for _ in range(8)
        ]
        for thread in each:
            thread.start()
        for thread in each:
            thread.join()
        sign("wrong logger?", repr(name))

    def test_without_a_thread(self, collector):
        """It is told at the end of the process, if no thread can be had."""
        script = """
import _thread, logging, htlogging
handler = htlogging.HtEventsHandler()
logging.getLogger("htevents").addHandler(handler)
def refuse(*_): raise RuntimeError("can't start new thread")
_thread.start_new_thread = refuse
logging.getLogger("shop").info("Order", extra={"ht_user_id": "u"})
"""
        (line,) = script_lines(script, collector)
        assert "wrong logger? no HtEventsHandler sees the event of 'shop' at" in line


def script_lines(script, collector, **more):
    """Return what a script writes to stderr."""
    env = {"HTEVENTS_HOST": collector.url, "HTEVENTS_WRITE_KEY": "K"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **env, **more},
        capture_output=True,
        text=True,
        timeout=HANG,
        check=True,
    )
    return done.stderr.splitlines()


class TestLoggers:
    """What no handler sees: told at once, with the next event, or at exit."""

    SCRIPT = """
import logging, logging.handlers, queue, sys
import htlogging
handler = htlogging.HtEventsHandler()
log = logging.getLogger("htevents")
log.addHandler(handler)
"""

    def lines(self, script, collector, **more):
        """Return what a script writes to stderr."""
        return script_lines(self.SCRIPT + script, collector, **more)

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            (
                "log.info('Order', extra={'ht_user_id': 'u'})",
                "the logger 'htevents' has no level, so WARNING",
            ),
            (
                "log.setLevel('DEBUG'); log.debug('noise', extra={'ht_user_id': 'u'})",
                "the logger 'htevents' is at level DEBUG",
            ),
            (
                "logging.getLogger('ht_events').info('e')",
                "the logger 'ht_events' has no HtEventsHandler, and 'htevents' has",
            ),
            (
                "logging.getLogger('ht_events').info('e', extra={'ht_user_id': 'u'})",
                "wrong logger? no HtEventsHandler sees the event of 'ht_events' at",
            ),
        ],
    )
    def test_is_told(self, collector, script, words):
        """One line, with the host, though no event came."""
        (line,) = self.lines(script, collector)
        assert words in line
        assert collector.url in line

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="no QueueHandler.listener")
    def test_listener_that_is_not_started(self, collector):
        """A queue that nothing reads."""
        script = """
q = logging.handlers.QueueHandler(queue.Queue())
q.listener = logging.handlers.QueueListener(q.queue, handler)
log.removeHandler(handler); log.addHandler(q); log.warning("e")
"""
        (line,) = self.lines(script, collector)
        assert "whose listener is not started" in line

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="no QueueHandler.listener")
    def test_listener_that_was_stopped(self, collector):
        """It ran, and the application has stopped it at its end."""
        script = """
q = logging.handlers.QueueHandler(queue.Queue())
q.listener = logging.handlers.QueueListener(q.queue, handler)
log.removeHandler(handler); log.addHandler(q); q.listener.start()
log.warning("e", extra={"ht_user_id": "u"}); q.listener.stop()
"""
        assert self.lines(script, collector) == []

    @pytest.mark.once
    @pytest.mark.parametrize(
        "script",
        [
            "",
            "htlogging.htevents.track('u', 'e')",
            "log.setLevel('WARNING'); log.info('e')",
            "log.setLevel('INFO'); log.debug('e'); log.info('e', extra={'ht_user_id': 1})",
            "logging.getLogger('events').info('e')",
            "logging.getLogger('htevents.x').warning('e', extra={'ht_user_id': 'u'})",
            "log.warning('e', extra={'ht_user_id': 'u'})",
        ],
    )
    def test_nothing_to_tell(self, collector, script):
        """Without a call that was dropped there is no line."""
        assert self.lines(script, collector) == []

    @pytest.mark.once
    def test_an_event_of_another_logger(self, collector):
        """It is told at once; not where nothing is sent."""
        script = """
logging.getLogger('shop').warning('Order', extra={'ht_user_id': 'u'})
handler.close()
print("the end", file=sys.stderr, flush=True)
"""
        line, _, end = self.lines(script, collector)
        assert "wrong logger? no HtEventsHandler sees the event of 'shop'" in line
        assert end == "the end"
        lines = self.lines(script, collector, HTEVENTS_SEND="0")
        assert lines == ["Order", "the end"]
