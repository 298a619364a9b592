"""The handler in `logging.config`: each configuration in a process of its own."""

import json
import subprocess
import sys
import textwrap
import time

import pytest
from script_runner import HANG

# Seconds; the hang guard of a process.

# "class" is refused, or loses its settings (gh-111615, gh-118868).
BROKEN_CLASS = (3, 12) <= sys.version_info < (3, 12, 4)

# What every script begins with: the collector's URL, and how to make a configuration.
BEGIN = """
import logging, logging.config, sys, json
url = sys.argv[1]

def configure(spelling="()", logger="htevents", **settings):
    logging.config.dictConfig({
        "version": 1,
        "handlers": {"ht": {spelling: "htlogging.HtEventsHandler", **settings}},
        "loggers": {logger: {"handlers": ["ht"], "level": "INFO", "propagate": False}},
    })
    return logging.getLogger(logger)

def cause(error):
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"
"""


def run(script, url="", **environment):
    """Run a script, and return its standard output and its standard error."""
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error"),
            # At the interpreter's end urllib3 leaves sockets to it.
            *("-W", "ignore::ResourceWarning"),
            *("-c", BEGIN + textwrap.dedent(script), url),
        ],
        capture_output=True,
        check=False,
        env=environment,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


class TestSpellings:
    def test_parentheses(self, collector):
        """The handler named by "()" delivers, on every version of Python."""
        out, err = run(
            """
            log = configure(write_key="KEY", host=url)
            extra = {"ht_user_id": "user123", "product_id": "123"}
            log.info("Order completed", extra=extra)
            """,
            collector.url,
        )
        assert (out, err) == ("", "")
        (event,) = collector.events
        assert event["event"] == "Order completed"
        assert event["userId"] == "user123"
        assert event["properties"] == {"product_id": "123"}
        assert collector.problems == []

    @pytest.mark.skipif(BROKEN_CLASS, reason="CPython 3.12.0-3.12.3: gh-111615")
    def test_class(self, collector):
        """So does the one named by "class"."""
        out, err = run(
            """
            log = configure("class", write_key="KEY", host=url)
            log.info("Order completed", extra={"ht_user_id": "user123"})
            """,
            collector.url,
        )
        assert (out, err) == ("", "")
        assert [e["userId"] for e in collector.events] == ["user123"]
        assert collector.requests[0].write_key == "KEY"

    @pytest.mark.skipif(not BROKEN_CLASS, reason="mended in 3.12.4")
    def test_class_fails_on_these(self):
        """On 3.12.0-3.12.3 it fails with logging's error, or ours that names "()"."""
        out, _ = run(
            """
            try:
                configure("class", write_key="KEY")
            except ValueError as error:
                print(cause(error))
            """
        )
        assert "No handlers specified for a QueueHandler" in out or '"()"' in out

    @pytest.mark.skipif(sys.version_info < (3, 12, 4), reason="a queue from 3.12.4 on")
    def test_class_gets_a_queue_and_a_listener(self, collector):
        """The queue and the listener that dictConfig adds for "class" do no harm."""
        out, _ = run(
            """
            log = configure("class", write_key="KEY", host=url)
            (handler,) = log.handlers
            print(handler.listener is not None)
            log.info("a", extra={"ht_user_id": "u"})
            print(handler.flush(60), handler.stats["delivered"])
            """,
            collector.url,
        )
        assert out == "True\nTrue 1\n"

    def test_queue_as_a_key(self, collector):
        """A queue in the configuration is ignored: events have ours."""
        run(
            """
            import queue
            log = configure(queue=queue.Queue(), write_key="KEY", host=url)
            log.info("a", extra={"ht_user_id": "u"})
            """,
            collector.url,
        )
        assert len(collector.events) == 1

    def test_with_level_formatter_and_filters(self, collector):
        """The keys that dictConfig has for every handler mean what they always do."""
        run(
            """
            logging.config.dictConfig({
                "version": 1,
                "formatters": {
                    "f": {
                        "()": "htlogging.HtEventsFormatter",
                        "static_fields": {"env": "prod"},
                    }
                },
                "filters": {"only": {"name": "shop.orders"}},
                "handlers": {
                    "ht": {
                        "()": "htlogging.HtEventsHandler",
                        "level": "WARNING",
                        "formatter": "f",
                        "filters": ["only"],
                        "write_key": "KEY",
                        "host": url,
                    }
                },
                "root": {"handlers": ["ht"], "level": "INFO"},
            })
            extra = {"ht_user_id": "u"}
            logging.getLogger("shop.orders").warning("a", extra=extra)
            logging.getLogger("shop.orders").info("below", extra=extra)
            logging.getLogger("shop.other").warning("filtered", extra=extra)
            """,
            collector.url,
        )
        (event,) = collector.events
        assert event["event"] == "a"
        assert event["properties"] == {"env": "prod"}

    def test_file_config(self, collector):
        """An ini file can do it too."""
        run(
            """
            import io
            logging.config.fileConfig(io.StringIO(f'''
            [loggers]
            keys=root
            [handlers]
            keys=ht
            [formatters]
            keys=
            [logger_root]
            level=INFO
            handlers=ht
            [handler_ht]
            class=htlogging.HtEventsHandler
            args=()
            kwargs={{"write_key": "KEY", "host": "{url}"}}
            '''.replace("            ", "")))
            logging.getLogger("shop").info("a", extra={"ht_user_id": "u"})
            """,
            collector.url,
        )
        assert len(collector.events) == 1


