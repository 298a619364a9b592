"""Secrets and payloads stay where they belong; hostile values cost bounded effort."""

from __future__ import annotations

import base64
import gc
import io
import json
import logging
import logging.config
import re
import threading
import traceback
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from script_runner import HANG, run

from htlogging import HtEventsHandler, InvalidSetting, htevents
from htlogging._delivery.transport import HttpTransport
from htlogging._settings import Settings
from htlogging.collector import Collector, Reply
from htlogging.exceptions import DeliveryError, EventTooLarge, InvalidEvent
from htlogging.htevents import Client

KEY = "S3CR3T-K3Y"
BASIC = base64.b64encode(f"{KEY}:".encode()).decode()
PASSWORD = "pr0xy-p4ssw0rd"
LOGIN = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
SECRETS = (KEY, BASIC, PASSWORD, LOGIN)
# What the events hold: none of it belongs into a log.
PAYLOAD = ("user-4711", "Payl0ad Seen", "ann@example.com", "pr0perty")
ECHO = json.dumps(
    {"code": " ".join(PAYLOAD), "message": f"{KEY} {BASIC} {' '.join(PAYLOAD)}"}
).encode()


@pytest.fixture
def logged():
    """Return a function for all that is logged, by whomever, at any level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s|%(levelname)s|%(message)s"))
    # The application's own log of its events is its own business.
    handler.addFilter(lambda record: not record.name.startswith("htevents"))
    level = logging.root.level
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.DEBUG)
    yield stream.getvalue
    logging.root.setLevel(level)
    logging.root.removeHandler(handler)


def clean(text, *more):
    """Check that a text holds no secret, nor any of these."""
    assert not [secret for secret in (*SECRETS, *more) if secret in text], text


def with_locals(error):
    """Return an error's traceback as crash reporters write it, our frames alone."""
    ours = error.__traceback__.tb_next
    found = traceback.TracebackException(type(error), error, ours, capture_locals=True)
    return "".join(found.format())


def track(client):
    """Track an event of the payload."""
    user, event, mail, name = PAYLOAD
    return client.track(user, event, {"email": mail, name: mail})


def closed_port():
    """Return a port on which no server listens."""
    with Collector() as collector:
        return int(collector.url.rpartition(":")[2])


FAULTS = {
    "well": Reply(200),
    "echo 200": Reply(200, body=ECHO),
    "echo 400": Reply(400, body=ECHO),
    "echo 401": Reply(401, body=ECHO),
    "echo 503": Reply(503, body=ECHO, retry_after=0),
    "redirect": Reply(302, location=f"http://{KEY}:{PASSWORD}@127.0.0.1:1/{KEY}"),
    "garbage": Reply(500, body=KEY.encode() * 100, retry_after=0),
    "header": Reply(429, headers={"X-Echo": KEY}, retry_after=KEY),
    "reset": Reply(drop="before"),
    "cut": Reply(400, body=ECHO, drop="middle"),
    "closed": Reply(drop="after"),
    "late": Reply(delay=HANG),
    "dripping": Reply(drip=1),
    "endless": Reply(403, endless=True),
    "415": Reply(415, body=ECHO),
    "no status": Reply(999, body=ECHO),
}


