"""
Any value → RFC 8259 JSON, as compact UTF-8 bytes.

Two ways lead to the same meaning. Plain values (exact dict, list, tuple, str, int,
float, bool and `None`; dates, decimals and UUIDs among them) go straight through a C
encoder: orjson where it is installed and enough (`prefer_orjson`), else the standard
library's. Whatever that refuses, or would write wrongly, is first made plain by
`_values`.
"""

from __future__ import annotations

import json

from htlogging._process import fork
from htlogging.exceptions import EventTooLarge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

# Arrays and objects inside one another. Receivers' parsers set limits of their own: 64
# (.NET) to 1,000 (Jackson); the interpreter's json follows the state of the stack.
MAX_DEPTH = 64

# Of these an encoder writes a bounded number of bytes. Decimal and UUID join when the
# first one comes by: their modules are slow to import.
_atoms: set[type] = {float, bool, type(None)}

# The types of `datetime`, when the first value of one has come by, and its UTC.
_dated: frozenset[type] = frozenset()
_utc: object = None

# 64 bits: orjson refuses more, the standard library's encoder may not.
_LEAST = -(2**63)
_MOST = 2**63 - 1


class _NotPlain(Exception):
    """No error: it chooses the way."""


def encode(event: dict[str, Any], limit: int, *, built: bool = False) -> bytes:
    """
    Encode an event, once and for all: these bytes are its snapshot.

    Args:
        event: A dict with `str` keys; its values may be anything.
        limit: Bytes at most. It bounds the time and the memory spent too, however
            large the event would be written out.
        built: It is as `builder.make` made it: only the caller's parts need be looked at.
            Takes 1.2 us less for a typical event.

    Raises:
        EventTooLarge: The JSON has more bytes than that.
        RecursionError: The caller left too little stack for the event's first levels.
    """
    if built:
        parts = [event.get("properties") or event.get("traits") or {}]
        if len(event["context"]) > 1:  # more than `library`, which is ours
            parts.append(event["context"])
        if event["integrations"]:
            parts.append(event["integrations"])
    else:
        parts = [event]
    try:
        data = _dumps(event) if _check(parts, limit) else _stdlib_dumps(event)
    except Exception:  # noqa: BLE001
        # Not plain, or another thread changed a dict under way. The second way copes
        # with all of it.
        with fork.importing:
            from htlogging._event import coercion

        data = _stdlib_dumps(coercion.plain(event, limit, MAX_DEPTH))
    if len(data) > limit:
        raise EventTooLarge(len(data), limit)
    return data


def _check(level: list[Any], limit: int) -> bool:  # noqa: C901, PLR0912
    """
    Look at the values, level by level, and leave early.

    The C encoders cannot be stopped, and what a value takes written out may be
    exponential in what it takes in memory: `x = [x, x]`, thirty times.

    Returns:
        Whether orjson may encode them: it would run a time zone's Python code.

    Raises:
        _NotPlain: A cycle, great depth, a wide int, a type that the encoders do not
            get; or it looks too large: every value and every character stands for a
            byte at least, but a cycle that branches looks so too.
        TypeError: A key is not a str.
    """
    left = limit
    native = True
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for box in level:
            values: Any = box
            if type(box) is dict:
                left -= len("".join(box))
                values = box.values()
            left -= len(box)
            if left < 0:
                raise _NotPlain
            # A loop with the commonest types first: two thirds of the time that a
            # comprehension and a second look at what it leaves take.
            for value in values:
                kind = type(value)
                if kind is str:
                    left -= len(value)
                elif kind in _atoms:
                    pass
                elif kind is int:
                    if not _LEAST <= value <= _MOST:
                        raise _NotPlain
                elif kind is dict or kind is list or kind is tuple:
                    deeper.append(value)
                elif kind in _dated or _learn(kind):
                    zone = getattr(value, "tzinfo", None)
                    native = native and (zone is None or zone is _utc)
                elif kind not in _atoms:
                    raise _NotPlain
        if left < 0:
            raise _NotPlain
        if not deeper:
            return native
        level = deeper
    raise _NotPlain


def _learn(kind: type) -> bool:
    """Have the sets know a type from now on; return whether it is in `_dated`."""
    global _dated, _utc
    with fork.importing:
        from htlogging._event import datetimes

        if kind in datetimes.KINDS:
            _utc, _dated = datetimes.UTC, datetimes.KINDS
            return True
        from htlogging._event import coercion
    if kind in coercion.SCALARS:
        _atoms.add(kind)
    return False


def _default(value: Any) -> Any:
    if type(value) in _dated:
        return value.isoformat()
    with fork.importing:
        from htlogging._event import coercion

    return coercion.scalar(value)


# Lone surrogates pass it and are refused by `str.encode`; cycles `_check` has found.
_encoder = json.JSONEncoder(
    ensure_ascii=False,
    check_circular=False,
    allow_nan=False,
    separators=(",", ":"),
    default=_default,
)


def _chunks_of() -> Callable[[Any], Iterable[str]]:
    """Make what `_encoder.encode` makes anew at each call: 0.5 us of 4.1."""
    make = json.encoder.c_make_encoder  # type: ignore[attr-defined]
    if make is None:  # pragma: no cover  (not CPython)
        return _encoder.iterencode
    encoder = _encoder
    chunks = make(
        None,
        encoder.default,
        json.encoder.encode_basestring,
        None,
        encoder.key_separator,
        encoder.item_separator,
        encoder.sort_keys,
        encoder.skipkeys,
        encoder.allow_nan,
    )
    return lambda value: chunks(value, 0)


_chunks = _chunks_of()


def _stdlib_dumps(value: Any) -> bytes:
    return "".join(_chunks(value)).encode()


def _choose_dumps() -> Callable[[Any], bytes]:
    try:
        with fork.importing:
            import orjson
        # What it writes of its own accord in another form than the standard library.
        options = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
    except Exception:  # noqa: BLE001
        # Not there, or another module of that name.
        return _stdlib_dumps

    def dumps(value: Any) -> bytes:
        try:
            # A copy: orjson keeps its buffer, 4 KiB for an event of 600 bytes.
            return memoryview(orjson.dumps(value, None, options)).tobytes()
        except TypeError:
            # A decimal, mostly. orjson gets no `default`: while that ran, another
            # thread might shrink a list, and orjson reads freed memory then.
            return _stdlib_dumps(value)

    return dumps


# As installed by the first call of `prefer_orjson`; threads see one or the other.
_dumps: Callable[[Any], bytes] = _stdlib_dumps
_chosen = False


def prefer_orjson() -> None:
    """
    Encode by orjson from now on, where it is installed.

    Importing that takes longer than importing this package, so neither a caller does it
    nor a process that sends once: a sending thread does, before the second request, and
    who formats or sends a file.
    """
    global _chosen, _dumps  # noqa: PLW0603
    if not _chosen:
        _dumps = _choose_dumps()
        _chosen = True