# Settings that cannot be, and what is said of them.
INVALID = (
    ({}, "HTEVENTS_WRITE_KEY"),
    ({"write_key": None}, "HTEVENTS_WRITE_KEY"),
    ({"write_key": ""}, "HTEVENTS_WRITE_KEY"),
    ({"write_key": 7}, "write_key must be a str"),
    ({"write_key": "two words"}, "write_key must be"),
    ({"host": "us-east-1.hightouch-events.com"}, "https://"),
    ({"host": "ftp://example.com"}, "https://"),
    ({"host": "https://"}, "host must have a name"),
    ({"host": 7}, "host must be a str"),
    ({"send": "yes"}, "send must be"),
    ({"sync_mode": 1}, "sync_mode must be"),
    ({"debug": "true"}, "debug must be"),
    ({"gzip": 0}, "gzip must be"),
    ({"on_error": "app.lost"}, "ext://"),
    ({"max_queue_size": 0}, "max_queue_size must be"),
    ({"max_queue_size": "10"}, "max_queue_size must be"),
    ({"max_queue_size": 1.5}, "max_queue_size must be"),
    ({"max_queue_size": True}, "max_queue_size must be"),
    ({"upload_size": 0}, "upload_size must be"),
    ({"upload_size": 2501}, "upload_size must be"),
    ({"upload_interval": -1}, "upload_interval must be"),
    ({"timeout": 0}, "timeout must be"),
    ({"timeout": "15"}, "timeout must be"),
    ({"max_retries": -1}, "max_retries must be"),
    ({"proxies": 7}, "proxies must be"),
    ({"proxies": {"https": 7}}, "proxies"),
    ({"thread": 0}, "thread must be"),
    ({"shutdown_timeout": -1}, "shutdown_timeout must be"),
    ({"overflow": "wait"}, "overflow must be"),
    ({"max_event_size": 0}, "max_event_size must be"),
    ({"max_event_size": 10**6}, "max_event_size must be"),
    ({"uploadsize": 7}, "did you mean upload_size"),
    ({"write_kye": "KEY"}, "did you mean write_key"),
    ({"banana": 7}, "unknown setting 'banana'"),
)