class TestLog:
    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("sync_mode", [False, True])
    def test_faults(self, collector, logged, capsys, fault, sync_mode):
        """No line of any library holds a secret, none of ours a payload."""
        collector.always(FAULTS[fault])
        errors = []
        client = Client(
            KEY,
            host=collector.url,
            debug=True,
            sync_mode=sync_mode,
            max_retries=1,
            timeout=0.3,
            upload_interval=0,
            on_error=lambda *args: errors.append(args),
        )
        try:
            track(client)
        except DeliveryError as exc:
            errors.append((exc, []))
            clean(with_locals(exc))
        assert client.flush(HANG)
        client.join()
        text = logged()
        assert re.search(r"htlogging\|DEBUG\|1 event, \d+ bytes: .+ in \d", text)
        clean(text, *PAYLOAD)
        clean(capsys.readouterr().err, *PAYLOAD)
        for error, _ in errors:
            clean(f"{error} {error!r} {error.args} {error.__dict__}")
            assert error.__cause__ is None

    def test_dead_server_and_proxy(self, logged):
        """Nor where there is no server, or no proxy."""
        proxy = f"http://me:{PASSWORD}@127.0.0.1:{closed_port()}"
        for settings in ({}, {"proxies": proxy}, {"proxies": {"all": proxy}}):
            client = Client(
                KEY,
                host=f"http://127.0.0.1:{closed_port()}",
                debug=True,
                max_retries=0,
                **settings,
            )
            track(client)
            assert client.flush(HANG)
            clean(repr(client.logger.handlers[0]))
            client.join()
        assert logged().count("1 event failed") == 3
        clean(logged(), *PAYLOAD)

    def test_rejected_and_dropped(self, collector, logged, capsys):
        """Nor where events are invalid, too large, too many."""
        gate = threading.Event()
        collector.always(lambda _: 200 if gate.wait(HANG) else 500)
        client = Client(KEY, host=collector.url, debug=True, max_queue_size=1)
        for _ in range(3):
            track(client)
        with pytest.raises(InvalidEvent) as caught:
            client.track(None, PAYLOAD[1], {PAYLOAD[3]: PAYLOAD[2]})
        clean(str(caught.value), *PAYLOAD)
        clean(with_locals(caught.value))
        with pytest.raises(EventTooLarge) as caught:
            client.track(PAYLOAD[0], PAYLOAD[1], {PAYLOAD[3]: PAYLOAD[2] * 9999})
        clean(str(caught.value), *PAYLOAD)
        gate.set()
        client.join()
        assert "dropped" in logged()
        clean(logged(), *PAYLOAD)
        assert capsys.readouterr().err == ""

    def test_on_error_that_raises(self, collector, logged):
        """Nor where `on_error` raises with all that it was given."""

        def on_error(exc, events):
            raise RuntimeError(KEY, exc, events)

        collector.always(Reply(400, body=ECHO))
        client = Client(
            KEY, host=collector.url, debug=True, upload_interval=0, on_error=on_error
        )
        track(client)
        client.join()
        assert "on_error raised RuntimeError" in logged()
        clean(logged(), *PAYLOAD)

    def test_without_debug(self, collector, logged):
        """Without `debug`, a request that went well has no line at INFO."""
        client = Client(KEY, host=collector.url)
        track(client)
        client.join()
        ours = [s for s in logged().splitlines() if s.startswith("htlogging|")]
        assert {line.split("|")[1] for line in ours} <= {"DEBUG"}


