"""
A request's bytes → its events, by the rules of the Events API; or `Refused`.

The receiver's side. It refuses what the real receiver refuses, and no more: an event
without an id gets a 200 there (`_event/validation.py` says what is wrong with it). There is
no I/O here, and nothing is kept.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

# UTF-8 bytes of one event as sent: the limit of the Python, Node, Java and Ruby SDKs.
MAX_EVENT_BYTES = 32_768
# Bytes before compression: "500 KB", read as the most that any SDK sends.
MAX_REQUEST_BYTES = 512_000

# Bytes. Gzip enlarges data that it cannot compress by less than this.
MAX_RAW_BYTES = MAX_REQUEST_BYTES + 1_024

_PATH = re.compile(r"(?:/.*)?/v1/(batch|identify|track|page|screen|group|alias)/?")
_BETWEEN = re.compile(r"[ \t\n\r]*[,:]?[ \t\n\r]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

# Longer numbers are refused by `int` from Python 3.11 on; a receiver in another language
# uses doubles anyway.
_LONG_INT = 4_300  # digits


class Refused(Exception):
    """The receiver answers this request with a 4xx and takes none of its events."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message


def endpoint(path: str) -> str | None:
    """Return `batch` or the type of event that the path names; `None` if it names none."""
    found = _PATH.fullmatch(path.partition("?")[0])
    return found[1] if found else None


def decompress(raw: bytes, encoding: str | None) -> bytes:
    """
    Return the body as it was before its Content-Encoding.

    The request limit bounds the memory, however large the decompressed body is.

    Raises:
        Refused: It is not gzip (400), too large (413), or compressed otherwise (415).
    """
    encoding = (encoding or "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise Refused(
            415,
            "unsupported_encoding",
            "the only Content-Encoding that is supported is gzip",
        )
    if len(raw) > MAX_RAW_BYTES:
        raise _too_large()
    body = raw
    if encoding == "gzip":
        stream = zlib.decompressobj(31)  # 31: gzip's header
        try:
            body = stream.decompress(raw, MAX_REQUEST_BYTES + 1)
        except zlib.error:
            raise Refused(400, "invalid_gzip", "the body is not gzip") from None
        if len(body) <= MAX_REQUEST_BYTES and (not stream.eof or stream.unused_data):
            raise Refused(
                400, "invalid_gzip", "the gzip data and the body do not end together"
            )
    if len(body) > MAX_REQUEST_BYTES:
        raise _too_large()
    return body


def parse(body: bytes) -> dict[str, Any]:
    """
    Parse a request's JSON, strictly by RFC 8259; a name given twice has its last value.

    Raises:
        Refused: It is not UTF-8, not JSON (`NaN` and lone surrogates are not), or not an
            object.
        RecursionError: It is nested deeper than the interpreter can follow.
    """
    try:
        text = body.decode()
        value = _decoder.decode(text)
        if _SURROGATE.search(text):
            # Escapes of lone surrogates: UTF-8 has no bytes for them.
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        raise Refused(400, "invalid_json", "the body is not UTF-8 text") from None
    except ValueError as exc:
        raise Refused(400, "invalid_json", f"the body is not JSON: {exc}") from None
    if not isinstance(value, dict):
        raise Refused(400, "invalid_request", "the body is not a JSON object")
    return value


def write_key(authorization: str | None, body: dict[str, Any]) -> str:
    """
    Return the request's write key, from the header or the body.

    With `Bearer` (OAuth) the key is the body's; the token is not looked at.

    Raises:
        Refused: 401: there is no key, or there are two different ones.
    """
    inside = body.get("writeKey")
    scheme, _, rest = (authorization or "").strip().partition(" ")
    if scheme.lower() == "basic":
        key = _basic(rest)
        if inside not in (None, key):
            raise Refused(
                401, "unauthorized", "the write keys in header and body differ"
            )
    elif authorization is None or scheme.lower() == "bearer":
        key = inside
    else:
        raise Refused(401, "unauthorized", "the Authorization header is not Basic")
    if not isinstance(key, str) or not key:
        raise Refused(401, "unauthorized", "no write key, in the header or the body")
    return key


