"""
Connections → requests, and answers → bytes: as usual, or as scripted.

`_collector` decides what an answer says. This module sends it: at once, late, in pieces,
in part or not at all.
"""

from __future__ import annotations

import os
import re
import socket
import socketserver
import struct
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from htlogging.collector._messages import Arrival, reason
from htlogging.collector._protocol import MAX_RAW_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from htlogging.collector._messages import Reply
    from htlogging.collector._page import Answer, Page

# Connections at the same time: each is a thread.
MAX_CONNECTIONS = 500
# Seconds of silence after which a connection is closed.
IDLE = 60.0

# Seconds before the next look, when the process has no descriptor left for a connection.
_EXHAUSTED = 0.2

_FULL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

# A length: `int` takes more characters as digits, and refuses thousands of them.
_DIGITS = re.compile("[0-9]{1,18}")

# Bytes read or sent at a time.
_CHUNK = 16_384
# Seconds between the chunks of an endless answer: no load, and it never ends.
_PAUSE = 0.01
# Seconds between two checks whether to stop, for systems where `stop` cannot wake the
# thread that accepts connections.
_LOOK = 0.1


class _Stop(Exception):
    pass


class Server(ThreadingHTTPServer):
    """
    An HTTP server on the loopback interface, with a daemon thread for each connection.

    Args:
        port: 0 picks a free one.
        scripted: Called with the path of each POST; returns the scripted answer, if any.
        receive: Called with each request; returns the answer, with status and body.
        page: Answers the requests that belong to the page and not to the wire.
        most: Connections at the same time. One more is answered 503 and closed.
        idle: Seconds that a connection may be silent, between requests and within one. A
            request has arrived after twice that, or its connection is closed.

    Raises:
        OSError: The port cannot be used.
    """

    daemon_threads = True
    # `stop` waits for the threads: a client may keep a connection for a long time.
    block_on_close = False
    # On Windows this option would let two servers share a port.
    allow_reuse_address = os.name == "posix"
    request_queue_size = 128

    def __init__(  # noqa: PLR0913
        self,
        port: int,
        scripted: Callable[[str], Reply | None],
        receive: Callable[[Arrival, Reply | None], Reply],
        page: Page,
        *,
        most: int = MAX_CONNECTIONS,
        idle: float = IDLE,
    ) -> None:
        self.scripted = scripted
        self.receive = receive
        self.page = page
        self.idle = idle
        self._most = most
        self.stopping = threading.Event()  # wakes answers that are delayed
        # Guards _open and _count; notified when a connection has ended. The accepting
        # thread adds, the connections' threads take away. A forked child does not use
        # it: it calls `abandon` and nothing else.
        self._changed = threading.Condition()
        self._open: dict[socket.socket, int] = {}
        self._count = 0
        # Connections whose next request has not arrived, and since when they may send it.
        # Each operation is atomic; the accepting thread only looks.
        self.arriving: dict[socket.socket, float] = {}
        super().__init__(("127.0.0.1", port), _Connection)

    def serve(self) -> None:
        """Accept connections until `stop`; run by a thread of its own."""
        with suppress(_Stop):
            self.serve_forever(_LOOK)

    def service_actions(self) -> None:
        """End the loop of `serve` if `stop` was called; end connections that are slow."""
        if self.stopping.is_set():
            raise _Stop
        # A byte now and then is no silence, and would keep a connection for ever.
        before = time.monotonic() - 2 * self.idle
        for connection, since in list(self.arriving.items()):
            if since < before:
                with suppress(OSError):  # wakes the thread that reads
                    connection.shutdown(socket.SHUT_RDWR)

    def stop(self, timeout: float) -> None:
        """
        Close the port and all connections, whatever their threads do.

        Args:
            timeout: Seconds to wait for the connections' threads.
        """
        self.stopping.set()
        with suppress(OSError):
            # Wakes the accepting thread on Linux; macOS refuses it on such a socket.
            self.socket.shutdown(socket.SHUT_RDWR)
        self.shutdown()
        self.server_close()
        with self._changed:
            for connection in self._open:
                # Wakes a thread that reads or writes; closing would not.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, timeout)

    def abandon(self) -> None:  # pragma: no cover  (tested in a forked child)
        """
        Close a forked child's copies of the sockets.

        While they are open, a port that the parent has closed still takes connections,
        and a connection that the parent has dropped still looks alive.
        """
        self.socket.close()
        for connection in list(self._open):
            with suppress(OSError):
                os.close(connection.detach())

    def number(self, connection: socket.socket) -> int:
        """Return the number of a connection, counted from 1."""
        return self._open[connection]

    def server_bind(self) -> None:
        """Bind, without HTTPServer's look-up of the host name, which may be slow."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; wait a little when the process has no descriptor left."""
        try:
            return super().get_request()
        except OSError:
            # The connection stays in the queue, so the next look finds it at once: without
            # a pause the thread would use up a core.
            self.stopping.wait(_EXHAUSTED)
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Refuse a connection that is one too many."""
        with self._changed:
            full = len(self._open) >= self._most
        if full:
            with suppress(OSError):
                request.settimeout(0.0)
                request.send(_FULL)
        return not full

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a connection's thread."""
        with self._changed:
            self._count += 1
            self._open[request] = self._count
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection, on its thread."""
        self.arriving.pop(request, None)
        super().shutdown_request(request)
        with self._changed:
            self._open.pop(request, None)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a broken connection: clients under test break theirs."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # So that a short answer is sent at once, without waiting for an acknowledgement.
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        """Set the connection's timeout, and its files."""
        self.request.settimeout(self.server.idle)
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing."""

    def handle_one_request(self) -> None:
        """Read one request and answer it, or end when none comes."""
        self.server.arriving[self.connection] = time.monotonic()
        super().handle_one_request()

    def answer(self) -> None:
        """Read a request's body and answer it."""
        arrived = time.monotonic()
        page = self.server.page.is_for(self.command, self.path)
        scripted = None
        if self.command == "POST" and not page:
            scripted = self.server.scripted(self.path)
        raw, complete = b"", True
        if scripted is None or scripted.drop != "before":
            raw, complete = self._read()
        self.server.arriving.pop(self.connection, None)
        arrival = Arrival(
            self.command,
            self.path,
            self.headers,
            raw,
            complete,
            arrived,
            self.server.number(self.connection),
        )
        if not complete:
            self.close_connection = True
        if page:
            self._send_parts(self.server.page.answer(arrival))
            return
        reply = self.server.receive(arrival, scripted)
        if not self.server.stopping.wait(reply.delay):
            self._send(reply)

    do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815
    do_DELETE = do_PATCH = do_OPTIONS = answer  # noqa: N815

    def _read(self) -> tuple[bytes, bool]:
        """
        Read the body to its end, but keep only what is within the limit.

        To the end, because closing a socket with unread bytes may cost the client its
        answer. A chunked body has no length, so its end is unknown.
        """
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not _DIGITS.fullmatch(length):
            return b"", False
        left, kept = int(length), bytearray()
        while left:
            data = self.rfile.read(min(left, _CHUNK))
            if not data:
                return bytes(kept), False
            left -= len(data)
            kept += data[: MAX_RAW_BYTES + 1 - len(kept)]
        return bytes(kept), True

    def _send(self, reply: Reply) -> None:
        if reply.drop == "before":
            self._reset()
            return
        if reply.drop == "after":
            self.close_connection = True
            return
        head, body = self._bytes(reply)
        if reply.drop == "middle":
            self.connection.sendall(head + body[: len(body) // 2])
            self._reset()
        elif reply.endless:
            self._send_endless(head)
        elif reply.drip:
            self._send_slowly(head + body, reply.drip)
        else:
            # In one write: the second of two would wait for an acknowledgement.
            self.connection.sendall(head + body)
        if reply.drop == "stale":
            self.close_connection = True

    def _bytes(self, reply: Reply) -> tuple[bytes, bytes]:
        """Return an answer's head and body."""
        status = reply.status or HTTPStatus.OK
        body = reply.body or b""
        headers = {"Content-Type": "application/json"}
        if reply.endless:
            headers["Transfer-Encoding"] = "chunked"
        elif status == HTTPStatus.NO_CONTENT:
            body = b""
        elif status != HTTPStatus.NOT_MODIFIED:
            headers["Content-Length"] = str(len(body))
        if self.close_connection and reply.drop is None:
            headers["Connection"] = "close"
        if reply.retry_after is not None:
            headers["Retry-After"] = str(reply.retry_after)
        if reply.location is not None:
            headers["Location"] = reply.location
        headers.update(reply.headers)
        lines = [f"HTTP/1.1 {status} {reason(status)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return head, b"" if self.command == "HEAD" else body

    def _send_parts(self, answer: Answer) -> None:
        """Send an answer of the page; its end is the connection's."""
        self.close_connection = True
        head = [f"HTTP/1.1 {answer.status} {reason(answer.status)}"]
        head += [f"{name}: {value}" for name, value in answer.headers.items()]
        lines = [*head, "Connection: close", "", ""]
        self.connection.sendall("\r\n".join(lines).encode("latin-1"))
        if self.command != "HEAD":
            for part in answer.parts:
                self.connection.sendall(part)

    def _send_endless(self, head: bytes) -> None:
        self.close_connection = True
        self.connection.sendall(head)
        chunk = b"%x\r\n%s\r\n" % (_CHUNK, b" " * _CHUNK)
        # Ends here, or with an OSError when the client goes or `stop` breaks the connection.
        while not self.server.stopping.wait(_PAUSE):  # pragma: no branch
            self.connection.sendall(chunk)

    def _send_slowly(self, data: bytes, seconds: float) -> None:
        for place in range(len(data)):
            self.connection.sendall(data[place : place + 1])
            if self.server.stopping.wait(seconds):
                break

    def _reset(self) -> None:
        """Make the connection end with a RST when its thread closes it."""
        self.close_connection = True
        linger = struct.pack("ii" if os.name == "posix" else "hh", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        # Closed now: at the thread's end a FIN would be sent first, and that is no reset.
        self.connection.close()
