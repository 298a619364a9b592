"""
The connections of a `requests` session, adapted to a sending thread.

An answer has a deadline, interim answers are skipped, and a forked child can safely use or
drop what it inherits. Only public interfaces of urllib3 are used, and attributes that are
skipped if they are missing: the socket may be pyOpenSSL's, the pools urllib3-future's, the
connection that of a VCR cassette.
"""

from __future__ import annotations

import io
import os
import queue
import weakref
from contextlib import suppress
from functools import cache, partial
from http import HTTPStatus
from http.client import HTTPResponse

import requests
from requests.adapters import HTTPAdapter

from htlogging._delivery.environment import unverified
from htlogging._process.clock import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

    from _typeshed import WriteableBuffer

# The most bytes of a line in the head of an answer, as in http.client.
_MAX_LINE = 65_536


class Connections:
    """
    What the connections of one session share; used by one thread.

    Attributes:
        timeout: Seconds for the whole answer to the next request.
        unusual: Whether the last answer ended in a way after which its connection must
            not be used again.
    """

    def __init__(self) -> None:
        self.timeout = 0.0
        self.unusual = False
        # The sending thread adds to it. In a forked child `close_inherited` reads it.
        self._made: weakref.WeakSet[Any] = weakref.WeakSet()
        # The last one; other threads ask whether it is open.
        self._last: Callable[[], Any] = _no_connection

    def new_session(self) -> requests.Session:
        """Return a session that uses these connections and ignores redirects."""
        session = _Session()
        session.mount("https://", _Adapter(self))
        session.mount("http://", _Adapter(self))
        return session

    def adapt(self, manager: Any) -> None:
        """Make a pool manager use our pools."""
        # The way that urllib3 offers for other pool classes; SOCKSProxyManager uses it, too.
        pools = getattr(manager, "pool_classes_by_scheme", None)
        if pools is None:
            return
        manager.pool_classes_by_scheme = {
            name: partial(self._new_pool, _pool_class(pools[name])) for name in pools
        }

    def is_open(self) -> bool:
        """Return whether the last connection is established; any thread may ask."""
        return getattr(self._last(), "sock", None) is not None

    def close(self) -> None:
        """Close all connections; the next request opens a new one."""
        # urllib3 leaves this to `weakref.finalize`, which runs before logging.shutdown.
        for connection in list(self._made):
            with suppress(Exception):  # whatever pyOpenSSL or a cassette raises
                connection.close()

    def close_inherited(self) -> None:
        """
        Close the parent's sockets in a forked child.

        Closing Python's own objects would need locks that the parent's threads held.
        """
        for connection in list(self._made):
            sock = getattr(connection, "sock", None)
            for _ in range(3):  # pyOpenSSL's and TLS in TLS have the socket within
                if sock is None or hasattr(sock, "detach"):
                    break
                sock = getattr(sock, "socket", None)
            if sock is not None:
                with suppress(OSError):
                    os.close(sock.detach())

    def _new_pool(self, make: type, *args: Any, **kwargs: Any) -> Any:
        pool = make(*args, **kwargs)
        pool.connections = self
        return pool

    def made(self, connection: Any) -> None:
        """Register a new connection, and make it use our response class."""
        self._made.add(connection)
        self._last = weakref.ref(connection)
        if hasattr(connection, "response_class"):
            connection.response_class = partial(_Response, self)


def _no_connection() -> None:
    """Return no connection: there was none yet."""


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        # Even without following redirects, the session looks where one leads: it reads
        # the answer's body, which may be endless, and fails on a bad URL.
        return


