"""
A connection's bytes → requests, and answers → bytes: as usual, or as scripted.

`_collector` decides what an answer says. This module sends it: at once, late, in pieces,
in part or not at all.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

from htlogging.collector._messages import Arrival, reason
from htlogging.collector._protocol import MAX_RAW_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from htlogging.collector._messages import Reply
    from htlogging.collector._page import Answer
    from htlogging.collector._server import Server

# A length: `int` takes more characters as digits, and refuses thousands of them.
_DIGITS = re.compile("[0-9]{1,18}")

# Bytes read or sent at a time.
_CHUNK = 16_384
# Seconds between the chunks of an endless answer: no load, and it never ends.
_PAUSE = 0.01


class Connection(BaseHTTPRequestHandler):
    """A connection's requests, one after the other, on a thread of its own."""

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
        # Ends here, or with an OSError when the client goes or `stop` breaks the
        # connection.
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
        # Closed now: at the thread's end a FIN would be sent first, which is not a reset.
        self.connection.close()
