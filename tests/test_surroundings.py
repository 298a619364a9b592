"""What applications and other libraries do around us costs no event and no call hangs."""

from __future__ import annotations

import gc
import logging
import logging.config
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from script_runner import HANG, run

from htlogging import HtEventsHandler
from htlogging.collector import Collector
from htlogging.htevents import Client


@pytest.fixture
def script(collector, tmp_path):
    """Return what runs a script and returns its events' names and its stderr."""

    def run_script(text, *arguments, status=0, **environ):
        ended = run(
            tmp_path,
            text,
            *arguments,
            HTEVENTS_HOST=collector.url,
            HTEVENTS_WRITE_KEY="WRITE_KEY",
            **environ,
        )
        assert ended.status == status, ended.err
        return Counter(event["event"] for event in collector.events), ended.err

    return run_script


@pytest.fixture
def client(collector):
    """Return a client of the collector."""
    client = Client("KEY", host=collector.url, upload_interval=0.01, shutdown_timeout=5)
    yield client
    client.join()


@pytest.fixture
def attach(collector):
    """Return what gives a logger of its own a handler; both go after the test."""
    made = []

    def make(name="events", **settings):
        log = logging.getLogger(f"surroundings.{name}")
        log.propagate, log.level = False, logging.INFO
        handler = HtEventsHandler(
            write_key="KEY", host=collector.url, upload_interval=0.01, **settings
        )
        log.addHandler(handler)
        made.append((log, handler))
        return log, handler

    yield make
    for log, handler in made:
        log.removeHandler(handler)
        handler.close()
        log.disabled = False
        log.filters.clear()


def names(count, prefix="e"):
    """Return each name once."""
    return Counter(f"{prefix}{n}" for n in range(count))


def balanced(stats):
    """Check the counters of a handler at rest, and return them."""
    assert stats.queued == 0
    assert stats.accepted == stats.delivered + stats.failed
    return stats


RECONFIGURE = {
    "dictConfig": """
        logging.config.dictConfig({
            "version": 1,
            "handlers": {"root": {"class": "logging.StreamHandler", "stream": sink}},
            "root": {"handlers": ["root"], "level": "DEBUG"},
        })
    """,
    "dictConfig with ours": """
        logging.config.dictConfig({
            "version": 1,
            "handlers": {
                "root": {"class": "logging.StreamHandler", "stream": sink},
                "ours": {"()": "htlogging.HtEventsHandler", "shutdown_timeout": 100},
            },
            "root": {"handlers": ["root"], "level": "DEBUG"},
            "loggers": {"htevents": {"handlers": ["ours"], "level": "INFO"}},
        })
    """,
    "fileConfig": """
        logging.config.fileConfig(io.StringIO(
            "[loggers]\\nkeys=root\\n[handlers]\\nkeys=root\\n[formatters]\\nkeys=\\n"
            "[logger_root]\\nlevel=DEBUG\\nhandlers=root\\n"
            "[handler_root]\\nclass=NullHandler\\nargs=()\\n"
        ))
    """,
    "basicConfig": """
        logging.basicConfig(force=True, level=logging.DEBUG, stream=sink)
    """,
}


# Has the server answer, from now on.
OPEN = """
        import os, urllib.request
        with urllib.request.urlopen(os.environ["HTEVENTS_HOST"]):
            pass
"""