def events(kind: str, body: dict[str, Any], text: bytes) -> list[dict[str, Any]]:
    """
    Return the events of a parsed request, those over the limit included.

    Args:
        kind: The endpoint. A type's body is itself the event: `sentAt` and `writeKey`
            are taken out, and a missing `type` is the endpoint's.
        body: What `parse` made of the text.
        text: The body, for the size of each event as it was sent.

    Raises:
        Refused: There is no `batch` array, or an event is not an object or too large.
    """
    if kind == "batch":
        batch = body.get("batch")
        if not isinstance(batch, list):
            raise Refused(400, "invalid_request", "the body has no array named batch")
        for number, event in enumerate(batch):
            if not isinstance(event, dict):
                raise Refused(400, "invalid_event", f"batch[{number}] is not an object")
        found = batch
    else:
        event = {k: v for k, v in body.items() if k not in ("sentAt", "writeKey")}
        found = [{"type": kind, **event}]
    if len(text) > MAX_EVENT_BYTES:
        for number, source in enumerate(sources(kind, text)):
            if (size := len(source.encode())) > MAX_EVENT_BYTES:
                raise Refused(
                    400,
                    "event_too_large",
                    f"event {number} has {size:,} bytes, more than {MAX_EVENT_BYTES:,}",
                )
    return found


def sources(kind: str, text: bytes) -> list[str]:
    """
    Return the JSON of each event as it was sent, except white space around names.

    `sentAt` and `writeKey` are left out, and so are earlier values of a repeated name.

    Args:
        kind: The endpoint.
        text: A body that `events` has accepted.
    """
    body = text.decode()
    if kind != "batch":
        return [_without_envelope(body, {"type": f'"type":"{kind}"'})]
    batch = {name: value for name, _, value in _members(body)}["batch"]
    return [_without_envelope(source) for source in _elements(batch)]


def _without_envelope(source: str, more: dict[str, str] | None = None) -> str:
    pairs = more or {}
    for name, quoted, value in _members(source):
        pairs[name] = f"{quoted}:{value}"
    for name in ("sentAt", "writeKey"):
        pairs.pop(name, None)
    return "{" + ",".join(pairs.values()) + "}"


def _members(source: str) -> Iterator[tuple[str, str, str]]:
    """Yield each name, the name as sent and the value as sent, of a valid object."""
    start = _between(source, source.index("{") + 1)
    while source[start] != "}":
        name, end = _decoder.raw_decode(source, start)
        quoted = source[start:end]
        start = _between(source, end)
        _, end = _decoder.raw_decode(source, start)
        yield name, quoted, source[start:end]
        start = _between(source, end)


def _elements(source: str) -> Iterator[str]:
    """Yield the JSON of each element of a valid array."""
    start = _between(source, 1)
    while source[start] != "]":
        _, end = _decoder.raw_decode(source, start)
        yield source[start:end]
        start = _between(source, end)


def _between(source: str, start: int) -> int:
    found = _BETWEEN.match(source, start)
    return found.end() if found else start


def _basic(credentials: str) -> str | None:
    """Return the user of `USER:PASSWORD`; the password is ignored."""
    try:
        user, colon, _ = base64.b64decode(credentials, validate=True).partition(b":")
        return user.decode() if colon else None
    except (binascii.Error, UnicodeError):
        return None


def _too_large() -> Refused:
    message = f"the request has more than {MAX_REQUEST_BYTES:,} bytes"
    return Refused(413, "request_too_large", message)


def _int(digits: str) -> int | float:
    return int(digits) if len(digits) < _LONG_INT else float(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


_decoder = json.JSONDecoder(parse_int=_int, parse_constant=_no_constant)
