"""Body → answer; `requests` lives here alone, and the thread that sends imports it."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from contextlib import suppress

from htlogging._delivery.network_errors import unreachable
from htlogging._delivery.retry import Answer
from htlogging._process import fork
from htlogging._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from http.client import HTTPResponse
    from typing import Any

    import requests
    from _typeshed import WriteableBuffer

    from htlogging._settings import Settings

# Bytes of an answer that are read; it says little, and may have no end.
MAX_ANSWER = 65_536

# Characters of what the server says that are passed on.
MAX_MESSAGE = 200

# What a server's `code` looks like where it is one.
_WORD = r"[\w.*-]+"

# The fastest level: ten similar events shrink to a tenth at every level.
GZIP_LEVEL = 1


class HttpTransport:
    """
    One connection to the server, for one thread: a `Session` is promised to no more.

    Args:
        settings: Where to, with which key, and how long to wait.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session: requests.Session | None = None
        # What all requests have in common, as long as the session lives.
        self._request: requests.PreparedRequest
        self._options: Any
        self._used = False  # whether the session's last request had an answer

    def open(self) -> None:
        """Import `requests`, so that the first `post` need not."""
        self._ready()

    def post(self, body: bytes, *, compress: bool, timeout: float) -> Answer:
        """
        Send a body, once.

        Redirects are not followed: they would lose the body, and take the key along.

        Args:
            body: JSON.
            compress: Whether to send it gzipped.
            timeout: Seconds to wait for the connection, then for the body to be taken,
                then for the whole answer. Name resolution has its own limits.

        Raises:
            Unreachable: No answer came.
        """
        used, self._used = self._used, False
        try:
            session = self._ready()
            # A copy: greenlets may share this object, and what instruments `requests`
            # adds headers.
            request = self._request.copy()
            if compress:
                body = _gzip(body)
                request.headers["Content-Encoding"] = "gzip"
            request.body = body
            request.prepare_content_length(body)
            response = session.send(
                request, timeout=timeout, allow_redirects=False, **self._options
            )
        except Exception as exc:  # noqa: BLE001
            # Whatever a session raises, for a wrong host name say UnicodeError: the
            # events shall be tried again, and the thread shall live.
            raise unreachable(exc, used=used) from None
        self._used = True
        session.cookies.clear()  # a load balancer's; the next request is like the first
        return self._answer(response)

    def close(self) -> None:
        """Close the connection; the next `post` opens another."""
        session, self._session = self._session, None
        self._used = False
        if session is not None:
            for adapter in session.adapters.values():
                _close_pools(adapter)
            session.close()

    def _ready(self) -> requests.Session:
        if self._session is None:
            with fork.importing:
                session = _new_session()
                from requests import Request
            # Once: requests would look through the whole environment for each request,
            # which took half of a small one's time.
            self._request = session.prepare_request(
                Request(
                    "POST",
                    f"{self._settings.host}/v1/batch",
                    headers={
                        "Content-Type": "application/json",
                        "User-Agent": f"htlogging/{__version__}",
                        # What the answer says is short; it need not be compressed.
                        "Accept-Encoding": "identity",
                    },
                    # Not as a header: requests would let a .netrc win over that.
                    auth=(self._settings.write_key, ""),
                )
            )
            self._options = session.merge_environment_settings(
                self._request.url,
                # A copy: requests adds to it what the environment says.
                proxies=dict(self._settings.proxies or {}),
                stream=True,
                verify=None,
                cert=None,
            )
            self._session = session
        return self._session

    def _answer(self, response: requests.Response) -> Answer:
        status = response.status_code
        text = b""
        try:
            # To the end, where there is one: only then the connection can be kept.
            text = response.raw.read(MAX_ANSWER + 1, decode_content=False) or b""
            if len(text) > MAX_ANSWER:
                response.close()
        except Exception:  # noqa: BLE001
            # The status is known, and decides: a 2xx cut off is a delivery all the same.
            response.close()
        code, message = self._explain(status, text[:MAX_ANSWER])
        retry_after = _retry_after(response.headers.get("Retry-After"))
        return Answer(status, retry_after, code, message)

    def _explain(self, status: int, text: bytes) -> tuple[str, str]:
        """Find a code and a sentence in an answer of a form that nobody documents."""
        said: Any = None
        with suppress(ValueError, RecursionError):
            said = json.loads(text)
        code, message = str(status), f"the server refused with status {status}"
        if isinstance(said, dict):
            word = self._short(said.get("code"))
            # A word goes to the log too; a sentence there might quote an event.
            code = word if re.fullmatch(_WORD, word, re.ASCII) else code
            message = (
                self._short(said.get("message"))
                or self._short(said.get("error"))
                or message
            )
        return code, message

    def _short(self, value: Any) -> str:
        """Return a str on one line, clipped, without the key; else no message."""
        if not isinstance(value, str):
            return ""
        import base64  # as zlib: by now `requests` has imported it

        key = self._settings.write_key
        # Before it is clipped: the beginning of a key is no better than all of it. A
        # server may also return the Authorization header it got.
        basic = base64.b64encode(f"{key}:".encode()).decode()
        if key:
            value = value.replace(basic, "***").replace(key, "***")
        value = value[:MAX_MESSAGE]
        return "".join(c if c.isprintable() else " " for c in value).strip()