class TestReconfiguration:
    """
    Events are queued, and the application configures logging anew.

    The server answers only after that: who waits for an answer meanwhile hangs.
    """

    @pytest.fixture
    def collector(self):
        """Return a collector that answers POST requests from the first GET on."""
        opened = threading.Event()

        def look(request):
            if request.method == "GET":
                opened.set()

        with Collector(on_request=look) as collector:
            collector.always(lambda _: None if opened.wait(HANG) else 500)
            yield collector
            opened.set()

    @pytest.mark.parametrize("kind", RECONFIGURE)
    @pytest.mark.parametrize("way", ["facade", "client"])
    def test_by_the_application(self, script, kind, way):
        """No call waits, and nothing is lost: not before, not after, not at exit."""
        text = """
            import logging, logging.config, io, sys
            from textwrap import dedent
            from htlogging import htevents
            from htlogging.htevents import Client
            sink = io.StringIO()
            # What urllib3 logs at DEBUG asks for levels not in the cache.
            logging.basicConfig(level=logging.DEBUG, stream=sink)
            htevents.upload_size, htevents.shutdown_timeout = 10, 100
            events = htevents
            if sys.argv[1] == "client":
                events = Client(upload_size=10, shutdown_timeout=100)
            for n in range(100):
                assert events.track("user", f"e{n}")[0]
            for _ in range(3):
                exec(dedent(sys.argv[2]))
            exec(dedent(sys.argv[3]))
            for n in range(100, 200):
                assert events.track("user", f"e{n}")[0]
        """
        arrived, errors = script(text, way, RECONFIGURE[kind].strip("\n"), OPEN)
        assert arrived == names(200)
        assert errors == ""

    def test_plain_logging(self, script):
        """Plain logging goes on by the new configuration, and the old events arrive."""
        text = """
            import logging, logging.config, io, sys
            from textwrap import dedent
            sink = io.StringIO()
            config = {
                "version": 1,
                "handlers": {
                    "root": {"class": "logging.StreamHandler", "stream": sink},
                    "ours": {
                        "()": "htlogging.HtEventsHandler",
                        "upload_size": 10,
                        "shutdown_timeout": 100,
                    },
                },
                "root": {"handlers": ["root"], "level": "DEBUG"},
                "loggers": {"htevents": {"handlers": ["ours"], "level": "INFO"}},
            }
            logging.config.dictConfig(config)
            log = logging.getLogger("htevents")
            old = log.handlers[0]
            for n in range(100):
                log.info(f"e{n}", extra={"ht_user_id": "user"})
            for n in range(3):
                logging.config.dictConfig(config)
            exec(dedent(sys.argv[1]))
            for n in range(100, 200):
                log.info(f"e{n}", extra={"ht_user_id": "user"})
            # A reference that the application kept.
            old.handle(log.makeRecord(
                "htevents", 20, "", 0, "e200", (), None, extra={"ht_user_id": "user"}
            ))
        """
        assert script(text, OPEN) == (names(201), "")


class TestConfigured:
    def test_with_our_handler_on_the_root(self, script):
        """On the root at DEBUG, urllib3's records are no events, before and after."""
        text = """
            import logging, logging.config
            config = {
                "version": 1,
                "handlers": {"ours": {"()": "htlogging.HtEventsHandler"}},
                "root": {"handlers": ["ours"], "level": "DEBUG"},
            }
            for round in range(3):
                logging.config.dictConfig(config)
                for n in range(10 * round, 10 * round + 10):
                    logging.info(f"e{n}", extra={"ht_user_id": "user"})
                    logging.getLogger("app").debug("no event")
                    logging.getLogger("app").warning("no event: %s", n)
        """
        # The ordinary warnings go where they go without us; the second dictConfig
        # disables the logger.
        shown = "".join(f"no event: {n}\n" for n in range(10))
        assert script(text) == (names(30), shown)

    def test_by_another_thread(self, script):
        """Threads that track while one reconfigures lose nothing and do not hang."""
        text = """
            import io, logging, logging.config, threading
            from htlogging import htevents
            htevents.upload_interval = 0.01
            sink = io.StringIO()
            def work(n):
                for k in range(100 * n, 100 * n + 100):
                    assert htevents.track("user", f"e{k}")[0]
            threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                logging.config.dictConfig({
                    "version": 1,
                    "handlers": {"r": {"class": "logging.StreamHandler", "stream": sink}},
                    "root": {"handlers": ["r"], "level": "DEBUG"},
                })
                logging.basicConfig(force=True, level=logging.DEBUG, stream=sink)
        """
        assert script(text) == (names(400), "")


