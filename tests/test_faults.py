"""Faults of servers and networks: every event arrives once, or is told of as lost."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path

import pytest
from script_runner import HANG, run

from htlogging.collector import Collector, Reply
from htlogging.htevents import Client

EVENTS = 100
KEY = "SECRETKEY"
# Requests that those make, and the events of each, by `upload_size`.
BATCHES = 5
SIZE = EVENTS // BATCHES

# Variables by which the machine the tests run on may have proxies of its own.
PROXY_VARIABLES = [
    name
    for lower in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for name in (lower, lower.upper())
]


@pytest.fixture(autouse=True)
def _no_proxies_of_the_machine(monkeypatch):
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def make(collector):
    """Return what makes a client of the collector; all are ended after the test."""
    clients = []

    def make_client(**settings):
        settings = {
            "host": collector.url,
            "upload_size": SIZE,
            "upload_interval": HANG,  # each batch is full
            "shutdown_timeout": 1,
            **settings,
        }
        clients.append(Client(KEY, **settings))
        return clients[-1]

    yield make_client
    for client in clients:
        client.join()


@pytest.fixture
def lost():
    """Return the calls of `on_error`: pairs of an error and a list of events."""
    return []


@pytest.fixture
def lines(caplog):
    """Return a function for the lines of our own log so far, with levels checked."""
    caplog.set_level(logging.INFO)

    def take():
        ours = [
            record
            for record in caplog.records
            if record.name == "htlogging" and "first of this" not in record.msg
        ]
        assert {r.levelno for r in ours} <= {logging.WARNING}
        assert KEY not in caplog.text
        return [record.getMessage() for record in ours]

    return take


def track(client, count=EVENTS):
    """Track this many events, each of its own name."""
    for n in range(count):
        assert client.track("user", f"e{n}")[0]


def names(count=EVENTS):
    """Return the names of those events."""
    return {f"e{n}" for n in range(count)}


def settle(client, *, failed=0, count=EVENTS):
    """Wait for the outcome of all, and check the counters."""
    assert client.flush(HANG)
    stats = client.stats
    assert stats.accepted == count
    assert (stats.delivered, stats.failed) == (count - failed, failed)
    assert (stats.rejected, stats.dropped, stats.queued) == (0, 0, 0)


def arrived_once(collector, expected=None):
    """Check that these events arrived, each once, in good form."""
    got = Counter(event["event"] for event in collector.events)
    assert set(got) == (names() if expected is None else expected)
    assert set(got.values()) <= {1}
    assert not collector.problems


def arrived(collector):
    """Check that all arrived, more than once under the same message id alone."""
    by_id = {}
    for event in collector.events:
        assert by_id.setdefault(event["messageId"], event) == event
    assert sorted(e["event"] for e in by_id.values()) == sorted(names())
    assert not collector.problems


def waiter(lines_of):
    """Return an event that is set by the first line of our log with this text."""
    seen = threading.Event()

    class Watch(logging.Handler):
        def emit(self, record):
            if lines_of in record.getMessage():
                seen.set()

    return seen, Watch()


class TestRetried:
    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
    def test_three_times_then_well(self, make, collector, lines, status):
        """What passes is tried again until it does; two lines tell of it."""
        again = Reply(status, retry_after=0)
        collector.script(again, again, again)
        client = make()
        track(client)
        settle(client)
        assert client.stats.retries == 3
        arrived_once(collector)
        begin, end = lines()
        assert begin.startswith("events do not get through")
        assert f"HTTP {status}" in begin
        assert end.startswith("events get through again")

    def test_backoff_without_retry_after(self, make, collector):
        """Without Retry-After the wait is ours, and ends."""
        collector.script(500, 500, 500)
        client = make()
        track(client)
        settle(client)
        assert client.stats.retries == 3
        arrived_once(collector)

    def test_retry_after_in_seconds(self, make, collector):
        """No request comes before the seconds that the server asked for are over."""
        collector.script(Reply(429, retry_after=1))
        client = make()
        track(client)
        settle(client)
        arrived_once(collector)
        first, second = collector.requests[:2]
        assert second.arrived - first.arrived >= 1.0

    def test_retry_after_as_a_date(self, make, collector):
        """No request comes before the date that the server named."""
        until, seen = int(time.time()) + 2, []

        def refuse(_):
            seen.append(time.time())
            if len(seen) > 1:
                return None
            return Reply(429, retry_after=formatdate(until, usegmt=True))

        collector.always(refuse)
        client = make()
        track(client)
        settle(client)
        arrived_once(collector)
        # Clocks: the wall's tells the date, the monotonic one waits.
        assert seen[1] >= until - 0.05

    def test_to_the_end(self, make, collector, lines, lost):
        """After `max_retries` the events are given up, and none of the next."""
        collector.always(
            lambda r: (
                Reply(503, retry_after=0)
                if names(SIZE) & {event["event"] for event in r.events}
                else 200
            )
        )
        client = make(max_retries=2, on_error=lambda *args: lost.append(args))
        track(client)
        settle(client, failed=SIZE)
        arrived_once(collector, names() - names(SIZE))
        ((error, events),) = lost
        assert (error.status, error.tries) == (503, 3)
        assert {event["event"] for event in events} == names(SIZE)
        assert any(line.startswith(f"{SIZE} events failed: ") for line in lines())


class TestConnection:
    @pytest.mark.parametrize("drop", ["before", "middle", "after"])
    def test_broken(self, make, collector, drop):
        """A connection that breaks costs no event; what came twice has the same id."""
        collector.script(*[Reply(drop=drop), Reply(), Reply(drop=drop)] * 2)
        client = make()
        track(client)
        settle(client)
        arrived(collector)
        if drop != "after":
            # "before": nothing was taken in. "middle": the status had been read.
            arrived_once(collector)
        else:
            assert len(collector.events) == EVENTS + 4 * SIZE

    def test_broken_in_the_head(self, make, collector):
        """A reset before the answer, again and again, is an outage that ends."""
        collector.script(*[Reply(drop="before")] * 3)
        client = make()
        track(client)
        settle(client)
        arrived_once(collector)
        assert client.stats.retries == 3

    def test_stale(self, make, collector, lines):
        """A kept connection that the server closed is no outage: sent again at once."""
        collector.always(Reply(drop="stale"))
        client = make(max_retries=0)
        for n in range(0, EVENTS, SIZE):
            for k in range(n, n + SIZE):
                client.track("user", f"e{k}")
            assert client.flush(HANG)
        settle(client)
        arrived_once(collector)
        assert lines() == []
        assert client.stats.retries <= BATCHES - 1
        assert len({r.connection for r in collector.requests}) == BATCHES

    def test_refused_for_a_while(self, make, lines):
        """Events wait for a server that is not up yet."""
        with Collector() as collector:
            pass
        seen, watch = waiter("do not get through")
        log = logging.getLogger("htlogging")
        log.addHandler(watch)
        try:
            client = make(host=collector.url)
            track(client)
            assert seen.wait(HANG)
        finally:
            log.removeHandler(watch)
        with collector:
            settle(client)
        arrived_once(collector)
        assert client.stats.retries >= 1
        assert "Connection refused" in lines()[0]

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(delay=HANG),  # never an answer
            Reply(drip=1.0),  # a byte of it a second
        ],
        ids=["never", "dripping"],
    )
    def test_no_answer_in_time(self, make, collector, lines, reply):
        """What is not answered within `timeout` is sent again, under the same ids."""
        collector.script(reply, reply)
        client = make(timeout=0.3)
        track(client)
        settle(client)
        arrived(collector)
        assert client.stats.retries == 2
        assert "ReadTimeout" in lines()[0]

    def test_body_without_end(self, make, collector):
        """A 2xx delivers, even if its body has no end."""
        collector.script(Reply(endless=True), Reply(endless=True))
        client = make()
        track(client)
        settle(client)
        arrived_once(collector)
        assert client.stats.retries == 0


class TestRefused:
    @pytest.mark.once
    @pytest.mark.parametrize("most", [1, 3, 16])
    def test_413(self, make, collector, lines, most):
        """A request that is too large is halved until it is not."""
        collector.always(lambda r: 413 if len(r.events) > most else None)
        client = make()
        track(client)
        settle(client)
        arrived_once(collector)
        assert lines() == []

    @pytest.mark.once
    @pytest.mark.parametrize("status", [400, 413])
    def test_poison(self, make, collector, lost, lines, status):
        """One bad event costs itself alone, and `on_error` gets it."""
        poison = {"e0", "e50", "e51", "e99"}
        collector.always(
            lambda r: status if poison & {e["event"] for e in r.events} else None
        )
        client = make(on_error=lambda *args: lost.append(args))
        track(client)
        settle(client, failed=4)
        arrived_once(collector, names() - poison)
        assert [len(events) for _, events in lost] == [1] * 4
        assert {events[0]["event"] for _, events in lost} == poison
        assert {error.status for error, _ in lost} == {status}
        assert lines()[0].startswith("1 event failed: ")

    @pytest.mark.once
    @pytest.mark.parametrize("status", [401, 402, 403, 404, 405, 422, 451])
    def test_given_up(self, make, collector, lost, lines, status):
        """What no try can mend is sent once, and `on_error` gets it in order."""
        collector.always(status)
        client = make(on_error=lambda *args: lost.append(args))
        track(client)
        settle(client, failed=EVENTS)
        assert collector.events == []
        assert len(collector.requests) == BATCHES
        assert [e["event"] for _, events in lost for e in events] == [
            f"e{n}" for n in range(EVENTS)
        ]
        assert {(error.status, error.tries) for error, _ in lost} == {(status, 1)}
        # The rest within the minute is told of at the end.
        (first,) = lines()
        assert first.startswith(
            f"{SIZE} events failed: HTTP {status} from {collector.url}"
        )
        client.join()
        assert [line.partition(": ")[0] for line in lines()[1:]] == [
            f"{EVENTS - SIZE} more events failed"
        ]

    @pytest.mark.once
    @pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
    @pytest.mark.parametrize("where", ["{}/v1/batch", "//{}", "http://[", ""])
    def test_redirect(  # noqa: PLR0913, PLR0917
        self, make, collector, lost, lines, status, where
    ):
        """No redirect is followed: neither events nor key go to another host."""
        with Collector() as other:
            location = where.format(other.url)
            collector.always(Reply(status, location=location))
            client = make(on_error=lambda *args: lost.append(args))
            track(client)
            settle(client, failed=EVENTS)
            assert other.requests == []
        assert len(collector.requests) == BATCHES
        assert {error.status for error, _ in lost} == {status}
        assert len(lines()) == 1

    def test_415_for_gzip(self, make, collector, lines):
        """A server that takes no gzip gets none, from the first refusal on."""
        collector.always(
            lambda r: 415 if r.headers.get("Content-Encoding") == "gzip" else None
        )
        client = make()
        track(client)
        settle(client)
        arrived_once(collector)
        statuses = [request.status for request in collector.requests]
        assert statuses == [415, *[200] * BATCHES]
        assert lines() == []

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(200, body=b"\xff\x00<html>"),
            Reply(200, body=b'{"success":false,"error":"nested ["}'),
            Reply(200, body=b"[" * 60_000),
            Reply(200, body=b""),
            Reply(200, body=b"no gzip", headers={"Content-Encoding": "gzip"}),
            Reply(200, body=b"short", headers={"Content-Length": "500"}, drop="middle"),
            Reply(202),
            Reply(204),
            Reply(299, body=b"x" * 200_000),
        ],
    )
    def test_success_whatever_its_body(self, make, collector, lines, reply):
        """A 2xx delivers; its body says nothing."""
        collector.always(reply)
        client = make()
        track(client)
        settle(client)
        arrived_once(collector)
        assert lines() == []


@pytest.fixture(scope="module")
def authority():
    """Return a certificate authority that no system knows."""
    trustme = pytest.importorskip("trustme")  # cryptography is not built for all
    return trustme.CA()


@pytest.fixture
def bundle(authority, tmp_path):
    """Return the path of its certificate."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
