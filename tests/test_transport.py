"""The wire: one body in one request, and what its answer says."""

import base64
import contextlib
import gzip
import re
import socket
import ssl
import threading
import time
from email.utils import formatdate
from pathlib import Path

import certifi
import pytest
import requests
from requests.adapters import HTTPAdapter
from script_runner import HANG

from htlogging._delivery import environment
from htlogging._delivery.connections import _Timed
from htlogging._delivery.exchange import Unreachable
from htlogging._delivery.network_errors import unreachable
from htlogging._delivery.retry import wait
from htlogging._delivery.transport import MAX_ANSWER, HttpTransport
from htlogging._settings import Settings
from htlogging._version import __version__

BODY = b'{"batch":[]}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CLOSE = b""  # the connection is closed without an answer

# Seconds; the hang guard of all that waits for the other side.


def answer(status, *headers, body=b""):
    """Return an answer's bytes."""
    lines = [f"HTTP/1.1 {status} -", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


class Server:
    """
    A server that sends scripted bytes: what HTTP servers do, and what they should not.

    Each step of the script answers one request: bytes to send (none: close), or a
    callable that is given the connection and closes it by returning.
    """

    def __init__(self):
        self.script = []
        self.greeting = b""  # sent before any request
        self.heads = []  # of each request, the lines up to the empty one
        self.bodies = []
        self.connections = 0
        self._open = []
        self.over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self):
        """Return where to send to."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def _accept(self):
        while True:
            connection, _ = self._socket.accept()
            if self.over.is_set():
                connection.close()
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        with contextlib.suppress(OSError), connection:
            connection.settimeout(HANG)
            connection.sendall(self.greeting)
            with connection.makefile("rb") as lines:
                while self._read(lines):
                    step = self.script.pop(0) if self.script else OK
                    if callable(step):
                        step(connection)
                        return
                    if step == CLOSE:
                        return
                    connection.sendall(step)

    def _read(self, lines):
        head = []
        while (line := lines.readline().decode("latin-1").rstrip("\r\n")) != "":
            head.append(line)
        if not head:
            return False
        length = re.search(r"(?i)content-length: (\d+)", "\n".join(head))
        self.bodies.append(lines.read(int(length[1])) if length else b"")
        self.heads.append(head)
        return True

    def close(self):
        """End all connections, and the threads with them."""
        self.over.set()
        socket.create_connection(self._socket.getsockname()).close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(HANG)
        self._socket.close()


@pytest.fixture
def server():
    """Return a server that answers 200 unless told otherwise."""
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def transport(server):
    """Return a transport to the server."""
    with contextlib.closing(make(server.url)) as transport:
        yield transport


def make(host, **settings):
    """Return a transport to a host, with a key."""
    return HttpTransport(Settings({"write_key": "KEY", "host": host, **settings}))


def post(transport, body=BODY, *, compress=False, timeout=HANG):
    """Send a body."""
    return transport.post(body, compress=compress, timeout=timeout)


def fail(transport, **kwargs):
    """Send a body in vain; return the error."""
    try:
        post(transport, **kwargs)
    except Unreachable as exc:
        # Without its frames: they hold the connection, which would be closed late.
        return exc.with_traceback(None)
    pytest.fail("there was an answer")


def headers(head):
    """Return a request's headers, by their names in small letters."""
    return {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:])}