class TestSwitches:
    def test_root_at_debug_with_our_handler(self, script):
        """Our handler on the root at DEBUG, urllib3 and http.client at their noisiest."""
        text = """
            import logging, os, sys
            from htlogging import HtEventsHandler, htevents
            import http.client
            http.client.HTTPConnection.debuglevel = 1
            sys.stdout = open(os.devnull, "w")
            logging.root.setLevel(logging.DEBUG)
            logging.root.addHandler(HtEventsHandler(debug=True))
            logging.getLogger("urllib3").setLevel(logging.DEBUG)
            for n in range(10):
                logging.debug(f"e{n}", extra={"ht_user_id": "user"})
                htevents.track("user", f"e{n + 10}")
                htevents.flush()
        """
        assert script(text)[0] == names(20)

    def test_logging_disabled(self, client, attach):
        """`logging.disable` switches plain logging off, and not the facade."""
        log, handler = attach()
        logging.disable()
        try:
            log.info("off", extra={"ht_user_id": "user"})
            assert client.track("user", "on")[0]
        finally:
            logging.disable(logging.NOTSET)
        assert client.flush(HANG)
        assert handler.flush(HANG)
        assert balanced(client.stats).delivered == 1
        assert handler.stats.accepted == 0

    def test_disabled_logger(self, client, attach):
        """So does a disabled logger, as `disable_existing_loggers` leaves them."""
        log, handler = attach()
        log.disabled = client.logger.disabled = True
        log.info("off", extra={"ht_user_id": "user"})
        assert client.track("user", "on")[0]
        assert client.flush(HANG)
        assert balanced(client.stats).delivered == 1
        assert handler.stats.accepted == 0

    @pytest.mark.parametrize("loud", [True, False])
    def test_raise_exceptions(self, attach, monkeypatch, capsys, caplog, loud):
        """A mistake is a line, whatever `raiseExceptions` says; it loses no other."""
        monkeypatch.setattr(logging, "raiseExceptions", loud)
        log, handler = attach()
        log.info("no id")
        log.info("e0", extra={"ht_user_id": "user"})
        assert handler.flush(HANG)
        stats = balanced(handler.stats)
        assert (stats.rejected, stats.delivered) == (1, 1)
        assert "1 event rejected" in caplog.text
        assert capsys.readouterr().err == ""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
@pytest.mark.usefixtures("apart")
class TestSignals:
    @pytest.mark.parametrize("overflow", ["drop", "block"])
    def test_handler_that_tracks(self, collector, overflow):
        """Whatever call of ours a signal interrupts, its handler may track."""
        busy = Client(
            "KEY",
            host=collector.url,
            max_queue_size=200,
            overflow=overflow,
            upload_size=50,
            upload_interval=0.001,
            timeout=HANG,
        )
        results = []  # appended to: `+= 1` may be interrupted, too

        def on_alarm(*_):
            results.append(busy.track("user", "signal")[0])
            # Again, but not while this one runs: a slow machine would never come out.
            signal.setitimer(signal.ITIMER_REAL, 0.0005)

        before = signal.signal(signal.SIGALRM, on_alarm)
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        try:
            until = time.monotonic() + 1
            while time.monotonic() < until:
                results.append(busy.track("user", "loop")[0])
                busy.stats  # noqa: B018
                if len(results) % 100 == 0:
                    busy.flush(0.01)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert busy.flush(HANG)
        busy.join()
        stats = balanced(busy.stats)
        assert stats.accepted == results.count(True)
        assert stats.dropped == results.count(False)
        assert len(collector.events) == stats.delivered == stats.accepted
        assert any(event["event"] == "signal" for event in collector.events)

    def test_plain_logging_at_exit(self, script):
        """A handler that logs while `logging.shutdown` flushes does not hang it."""
        text = """
            import logging, signal
            from htlogging import HtEventsHandler
            log = logging.getLogger("htevents")
            log.setLevel("INFO")
            log.addHandler(HtEventsHandler(upload_interval=0.001, shutdown_timeout=20))
            def on_alarm(*_):
                log.info("signal", extra={"ht_user_id": "user"})
            signal.signal(signal.SIGALRM, on_alarm)
            for n in range(300):
                log.info(f"e{n}", extra={"ht_user_id": "user"})
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            for n in range(300, 1000):
                log.info(f"e{n}", extra={"ht_user_id": "user"})
            logging.shutdown()
            signal.setitimer(signal.ITIMER_REAL, 0)
        """
        arrived, errors = script(text)
        del arrived["signal"]
        assert (arrived, errors) == (names(1000), "")