def secure(authority):
    """Return what makes a running collector speak TLS, and returns its address."""

    def make_secure(collector, name="127.0.0.1", *, self_signed=False):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self_signed:
            with (
                authority.cert_pem.tempfile() as cert,
                authority.private_key_pem.tempfile() as key,
            ):
                context.load_cert_chain(cert, key)
        else:
            authority.issue_cert(name).configure_cert(context)
        server = collector._server
        server.socket = context.wrap_socket(server.socket, server_side=True)
        return collector.url.replace("http://", "https://")

    return make_secure


class TestTls:
    def test_bundle_of_the_user(self, make, collector, secure, bundle, monkeypatch):
        """An authority of the user's own is trusted by REQUESTS_CA_BUNDLE."""
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
        client = make(host=secure(collector))
        track(client)
        settle(client)
        arrived_once(collector)

    @pytest.mark.parametrize(
        ("trusted", "name", "self_signed", "reason"),
        [
            (False, "127.0.0.1", True, "self[- ]signed certificate"),
            (False, "127.0.0.1", False, "unable to get local issuer certificate"),
            # urllib3 before 2.0 looks at names itself.
            (True, "10.0.0.1", False, "IP address mismatch|CertificateError"),
        ],
    )
    def test_refused(  # noqa: PLR0913, PLR0917
        self,
        make,
        collector,
        secure,
        bundle,
        monkeypatch,
        lost,
        lines,
        trusted,
        name,
        self_signed,
        reason,
    ):
        """A certificate of an unknown authority is refused, and the line says why."""
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
        if trusted:
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
        client = make(
            host=secure(collector, name, self_signed=self_signed),
            max_retries=0,
            on_error=lambda *args: lost.append(args),
        )
        track(client)
        settle(client, failed=EVENTS)
        assert collector.requests == []
        assert all(re.search(reason, error.message) for error, _ in lost)
        assert any(
            re.search(f"{SIZE} events failed: .*{reason}", said) for said in lines()
        )

    def test_plain_server(self, make, collector, lost):
        """HTTPS to a port that speaks HTTP fails with a reason that names TLS."""
        client = make(
            host=collector.url.replace("http://", "https://"),
            max_retries=0,
            on_error=lambda *args: lost.append(args),
        )
        track(client)
        settle(client, failed=EVENTS)
        assert all("SSL" in error.message for error, _ in lost)

    def test_plain_client(self, make, collector, secure, lost):
        """HTTP to a port that speaks TLS fails, and the key goes nowhere."""
        secure(collector)
        client = make(max_retries=0, on_error=lambda *args: lost.append(args))
        track(client)
        settle(client, failed=EVENTS)
        assert len(lost) == BATCHES
        assert collector.requests == []