class _Adapter(HTTPAdapter):
    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._connections.adapt(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not known:
            self._connections.adapt(manager)
        return manager


@cache
def _pool_class(base: type) -> type:
    """Return a pool class that reports new connections; one for each of urllib3's."""

    def new_connection(self: Any) -> Any:
        # Here, because a library may have patched any step between our options and this.
        # None is urllib3's default, which verifies.
        unchecked = getattr(self, "cert_reqs", None) in ("CERT_NONE", "NONE", 0)
        if unchecked and getattr(self, "scheme", None) == "https":
            raise unverified()
        connection = base._new_conn(self)  # type: ignore[attr-defined]  # noqa: SLF001
        self.connections.made(connection)
        return connection

    attributes: dict[str, Any] = {}
    if hasattr(base, "_new_conn"):
        attributes["_new_conn"] = new_connection
    kept = getattr(base, "QueueCls", None)  # before 2.0 a stack of urllib3's own
    if isinstance(kept, type) and issubclass(kept, queue.Queue):
        attributes["QueueCls"] = _Kept
    return type(base.__name__, (base,), attributes)


class _Kept:
    """
    The idle connections of a pool, instead of a `queue.LifoQueue`.

    A pool's finalizer empties it, also in a forked child and at the child's exit. The lock
    of a queue may have been held by a thread of the parent, and the child would wait for
    ever. This class has no lock, because only one thread uses the pool.
    """

    def __init__(self, maxsize: int = 0) -> None:
        self._maxsize = maxsize
        self._items: list[Any] = []

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002, FBT001, FBT002
        """Keep a connection, or raise `queue.Full`."""
        if 0 < self._maxsize <= len(self._items):
            raise queue.Full
        self._items.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: ARG002, FBT001, FBT002
        """Return the last connection, or raise `queue.Empty`."""
        try:
            return self._items.pop()
        except IndexError:
            raise queue.Empty from None

    def qsize(self) -> int:
        """Return how many connections there are."""
        return len(self._items)


class _Response(HTTPResponse):
    fp: Any = None  # one that is interrupted before it has a file can be closed

    def __init__(
        self, connections: Connections, sock: socket.socket, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(_Source(sock, connections), *args, **kwargs)  # type: ignore[arg-type]

    def _read_status(self) -> tuple[str, int, str]:
        """
        Skip all interim answers; http.client skips only 100.

        This overrides a private method, the only one that `begin` calls before it looks
        at the status. Without that method, 100 would still be skipped.
        """
        while True:
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            status = line[1]
            if not 100 <= status < 200 or status == HTTPStatus.SWITCHING_PROTOCOLS:  # noqa: PLR2004
                return line
            # The deadline bounds what is read, not a number of lines.
            while self.fp.readline(_MAX_LINE).strip():
                pass


class _Source:
    """A socket of which a response wants its file, and nothing else."""

    def __init__(self, sock: socket.socket, connections: Connections) -> None:
        self._sock = sock
        self._connections = connections

    def makefile(self, mode: str) -> Any:
        """Return a file whose reading has a deadline."""
        file = self._sock.makefile(mode)  # type: ignore[call-overload]
        # Another kind of socket may have another kind of file, with a timeout of its own.
        if not isinstance(file, io.BufferedReader):
            return file
        lines = _Lines(_Timed(file.detach(), self._sock, self._connections.timeout))
        lines.connections = self._connections
        return lines


class _Lines(io.BufferedReader):
    """
    An answer's bytes; at its end it checks whether more bytes follow.

    It has no `__init__`: one that is interrupted there could not be closed.
    """

    raw: _Timed
    connections: Connections | None = None

    def close(self) -> None:
        if self.connections is not None and not self.closed:
            self.raw.over = True  # so that peek reads only from the buffer
            with suppress(Exception):
                # Bytes that belong to no request: they would be taken for the next
                # answer.
                self.connections.unusual |= bool(self.peek(1))
        super().close()


class _Timed(io.RawIOBase):
    """
    An answer as it comes from the socket, with one deadline for all of it.

    The socket's own timeout begins anew with every byte: a server that sends one byte a
    second would keep the sending thread for ever.
    """

    _raw: io.RawIOBase = None  # type: ignore[assignment]  # until it is made

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, timeout: float) -> None:
        self._raw = raw
        self._sock = sock
        self._timeout = timeout
        self._deadline = clock.monotonic() + timeout
        self._begun = False
        self.over = False  # whether nothing more is read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if self.over:
            return None
        if not self._begun:
            # Most answers come in one piece, and the socket's timeout is as long. Changing
            # it releases the interpreter's lock, and may wait to get it back.
            self._begun = True
            return self._raw.readinto(buffer)
        left = self._deadline - clock.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        try:
            return self._raw.readinto(buffer)
        finally:
            # The next request on this connection has its whole time again.
            self._sock.settimeout(self._timeout)

    def close(self) -> None:
        if self._raw is not None:
            self._raw.close()
        super().close()