class Loud:
    """A value whose `str()` tracks."""

    def __init__(self, say):
        self.say = say

    def __str__(self):
        self.say()
        return "loud"


class TestReentry:
    def test_del_that_tracks(self, client, collector):
        """Objects that track when they are collected, in the middle of our calls."""
        made = []  # by several threads: a list's `append` is one step

        class Trap:
            def __init__(self):
                self.cycle = self

            def __del__(self):
                made.append(client.track("user", "del")[0])

        before = gc.get_threshold()
        gc.set_threshold(20, 2, 2)
        try:
            for n in range(2000):
                Trap()
                assert client.track("user", f"e{n}", {"at": [{}, [n]]})[0]
        finally:
            gc.set_threshold(*before)
            gc.collect()
        assert client.flush(HANG)
        count = made.count(True)
        assert count >= 1
        assert balanced(client.stats).delivered == 2000 + count
        assert len(collector.events) == 2000 + count

    def test_value_that_tracks(self, client, collector):
        """A value's `str()` may track another event; both arrive."""
        value = Loud(lambda: client.track("user", "inner"))
        assert client.track("user", "outer", {"value": value})[0]
        assert client.flush(HANG)
        arrived = Counter(event["event"] for event in collector.events)
        assert arrived["outer"] == 1
        assert arrived["inner"] >= 1
        (outer,) = [e for e in collector.events if e["event"] == "outer"]
        assert outer["properties"] == {"value": "loud"}

    @pytest.mark.skipif(
        hasattr(logging.Logger, "_tls"), reason="CPython 3.13.4, 3.13.5: gh-91555"
    )
    def test_value_that_logs(self, attach, collector):
        """So it may by plain logging."""
        log, handler = attach()
        extra = {"ht_user_id": "user"}
        value = Loud(lambda: log.info("inner", extra=extra))
        log.info("outer", extra={**extra, "value": value})
        assert handler.flush(HANG)
        arrived = {event["event"] for event in collector.events}
        assert arrived == {"outer", "inner"}

    def test_value_that_tracks_itself(self, client, collector):
        """An event whose value tracks that event ends at the recursion limit."""
        value = Loud(lambda: client.track("user", "same", {"value": value}))
        client.track("user", "same", {"value": value})
        assert client.track("user", "after")[0]
        assert client.flush(HANG)
        balanced(client.stats)
        assert collector.events[-1]["event"] == "after"
        assert not collector.problems

    def test_value_that_logs_itself(self, attach, collector):
        """So it does by plain logging, which raises nothing."""
        log, handler = attach()
        extra = {"ht_user_id": "user"}
        value = Loud(lambda: log.info("same", extra={**extra, "value": value}))
        log.info("same", extra={**extra, "value": value})
        log.info("after", extra=extra)
        assert handler.flush(HANG)
        balanced(handler.stats)
        assert collector.events[-1]["event"] == "after"

    @pytest.mark.parametrize("where", ["handler", "logger"])
    def test_filter_that_raises(self, client, collector, caplog, where):
        """A filter that raises costs the event that it saw, and is told of."""

        def fail(record):
            if record.msg == "bad":
                raise LookupError("the filter's")
            return True

        (handler,) = client.logger.handlers
        (handler if where == "handler" else client.logger).addFilter(fail)
        assert client.track("user", "bad")[0] is False
        assert client.track("user", "good")[0]
        assert client.flush(HANG)
        assert [event["event"] for event in collector.events] == ["good"]
        assert client.stats.rejected == 1
        assert "a filter, a formatter or a value raised " in caplog.text

    @pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
    def test_on_error_that_raises(self, collector, error):
        """An `on_error` that raises harms nothing."""

        def on_error(*_):
            raise error

        collector.script(403, 403)
        client = Client(
            "KEY", host=collector.url, on_error=on_error, upload_interval=0.01
        )
        for n in range(3):
            client.track("user", f"e{n}")
            assert client.flush(HANG)
        stats = balanced(client.stats)
        assert (stats.failed, stats.delivered) == (2, 1)
        client.join()

    @pytest.mark.parametrize("act", ["track", "log", "flush", "join", "stats", "fork"])
    def test_on_error_that_uses_us(self, collector, act):
        """An `on_error` may call what it likes; what it tracks is an event."""
        done = []

        def on_error(*_):
            if act == "track":
                done.append(client.track("user", "again")[0])
            elif act == "log":
                client.logger.error("again", extra={"ht_user_id": "user"})
                done.append(True)
            elif act == "flush":
                done.append(client.flush() is False)
            elif act == "join":
                client.join()
                done.append(True)
            elif act == "stats":
                done.append(client.stats.failed == 1)
            else:
                done.append(other.track("user", "other")[0])

        collector.script(403)
        client = Client(
            "KEY", host=collector.url, on_error=on_error, upload_interval=0.01
        )
        other = Client("KEY", host=collector.url)
        client.track("user", "first")
        assert client.flush(HANG)
        client.track("user", "second")
        assert client.flush(HANG)
        assert done == [True]
        client.join()
        other.join()
        more = {"track": ["again"], "log": ["again"], "fork": ["other"]}.get(act, [])
        names = [event["event"] for event in collector.events]
        assert sorted(names) == sorted(["second", *more])
        stats = balanced(client.stats)
        assert (stats.failed, stats.delivered) == (1, 1 + more.count("again"))