PASSWORD = "PROXYPASSWORD"


class Proxy:
    """A forward proxy in a process of its own."""

    def __init__(self, login=""):
        script = Path(__file__).with_name("forward_proxy.py")
        self.process = subprocess.Popen(
            [sys.executable, script, login], stdout=subprocess.PIPE, text=True
        )
        self._lines = None
        self.login = login
        self.port = int(self.process.stdout.readline())

    @property
    def url(self):
        """Return its address, with the login."""
        at = f"{self.login}@" if self.login else ""
        return f"http://{at}127.0.0.1:{self.port}"

    def end(self):
        """End it and return its lines."""
        if self._lines is None:
            self.process.kill()
            self._lines = self.process.communicate(timeout=HANG)[0].splitlines()
        return self._lines


@pytest.fixture
def proxy():
    """Return a proxy that refuses requests without the password."""
    running = Proxy(f"user:{PASSWORD}")
    yield running
    running.end()


def setting(name):
    """Return what tells a client of a proxy by its setting."""

    def tell(_, url):
        return {"proxies": {name: url} if name else url}

    return pytest.param(tell, id=f"setting-{name}")


def variable(name):
    """Return what tells of a proxy by the environment."""

    def tell(monkeypatch, url):
        monkeypatch.setenv(name, url)
        return {}

    return pytest.param(tell, id=name)


