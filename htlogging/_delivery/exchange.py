"""What goes to a server and what comes back: a body, an answer or that there was none."""

from __future__ import annotations

import time

from htlogging._event.iso8601 import iso
from htlogging._settings import MAX_BODY_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class Transport(Protocol):
        """The way to the server, for one thread."""

        def open(self) -> None:
            """Prepare, so that the first `post` takes less time."""

        def body(self, events: Sequence[bytes]) -> bytes:
            """Return the body of one try to send events."""

        def post(self, body: bytes, *, compress: bool, timeout: float) -> Answer:
            """Send a body once, or raise `Unreachable`."""

        def close(self) -> None:
            """Close the connection; the next `post` opens a new one."""


def body(events: Sequence[bytes], write_key: str) -> bytes:
    """
    Return a request's body, UTF-8 JSON, with this moment as its `sentAt`.

    The receiver corrects the events' times by `sentAt`, so each try needs a new body.
    """
    parts = list(events) or [b""]
    parts[0] = b'{"batch":[' + parts[0]
    parts[-1] += _tail(iso(time.time()), write_key)
    # One join: a second one of half a megabyte took 30 times as long, because the system
    # gave the memory and took it back each time.
    return b",".join(parts)


def room(write_key: str) -> int:
    """Return how many bytes of events fit into a request, with a comma for each."""
    return MAX_BODY_BYTES - len(body([], write_key))


def _tail(sent_at: str, write_key: str) -> bytes:
    return f'],"sentAt":"{sent_at}","writeKey":{_json_text(write_key)}}}'.encode()


def _json_text(text: str) -> str:
    try:
        # As `json.dumps`, without its import: a handler's first event is not to wait for it.
        from _json import encode_basestring_ascii
    except ImportError:  # pragma: no cover  (not CPython)
        from json.encoder import py_encode_basestring_ascii as encode_basestring_ascii
    return encode_basestring_ascii(text)


class Unreachable(Exception):
    """
    There was no answer to a batch.

    Args:
        reason: Why, without an address or a secret.
        stale: Whether a kept connection had been closed by the server meanwhile, which
            says nothing about the server.
        cut: Whether the request was under way: one of its events may be the cause.
        retry_after: Seconds that the refusing side asks to wait, or `None`.
        code: A word for the cause.
        status: The status of the refusal, or `None`.
        final: Whether another try is useless.
    """

    def __init__(  # noqa: PLR0913
        self,
        reason: str,
        *,
        stale: bool = False,
        cut: bool = False,
        retry_after: float | None = None,
        code: str = "network",
        status: int | None = None,
        final: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stale = stale
        self.cut = cut
        self.retry_after = retry_after
        self.code = code
        self.status = status
        self.final = final

    def again(self) -> Unreachable:
        """Return the same for another thread to raise, without this one's traceback."""
        return Unreachable(
            self.reason,
            stale=self.stale,
            cut=self.cut,
            retry_after=self.retry_after,
            code=self.code,
            status=self.status,
            final=self.final,
        )


class Answer:
    """
    A server's answer.

    Args:
        status: The HTTP status.
        retry_after: Seconds that the server asks to wait, or `None`.
        code: The server's word for the fault; by default the status as text.
        message: The server's sentence about the fault, shortened, without the write key.
        date: The server's clock, seconds since 1970, or `None`.
    """

    __slots__ = ("code", "date", "message", "retry_after", "status")

    def __init__(
        self,
        status: int,
        *,
        retry_after: float | None = None,
        code: str = "",
        message: str = "",
        date: float | None = None,
    ) -> None:
        self.status = status
        self.retry_after = retry_after
        self.code = code or str(status)
        self.message = message
        self.date = date
