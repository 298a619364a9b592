"""Body → answer. Only this module uses `requests`, and a sending thread imports it."""

from __future__ import annotations

import math
import sys

from htlogging._delivery import answers, environment
from htlogging._delivery.exchange import Answer, Unreachable
from htlogging._delivery.exchange import body as request_body
from htlogging._delivery.headers import moment, retry_after
from htlogging._delivery.network_errors import causes, unreachable
from htlogging._delivery.redaction import Redaction
from htlogging._delivery.retry import is_success
from htlogging._process import capturing, deferred, fork, sigpipe
from htlogging._process.clock import clock
from htlogging._process.interruption import pass_on
from htlogging._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    import requests

    from htlogging._delivery.connections import Connections
    from htlogging._delivery.oauth import TokenSource
    from htlogging._settings import Settings

# Seconds for the first connection, if a retry follows. Otherwise a network that drops
# packets would be noticed only after `timeout`.
FIRST_CONNECT = 1.5

# Seconds after which there should be a connection to the host. `FIRST_CONNECT` does not
# bound name resolution, and counts for each of a host's addresses.
CONNECTED_AFTER = 1.0

# Hosts to which this process has begun to connect.
_awaited: set[str] = set()

# The most bytes of an answer that are read; an answer says little, and may have no end.
MAX_ANSWER = 65_536

# The fastest level; at every level ten similar events shrink to a tenth.
GZIP_LEVEL = 1


@fork.late_import
def _connections() -> type[Connections]:
    from htlogging._delivery.connections import Connections

    return Connections


_HEADERS = {
    "User-Agent": f"htlogging/{__version__}",
    # An answer is short, so it need not be compressed.
    "Accept-Encoding": "identity",
}

# Sessions that a forked child has inherited. Only the child's only thread adds to it.
_inherited: list[requests.Session] = []