class TestProxy:
    @pytest.mark.parametrize(
        "tell",
        [
            setting(None),
            setting("http"),
            setting("all"),
            setting("http://127.0.0.1"),
            variable("HTTP_PROXY"),
            variable("http_proxy"),
            variable("ALL_PROXY"),
        ],
    )
    def test_http(self, make, collector, proxy, monkeypatch, caplog, tell):  # noqa: PLR0913, PLR0917
        """Events go through the proxy of a setting or of the environment."""
        caplog.set_level(logging.DEBUG)
        client = make(debug=True, **tell(monkeypatch, proxy.url))
        track(client)
        settle(client)
        arrived_once(collector)
        assert proxy.end() == [f"POST {collector.url}/v1/batch let in"] * BATCHES
        assert PASSWORD not in caplog.text
        # The proxy's password is the proxy's business alone.
        assert all("Proxy-Authorization" not in r.headers for r in collector.requests)

    @pytest.mark.parametrize(
        "tell",
        [setting(None), setting("https"), variable("HTTPS_PROXY")],
    )
    def test_https(  # noqa: PLR0913, PLR0917
        self, make, collector, secure, bundle, proxy, monkeypatch, caplog, tell
    ):
        """To an HTTPS host the proxy is a tunnel, and sees neither events nor key."""
        caplog.set_level(logging.DEBUG)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
        host = secure(collector)
        client = make(host=host, debug=True, **tell(monkeypatch, proxy.url))
        track(client)
        settle(client)
        arrived_once(collector)
        said = proxy.end()
        assert said == [f"CONNECT {host.removeprefix('https://')} let in"]
        assert PASSWORD not in caplog.text

    @pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
    def test_no_proxy(self, make, collector, monkeypatch, name):
        """Hosts that the environment exempts are reached without the proxy."""
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
        monkeypatch.setenv(name, "example.com,127.0.0.1")
        client = make(max_retries=0)
        track(client)
        settle(client)
        arrived_once(collector)

    def test_no_proxy_as_setting(self, make, collector, monkeypatch):
        """So are hosts that the setting exempts."""
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
        client = make(max_retries=0, proxies={"no_proxy": "127.0.0.1"})
        track(client)
        settle(client)
        arrived_once(collector)

    def test_setting_before_environment(self, make, collector, proxy, monkeypatch):
        """The setting wins over the environment."""
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
        client = make(max_retries=0, proxies=proxy.url)
        track(client)
        settle(client)
        arrived_once(collector)

    @pytest.mark.parametrize("tls", [False, True])
    def test_wrong_password(self, make, collector, proxy, lost, caplog, tls):  # noqa: PLR0913, PLR0917
        """The reason says that the proxy refused; neither password is shown."""
        caplog.set_level(logging.DEBUG)
        client = make(
            host=collector.url.replace("http", "https" if tls else "http"),
            max_retries=0,
            debug=True,
            proxies=proxy.url.replace(PASSWORD, "WRONGPASSWORD"),
            on_error=lambda *args: lost.append(args),
        )
        track(client)
        settle(client, failed=EVENTS)
        assert all("407" in str(error) for error, _ in lost)
        told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        assert re.match(f"{SIZE} events failed: .*407", told[-1])
        assert "PASSWORD" not in caplog.text
        assert "PASSWORD" not in repr([error for error, _ in lost])

    def test_dead_proxy(self, make, lost, caplog):
        """A proxy that is not there is named as the cause, without its password."""
        caplog.set_level(logging.DEBUG)
        client = make(
            max_retries=0,
            debug=True,
            proxies=f"http://user:{PASSWORD}@127.0.0.1:{closed_port()}",
            on_error=lambda *args: lost.append(args),
        )
        track(client)
        settle(client, failed=EVENTS)
        assert {e.message for e, _ in lost} == {"ProxyError: Connection refused"}
        assert PASSWORD not in caplog.text
        assert PASSWORD not in repr([error for error, _ in lost])


