"""Events → the body of a request."""

from __future__ import annotations

import time

from htlogging._event.iso8601 import iso
from htlogging._settings import MAX_BODY_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


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
