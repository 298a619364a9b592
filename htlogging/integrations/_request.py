"""A request of any server, and how it is read from a WSGI environ or an ASGI scope."""

from __future__ import annotations

import re
from urllib.parse import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Any, Protocol

    Environ = dict[str, Any]
    Scope = MutableMapping[str, Any]

    class Request(Protocol):
        """A request of one kind of server."""

        @property
        def scheme(self) -> str:
            """`http` or `https`."""

        @property
        def peer(self) -> str:
            """The peer's address, from the server; empty on a socket file."""

        @property
        def path(self) -> str:
            """The whole path as in a URL, percent-encoded."""

        @property
        def query(self) -> str:
            """The query string."""

        @property
        def server(self) -> str:
            """The server's own name, used if the client names no host."""

        def header(self, name: str) -> str:
            """Return a header with its lines joined; empty if there is none."""


_SAFE = "/:@!$&'()*+,;=-._~"
_ALL_SAFE = re.compile(r"[\w/:@!$&'()*+,;=.~-]*", re.ASCII)


def encoded(path: str | bytes) -> str:
    """Return a decoded path, encoded as in a URL."""
    # Most are as they are in a URL: a match costs a fifth of what `quote` does.
    if type(path) is str and _ALL_SAFE.fullmatch(path):
        return path
    return quote(path, safe=_SAFE)


class WsgiRequest:
    """A request, read from its environ."""

    __slots__ = ("_environ",)

    def __init__(self, environ: Environ) -> None:
        self._environ = environ

    def header(self, name: str) -> str:
        """Return a header, its lines joined by the server."""
        key = "HTTP_" + name.upper().replace("-", "_")
        return str(self._environ.get(key, ""))

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return str(self._environ.get("wsgi.url_scheme", "http"))

    @property
    def peer(self) -> str:
        """The peer's address."""
        return str(self._environ.get("REMOTE_ADDR") or "")

    @property
    def path(self) -> str:
        """The path with the application's own prefix."""
        environ = self._environ
        path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
        if path.isascii():
            return encoded(path)
        return encoded(path.encode("latin-1", "replace"))

    @property
    def query(self) -> str:
        """The query string."""
        return str(self._environ.get("QUERY_STRING", ""))

    @property
    def server(self) -> str:
        """The server's name and port."""
        environ = self._environ
        name, port = environ.get("SERVER_NAME", ""), environ.get("SERVER_PORT", "")
        return f"{name}:{port}" if port not in ("80", "443") else name


class AsgiRequest:
    """A request, read from its scope."""

    __slots__ = ("_headers", "_path", "_raw_path", "_scope")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        # Read now, because routers shorten them in place.
        self._path = scope.get("path", "")
        self._raw_path = scope.get("raw_path")
        self._headers: dict[bytes, bytes] | None = None

    def header(self, name: str) -> str:
        """Return a header, its lines joined."""
        headers = self._headers
        if headers is None:
            headers = self._headers = {}
            for each, value in self._scope.get("headers", ()):
                # HTTP/2 may split cookies into lines.
                join = b"; " if each == b"cookie" else b", "
                known = headers.get(each)
                headers[each] = value if known is None else known + join + value
        return headers.get(name.encode(), b"").decode("latin-1")

    @property
    def scheme(self) -> str:
        """`http` or `https`, for a websocket too."""
        scheme = str(self._scope.get("scheme", "http"))
        return {"ws": "http", "wss": "https"}.get(scheme, scheme)

    @property
    def peer(self) -> str:
        """The peer's address."""
        client = self._scope.get("client")
        return str(client[0] or "") if client else ""

    @property
    def path(self) -> str:
        """The path with the application's own prefix."""
        if self._raw_path:
            return str(self._raw_path.partition(b"?")[0].decode("latin-1"))
        return encoded(self._path)

    @property
    def query(self) -> str:
        """The query string."""
        return str(self._scope.get("query_string", b"").decode("latin-1"))

    @property
    def server(self) -> str:
        """The server's name and port."""
        name, port = self._scope.get("server") or ("", None)
        if port is None:  # the path of a socket file
            return ""
        return f"{name}:{port}" if port not in (80, 443) else str(name)