def closed_port():
    """Return a port on which no server listens."""
    with Collector() as collector:
        return int(collector.url.rpartition(":")[2])


@pytest.fixture
def gate(collector):
    """Return the event that the collector's answers wait for."""
    opened = threading.Event()
    collector.always(lambda _: None if opened.wait(HANG) else 500)
    yield opened
    opened.set()


class TestOverflow:
    def test_drops_are_told_in_full(self, make, collector, gate, lines):
        """Calls that returned False, the counter, the lines: one number of drops."""
        client = make(max_queue_size=50, upload_size=10)
        queued = [client.track("user", f"e{n}")[0] for n in range(EVENTS)]
        drops = queued.count(False)
        assert drops == client.stats.dropped >= EVENTS - 50
        gate.set()
        client.join()
        assert client.stats.delivered == client.stats.accepted == EVENTS - drops
        arrived_once(collector, {f"e{n}" for n, put in enumerate(queued) if put})
        told = [int(said.split()[0]) for said in lines() if "dropped" in said]
        assert sum(told) == drops
        assert len(told) == 2

    def test_drops_from_many_threads(self, make, collector, gate, lines):
        """So it is when eight threads compete for the last places."""
        client = make(max_queue_size=50, upload_size=10)
        queued = []

        def work(n):
            for k in range(100):
                queued.append(client.track("user", f"e{n}-{k}")[0])  # noqa: PERF401

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG)
        assert client.stats.queued <= 100
        gate.set()
        client.join()
        drops = queued.count(False)
        assert client.stats.dropped == drops
        assert client.stats.delivered == len(collector.events) == 800 - drops
        told = [int(said.split()[0]) for said in lines() if "dropped" in said]
        assert sum(told) == drops

    def test_block_waits(self, make, gate):
        """With `overflow="block"` the caller waits for room; nothing is dropped."""
        client = make(max_queue_size=50, upload_size=10, overflow="block")
        track(client, 50)
        waiting = threading.Thread(target=track, args=(client, EVENTS - 50))
        waiting.start()
        gate.set()
        waiting.join(HANG)
        assert not waiting.is_alive()
        assert client.flush(HANG)
        assert client.stats.dropped == 0
        assert client.stats.delivered == EVENTS

    @pytest.mark.usefixtures("gate")
    def test_block_is_bounded(self, make):
        """The wait ends after `timeout`: then the event is dropped."""
        client = make(max_queue_size=10, upload_size=10, overflow="block", timeout=0.2)
        track(client, 10)
        began = time.monotonic()
        assert client.track("user", "one too many")[0] is False
        assert time.monotonic() - began >= 0.2
        assert client.stats.dropped == 1

    @pytest.mark.usefixtures("gate")
    def test_block_never_in_an_event_loop(self, make):
        """In a coroutine it does not wait: the loop would stand still."""
        client = make(max_queue_size=10, upload_size=10, overflow="block", timeout=HANG)
        track(client, 10)

        async def work():
            return client.track("user", "one too many")[0]

        began = time.monotonic()
        assert asyncio.run(work()) is False
        assert time.monotonic() - began < HANG
        assert client.stats.dropped == 1

    def test_block_never_on_the_sending_thread(self, make, collector):
        """An `on_error` that logs into a full queue does not wait for itself."""
        collector.always(403)
        said = []

        def on_error(_, events):
            lost = [event for event in events if event["event"] != "lost"]
            said.extend(client.track("user", "lost")[0] for _ in lost)

        client = make(
            max_queue_size=10,
            upload_size=10,
            overflow="block",
            timeout=HANG,
            on_error=on_error,
        )
        track(client, 100)
        assert client.flush(HANG)
        until = time.monotonic() + HANG
        while len(said) < 100 or client.stats.queued:
            assert client.flush(HANG)
            assert time.monotonic() < until
        # What did not fit was dropped; none of it was waited for.
        stats = client.stats
        assert stats.accepted == stats.failed
        assert stats.failed == 100 + sum(said)
        assert stats.dropped == 100 - sum(said)