class TestRequest:
    def test_is_this_and_no_more(self, server, transport):
        """The path, the headers and the body are those of the contract."""
        assert post(transport).status == 200
        assert server.heads[0][0] == "POST /v1/batch HTTP/1.1"
        assert headers(server.heads[0]) == {
            "host": server.url.removeprefix("http://"),
            "content-type": "application/json",
            "content-length": str(len(BODY)),
            "user-agent": f"htlogging/{__version__}",
            "authorization": "Basic " + base64.b64encode(b"KEY:").decode(),
            "accept": "*/*",
            "accept-encoding": "identity",
            "connection": "keep-alive",
        }
        assert server.bodies == [BODY]

    def test_host_may_have_a_path(self, server):
        """A host's path comes before /v1/batch, with one slash between them."""
        with contextlib.closing(make(server.url + "/proxy/")) as transport:
            post(transport)
        assert server.heads[0][0] == "POST /proxy/v1/batch HTTP/1.1"

    def test_gzip(self, server, transport):
        """A compressed body says so, and is the same when it is unpacked."""
        post(transport, BODY * 100, compress=True)
        assert headers(server.heads[0])["content-encoding"] == "gzip"
        assert len(server.bodies[0]) < len(BODY) * 100
        assert gzip.decompress(server.bodies[0]) == BODY * 100

    def test_netrc_does_not_change_the_key(
        self, server, transport, tmp_path, monkeypatch
    ):
        """A .netrc entry for the host does not take the key's place."""
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login other password secret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        post(transport)
        wanted = "Basic " + base64.b64encode(b"KEY:").decode()
        assert headers(server.heads[0])["authorization"] == wanted

    def test_cookies_are_not_sent_back(self, server, transport):
        """Each request is like the first, whatever cookies a load balancer sets."""
        server.script = [answer(200, "Set-Cookie: node=7; Path=/")]
        post(transport)
        post(transport)
        assert "cookie" not in headers(server.heads[1])