@pytest.fixture(scope="module")
def refused():
    """Return what one process prints that tries all that is invalid."""
    each = [
        {"write_key": "SECRETKEY", **settings} if settings else {}
        for settings, _ in INVALID
    ]
    out, _ = run(
        f"""
        for settings in json.loads({json.dumps(each)!r}):
            said = []
            try:
                configure(**settings)
            except ValueError as error:
                said += [str(error), cause(error)]
            handlers = [ref for ref in logging._handlerList if ref() is not None]
            print(json.dumps([*said, len(handlers)]))
        """
    )
    return out.splitlines()


class TestSettings:
    def test_all_of_them(self, collector):
        """Every setting is a key."""
        run(
            """
            import os
            log = configure(
                write_key="KEY", host=url, send=True, sync_mode=False, debug=False,
                on_error="ext://builtins.print", max_queue_size=100, upload_size=10,
                upload_interval=0.1, gzip=False, timeout=5, max_retries=3,
                proxies={"https": "http://127.0.0.1:9"}, thread=2, shutdown_timeout=20,
                overflow="block", max_event_size=1000, spool=None,
            )
            log.info("a", extra={"ht_user_id": "u"})
            """,
            collector.url,
        )
        (request,) = collector.requests
        assert "Content-Encoding" not in request.headers

    def test_from_the_environment(self, collector):
        """Without keys the environment says where to and with which write key."""
        run(
            """
            configure().info("a", extra={"ht_user_id": "u"})
            """,
            HTEVENTS_WRITE_KEY="ENVKEY",
            HTEVENTS_HOST=f"{collector.url}/a/path/",
        )
        (request,) = collector.requests
        assert (request.write_key, request.path) == ("ENVKEY", "/a/path/v1/batch")

    def test_on_error_by_name(self, collector):
        """A function named with ext:// is called with what is given up."""
        collector.script(403)
        out, _ = run(
            """
            def lost(exc, events):
                print(exc.status, [event["event"] for event in events])
            sys.modules["app"] = sys.modules["__main__"]
            log = configure(write_key="KEY", host=url, on_error="ext://app.lost")
            log.info("a", extra={"ht_user_id": "u"})
            """,
            collector.url,
        )
        assert out == "403 ['a']\n"

    def test_losses_are_told(self, collector):
        """What is given up is a line on stderr, though dictConfig disables loggers."""
        collector.script(403)
        _, err = run(
            """
            log = configure(write_key="KEY", host=url)
            log.info("a", extra={"ht_user_id": "u"})
            """,
            collector.url,
        )
        assert "1 event failed" in err

    @pytest.mark.parametrize(
        "number", range(len(INVALID)), ids=lambda number: str(INVALID[number][0])
    )
    def test_invalid(self, refused, number):
        """A setting that cannot be is a ValueError of dictConfig; its cause says why."""
        outer, inner, handlers = json.loads(refused[number])
        assert outer == "Unable to configure handler 'ht'"
        assert inner.startswith("InvalidSetting: ")
        assert INVALID[number][1] in inner
        assert "SECRETKEY" not in inner
        assert handlers == 0