class TestDeadServerAtExit:
    """The process ends in bounded time, with its own status and one line of loss."""

    SCRIPT = """
        import sys
        from htlogging import htevents
        htevents.write_key, htevents.host = "SECRETKEY", sys.argv[1]
        htevents.upload_size = int(sys.argv[3])
        htevents.shutdown_timeout = float(sys.argv[4])
        htevents.max_retries = 10_000  # nothing else ends the process in time
        for n in range(500):
            assert htevents.track("user", f"e{n}")[0]
        tries = int(sys.argv[2])
        while htevents.default_client.stats.retries < tries:
            htevents.flush(0.1)
        sys.exit(7)
    """

    # How often the server has failed before the exit; then the line says how.
    @pytest.mark.parametrize("tries", [0, 1])
    @pytest.mark.parametrize("size", ["20", "500"])
    def test_refused(self, tmp_path, tries, size):
        """No server listens."""
        host = f"http://127.0.0.1:{closed_port()}"
        ended = run(tmp_path, self.SCRIPT, host, str(tries), size, "1")
        assert (ended.status, ended.out) == (7, "")
        *before, last = ended.err.splitlines()
        reason = "Connection refused" if tries else "refused|shutdown_timeout"
        assert re.fullmatch(f"500 events failed: .*({reason}).*", last)
        assert all("do not get through" in line for line in before)
        assert len(before) <= 1

    @pytest.mark.once
    @pytest.mark.parametrize("size", ["20", "100"])
    @pytest.mark.parametrize(
        ("reply", "tries", "reason"),
        [
            (Reply(delay=HANG), 0, "shutdown_timeout|ReadTimeout"),
            (Reply(503), 0, "HTTP 503|shutdown_timeout"),
            (Reply(503), 1, "HTTP 503"),
            (Reply(503, retry_after=300), 0, "HTTP 503|shutdown_timeout"),
            (Reply(drip=5), 0, "shutdown_timeout|ReadTimeout"),
        ],
        ids=["silent", "503", "503 and a retry", "503 for long", "dripping"],
    )
    def test_useless(self, tmp_path, collector, reply, tries, reason, size):  # noqa: PLR0913, PLR0917
        """The server takes requests, but no event."""
        collector.always(reply)
        ended = run(tmp_path, self.SCRIPT, collector.url, str(tries), size, "1")
        assert (ended.status, ended.out) == (7, "")
        *before, last = ended.err.splitlines()
        assert re.fullmatch(f"500 events failed: .*({reason}).*", last)
        assert all("do not get through" in line for line in before)
        assert len(before) <= 1

    def test_many_clients(self, tmp_path, collector):
        """The times of clients with dead servers run side by side, not in a row."""
        collector.always(Reply(delay=HANG))
        script = """
            import sys
            from htlogging.htevents import Client
            clients = [
                Client("SECRETKEY", host=sys.argv[1], shutdown_timeout=2)
                for _ in range(40)
            ]
            for client in clients:
                client.track("user", "e0")
            sys.exit(7)
        """
        # In a row they would take longer than `run` waits.
        ended = run(tmp_path, script, collector.url)
        assert (ended.status, ended.out) == (7, "")
        errors = ended.err.splitlines()
        assert len(errors) == 40
        assert all(line.startswith("1 event failed: ") for line in errors)

    def test_logging_configured(self, tmp_path):
        """The line goes where the application's log goes."""
        script = """
            import logging, sys
            from htlogging import htevents
            logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
            htevents.write_key, htevents.host = "SECRETKEY", sys.argv[1]
            htevents.shutdown_timeout = 3
            htevents.track("user", "e0")
        """
        ended = run(tmp_path, script, f"http://127.0.0.1:{closed_port()}")
        assert (ended.status, ended.err) == (0, "")
        last = ended.out.splitlines()[-1]
        assert re.fullmatch(
            "WARNING htlogging 1 event failed: .*ConnectionError: Connection refused.*",
            last,
        )