class TestRepr:
    def test_objects(self, collector):
        """What is printed in a debugger or a crash report holds no secret."""
        proxy = f"http://me:{PASSWORD}@127.0.0.1:3128"
        handler = HtEventsHandler(write_key=KEY, host=collector.url, proxies=proxy)
        client = Client(KEY, host=collector.url, proxies=proxy)
        (own,) = client.logger.handlers
        batch = own.queue.claim_new(b'{"userId":"user-4711"}')
        for thing in (
            handler,
            client,
            client.logger,
            handler.stats,
            handler._settings,
            handler._pipeline.worker,
            handler._pipeline.outcomes,
            handler._pipeline.report,
            handler._pipeline.counters,
            handler.queue,
            batch,
            HttpTransport(handler._settings),
            HttpTransport(handler._settings).session(),
        ):
            clean(f"{thing!r} {thing!s} {thing}", *PAYLOAD)
        clean(repr(vars(handler)) + repr(vars(client)) + repr(vars(handler._pipeline)))
        own.queue.ack(batch)

    @pytest.mark.parametrize(
        "settings",
        [
            {"write_key": f"{KEY} "},
            {"write_key": f"{KEY}\n"},
            {"write_key": KEY.encode()},
            {"write_key": KEY * 200},
            {"write_key": KEY, "host": f"https://{KEY}@example.com"},
            {"write_key": KEY, "host": f"ftp://{PASSWORD}"},
            {"write_key": KEY, "proxies": f"http://me:{PASSWORD}@pr oxy"},
            {"write_key": KEY, "proxies": f"gopher://me:{PASSWORD}@proxy"},
            {"write_key": KEY, "proxies": {"https": f"http://me:{PASSWORD}#@proxy"}},
            {"write_key": KEY, "proxies": {f"me:{PASSWORD}@proxy": "http://x"}},
            {"write_key": KEY, "proxies": {"https": PASSWORD.encode()}},
            {"write_key": KEY, "max_retries": PASSWORD},
            {"write_key": KEY, "overflow": PASSWORD},
        ],
    )
    def test_invalid_settings(self, settings):
        """The error tells what to mend without showing it; so does its traceback."""
        with pytest.raises(InvalidSetting) as caught:
            Settings(settings)
        error = caught.value
        clean(f"{error} {error!r} {error.args}")
        trace = "".join(traceback.format_exception_only(type(error), error))
        clean(trace)
        assert error.__cause__ is None
        assert error.__context__ is None or KEY not in repr(error.__context__)

    @pytest.mark.parametrize("way", ["handler", "client", "facade", "by position"])
    @pytest.mark.parametrize(
        "settings",
        [
            {"timeout": "soon"},
            {"nonsense": 1},
            {"host": "a.example"},
            {"oauth_client_key": PASSWORD},
            {"host": f"redis://:{PASSWORD}@a.example/0?b"},
            {
                "oauth_client_key": PASSWORD,
                "oauth_client_id": "id",
                "oauth_key_id": "kid",
            },
        ],
    )
    def test_locals_of_an_invalid_setting(self, monkeypatch, way, settings):
        """No frame of ours holds a secret, as crash reporters show them."""
        monkeypatch.setattr(htevents, "default_client", None)
        calls = {
            "handler": lambda: HtEventsHandler(write_key=KEY, **settings),
            "client": lambda: Client(KEY, **settings),
            "by position": lambda: HtEventsHandler(KEY, **settings),
            "facade": lambda: htevents.track("user", "e"),
        }
        if way == "facade":
            for name, value in {"write_key": KEY, **settings}.items():
                monkeypatch.setattr(htevents, name, value, raising=False)
        with pytest.raises(InvalidSetting) as caught:
            calls[way]()
        # The first frame is the test's own.
        caught.value.__traceback__ = caught.value.__traceback__.tb_next
        clean(with_locals(caught.value))
        if (context := caught.value.__context__) is not None:
            whole = traceback.TracebackException.from_exception
            clean("".join(whole(context, capture_locals=True).format()))
        monkeypatch.setattr(htevents, "default_client", None)

    def test_half_made(self):
        """What an invalid setting left half made has a repr."""
        for kind in (HtEventsHandler, Client):
            clean(repr(kind.__new__(kind)))

    @pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc here")
    def test_process(self, collector, tmp_path):
        """Neither the command line nor a thread's name holds the key."""
        script = """
            import sys, threading
            from htlogging import htevents
            htevents.track("user", "e0")
            htevents.flush()
            with open("/proc/self/cmdline") as line:
                print(line.read())
            for thread in threading.enumerate():
                print(thread.name, thread)
                with open(f"/proc/self/task/{thread.native_id}/comm") as name:
                    print(name.read())
        """
        ended = run(
            tmp_path, script, HTEVENTS_HOST=collector.url, HTEVENTS_WRITE_KEY=KEY
        )
        assert ended.status == 0, ended.err
        assert "htlogging-0" in ended.out
        clean(ended.out + ended.err)

    def test_uncaught(self, collector, tmp_path):
        """Nor does the traceback of an uncaught error of ours, with its causes."""
        collector.always(Reply(401, body=ECHO))
        script = """
            from htlogging import htevents
            htevents.sync_mode = True
            htevents.track("user-4711", "Payl0ad Seen")
        """
        ended = run(
            tmp_path, script, HTEVENTS_HOST=collector.url, HTEVENTS_WRITE_KEY=KEY
        )
        assert ended.status == 1
        assert "DeliveryError" in ended.err
        assert "During handling" not in ended.err
        clean(ended.err)


def nested(depth):
    """Return a dict so deep."""
    value = {}
    for _ in range(depth):
        value = {"x": value}
    return value


def doubling(times):
    """Return lists that are small in memory and 2**times large written out."""
    value = ["x" * 50]
    for _ in range(times):
        value = [value, value]
    return value


def cyclic(width):
    """Return a dict that holds itself this many times, directly and not."""
    value = {}
    value.update({f"k{n}": [value, {"y": value}] for n in range(width)})
    return value


class Endless:
    """An object whose `str()` is large."""

    def __str__(self):
        return "x" * 1_000_000


class EndlessDict(dict):
    """A dict whose items do not end."""

    def items(self):
        """Go on for ever."""
        n = 0
        while True:
            yield f"k{n}", n
            n += 1


class EndlessList(list):
    """A list whose items do not end."""

    def __iter__(self):
        while True:
            yield 1


class Lazy:
    """An object that makes attributes as they are asked for."""

    def __getattr__(self, name):
        return Lazy()


