"""Connections of ours, whatever else has changed urllib3 in the process."""

from __future__ import annotations

import http.client
import inspect
import queue
import re
import socket

import pytest
import requests
import urllib3.connection
import urllib3.connectionpool
import urllib3.poolmanager
from interrupted import TimeLimit, raise_in
from script_runner import run

from htlogging._delivery.connections import (
    Connections,
    _Kept,
    _Lines,
    _pool_class,
    _Response,
    _Source,
    _Timed,
)


class TestSeams:
    """A canary: what is used of urllib3 and http.client is there."""

    def test_pools(self):
        """Pool managers make pools by scheme, pools make connections by one method."""
        manager = urllib3.poolmanager.PoolManager()
        assert set(manager.pool_classes_by_scheme) == {"http", "https"}
        for pool in manager.pool_classes_by_scheme.values():
            assert issubclass(pool.QueueCls, queue.Queue)
            assert callable(pool._new_conn)
            assert _pool_class(pool).QueueCls is _Kept
        assert "pool_cls(host, port, **request_context)" in inspect.getsource(
            urllib3.poolmanager.PoolManager._new_pool
        )

    def test_connections(self):
        """A connection makes its answer by an attribute."""
        connection = urllib3.connection.HTTPConnection("127.0.0.1")
        assert connection.response_class is http.client.HTTPResponse
        source = inspect.getsource(http.client.HTTPConnection.getresponse)
        assert "self.response_class(self.sock" in source

    def test_answers(self):
        """An answer reads its status by one method."""
        source = inspect.getsource(http.client.HTTPResponse.begin)
        assert "self._read_status()" in source
        made = inspect.getsource(http.client.HTTPResponse.__init__)
        assert re.findall(r"\bsock\.\w+", made) == ["sock.makefile"]


class TestWithoutSeams:
    def test_manager(self):
        """A manager of another make is left as it is."""
        manager = object()
        Connections().adapt(manager)

    def test_pool(self):
        """So is a pool of another make."""
        assert vars(_pool_class(type("Pool", (), {"QueueCls": list}))).keys() <= {
            "__module__",
            "__doc__",
        }

    def test_connection(self):
        """And a connection."""

        class Connection:
            __slots__ = ("__weakref__",)

        connections = Connections()
        connection = Connection()
        connections.made(connection)
        connections.close()
        connections.close_inherited()

    def test_other_sessions_are_left_alone(self):
        """The application's own sessions have urllib3's classes."""
        Connections().new_session()
        adapter = requests.Session().get_adapter("https://a.example")
        pools = adapter.poolmanager.pool_classes_by_scheme
        assert pools["https"] is urllib3.connectionpool.HTTPSConnectionPool


class TestInterrupted:
    def test_half_made(self):
        """An answer that is interrupted before it is complete leaves nothing behind."""
        number, cut = 0, True
        while cut:
            number += 1
            ours, theirs = socket.socketpair()
            connections = Connections()
            connections.timeout = 60
            with ours, theirs:
                theirs.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                end = raise_in(number, _Response, _Source, _Lines, _Timed)
                try:
                    answer = _Response(connections, ours)
                    cut = False
                except TimeLimit:
                    pass
                finally:
                    end()
        assert number > 10
        with answer:
            assert answer.fp


class TestKept:
    def test_is_a_stack(self):
        """The last connection kept is the first taken; it is full and empty as a queue."""
        kept = _Kept(2)
        kept.put(1)
        kept.put(2, block=False)
        with pytest.raises(queue.Full):
            kept.put(3, block=False)
        assert kept.qsize() == 2
        assert [kept.get(block=False), kept.get()] == [2, 1]
        with pytest.raises(queue.Empty):
            kept.get(block=False)


TLS = """
import datetime, http.server, json, os, ssl, sys, threading, zlib
import logging
logging.getLogger("htevents").propagate = False
if "pyopenssl" in sys.argv:
    import urllib3.contrib.pyopenssl
    urllib3.contrib.pyopenssl.inject_into_urllib3()
import trustme
from htlogging.htevents import Client
authority = trustme.CA()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
authority.issue_cert("localhost").configure_cert(context)
authority.cert_pem.write_to_path("ca.pem")
os.environ["REQUESTS_CA_BUNDLE"] = os.path.abspath("ca.pem")
counts, over, slow = [], threading.Event(), threading.Event()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        counts.append(len(json.loads(zlib.decompress(body, 31))["batch"]))
        if slow.is_set():
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\n")
            while not over.wait(0.01):
                self.wfile.write(b"x")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"https://localhost:{server.server_port}"
client = Client("KEY", host=url, max_retries=0)
for n in range(3):
    client.track("user123", "e")
    assert client.flush(30)
assert (client.stats.delivered, counts) == (3, [1, 1, 1]), (client.stats, counts)
client.join()
slow.set()
client = Client("KEY", host=url, max_retries=0, timeout=0.3)
client.track("user123", "e")
assert client.flush(30)
assert client.stats.failed == 1, client.stats
client.join()
over.set()
"""

CASSETTE = """
import logging, sys
logging.getLogger("htevents").propagate = False
import vcr
from htlogging.collector import Collector
from htlogging.htevents import Client
with Collector() as collector:
    client = Client("KEY", host=collector.url)
    if sys.argv[1]:
        client.track("user123", "before")
        assert client.flush(30)
    with vcr.use_cassette("cassette.yaml", record_mode=sys.argv[2]):
        client.track("user123", "within")
        client.flush(0.5 if sys.argv[2] == "none" else 30)
    for n in range(2):
        client.track("user123", "after")
        assert client.flush(30)
    client.join()
    names = [event["event"] for event in collector.events]
    print(names)
    assert names[-3:] == ["within", "after", "after"], names
    assert client.stats.delivered == client.stats.accepted
"""


class TestNeighbours:
    @pytest.mark.parametrize("with_", ["nothing", "pyopenssl"])
    def test_tls(self, tmp_path, monkeypatch, with_):
        """Events are sent once, and timeouts kept, with pyOpenSSL in place of ssl too."""
        pytest.importorskip("trustme")
        if with_ == "pyopenssl":
            pytest.importorskip("OpenSSL")
        monkeypatch.chdir(tmp_path)
        ended = run(tmp_path, TLS, with_, PYTHONWARNINGS="ignore")
        assert ended.status == 0, ended.err

    @pytest.mark.parametrize("before", ["", "1"])
    @pytest.mark.parametrize("mode", ["all", "none"])
    def test_cassette(self, tmp_path, monkeypatch, before, mode):
        """A VCR cassette leaves nothing behind: what comes after it is really sent."""
        pytest.importorskip("vcr")
        monkeypatch.chdir(tmp_path)
        ended = run(tmp_path, CASSETTE, before, mode, PYTHONWARNINGS="ignore")
        assert ended.status == 0, ended.err
