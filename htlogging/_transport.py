"""
Body → answer. `requests` lives here alone, and is imported by the thread that sends.
"""

from __future__ import annotations

import json
import os
import threading
import zlib

from htlogging import _fork
from htlogging._retry import Answer, Unreachable
from htlogging._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import requests

    from htlogging._settings import Settings

# Bytes of an answer that are read; it says little, and may have no end.
MAX_ANSWER = 65_536

# Characters of what the server says that are passed on.
MAX_MESSAGE = 200

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
        self._used = False  # whether the session's last request had an answer

    def post(self, body: bytes, *, compress: bool, timeout: float) -> Answer:
        """
        Send a body, once.

        Redirects are not followed: they would lose the body, and take the key along.

        Args:
            body: JSON.
            compress: Whether to send it gzipped.
            timeout: Seconds to wait for the connection, and for each part of the answer.

        Raises:
            Unreachable: No answer came.
        """
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"htlogging/{__version__}",
            # What the answer says is short; it need not be compressed.
            "Accept-Encoding": "identity",
        }
        if compress:
            body = _gzip(body)
            headers["Content-Encoding"] = "gzip"
        used, self._used = self._used, False
        try:
            response = self._ready().post(
                f"{self._settings.host}/v1/batch",
                data=body,
                headers=headers,
                # Not as a header: requests would let a .netrc win over that.
                auth=(self._settings.write_key, ""),
                timeout=timeout,
                proxies=self._settings.proxies,
                allow_redirects=False,
                stream=True,
            )
        except Exception as exc:  # noqa: BLE001
            # Whatever a session raises, for a wrong host name say UnicodeError: the
            # events shall be tried again, and the thread shall live.
            stale = used and _is_disconnect(exc)
            raise Unreachable(_reason(exc), stale=stale) from None
        self._used = True
        return self._answer(response)

    def close(self) -> None:
        """Close the connection; the next `post` opens another."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _ready(self) -> requests.Session:
        if self._session is None:
            with _fork.importing:
                import requests
            self._session = requests.Session()
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
        code, message = _explain(status, text[:MAX_ANSWER])
        key = self._settings.write_key
        return Answer(
            status,
            _retry_after(response.headers.get("Retry-After")),
            code.replace(key, "***"),
            message.replace(key, "***"),
        )


def _gzip(body: bytes) -> bytes:
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


def _explain(status: int, text: bytes) -> tuple[str, str]:
    """Find a code and a sentence in an answer of a form that nobody documents."""
    said: Any = None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        pass
    code, message = str(status), f"the server refused with status {status}"
    if isinstance(said, dict):
        code = _short(said.get("code")) or code
        message = _short(said.get("message")) or _short(said.get("error")) or message
    return code, message


def _short(value: Any) -> str:
    """Return a str on one line, clipped; anything else is no message."""
    if not isinstance(value, str):
        return ""
    return "".join(c if c.isprintable() else " " for c in value[:MAX_MESSAGE]).strip()


def _is_disconnect(exc: Exception) -> bool:
    import requests

    kinds = (requests.exceptions.ConnectionError, ConnectionError)
    return isinstance(exc, kinds) and not isinstance(exc, requests.exceptions.Timeout)


def _reason(exc: BaseException) -> str:
    """
    Say in a few words why there was no answer.

    Never by `str(exc)`: it holds the address, and a proxy's with its password.
    """
    names = [type(exc).__name__]
    seen: BaseException | None = exc
    for _ in range(8):
        inner = seen.__cause__ or seen.__context__ or getattr(seen, "reason", None)
        if inner is None and seen.args and isinstance(seen.args[-1], BaseException):
            inner = seen.args[-1]
        if inner is None and seen.args:
            inner = getattr(seen.args[0], "reason", None)
        if not isinstance(inner, BaseException):
            break
        seen = inner
        names.append(type(seen).__name__)
        verify = getattr(seen, "verify_message", None)
        if verify:
            return f"{names[-1]}: {verify}"
        if isinstance(seen, OSError) and seen.errno:
            return f"{names[0]}: {os.strerror(seen.errno)}"
    return names[0] if len(names) == 1 else f"{names[0]}: {names[-1]}"