class TestUnencrypted:
    @pytest.fixture
    def lines(self, monkeypatch, caplog):
        """Return a function for the lines about it."""
        monkeypatch.setattr("htlogging._process.lines._unencrypted", set())
        return lambda: [m for m in caplog.messages if "unencrypted" in m]

    def test_one_line(self, lines):
        """A host on another machine, without TLS, is one line, however many clients."""
        for _ in range(2):
            HtEventsHandler(write_key=KEY, host="HTTP://a.example:8080/x").close()
        (line,) = lines()
        assert "HTTP://a.example:8080/x" in line
        clean(line)

    @pytest.mark.parametrize(
        "settings",
        [
            {"host": "http://localhost:1"},
            {"host": "http://127.0.0.1:1/x"},
            {"host": "http://127.1.2.3"},
            {"host": "http://[::1]:1"},
            {"host": "https://a.example"},
            {"host": "http://a.example", "send": False},
            {},
        ],
    )
    def test_none(self, lines, settings):
        """What stays on this machine, is encrypted or not sent is none."""
        HtEventsHandler(write_key=KEY, **settings).close()
        assert lines() == []

    @pytest.mark.htevents(send=True)
    @pytest.mark.htevents(send=True)
    def test_dict_config(self, lines, caplog):
        """A handler of dictConfig tells when it sends: then logging is configured."""
        logging.config.dictConfig(
            {
                "version": 1,
                "incremental": False,
                "disable_existing_loggers": False,
                "handlers": {
                    "events": {
                        "()": "htlogging.HtEventsHandler",
                        "write_key": KEY,
                        "host": "http://127.0.0.2.a.example",
                        "max_retries": 0,
                        "timeout": 0.1,
                    }
                },
            }
        )
        handler = next(
            found
            for ref in logging._handlerList
            if isinstance(found := ref(), HtEventsHandler)
            and found.host.endswith("a.example")
        )
        assert lines() == []
        logging.root.addHandler(caplog.handler)
        handler.handle(
            logging.makeLogRecord({"msg": "e", "ht_user_id": "u", "levelno": 20})
        )
        handler.flush(HANG)
        handler.close()
        assert len(lines()) == 1


HOSTILE = {
    "deep": lambda: nested(100_000),
    "deep list": lambda: json.loads("[" * 900 + "]" * 900),
    "doubling": lambda: doubling(60),
    "cyclic": lambda: cyclic(100),
    "wide": lambda: dict.fromkeys(map(str, range(300_000)), 1),
    "long": lambda: "x" * 20_000_000,
    "long key": lambda: {"k" * 5_000_000: 1},
    "long bytes": lambda: b"\xff" * 20_000_000,
    "int": lambda: 10**300_000,
    "ints": lambda: [10**4_000] * 1_000,
    "range": lambda: list(range(300_000)),
    "set": lambda: set(range(300_000)),
    "generator": lambda: (n for n in iter(int, 1)),
    "str": Endless,
    "many strs": lambda: [Endless() for _ in range(1_000)],
    "dict subclass": EndlessDict,
    "list subclass": EndlessList,
    "lazy": Lazy,
    "surrogates": lambda: "\ud800" * 3_000_000,
    "control": lambda: "\x00" * 30_000,
    "type": lambda: type,
    "module": lambda: json,
}

# Bytes that a call may take at its peak, for an event of up to 32 KiB: most of it, were
# it 32,768 objects for a byte each. A `str()` makes what it makes: a million here.
MEMORY = 8_000_000


class TestHostileValues:
    @pytest.mark.parametrize("kind", HOSTILE)
    def test_cost(self, collector, kind):
        """A hostile value is sent or refused, at a bounded cost, and loses no other."""
        value = HOSTILE[kind]()
        client = Client(KEY, host=collector.url)
        client.track("user", "before", {"at": [value.__class__]})  # imports are done
        tracemalloc.start()
        try:
            # In a thread: an endless loop must fail this test alone.
            thread = threading.Thread(target=self.take, args=(client, value))
            thread.daemon = True
            thread.start()
            thread.join(HANG)
            assert not thread.is_alive()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < MEMORY
        assert client.track("user", "after")[0]
        assert client.flush(HANG)
        client.join()
        events = [event["event"] for event in collector.events]
        assert (events[0], events[-1]) == ("before", "after")
        assert not collector.problems
        assert client.stats.accepted + client.stats.rejected == 3

    @staticmethod
    def take(client, value):
        """Track one event with the value."""
        with suppress(EventTooLarge):
            client.track("user", "hostile", {"value": value})

    @pytest.mark.slow
    def test_nothing_is_kept(self):
        """Hostile events leave nothing behind, sent or refused."""
        with Collector(keep=1) as collector:
            client = Client(KEY, host=collector.url, max_event_size=2_048)
            client.logger.propagate = False  # pytest keeps records

            def some(count):
                for _ in range(count):
                    client.track("user", "e", {"at": cyclic(1), "x": nested(70)})
                    self.take(client, doubling(15))
                assert client.flush(HANG)
                client.track("user", "small")  # what the collector keeps
                assert client.flush(HANG)
                gc.collect()
                return tracemalloc.get_traced_memory()[0]

            tracemalloc.start()
            try:
                before = some(20)
                after = some(100)
            finally:
                tracemalloc.stop()
            client.join()
        assert after - before < 100_000
