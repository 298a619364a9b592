"""
Any value → RFC 8259 JSON, as compact UTF-8 bytes.

Two ways give JSON with the same meaning. Plain values (exact dict, list, tuple, str, int,
float, bool and `None`, and with them dates, decimals and UUIDs) go straight through a C
encoder: orjson if it is installed and can encode them (`prefer_orjson`), else the standard
library's. What these refuse or would write wrongly is first made plain by `coercion`.
"""

from __future__ import annotations

from htlogging._event import iso8601
from htlogging._event.field_values import late_coercion
from htlogging._process import fork
from htlogging._process.interruption import is_passing
from htlogging.exceptions import EventTooLarge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any

# Nested arrays and objects. Receivers' parsers have limits of 64 (.NET) to 1,000 (Jackson);
# the limit of Python's json depends on the stack.
MAX_DEPTH = 64

# Types of which an encoder writes a bounded number of bytes. Decimal and UUID join with
# their first value: their modules are slow to import.
_atoms: set[type] = {float, bool, type(None)}

# The types of `datetime`, from their first value on, and its UTC.
_dated: frozenset[type] = frozenset()
_utc: object = None

# 64 bits: orjson refuses larger ints; the standard library's encoder may accept them.
_LEAST = -(2**63)
_MOST = 2**63 - 1


class _NotPlain(Exception):
    """Not an error: it makes `encode` take the slow way."""


# What encoders and checks raise of values that are not plain.
_NOT_PLAIN = (
    _NotPlain,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RuntimeError,  # a dict that changes; too little stack
    MemoryError,
)


def encode(event: dict[str, Any], limit: int, *, built: bool = False) -> bytes:
    """
    Encode an event: these bytes are its snapshot.

    Args:
        event: A dict with `str` keys; its values may be anything.
        limit: The most bytes. It also bounds time and memory, however large the event
            would be when written out.
        built: Whether `builder.make` made it; then only the caller's parts are checked.
            This takes 1.2 us less for a typical event.

    Raises:
        EventTooLarge: The JSON has more bytes than that.
        RecursionError: The caller left too little stack for the event's first levels.
    """
    if built:
        parts = [event.get("properties") or event.get("traits") or {}]
        if len(event["context"]) > 1:  # more than our own `library`
            parts.append(event["context"])
        if event["integrations"]:
            parts.append(event["integrations"])
    else:
        parts = [event]
    try:
        data = _dumps(event) if _check(parts, limit) else _stdlib_dumps(event)
    except _NOT_PLAIN as exc:
        # Not plain, or another thread changed a dict meanwhile. The slow way handles
        # both.
        if not _is_of_encoder(exc) and is_passing(exc):
            raise
        data = _stdlib_dumps(late_coercion().plain(event, limit, MAX_DEPTH))
    if len(data) > limit:
        raise EventTooLarge(len(data), limit)
    return data


def _is_of_encoder(error: Exception) -> bool:
    """Return whether a C encoder or a check here has raised an error, as most are."""
    # `is_passing` would double the time of an event with a NaN.
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals is globals():
        trace = trace.tb_next
    return trace is None and (bool(error.args) or type(error) is _NotPlain)


def _check(level: list[Any], limit: int) -> bool:  # noqa: C901, PLR0912
    """
    Check the values, level by level, and stop as early as possible.

    The C encoders cannot be stopped, and a value may be exponentially larger as JSON than
    in memory: `x = [x, x]`, thirty times.

    Returns:
        Whether orjson may encode them; it must not run a time zone's Python code.

    Raises:
        _NotPlain: There is a cycle, too deep nesting, a wide int, or a type that the
            encoders do not take. Or it looks too large: every value and character is
            at least a byte. (A cycle that branches looks too large, too.)
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
            # A loop with the most common types first takes two thirds of the time of a
            # comprehension and a second loop over the rest.
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
    """Add a type to the sets, if it belongs there; return whether it is in `_dated`."""
    global _dated, _utc
    kinds, utc = iso8601.dated()
    if kind in kinds:
        _utc, _dated = utc, kinds
        return True
    if kind in late_coercion().SCALARS:
        _atoms.add(kind)
    return False


def _default(value: Any) -> Any:
    if type(value) in _dated:
        return value.isoformat()
    return late_coercion().scalar(value)


def _chunks_of() -> Callable[[Any, int], Iterable[str]]:
    """
    Make once what `json.JSONEncoder.encode` makes at each call, in 0.5 of its 4.1 us.

    Not by `json`, whose import takes a sixth of the time of importing this package. It
    cannot be imported with the first event: a signal handler that logs meanwhile would
    find it half imported.
    """
    try:
        from _json import encode_basestring, make_encoder
    except ImportError:  # pragma: no cover  (not CPython)
        from json import JSONEncoder

        encoder = JSONEncoder(
            ensure_ascii=False,
            check_circular=False,
            allow_nan=False,
            separators=(",", ":"),
            default=_default,
        )
        return lambda value, _: encoder.iterencode(value)
    # As the encoder above. It lets lone surrogates pass, and `str.encode` refuses them.
    # `_check` has found cycles.
    made: Callable[[Any, int], Iterable[str]] = make_encoder(
        None,
        _default,
        encode_basestring,
        None,
        ":",
        ",",
        False,  # noqa: FBT003  (sort_keys)
        False,  # noqa: FBT003  (skipkeys)
        False,  # noqa: FBT003  (allow_nan)
    )
    return made


_chunks = _chunks_of()


def _stdlib_dumps(value: Any) -> bytes:
    return "".join(_chunks(value, 0)).encode()


def _orjson() -> ModuleType:
    import orjson

    return orjson


def _choose_dumps() -> Callable[[Any], bytes]:
    try:
        orjson = fork.do_whole(_orjson)
        # Types that orjson writes in another form than the standard library.
        options = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
    except Exception:  # noqa: BLE001
        # Not installed, or another module of that name.
        return _stdlib_dumps

    def dumps(value: Any) -> bytes:
        try:
            # A copy: orjson's own bytes keep its buffer, 4 KiB for an event of 600 bytes.
            return memoryview(orjson.dumps(value, None, options)).tobytes()
        except TypeError:
            # Mostly a decimal. orjson gets no `default`: while that runs, another thread
            # could shrink a list, and orjson would read freed memory.
            return _stdlib_dumps(value)

    return dumps


# Replaced by the first call of `prefer_orjson`; a thread sees the old or the new one.
_dumps: Callable[[Any], bytes] = _stdlib_dumps
_chosen = False


def prefer_orjson() -> None:
    """
    Encode with orjson from now on, if it is installed.

    Importing orjson takes longer than importing this package. So no caller imports it, and
    no process that sends only once. A sending thread imports it before its second request;
    so do the formatter and `send`.
    """
    global _chosen, _dumps  # noqa: PLW0603
    if not _chosen:
        _dumps = _choose_dumps()
        _chosen = True
