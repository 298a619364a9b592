"""
Any value → RFC 8259 JSON, as compact UTF-8 bytes.

Two ways lead to the same meaning. Plain values (exact dict, list, tuple, str, int,
float, bool and `None`; dates, decimals and UUIDs among them) go straight through a C
encoder: orjson where it is installed and enough, else the standard library's. Whatever
that refuses, or would write wrongly, is first made plain by `_values`.
"""

from __future__ import annotations

import json
from datetime import date, datetime, time

from htlogging import _fork
from htlogging.exceptions import EventTooLarge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Arrays and objects inside one another. Receivers' parsers set limits of their own: 64
# (.NET) to 1,000 (Jackson); the interpreter's json follows the state of the stack.
MAX_DEPTH = 64

# Of these an encoder writes a bounded number of bytes; a str is looked at by length.
# Decimal and UUID join when the first one comes by: their modules are slow to import.
_scalars: set[type] = {str, int, float, bool, type(None), datetime, date, time}
_LONG = 128  # characters
_WIDE = 64  # bits; orjson refuses more, the standard library's encoder may not


class _NotPlain(Exception):
    """No error: it chooses the way."""


def encode(event: dict[str, Any], limit: int) -> bytes:
    """
    Encode an event, once and for all: these bytes are its snapshot.

    Args:
        event: A dict with `str` keys; its values may be anything.
        limit: Bytes at most. It bounds the time and the memory spent too, however
            large the event would be written out.

    Raises:
        EventTooLarge: The JSON has more bytes than that.
        RecursionError: The caller left too little stack for the event's first levels.
    """
    try:
        _check(event, limit)
        data = _dumps(event)
    except Exception:  # noqa: BLE001
        # Not plain, or a time zone's code raised, or another thread changed a dict
        # under way. The second way copes with all of it.
        with _fork.importing:
            from htlogging import _values

        data = _stdlib_dumps(_values.plain(event, limit, MAX_DEPTH))
    if len(data) > limit:
        raise EventTooLarge(len(data), limit)
    return data


def _check(event: dict[str, Any], limit: int) -> None:
    """
    Look at the containers, level by level, and leave early.

    The C encoders cannot be stopped, and what a value takes written out may be
    exponential in what it takes in memory: `x = [x, x]`, thirty times.

    Raises:
        _NotPlain: A cycle, great depth, a wide int, a type that the encoders do not
            get; or it looks too large: every value and every character of a key
            stands for a byte at least, but a cycle that branches looks so too.
        TypeError: A key is not a str.
    """
    level: list[Any] = [event]
    left = limit
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for box in level:
            kind = type(box)
            values: Any = ()
            if kind is dict:
                left -= len("".join(box)) + len(box)
                values = box.values()
            elif kind is list or kind is tuple:
                left -= len(box)
                values = box
            elif kind is str:
                left -= len(box)
            elif kind is int or not _join_scalars(kind):
                raise _NotPlain
            if left < 0:
                raise _NotPlain
            deeper += [
                value
                for value in values
                if (kind := type(value)) not in _scalars
                or (kind is str and len(value) > _LONG)
                or (kind is int and value.bit_length() > _WIDE)
            ]
        if not deeper:
            return
        level = deeper
    raise _NotPlain


def _join_scalars(kind: type) -> bool:
    with _fork.importing:
        from htlogging import _values

    if kind in _values.SCALARS:
        _scalars.add(kind)
        return True
    return False


def _default(value: Any) -> Any:
    if type(value) in (datetime, date, time):
        return value.isoformat()
    with _fork.importing:
        from htlogging import _values

    return _values.scalar(value)


# Lone surrogates pass it and are refused by `str.encode`; cycles `_check` has found.
_encoder = json.JSONEncoder(
    ensure_ascii=False,
    check_circular=False,
    allow_nan=False,
    separators=(",", ":"),
    default=_default,
)


def _stdlib_dumps(value: Any) -> bytes:
    return _encoder.encode(value).encode()


def _choose_dumps() -> Callable[[Any], bytes]:
    try:
        with _fork.importing:
            import orjson
    except ImportError:
        return _stdlib_dumps
    # What orjson writes of its own accord in another form than the standard library.
    options = (
        orjson.OPT_PASSTHROUGH_DATACLASS
        | orjson.OPT_PASSTHROUGH_DATETIME
        | orjson.OPT_PASSTHROUGH_SUBCLASS
    )

    def dumps(value: Any) -> bytes:
        try:
            return orjson.dumps(value, None, options)
        except TypeError:
            # A date or a decimal, mostly. orjson gets no `default`: while that ran,
            # another thread might shrink a list, and orjson reads freed memory then.
            return _stdlib_dumps(value)

    return dumps


def _first_dumps(value: Any) -> bytes:
    # orjson takes longer to import than this package: the first event pays, not those
    # who import and never send. Two threads at once choose the same.
    global _dumps  # noqa: PLW0603
    _dumps = _choose_dumps()
    return _dumps(value)


_dumps: Callable[[Any], bytes] = _first_dumps