class TestReconfiguration:
    def test_twice(self, collector):
        """A second configuration delivers the events of the first, and its own."""
        run(
            """
            for n in range(3):
                log = configure(write_key=f"KEY{n}", host=url)
                log.info(f"event {n}", extra={"ht_user_id": "u"})
            """,
            collector.url,
        )
        got = [(r.write_key, e["event"]) for r in collector.requests for e in r.events]
        assert sorted(got) == [(f"KEY{n}", f"event {n}") for n in range(3)]

    def test_many_times(self, collector):
        """Handlers that were replaced go away, once their events are sent."""
        out, err = run(
            """
            import gc, time, weakref
            from htlogging import htevents

            made = []
            for n in range(5):
                log = configure(write_key="KEY", host=url, logger="shop")
                made += map(weakref.ref, log.handlers)
                log.info("e", extra={"ht_user_id": "u"})
                htevents.write_key, htevents.host = "KEY", url
                htevents.default_client = None
                htevents.track("u", "e")
                made += map(weakref.ref, logging.getLogger("htevents").handlers)
            end = time.monotonic() + 30
            while sum(one() is not None for one in made) > 2:
                assert time.monotonic() < end, [one() for one in made]
                time.sleep(0.01)
                gc.collect()
            """,
            collector.url,
        )
        assert (out, err) == ("", "")
        assert len(collector.events) == 10

    def test_with_a_slow_server(self, collector, tmp_path):
        """It does not wait for a sender that waits for an answer; nothing is lost."""
        configured = tmp_path / "configured"
        waited = []

        def answer(_request):
            # Nothing is answered before the script is through with it.
            deadline = time.monotonic() + HANG
            while not configured.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            waited.append(configured.exists())

        collector.always(answer)
        run(
            """
            import os, pathlib
            log = configure(write_key="KEY", host=url, upload_interval=0.0,
                            timeout=600, shutdown_timeout=600)
            logging.getLogger("urllib3").setLevel(logging.DEBUG)
            for n in range(250):
                log.info("a", extra={"ht_user_id": "u"})
            configure(write_key="KEY", host=url)
            pathlib.Path(os.environ["CONFIGURED"]).touch()
            log.info("b", extra={"ht_user_id": "u"})
            """,
            collector.url,
            CONFIGURED=str(configured),
        )
        assert all(waited)
        assert sorted(e["event"] for e in collector.events) == ["a"] * 250 + ["b"]

    def test_closed_handler_kept_by_the_application(self, collector):
        """A handler that dictConfig closed opens again, and is flushed at exit."""
        run(
            """
            from htlogging import HtEventsHandler
            handler = HtEventsHandler(write_key="KEY", host=url)
            configure(write_key="OTHER", host=url)
            log = logging.getLogger("htevents.mine")
            log.addHandler(handler)
            log.propagate = False
            log.info("a", extra={"ht_user_id": "u"})
            """,
            collector.url,
        )
        assert [r.write_key for r in collector.requests] == ["KEY"]

    def test_facade_uses_the_configured_handler(self, collector):
        """The facade takes the handler that its logger was given."""
        run(
            """
            from htlogging import htevents
            configure(write_key="KEY", host=url)
            assert htevents.track("u", "a")[0]
            logging.getLogger("htevents").info("b", extra={"ht_user_id": "u"})
            assert len(logging.getLogger("htevents").handlers) == 1
            """,
            collector.url,
        )
        assert [e["event"] for e in collector.events] == ["a", "b"]
        assert len(collector.requests) == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="dictConfig makes no listener")
class TestListeners:
    def test_handler_behind_a_queue(self, collector):
        """The facade uses it and adds none; a client's events are not its own."""
        out, err = run(
            """
            from htlogging import htevents
            from htlogging.htevents import Client

            logging.config.dictConfig({
                "version": 1,
                "handlers": {
                    "ht": {"()": "htlogging.HtEventsHandler", "write_key": "K", "host": url},
                    "queue": {"class": "logging.handlers.QueueHandler", "handlers": ["ht"]},
                },
                "loggers": {"htevents": {"handlers": ["queue"], "level": "INFO"}},
            })
            log = logging.getLogger("htevents")
            (before,) = log.handlers
            before.listener.start()
            log.info("a", extra={"ht_user_id": "u"})
            print(htevents.track("u", "b")[0])
            log.info("c", extra={"ht_user_id": "u"})
            print(Client("OTHER", send=False).track("u", "d")[0])
            before.listener.stop()
            print(log.handlers == [before], htevents.flush(30), htevents.stats.accepted)
            """,
            collector.url,
        )
        assert out.split() == ["True", "True", "True", "True", "3"]
        assert sorted(event["event"] for event in collector.events) == ["a", "b", "c"]
        assert "reach two handlers" not in err
