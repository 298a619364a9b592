"""A request as it came in, and the answer to it."""

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

    The events of a request count as taken in when it is well formed and its status is a
    2xx, before any `delay`; so they do with `drop` as `"middle"`, `"after"` or
    `"stale"`, with `drip` and with `endless`. They do not with another status, nor with
    `drop="before"`.

    Args:
        status: The HTTP status; `None` for the one that the request deserves.
        headers: Headers to add or to replace.
        retry_after: The Retry-After header: seconds, or any text.
        location: The Location header, for a 3xx.
        body: The answer's body; `None` for the usual one.
        delay: Seconds to wait before the answer; `stop` ends the wait.
        drop: How the connection ends. `"before"`: reset (RST) without an answer and,
            from a script, without reading the body. `"middle"`: reset in the middle of
            the answer's body. `"after"`: closed without an answer. `"stale"`: closed
            after a good answer that did not say so, as an idle one is by a server.
        drip: Seconds to wait after each byte of the answer.
        endless: Whether the body has no end (chunked), until the client goes.
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
        text: A clause that holds no value of an event and no write key.
        event: Which event; `None` when it is the request as a whole.
    """

    text: str
    event: dict[str, Any] | None = None


@dataclass(eq=False)
class Request:
    """
    A request that came in. Its repr shows neither key nor events.

    Attributes:
        method: `POST`, for a client that follows the rules.
        path: As sent, with any prefix and query.
        headers: `get` and `[]` do not mind the case.
        raw: The body as received; of one over the limit, the beginning.
        body: The body decompressed; empty where that failed.
        events: The well-formed request's events, whatever was answered.
        problems: What is wrong with it, whatever was answered.
        sent_at: The body's `sentAt`.
        write_key: The key, of header or body.
        status: The answer's status; `None` when the connection was broken instead.
        taken: Whether the events count as taken in.
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
    complete: bool  # whether the body came to the end that its head promised
    arrived: float
    connection: int


def reason(status: int) -> str:
    """Return the status's phrase by RFC 9110, empty for one that has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def is_success(status: int | None) -> bool:
    """Tell whether it is a 2xx."""
    return status is not None and status // 100 == 2  # noqa: PLR2004


def answer_body(status: int, code: str | None = None, message: str = "") -> bytes:
    """Return what the receiver says with a status, as far as anybody knows."""
    if is_success(status):
        return b'{"success":true}'
    said = {"code": code or str(status), "message": message or reason(status)}
    return json.dumps(said, separators=(",", ":")).encode()


def as_reply(reply: Reply | int) -> Reply:
    """Return a bare status as an answer."""
    return Reply(reply) if isinstance(reply, int) else reply


def merge(natural: Reply, scripted: Reply | None) -> Reply:
    """Return the scripted answer with what it leaves to the request filled in."""
    if scripted is None:
        return natural
    if scripted.status in (None, natural.status):
        status, body = natural.status, natural.body
    else:
        status, body = scripted.status, answer_body(scripted.status or 0)
    if scripted.body is not None:
        body = scripted.body
    return replace(scripted, status=status, body=body)