class HttpTransport:
    """
    The `Transport` by HTTP: one connection, because a `Session` is safe for one thread.

    Args:
        settings: The host, the write key, and the timeouts.
        tokens: The source of OAuth tokens; `None` without OAuth.
        missed: Called, on any thread, with the reason if there is no connection for long.
    """

    def __init__(
        self,
        settings: Settings,
        tokens: TokenSource | None = None,
        missed: Callable[[str], object] | None = None,
    ) -> None:
        self._settings = settings
        self._missed = missed
        self._is_posting = False
        self._tokens = tokens
        self._session: requests.Session | None = None
        self._connections: Connections
        # The options of all requests, as long as the session lives.
        self._request: requests.PreparedRequest
        self.options: Any  # of `Session.send`: proxies, TLS
        self._used = False  # whether the session's last batch got an answer
        # Whether the first connection gets less time; not on this machine, where no
        # network is in between.
        self._hasty = (
            settings.max_retries > 0
            and not settings.sync_mode
            and not capturing.is_loopback(settings.host)
        )
        fork.register(self)

    def open(self) -> None:
        """Import `requests`, so that the first `post` takes less time."""
        self.session()

    def body(self, events: Sequence[bytes]) -> bytes:
        """Return a request's JSON, with this moment as its `sentAt`."""
        return request_body(events, self._settings.write_key)

    def post(self, body: bytes, *, compress: bool, timeout: float) -> Answer:
        """
        Send a body once; with OAuth once more if the token is refused.

        Redirects are not followed: they would lose the body and give away the key.

        Args:
            body: JSON.
            compress: Whether to send it gzipped.
            timeout: Seconds for connecting, for sending the body and for the whole
                answer, each; OAuth's requests are included. Name resolution has its
                own limits.

        Raises:
            Unreachable: No answer came.
        """
        if self._hasty:
            self._await_connection()
        self._is_posting = True
        try:
            with sigpipe.blocked():
                if self._tokens is None:
                    return self._post(body, (), compress=compress, timeout=timeout)
                deadline = clock.monotonic() + timeout
                return self._post_with_token(
                    self._tokens, body, deadline, compress=compress
                )
        finally:
            self._is_posting = False

    def close(self) -> None:
        session, self._session = self._session, None
        self._used = False
        if session is not None:
            with sigpipe.blocked():
                self._connections.close()
                session.close()

    def after_fork_in_child(self) -> None:
        """Drop the parent's connection, in a forked child."""
        if self._session is not None:
            self._connections.close_inherited()
            # Kept for ever, unused: freeing it may need a lock of OpenSSL that a thread
            # of the parent held.
            _inherited.append(self._session)
            self._session = None
        self._used = False

    def session(self) -> requests.Session:
        """Return the session; make it, and the `options` of its requests, if need be."""
        if self._session is None:
            self._connections = _connections()()
            session = self._connections.new_session()
            # Once: for each request, requests would search the whole environment, which
            # took half the time of a small request.
            self._request = self._prepare(session)
            self.options = environment.options(
                session, self._request.url or "", self._settings.proxies
            )
            self._session = session
        return self._session

    def _prepare(self, session: requests.Session) -> requests.PreparedRequest:
        from requests import Request

        return session.prepare_request(
            Request(
                "POST",
                f"{self._settings.host}/v1/batch",
                headers={"Content-Type": "application/json", **_HEADERS},
                # Not as a header: a .netrc would override it in requests.
                auth=(self._settings.write_key, "") if self._tokens is None else _as_is,
            )
        )

    def _post_with_token(
        self, tokens: TokenSource, body: bytes, deadline: float, *, compress: bool
    ) -> Answer:
        """
        Send a body; after a 401 or 403, once more with a fresh token.

        A token that another thread fetched before the first answer is not fresh.
        """
        refused = math.inf
        sent: list[str] = []  # a server may echo any of them
        while True:
            try:
                token = tokens.get(self.fetch, deadline - clock.monotonic())
            except Unreachable as exc:
                if exc.code == "network":  # lines about that name the host of batches
                    exc.code = "oauth"
                    exc.reason = f"the OAuth server cannot be reached: {exc.reason}"
                # An OAuth server is not sent the write key; it is removed all the same.
                exc.reason = Redaction(self._settings.write_key).line(exc.reason, 999)
                raise
            left = max(deadline - clock.monotonic(), 0.001)
            sent.append(token.value)
            answer = self._post(body, sent, compress=compress, timeout=left)
            if answer.status not in (401, 403):
                return answer
            tokens.drop(token)
            if token.fetched > refused:
                return answer
            refused = min(refused, clock.monotonic())

    def _post(
        self, body: bytes, tokens: Sequence[str], *, compress: bool, timeout: float
    ) -> Answer:
        """Send a body once, with the last of the tokens."""

        def batch(session: requests.Session) -> requests.Response:
            # A copy: greenlets may share this object, and tools that instrument `requests`
            # add headers.
            request = self._request.copy()
            data = body
            if compress:
                data = _gzip(data)
                request.headers["Content-Encoding"] = "gzip"
            if tokens:
                request.headers["Authorization"] = f"Bearer {tokens[-1]}"
            request.body = data
            request.prepare_content_length(data)
            limit = self._limit(timeout)
            return session.send(
                request, timeout=limit, allow_redirects=False, **self.options
            )

        used, self._used = self._used, False
        response = self.exchange(batch, timeout, used=used)
        self._used = True
        status, text = response.status_code, self.read(response)
        answers.check_first(self._settings.host, status, text)
        asked = retry_after(response.headers.get("Retry-After"))
        date = moment(response.headers.get("Date"))
        if is_success(status):
            return Answer(status, retry_after=asked, date=date)
        # The answer may be a proxy's.
        passwords = environment.secrets(self.options)
        redact = Redaction(self._settings.write_key, *tokens, *passwords)
        code, message = answers.explain(status, text, redact)
        return Answer(status, retry_after=asked, code=code, message=message, date=date)

    def _await_connection(self) -> None:
        """Report if there is no connection after a while; once for each host."""
        host, missed = self._settings.host, self._missed
        if missed is None or host in _awaited:
            return
        _awaited.add(host)

        def look() -> None:
            began = self._is_posting and self._session is not None
            if began and not self._connections.is_open():
                missed(f"no connection after {CONNECTED_AFTER:.0f} s")

        deferred.later(look, CONNECTED_AFTER)

    def _limit(self, timeout: float) -> tuple[float, float]:
        """Return how long to wait for a connection to an address, then for the answer."""
        hasty, self._hasty = self._hasty, False
        share = timeout / environment.addresses.get(self._settings.host, 1)
        return (min(share, FIRST_CONNECT) if hasty else share, timeout)

    def fetch(
        self, url: str, form: bytes, timeout: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send a form to an OAuth server, on a connection for one request."""
        from requests import Request

        def ask(session: requests.Session) -> requests.Response:
            kind = "application/x-www-form-urlencoded"
            headers = {"Content-Type": kind, "Connection": "close", **_HEADERS}
            request = session.prepare_request(
                Request("POST", url, headers=headers, data=form, auth=_as_is)
            )
            options = environment.options(session, url, self._settings.proxies)
            return session.send(
                request, timeout=timeout, allow_redirects=False, **options
            )

        response = self.exchange(ask, timeout, used=False)
        return response.status_code, response.headers, self.read(response)

    def exchange(
        self,
        send: Callable[[requests.Session], requests.Response],
        timeout: float,
        *,
        used: bool,
    ) -> requests.Response:
        """Send a request; return its answer, whose head has been read."""
        try:
            session = self.session()
            self._connections.timeout, self._connections.unusual = timeout, False
            response = send(session)
        except Unreachable:
            raise
        except Exception as exc:  # noqa: BLE001
            # A session may raise anything, such as UnicodeError for a wrong host name.
            # The events are tried again, and the thread must go on.
            pass_on(reversed(causes(exc)))
            if self._session is not None:  # perhaps a CA bundle was removed
                environment.check(self.options, self._request.url or "")
            raise unreachable(exc, used=used) from None
        session.cookies.clear()  # from a load balancer; each request is like the first
        return response

    def read(self, response: requests.Response) -> bytes:
        """Return the body of an answer, up to the limit."""
        text = b""
        try:
            # To its end, if it has one: only then can the connection be kept.
            text = response.raw.read(MAX_ANSWER + 1, decode_content=False) or b""
            if len(text) > MAX_ANSWER:
                response.close()
        except Exception as exc:  # noqa: BLE001
            # The status decides: a 2xx whose body is cut off is a delivery all the same.
            response.close()
            pass_on(reversed(causes(exc)))
        found = response.headers
        two_lengths = "Content-Length" in found and "Transfer-Encoding" in found
        unusual = two_lengths or self._connections.unusual
        if response.status_code < 200 or unusual:  # noqa: PLR2004
            # The rest of the answer would be taken for the answer to the next request.
            self._connections.close()
            self._used = False
        return text[:MAX_ANSWER]


def _as_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add no authorization; without this, requests would read a .netrc."""
    return request


def _gzip(body: bytes) -> bytes:
    import zlib

    if sys.version_info >= (3, 11):
        # In one call: beside a busy caller each call waits 5 ms to get the interpreter's
        # lock back.
        return zlib.compress(body, GZIP_LEVEL, wbits=31)
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)  # 31: gzip's header
    return compressor.compress(body) + compressor.flush()