class TestConnection:
    @pytest.mark.parametrize(
        "first",
        [
            OK,
            answer(204),
            answer(400, body=b"no"),
            b"HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ],
    )
    def test_is_kept(self, server, transport, first):
        """An answer that was read to its end leaves the connection to the next one."""
        server.script = [first]
        post(transport)
        post(transport)
        assert server.connections == 1

    def test_close_then_post_opens_another(self, server, transport):
        """A closed transport can be used again, and closed again."""
        post(transport)
        transport.close()
        transport.close()
        assert post(transport).status == 200
        assert server.connections == 2

    def test_open(self, server, transport):
        """What can be made ready before the first request needs no connection."""
        transport.open()
        assert server.connections == 0
        assert post(transport).status == 200

    def test_closing_an_unused_one_is_harmless(self):
        """What was never opened can be closed."""
        make("http://127.0.0.1:1").close()

    def test_kept_one_closed_by_the_server_is_stale(self, server, transport):
        """A kept connection that ends without an answer says nothing of the server."""
        server.script = [OK, CLOSE, OK]
        post(transport)
        assert fail(transport).stale
        assert post(transport).status == 200

    def test_stale_once(self, server, transport):
        """The try after a stale connection is on a new one, and so never stale."""
        server.script = [OK, CLOSE, CLOSE]
        post(transport)
        assert fail(transport).stale
        assert not fail(transport).stale

    def test_new_one_closed_by_the_server_is_not_stale(self, server, transport):
        """A new connection that ends without an answer is a failure."""
        server.script = [CLOSE]
        assert not fail(transport).stale

    def test_one_opened_again_is_not_stale(self, server, transport):
        """After `close` the connection is a new one."""
        server.script = [OK, CLOSE]
        post(transport)
        transport.close()
        assert not fail(transport).stale

    def test_silence_on_a_kept_one_is_not_stale(self, server, transport):
        """A timeout is the server's, on whatever connection."""
        server.script = [OK, lambda _: server.over.wait(HANG)]
        post(transport)
        assert not fail(transport, timeout=0.2).stale

    def test_server_gone_is_not_stale(self, server, transport):
        """A refused connection is a failure, though the one before it was kept."""
        server.script = [answer(200, "Connection: close")]
        post(transport)
        with contextlib.closing(make(server.url)) as other:
            post(other)
            server.close()
            server.close = lambda: None
            assert not fail(transport).stale

    def test_next_request_has_its_whole_timeout(self, server, transport):
        """A slow answer takes nothing from the time of the request after it."""

        def slow(connection):
            server.over.wait(0.3)
            connection.sendall(OK)
            with connection.makefile("rb") as lines:
                while server._read(lines):
                    server.over.wait(0.3)
                    connection.sendall(OK)

        server.script = [slow]
        for _ in range(10):  # together longer than one may take
            assert post(transport, timeout=2.5).status == 200
        assert server.connections == 1


class TestAnswer:
    @pytest.mark.parametrize("status", [200, 202, 204, 400, 401, 404, 429, 500, 599])
    def test_status_is_handed_on(self, server, transport, status):
        """An answer is an answer, whatever its status."""
        server.script = [answer(status)]
        assert post(transport).status == status

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("location", ["/v1/batch", "http://[", "://", "\x80"])
    def test_redirect_is_not_followed(self, server, transport, status, location):
        """A redirect is the answer, wherever it leads to: even to no URL at all."""
        server.script = [answer(status, f"Location: {location}")]
        assert post(transport).status == status
        assert len(server.heads) == 1

    @pytest.mark.parametrize("start", ["200 OK", "302 Found\r\nLocation: /", "500 No"])
    def test_endless_body_is_left(self, server, transport, start):
        """Of an answer without end a part is read, then the connection is closed."""

        def endless(connection):
            connection.sendall(f"HTTP/1.1 {start}\r\n\r\n".encode())
            while True:
                connection.sendall(b"x" * MAX_ANSWER)

        server.script = [endless]
        assert post(transport).status == int(start[:3])
        assert post(transport).status == 200
        assert server.connections == 2

    def test_body_cut_off_leaves_the_status(self, server, transport):
        """A 2xx is a delivery, even if the connection ends within its body."""
        server.script = [
            lambda c: c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
        ]
        assert post(transport).status == 200
        assert post(transport).status == 200

    def test_body_that_drips_leaves_the_status(self, server, transport):
        """A body is read until the timeout, however steadily it comes."""
        server.script = [
            drip(server, b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n")
        ]
        assert post(transport, timeout=0.3).status == 200

    @pytest.mark.parametrize(
        "start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100\r\n"]
    )
    def test_head_that_drips_is_no_answer(self, server, transport, start):
        """A status line or headers that come too slowly are no answer at all."""
        server.script = [drip(server, start)]
        assert fail(transport, timeout=0.3).reason == "ReadTimeout: TimeoutError"

    def test_endless_continue_is_no_answer(self, server, transport):
        """Interim answers do not hold the sender for ever."""

        def interim(connection):
            while True:
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

        server.script = [interim]
        # http.client itself reads no more than 100 of them, from 3.14 on.
        bounded = {"ReadTimeout: TimeoutError", "ConnectionError: HTTPException"}
        assert fail(transport, timeout=0.3).reason in bounded

    @pytest.mark.parametrize("status", [100, 102, 103, 110, 199])
    @pytest.mark.parametrize("count", [1, 300])
    def test_interim_answers_are_read_over(self, server, transport, status, count):
        """However many come before the final one, that is the answer, and no other."""
        interim = f"HTTP/1.1 {status} -\r\nLink: </a>\r\n\r\n".encode()
        server.script = [interim * count + answer(401), OK]
        assert post(transport).status == 401
        assert post(transport).status == 200
        assert server.connections == 1

    def test_switching_protocols_is_final(self, server, transport):
        """101 is an answer; nothing of what comes after it is read as another."""
        server.script = [b"HTTP/1.1 101 -\r\nUpgrade: h2c\r\n\r\n" + answer(500)]
        assert post(transport).status == 101
        assert post(transport).status == 200
        assert server.connections == 2

    @pytest.mark.parametrize(
        "first",
        [
            OK + answer(500),
            OK + b"x",
            b"HTTP/1.1 204 -\r\n\r\n{}",
            b"HTTP/1.1 304 -\r\nContent-Length: 2\r\n\r\n{}",
            (
                b"HTTP/1.1 200 -\r\ncontent-length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"2\r\n{}\r\n0\r\n\r\n"
            ),
        ],
    )
    def test_more_than_an_answer(self, server, transport, first):
        """Bytes after an answer's end are not taken for the next answer."""
        server.script = [first]
        assert post(transport).status < 400
        assert post(transport).status == 200
        assert server.connections == 2

    def test_what_comes_after_the_deadline_is_not_read(self):
        """Bytes that are there already do not make up for the time gone by."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(b"HTTP/1.1")
            ours.settimeout(1e-9)
            with _Timed(ours.makefile("rb").detach(), ours, 1e-9) as timed:
                assert timed.readable()
                assert timed.read(4) == b"HTTP"
                with pytest.raises(TimeoutError):
                    timed.read(4)

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            ("7", 7.0),
            (" 7 ", 7.0),
            ("0", 0.0),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
            ("soon", None),
            ("", None),
            ("-5", None),
            ("1.5", None),  # RFC 9110 knows whole seconds only
            ("1, 2", None),
        ],
    )
    def test_retry_after(self, server, transport, header, seconds):
        """Retry-After is whole seconds or a date, one gone by is now; else nothing."""
        server.script = [answer(503, f"Retry-After: {header}")]
        assert post(transport).retry_after == seconds

    @pytest.mark.parametrize(
        "header",
        [
            "9" * 400,  # more than a float holds
            "9" * 5000,  # more than int() converts
            "Wed, 21 Oct 99999999999999999999 07:28:00 GMT",
        ],
    )
    def test_retry_after_beyond_measure(self, server, transport, header):
        """What is out of measure is a long wait or none, and harms nothing."""
        server.script = [answer(503, f"Retry-After: {header}")]
        seconds = post(transport).retry_after  # by urllib3's version
        assert seconds is None or seconds > 300
        assert wait(1, seconds, lambda: 0.5) in (0.25, 300)

    def test_retry_after_a_date(self, server, transport):
        """A date to come is the seconds until then."""
        date = formatdate(time.time() + 1000, usegmt=True)
        server.script = [answer(429, f"Retry-After: {date}")]
        assert 900 < post(transport).retry_after <= 1000

    def test_no_retry_after(self, transport):
        """Without the header there is no such wait."""
        assert post(transport).retry_after is None

    @pytest.mark.parametrize(
        ("body", "code", "message"),
        [
            (b'{"code":"bad_type","message":"No."}', "bad_type", "No."),
            (b'{"error":"No."}', "400", "No."),
            (b'{"message":"","error":"No."}', "400", "No."),
            (b'{"message":{"text":"No."}}', "400", None),
            (b'{"code":7}', "400", None),
            (b'["No."]', "400", None),
            (b"<html>", "400", None),
            (b"\xff\xfe\xfa", "400", None),
            (b"", "400", None),
            (b"[" * 60_000, "400", None),
            (b'{"n":' + b"9" * 5000 + b"}", "400", None),
            (b'{"message":"a\\nb\\u0000c\\u2028d"}', "400", "a b c d"),
            (b'{"message":"' + b"x" * 999 + b'"}', "400", "x" * 200),
            (b'{"code":"KEY","message":"KEY is KEY"}', "***", "*** is ***"),
            (b'{"message":"Basic S0VZOg== is bad"}', "400", "Basic *** is bad"),
            (b'{"message":"Basic S0VZOg is bad"}', "400", "Basic *** is bad"),
            (b'{"message":"S0VZOg%3D%3D is bad"}', "400", "*** is bad"),
            (b'{"message":"%4B%45%59 is bad"}', "400", None),
            # clipped within the key
            (b'{"message":"' + b"x" * 198 + b'KEY"}', "400", "x" * 198 + "**"),
        ],
    )
    def test_what_it_says(self, server, transport, body, code, message):
        """A code and a message are found if they are there; never the write key."""
        server.script = [answer(400, body=body)]
        said = post(transport)
        assert said.code == code
        assert said.message == (message or "the server refused with status 400")

    @pytest.mark.parametrize(
        "echo",
        ["p4ss:w0rd", "me:p4ss:w0rd", "p4ss%3Aw0rd", base64.b64encode(b"me:p4ss:w0rd")],
    )
    def test_password_of_a_proxy(self, server, echo):
        """A proxy's answer, echoing how one logs in there, is not passed on."""
        if isinstance(echo, bytes):
            echo = echo.decode()
        body = f'{{"message":"{echo} is wrong"}}'.encode()
        server.script = [answer(407, body=body)]
        proxy = server.url.replace("://", "://me:p4ss%3Aw0rd@")
        with contextlib.closing(make("http://a.example", proxies=proxy)) as transport:
            assert "w0rd" not in post(transport).message

    def test_without_a_key(self, server):
        """Where there is no write key, none is struck out."""
        server.script = [answer(400, body=b'{"message":"No."}')]
        with contextlib.closing(
            HttpTransport(Settings({"send": False, "host": server.url}))
        ) as transport:
            assert post(transport).message == "No."


def drip(server, start):
    """Return a step that sends a byte every 10 ms, without end."""

    def step(connection):
        connection.sendall(start)
        for _ in range(HANG * 100):
            connection.sendall(b"x")
            if server.over.wait(0.01):
                return

    return step


class TestProxies:
    def test_setting(self, server):
        """A proxy is asked for the host's URL, with its own user and password."""
        proxy = server.url.replace("http://", "http://user:secret@")
        with contextlib.closing(make("http://a.example", proxies=proxy)) as transport:
            assert post(transport).status == 200
        assert server.heads[0][0] == "POST http://a.example/v1/batch HTTP/1.1"
        proxied = headers(server.heads[0])["proxy-authorization"]
        assert proxied == "Basic " + base64.b64encode(b"user:secret").decode()

    def test_host_and_port_alone(self, server):
        """A proxy without a scheme is one that speaks HTTP."""
        proxies = {"http": server.url.removeprefix("http://")}
        with contextlib.closing(make("http://a.example", proxies=proxies)) as transport:
            assert post(transport).status == 200

    def test_kept_connection(self, server):
        """A connection through a proxy is kept as well."""
        with contextlib.closing(
            make("http://a.example", proxies=server.url)
        ) as transport:
            post(transport)
            post(transport)
        assert server.connections == 1

    def test_environment(self, server, monkeypatch):
        """Without a setting, the environment's proxy is used."""
        monkeypatch.setenv("http_proxy", server.url)
        with contextlib.closing(make("http://a.example")) as transport:
            assert post(transport).status == 200
        assert server.heads[0][0] == "POST http://a.example/v1/batch HTTP/1.1"

    def test_environment_is_looked_up_once(self, transport, monkeypatch):
        """What it says later is not asked for: that took half of a request's time."""
        post(transport)
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        assert post(transport).status == 200

    def test_environment_does_not_change_the_setting(self, server, monkeypatch):
        """What it adds to the proxies of a setting is added to a copy."""
        settings = Settings(
            {"write_key": "KEY", "host": server.url, "proxies": {"https": "http://p:1"}}
        )
        monkeypatch.setenv("http_proxy", server.url)
        with contextlib.closing(HttpTransport(settings)) as transport:
            post(transport)
        assert settings.proxies == {"https": "http://p:1"}

    @pytest.mark.parametrize(
        "exempt", ["127.0.0.1", ".example,127.0.0.0/8", "*", "example, 127.0.0.1:PORT"]
    )
    def test_no_proxy(self, server, exempt):
        """`no_proxy` among the proxies exempts its hosts from all of them."""
        exempt = exempt.replace("PORT", server.url.rpartition(":")[2])
        proxies = {"http": "http://127.0.0.1:1", "no_proxy": exempt}
        with contextlib.closing(make(server.url, proxies=proxies)) as transport:
            assert post(transport).status == 200

    def test_tunnel_refused(self, server):
        """A proxy that refuses is no answer of the server; nothing secret is told."""
        proxy = server.url.replace("http://", "http://user:secret@")
        server.script = [answer(407)]
        with contextlib.closing(make("https://a.example", proxies=proxy)) as transport:
            assert fail(transport).reason == "ProxyError: the proxy answered 407"
        assert server.heads[0][0].startswith("CONNECT a.example:443 HTTP/1.")

    def test_tunnel_that_drips(self, server):
        """A proxy's answer has a deadline too."""
        server.script = [drip(server, b"HTTP/1.1 200 OK\r\n")]
        with contextlib.closing(
            make("https://a.example", proxies=server.url)
        ) as transport:
            assert "Timeout" in fail(transport, timeout=0.3).reason


class TestReason:
    def test_refused(self):
        """A port without a listener is reported in the system's words, without it."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with contextlib.closing(make(f"http://127.0.0.1:{port}")) as transport:
            assert fail(transport).reason == "ConnectionError: Connection refused"

    def test_no_answer(self, server, transport):
        """A server that says nothing is a timeout."""
        server.script = [lambda _: server.over.wait(HANG)]
        assert fail(transport, timeout=0.2).reason == "ReadTimeout: TimeoutError"

    def test_disconnected(self, server, transport):
        """A connection that ends is told of."""
        server.script = [CLOSE]
        assert fail(transport).reason == "ConnectionError: RemoteDisconnected"

    def test_no_http(self, server, transport):
        """An answer that is no HTTP is no answer."""
        server.script = [lambda c: c.sendall(b"hello\r\n\r\n")]
        assert fail(transport).reason == "ConnectionError: BadStatusLine"

    def test_no_tls(self, server):
        """A server that speaks no TLS is told from one that is away."""
        server.greeting = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        with contextlib.closing(
            make(server.url.replace("http:", "https:"))
        ) as transport:
            # OpenSSL's own words, which its versions change.
            assert re.fullmatch("SSLError: [A-Z_0-9]+", fail(transport).reason)

    def test_ca_bundle_missing(self, server, monkeypatch):
        """The environment's CA bundle is used; its variable is told, not its path."""
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
        with contextlib.closing(
            make(server.url.replace("http:", "https:"))
        ) as transport:
            error = fail(transport)
        assert error.code == "configuration"
        assert error.reason == (
            "the CA bundle that REQUESTS_CA_BUNDLE names does not exist"
        )

    @pytest.mark.parametrize(
        "text",
        ["", "junk", "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"],
    )
    def test_ca_bundle_without_a_certificate(self, monkeypatch, tmp_path, text):
        """A CA bundle that holds none is told of."""
        (tmp_path / "ca.pem").write_text(text)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        with contextlib.closing(make("https://127.0.0.1:9")) as transport:
            assert fail(transport).reason == (
                "the CA bundle that REQUESTS_CA_BUNDLE names holds no certificate"
            )

    def test_ca_bundle_that_goes_away(self, server, monkeypatch, tmp_path):
        """A CA bundle that is taken away later is told of, too."""
        bundle = tmp_path / "ca.pem"
        bundle.write_bytes(Path(certifi.where()).read_bytes())
        monkeypatch.setenv("CURL_CA_BUNDLE", str(bundle))
        with contextlib.closing(
            make(server.url.replace("http:", "https:"))
        ) as transport:
            transport.open()
            bundle.unlink()
            assert "CURL_CA_BUNDLE" in fail(transport).reason

    def test_empty_ca_bundle(self, server, monkeypatch):
        """An empty variable names no CA bundle, and does not turn the check off."""
        monkeypatch.setenv("CURL_CA_BUNDLE", "")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "")
        with contextlib.closing(
            make(server.url.replace("http:", "https:"))
        ) as transport:
            transport.open()
            assert transport.options["verify"] is True

    @pytest.mark.parametrize("verify", [False, "", None, 0])
    def test_verification_turned_off(self, monkeypatch, verify):
        """Whatever turns the check of TLS off turns sending off, and says so."""
        merged = {"proxies": {}, "stream": True, "verify": verify, "cert": None}
        monkeypatch.setattr(
            "requests.Session.merge_environment_settings", lambda *_, **__: merged
        )
        with contextlib.closing(make("https://a.example")) as transport:
            error = fail(transport)
        assert error.code == "configuration"
        assert "turns the verification of TLS off" in error.reason

    @pytest.mark.parametrize("patched", [requests.Session, HTTPAdapter])
    def test_verification_turned_off_by_a_patch(self, monkeypatch, patched):
        """The same for a library that changes what `requests` sends with."""
        send = patched.send

        def unverified(self, request, **options):
            return send(self, request, **{**options, "verify": False})

        monkeypatch.setattr(patched, "send", unverified)
        with contextlib.closing(make("https://a.example")) as transport:
            error = fail(transport)
        assert error.code == "configuration"
        assert "turns the verification of TLS off" in error.reason

    @pytest.mark.parametrize(
        ("proxy", "said"),
        [
            ("socks://me:secret@127.0.0.1:9", "scheme socks:// cannot be used"),
            ("ftp://127.0.0.1:9", "scheme ftp:// cannot be used"),
            ("http://", "no host or an invalid port"),
            (" ", "no host or an invalid port"),
            ("http://me:secret@proxy:99999", "no host or an invalid port"),
            ("http://me:secret@[::1", "no host or an invalid port"),
            ("socks5://", "no host or an invalid port"),
        ],
    )
    @pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTP_PROXY"])
    def test_proxy_of_an_unknown_kind(self, monkeypatch, variable, proxy, said):
        """A proxy that cannot be used is named by its scheme, nothing else of it."""
        monkeypatch.setenv(variable, proxy)
        monkeypatch.setenv(variable.lower(), proxy)
        with contextlib.closing(make("http://a.example")) as transport:
            error = fail(transport)
        assert error.code == "configuration"
        assert said in error.reason
        assert "secret" not in error.reason

    @pytest.mark.parametrize("scheme", ["socks4", "socks5", "socks5h"])
    def test_socks_without_its_package(self, monkeypatch, scheme):
        """What is missing for a SOCKS proxy is named with the command to get it."""
        monkeypatch.setattr(environment, "find_spec", lambda _: None)
        proxies = f"{scheme}://127.0.0.1:9"
        with contextlib.closing(make("http://a.example", proxies=proxies)) as transport:
            assert "pip install 'requests[socks]'" in fail(transport).reason

    def test_name_that_cannot_be_one(self):
        """A name that no DNS can hold is no answer, and does not end the thread."""
        with contextlib.closing(make(f"http://{'a' * 64}.example")) as transport:
            assert "aaa" not in fail(transport).reason

    @pytest.mark.parametrize(
        ("inner", "reason"),
        [
            (
                socket.gaierror(-2, "Name or service not known"),
                "Outer: the host's name is not known",
            ),
            (OSError("a.example"), "Outer: OSError"),
            (ValueError("a.example"), "Outer: ValueError"),
        ],
    )
    @pytest.mark.parametrize("link", ["cause", "argument", "reason", "context"])
    def test_innermost(self, inner, reason, link):
        """The innermost cause is told, wherever urllib3 keeps it; never an address."""
        from urllib3.exceptions import HTTPError

        outer = type("Outer", (HTTPError,), {"__module__": "urllib3.exceptions"})()
        if link == "argument":
            outer.args = ("a.example", inner)
        elif link == "reason":
            outer.reason = inner
        elif link == "cause":
            outer.__cause__ = inner
        else:
            outer.__context__ = inner
        assert unreachable(outer, used=False).reason == reason

    def test_not_what_the_application_handles(self):
        """An error that is being handled by the application is not the cause."""
        error = OSError("x")
        error.__context__ = ValueError("the application's")
        assert unreachable(error, used=False).reason == "OSError"

    def test_circle(self):
        """Errors that cause each other have an end."""
        error = OSError("x")
        error.__cause__ = error
        assert unreachable(error, used=False).reason == "OSError"

    def test_certificate(self):
        """A certificate is told of without the host's name."""
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_message = "Hostname mismatch, it is not valid for 'a.example'."
        outer = OSError()
        outer.__cause__ = error
        reason = unreachable(outer, used=False).reason
        assert reason == "OSError: Hostname mismatch"


