"""A received request, and the answer to it."""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass, field, replace
from http import HTTPStatus
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message
    from typing import Any, Literal


@dataclass(frozen=True)
class Reply:
    """
    An answer, and what goes wrong with it.

    The events of a well-formed request count as accepted if its status is a 2xx, also
    with `drip`, with `endless`, and with `drop` as `"middle"`, `"after"` or `"stale"`. They
    count before any `delay`. With another status or with `drop="before"` they do not
    count.

    Args:
        status: The HTTP status; `None` for the usual one of the request.
        headers: Headers to add or to replace.
        retry_after: The Retry-After header: seconds, or any text.
        location: The Location header, for a 3xx.
        body: The answer's body; `None` for the usual one.
        delay: Seconds to wait before the answer; `stop` ends the wait.
        drop: How the connection ends. `"before"`: reset (RST) without an answer and,
            from a script, without reading the body. `"middle"`: reset in the middle of
            the answer's body. `"after"`: closed without an answer. `"stale"`: closed
            after a good answer without a notice, as a server closes an idle one.
        drip: Seconds to wait after each byte of the answer.
        endless: Whether the (chunked) body goes on until the client leaves.
    """

    status: int | None = None
    _: KW_ONLY
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: str | float | None = None
    location: str | None = None
    body: bytes | None = None
    delay: float = 0.0
    drop: Literal["before", "middle", "after", "stale"] | None = None
    drip: float = 0.0
    endless: bool = False

    def __post_init__(self) -> None:
        if self.drop not in (None, "before", "middle", "after", "stale"):
            raise ValueError(f"drop cannot be {self.drop!r}")


@dataclass(frozen=True)
class Problem:
    """
    Something wrong with what was sent.

    Args:
        text: What is wrong, without a value of an event and without the write key.
        event: The event; `None` if the request as a whole is wrong.
    """

    text: str
    event: dict[str, Any] | None = None


@dataclass(eq=False)
class Request:
    """
    A received request. Its repr shows neither the key nor events.

    Attributes:
        method: `POST`, for a client that follows the rules.
        path: As sent, with any prefix and query.
        headers: `get` and `[]` ignore upper and lower case.
        raw: The body as received; only the beginning of one over the limit.
        body: The body decompressed; empty if that failed.
        events: The well-formed request's events, whatever was answered.
        problems: What is wrong with it, whatever was answered.
        sent_at: The body's `sentAt`.
        write_key: The key, of header or body.
        status: The answer's status; `None` when the connection was broken instead.
        taken: Whether the events count as accepted.
        arrived: `time.monotonic()` when its head had been read.
        connection: Requests on one connection have the same number, from 1 on.
    """

    method: str
    path: str
    headers: Message = field(repr=False)
    raw: bytes = field(repr=False)
    arrived: float = field(repr=False)
    connection: int
    body: bytes = field(default=b"", repr=False)
    events: list[dict[str, Any]] = field(default_factory=list, repr=False)
    problems: list[Problem] = field(default_factory=list)
    sent_at: str | None = field(default=None, repr=False)
    write_key: str | None = field(default=None, repr=False)
    status: int | None = None
    taken: bool = False


class Arrival(NamedTuple):
    """A request as the server read it."""

    method: str
    path: str
    headers: Message
    raw: bytes
    complete: bool  # whether the whole body came, as its head promised
    arrived: float
    connection: int


def reason(status: int) -> str:
    """Return the status's phrase in RFC 9110, or an empty text."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def is_success(status: int | None) -> bool:
    """Return whether it is a 2xx."""
    return status is not None and status // 100 == 2  # noqa: PLR2004


def answer_body(status: int, code: str | None = None, message: str = "") -> bytes:
    """Return the body that the receiver sends with a status, as far as is known."""
    if is_success(status):
        return b'{"success":true}'
    said = {"code": code or str(status), "message": message or reason(status)}
    return json.dumps(said, separators=(",", ":")).encode()


def as_reply(reply: Reply | int) -> Reply:
    """Return an answer; an int is its status."""
    return Reply(reply) if isinstance(reply, int) else reply


def merge(natural: Reply, scripted: Reply | None) -> Reply:
    """Return the scripted answer; the usual one fills in what it leaves open."""
    if scripted is None:
        return natural
    if scripted.status in (None, natural.status):
        status, body = natural.status, natural.body
    else:
        status, body = scripted.status, answer_body(scripted.status or 0)
    if scripted.body is not None:
        body = scripted.body
    return replace(scripted, status=status, body=body)