def _new_session() -> requests.Session:
    """Make a session that waits for answers by a deadline and sees no redirects."""
    # Here, not above: they take 0.1 s to import, which the application need not wait
    # for. The classes inherit from them, so they are made here too.
    import requests
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            _time_answers(self.poolmanager)

        def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
            known = proxy in self.proxy_manager
            manager = super().proxy_manager_for(proxy, **kwargs)
            if not known:
                _time_answers(manager)
            return manager

    class Session(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
            # Even where redirects are not followed, the session looks where one leads
            # to: it reads the answer's body, were it endless, and fails on a bad URL.
            return

    session = Session()
    session.mount("https://", Adapter())
    session.mount("http://", Adapter())
    return session


def _close_pools(adapter: Any) -> None:
    """Close connections; urllib3 leaves that to `weakref.finalize`, which ends at exit."""
    for manager in (adapter.poolmanager, *adapter.proxy_manager.values()):
        for key in list(manager.pools.keys()):
            manager.pools[key].close()


def _time_answers(manager: Any) -> None:
    """Give a pool manager's connections answers that come by a deadline."""

    def timed(pool: Any) -> type:
        attributes = {"response_class": staticmethod(_response)}
        connection = type("Connection", (pool.ConnectionCls,), attributes)
        return type(pool.__name__, (pool,), {"ConnectionCls": connection})

    pools = manager.pool_classes_by_scheme
    # urllib3's own way for managers with other classes; SOCKSProxyManager goes it too.
    manager.pool_classes_by_scheme = {name: timed(pools[name]) for name in pools}


def _response(sock: socket.socket, *args: Any, **kwargs: Any) -> HTTPResponse:
    from http.client import HTTPResponse

    response = HTTPResponse(sock, *args, **kwargs)
    response.fp = io.BufferedReader(_Timed(response.fp.detach(), sock))
    return response


class _Timed(io.RawIOBase):
    """
    An answer as it comes from the socket, all of it by one deadline.

    The socket's own timeout starts anew with every byte: a server that sends one a
    second would hold the sending thread for ever.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        timeout = sock.gettimeout()
        assert timeout is not None  # every `post` has one
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if not self._begun:
            # Most answers come in one piece, and the socket's own timeout is as long. A
            # change of it lets go of the interpreter's lock, and may wait to get it back.
            self._begun = True
            return self._raw.readinto(buffer)
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        try:
            return self._raw.readinto(buffer)
        finally:
            # The next request on this connection has all of its own.
            self._sock.settimeout(self._timeout)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _gzip(body: bytes) -> bytes:
    import zlib

    if sys.version_info >= (3, 11):
        # In one call: beside a caller that does nothing else, each one waits 5 ms to get
        # the interpreter's lock back.
        return zlib.compress(body, GZIP_LEVEL, wbits=31)
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)  # 31: gzip's header
    return compressor.compress(body) + compressor.flush()


def _retry_after(header: str | None) -> float | None:
    if header is None:
        return None
    from urllib3.util.retry import Retry

    try:
        return float(Retry().parse_retry_after(header))
    except Exception:  # noqa: BLE001
        # Not only InvalidHeader: a date beyond the calendar raises OverflowError.
        return None