class TestPatienceAtTheEnd:
    @pytest.mark.parametrize(
        "reply", [Reply(429, retry_after="60"), Reply(503)], ids=str
    )
    def test_a_spool_does_not_hammer(self, collector, tmp_path, reply):
        """Closed while the server asks for a wait, a spool sends it nothing."""
        collector.always(reply)
        client = Client(
            "KEY",
            host=collector.url,
            spool=tmp_path / "spool",
            upload_interval=0,
            shutdown_timeout=1,
        )
        client.track("user", "e0")
        assert collector.wait_for_requests(1)
        client.shutdown()
        assert len(collector.requests) <= 6  # backoff may be short, by chance
        assert client.stats.queued == 1

    def test_flush_without_threads_does_not_hammer(self, collector, monkeypatch):
        """Nor does a `flush` that sends by itself."""
        collector.always(Reply(429, retry_after="60"))
        client = Client("KEY", host=collector.url)

        start = threading.Thread.start

        def refuse(thread):
            if thread.name == "htlogging-0":
                raise RuntimeError("can't start new thread")
            start(thread)  # the collector's

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            client.track("user", "e0")
            assert not client.flush(2)
            assert len(collector.requests) == 1
        collector.always(None)
        assert client.flush(HANG)
        client.shutdown()

    def test_events_in_hooks_after_a_close(self, tmp_path):
        """Events logged after the close at exit share its time; each has not a timeout."""
        script = """
            import atexit
            def late():
                for n in range(50):
                    client.track("user", "late")
            atexit.register(late)
            from htlogging.htevents import Client
            def on_error(error, events):
                client.track("user", "from on_error")
            client = Client("KEY", host="{}", shutdown_timeout=1, timeout=30,
                            on_error=on_error)
            client.track("user", "e0")
        """
        with socket.create_server(("127.0.0.1", 0)) as silent:
            host = f"http://127.0.0.1:{silent.getsockname()[1]}"
            run(tmp_path, script.replace("{}", host))  # two of them would take too long

    def test_on_error_at_the_end(self, collector):
        """What `on_error` tracks while a handler closes is an event as any after it."""
        collector.always(Reply(503))
        got = []

        def on_error(_error, events):
            if events[0]["event"] == "e0":
                got.append((len(events), client.track("user", "again")[0]))

        client = Client(
            "KEY", host=collector.url, shutdown_timeout=0.2, on_error=on_error
        )
        client.track("user", "e0")
        client.shutdown()
        assert got == [(1, True)]
        # Given up with the rest, or sent by the handler that opened again.
        collector.always(None)
        assert client.flush(HANG)
        stats = client.stats
        assert stats.accepted == 2
        assert stats.failed >= 1
        assert stats.delivered + stats.failed == 2

    def test_other_threads_at_the_end(self):
        """What other threads track while the rest is given up opens the handler again."""
        got = []

        def on_error(_error, _events):
            if not got:  # the handler is closed once more below
                thread = threading.Thread(
                    target=lambda: got.append(client.track("user", "again")[0])
                )
                thread.start()
                thread.join()

        with socket.create_server(("127.0.0.1", 0)) as silent:
            host = f"http://127.0.0.1:{silent.getsockname()[1]}"
            client = Client("KEY", host=host, shutdown_timeout=0.2, on_error=on_error)
            client.track("user", "e0")
            client.shutdown()
            assert got == [True]
            stats = client.stats
            assert (stats.accepted, stats.failed, stats.queued) == (2, 1, 1)
            client.shutdown()
            assert client.stats.failed == 2


