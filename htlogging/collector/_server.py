"""The collector's server: it accepts connections, bounds them, and ends them."""

from __future__ import annotations

import os
import socket
import socketserver
import threading
import time
from contextlib import suppress
from http.server import ThreadingHTTPServer

from htlogging.collector._http import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from htlogging.collector._messages import Arrival, Reply
    from htlogging.collector._page import Page

# Connections at the same time: each is a thread.
MAX_CONNECTIONS = 500
# Seconds of silence after which a connection is closed.
IDLE = 60.0

# Seconds before the next look, when the process has no descriptor left for a connection.
_EXHAUSTED = 0.2

# What a connection gets that is one too many.
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

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
        super().__init__(("127.0.0.1", port), Connection)

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
