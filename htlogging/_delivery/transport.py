"""Body → answer; `requests` lives here alone, and the thread that sends imports it."""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import suppress
from email.utils import mktime_tz, parsedate_tz

from htlogging._delivery.network_errors import unreachable
from htlogging._delivery.redaction import Redaction
from htlogging._delivery.retry import Answer, Unreachable
from htlogging._process import fork, sigpipe
from htlogging._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import requests

    from htlogging._delivery.connections import Connections
    from htlogging._settings import Settings

# Bytes of an answer that are read; it says little, and may have no end.
MAX_ANSWER = 65_536

# Characters of what the server says that are passed on.
MAX_MESSAGE = 200

# What a server's `code` looks like where it is one.
_WORD = r"[\w.*-]+"

# Digits of a Retry-After that are read: more of them are no other wait.
_MAX_DIGITS = 12

# The fastest level: ten similar events shrink to a tenth at every level.
GZIP_LEVEL = 1


# Sessions that a forked child has from its parent. Added to in the child, on its only
# thread.
_inherited: list[requests.Session] = []


class HttpTransport:
    """
    One connection to the server, for one thread: a `Session` is promised to no more.

    Args:
        settings: Where to, with which key, and how long to wait.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._redact = Redaction(settings.write_key)
        self._session: requests.Session | None = None
        self._connections: Connections
        # What all requests have in common, as long as the session lives.
        self._request: requests.PreparedRequest
        self._options: Any
        self._used = False  # whether the session's last request had an answer
        fork.register(self)

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
        with sigpipe.blocked():
            session = self._ready()
            # A copy: greenlets may share this object, and what instruments `requests`
            # adds headers.
            request = self._request.copy()
            if compress:
                body = _gzip(body)
                request.headers["Content-Encoding"] = "gzip"
            request.body = body
            request.prepare_content_length(body)
            return self._answer(self._exchange(session, request, timeout))

    def close(self) -> None:
        """Close the connection; the next `post` opens another."""
        session, self._session = self._session, None
        self._used = False
        if session is not None:
            with sigpipe.blocked():
                self._connections.close()
                session.close()

    def after_fork_in_child(self) -> None:
        """Leave the parent's connection to the parent."""
        if self._session is not None:
            self._connections.disown()
            # Kept for ever, unused: what is taken apart may want a lock of OpenSSL's
            # that a thread of the parent held.
            _inherited.append(self._session)
            self._session = None
        self._used = False

    def _ready(self) -> requests.Session:
        if self._session is None:
            try:
                self._session = self._open_session()
            except Unreachable:
                raise
            except Exception as exc:  # noqa: BLE001
                raise unreachable(exc, used=False) from None
        return self._session

    def _open_session(self) -> requests.Session:
        with fork.importing:
            from requests import Request

            from htlogging._delivery import environment
            from htlogging._delivery.connections import Connections
        self._connections = Connections()
        session = self._connections.new_session()
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
        self._options = environment.options(
            session, self._request.url or "", self._settings.proxies
        )
        return session

    def _exchange(
        self,
        session: requests.Session,
        request: requests.PreparedRequest,
        timeout: float,
    ) -> requests.Response:
        """Send a request; return its answer, of which the head has been read."""
        used, self._used = self._used, False
        self._connections.timeout, self._connections.unusual = timeout, False
        try:
            response = session.send(
                request, timeout=timeout, allow_redirects=False, **self._options
            )
        except Exception as exc:  # noqa: BLE001
            # Whatever a session raises, for a wrong host name say UnicodeError: the
            # events are tried again, and the thread must live.
            from htlogging._delivery import environment

            environment.check(
                self._options, request.url or ""
            )  # a CA bundle went away?
            raise unreachable(exc, used=used) from None
        self._used = True
        session.cookies.clear()  # a load balancer's; the next request is like the first
        return response

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
        if status < 200 or self._connections.unusual:  # noqa: PLR2004
            # What comes next on it would be taken for the answer to the next request.
            self._connections.close()
            self._used = False
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
        # Before it is clipped: the beginning of a key is no better than all of it.
        value = (self._redact(value) or "")[:MAX_MESSAGE]
        return "".join(c if c.isprintable() else " " for c in value).strip()


def _gzip(body: bytes) -> bytes:
    import zlib

    if sys.version_info >= (3, 11):
        # In one call: beside a caller that does nothing else, each one waits 5 ms to get
        # the interpreter's lock back.
        return zlib.compress(body, GZIP_LEVEL, wbits=31)
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)  # 31: gzip's header
    return compressor.compress(body) + compressor.flush()


def _retry_after(header: str | None) -> float | None:
    """Return the seconds of a Retry-After: a whole number of them or a date."""
    if header is None:
        return None
    header = header.strip()
    if re.fullmatch("[0-9]+", header):
        return float(header[:_MAX_DIGITS])
    try:
        date = parsedate_tz(header)
        if date is None:
            return None
        # Without a zone it is UTC; mktime_tz would take it for local time.
        moment = mktime_tz((*date[:9], date[9] or 0))
        return max(moment - time.time(), 0.0)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None  # beyond the calendar