class TestFirstAnswer:
    @pytest.fixture(autouse=True)
    def _first(self, monkeypatch):
        monkeypatch.setattr("htlogging._delivery.answers._checked", 0)

    def lines(self, server, caplog, host="http://eu-west-1.hightouch-events.com"):
        """Send two batches through the server, a proxy; return what the log says."""
        with contextlib.closing(make(host, proxies=server.url)) as transport:
            assert [post(transport).status for _ in range(2)] == [200, 200]
        return [r.getMessage() for r in caplog.records if r.name == "htlogging"]

    @pytest.mark.parametrize(
        "host",
        [
            "http://eu-west-1.hightouch-events.com",
            "http://EU-WEST-1.Hightouch-Events.com:80/path",
            "http://eu-west-1.hightouch-events.com.",
            "http://hightouch-events.com",
        ],
    )
    def test_page_of_a_captive_portal(self, server, caplog, host):
        """A 2xx with text that is no JSON is doubted, once, and delivers all the same."""
        server.script = [answer(200, body=b"<html>Log in</html>")] * 2
        (line,) = self.lines(server, caplog, host)
        assert line.startswith(f"the first answer from {host} is not JSON")

    @pytest.mark.parametrize("body", [b"", b"{}", b'{"success":true}', b'"ok"'])
    def test_the_vendors(self, server, caplog, body):
        """An answer that is empty or JSON is not; nor is a later one looked at."""
        server.script = [answer(200, body=body), answer(200, body=b"<html>")]
        assert self.lines(server, caplog) == []

    @pytest.mark.parametrize(
        "host",
        [
            "http://a.example",
            "http://hightouch-events.com.a",
            "http://xhightouch-events.com",
        ],
    )
    def test_hosts_of_others(self, server, caplog, host):
        """Another host may answer what it likes."""
        server.script = [answer(200, body=b"<html>")]
        assert self.lines(server, caplog, host) == []