# Frames left. In the default run, every sixth of those at which something ends.
LEFT = [
    left if left % 6 == 0 or left > 60 else pytest.param(left, marks=pytest.mark.slow)
    for left in (*range(5, 60), 80, 100, 150, 200)
]


@pytest.mark.usefixtures("apart")
class TestRecursionLimit:
    """Calls with hardly any stack left, as in a runaway recursion of the application."""

    @staticmethod
    def deep(left, call):
        """Call with this many frames left, in a thread: its stack begins anew."""
        said = []

        def down(n):
            if n:
                down(n - 1)
            else:
                call()

        def begin():
            try:
                down(sys.getrecursionlimit() - left)
            except RecursionError as exc:
                said.append(exc)

        # Finalizers of other tests' objects must not run with so little stack.
        gc.disable()
        try:
            thread = threading.Thread(target=begin)
            thread.start()
            thread.join(HANG)
        finally:
            gc.enable()
        assert not thread.is_alive()
        return said

    @pytest.mark.parametrize("left", LEFT)
    def test_facade(self, client, collector, left):
        """The call may raise `RecursionError`; others' events are safe."""
        odd = {"at": Loud(int), "deep": [[[[1]]]]}
        self.deep(left, lambda: client.track("user", "deep", odd))
        assert client.track("user", "after", odd)[0]
        assert client.flush(HANG)
        balanced(client.stats)
        assert collector.events[-1]["event"] == "after"
        assert not collector.problems

    @pytest.mark.parametrize("left", LEFT)
    def test_plain_logging(self, attach, collector, left):
        """It raises where the standard library's own handlers do, and nothing else."""
        log, handler = attach()
        plain = logging.getLogger("surroundings.plain")
        plain.propagate, plain.level = False, logging.INFO
        with open(os.devnull, "w") as sink:
            stream = logging.StreamHandler(sink)
            plain.addHandler(stream)
            extra = {"ht_user_id": "user"}
            raised = self.deep(left, lambda: log.info("deep", extra=extra))
            theirs = self.deep(left, lambda: plain.info("deep", extra=extra))
            plain.removeHandler(stream)
        assert len(raised) <= len(theirs)
        log.info("after", extra=extra)
        assert handler.flush(HANG)
        balanced(handler.stats)
        assert collector.events[-1]["event"] == "after"


@pytest.mark.slow
class TestSentry:
    def test_in_a_process_of_its_own(self):
        """`sentry_cases.py` passes; Sentry's SDK patches its process for good."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        cases = Path(__file__).parent / "sentry_cases.py"
        done = subprocess.run(
            [*command, cases],
            capture_output=True,
            check=False,
            text=True,
            timeout=2 * HANG,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "3 passed" in done.stdout
