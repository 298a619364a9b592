"""
A batch ↔ the fields of one entry of the stream.

`n` is the number of events, `size` their bytes with a line break after each, `enc` is
`gzip` or `none`, and `events` holds the events, one line of JSON each. Neither a write key
nor `sentAt` is stored: the relay adds its own.
"""

from __future__ import annotations

import sys
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The most bytes that a relay unpacks of an entry, which any program may have written: twice
# a request.
MAX_SIZE = 1_000_000

# The fastest level: similar events shrink to a tenth at every level.
_LEVEL = 1


class InvalidEntry(Exception):
    """An entry of the stream was not written by this package, or is damaged."""


def lines(events: Sequence[bytes]) -> bytes:
    """Return events, one line each: they are compact JSON, without a line break."""
    return b"\n".join(events) + b"\n"


def fields(text: bytes, count: int, *, compress: bool) -> dict[str, bytes | int | str]:
    """
    Return the fields of an entry.

    Args:
        text: What `lines` returned.
        count: The number of events.
        compress: Whether to compress them.
    """
    body = text
    if compress:
        if sys.version_info >= (3, 11):
            body = zlib.compress(text, _LEVEL, wbits=31)  # 31: gzip's header
        else:
            compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
            body = compressor.compress(text) + compressor.flush()
    enc = "gzip" if compress else "none"
    return {"n": count, "size": len(text), "enc": enc, "events": body}


def events(found: Mapping[bytes, bytes]) -> list[bytes]:
    """
    Return the events of an entry, in the order accepted.

    Raises:
        InvalidEntry: It holds no events, or too much.
    """
    try:
        text, enc = found[b"events"], found.get(b"enc", b"none")
        count = int(found[b"n"])
    except (KeyError, ValueError):
        raise InvalidEntry("the entry has no field named events, or n") from None
    if enc == b"gzip":
        stream = zlib.decompressobj(31)
        try:
            text = stream.decompress(text, MAX_SIZE + 1)
        except zlib.error:
            raise InvalidEntry("the entry is not gzip") from None
        if not stream.eof and len(text) <= MAX_SIZE:
            raise InvalidEntry("the entry's gzip has no end")
    elif enc != b"none":
        raise InvalidEntry("the entry's compression is not known")
    if len(text) > MAX_SIZE:
        raise InvalidEntry(f"the entry has more than {MAX_SIZE:,} bytes")
    found_events = text.split(b"\n")
    if found_events.pop() != b"" or len(found_events) != count or not count:
        raise InvalidEntry("the entry does not hold as many events as it says")
    return found_events