class TestOnError:
    def test_may_close_its_client(self, collector):
        """The good events behind are delivered all the same."""
        collector.always(
            lambda request: 400 if "poison" in str(request.events) else None
        )
        client = Client(
            "KEY", host=collector.url, on_error=lambda _error, _events: client.join()
        )
        for name in ("e0", "poison", "e1", "e2"):
            client.track("user", name)
        client.flush(HANG)
        assert collector.wait_for(3, HANG)
        client.join()
        assert client.stats.failed == 1

    def test_tasks_that_it_makes_may_track(self, collector):
        """A coroutine that it schedules is the application's: its events are events."""
        collector.script(401)

        async def main():
            loop, done = asyncio.get_running_loop(), asyncio.Event()

            async def again():
                assert client.track("user", "again")[0]
                done.set()

            def on_error(_error, _events):
                loop.call_soon_threadsafe(lambda: loop.create_task(again()))

            client = Client("KEY", host=collector.url, on_error=on_error)
            client.track("user", "e0")
            await asyncio.wait_for(done.wait(), HANG)
            client.join()

        asyncio.run(main())
        assert [e["event"] for e in collector.events] == ["again"]


class TestClosed:
    def test_sends_nothing_more(self, collector):
        """An answer that comes after a close in vain begins no further request."""
        arrived, release = threading.Event(), threading.Event()

        def answer(_request):
            arrived.set()
            return release.wait(HANG) and 413

        collector.always(answer)
        client = Client("KEY", host=collector.url, shutdown_timeout=0.2)
        others = set(threading.enumerate())
        client.track("user", "e0")
        client.track("user", "e1")
        client.flush(0)
        assert arrived.wait(HANG)
        client.join()
        threads = {
            thread
            for thread in set(threading.enumerate()) - others
            if thread.name == "htlogging-0"
        }
        assert client.stats.failed == 2
        release.set()
        for thread in threads:
            thread.join(HANG)
        assert collector.wait_for_requests(1, HANG)
        assert len(collector.requests) == 1
