"""
Any Python object → plain JSON types: the slow way of `encoder`.

It walks a value in Python, so it can handle what the C encoders refuse or would write
wrongly. It is imported with the first such value, because its imports take longer than all
the rest of this package.
"""

from __future__ import annotations

import json
import math
import re
from datetime import date, datetime, time
from decimal import Context, Decimal
from enum import Enum
from itertools import islice
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pythonjsonlogger import defaults

from htlogging._event import containers, libraries
from htlogging._process.interruption import is_passing
from htlogging.exceptions import EventTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

# Replaces a value that contains itself, and a value that is nested too deep.
ELLIPSIS = "..."

# By default CPython converts integers of up to 4,300 digits, in both directions. A longer
# one, which the receiver could not read, would cost the whole event.
MAX_INT_DIGITS = 4_300
MAX_INT_BITS = 14_284

# Types, besides dates and times, that `scalar` turns into a bounded number of bytes.
SCALARS = frozenset({Decimal, UUID})

# Levels at which a text may not replace a value: the event, its `properties`, `context` and
# so on, and the objects in those, such as `context.library`. They must stay objects.
_EVENT_LEVELS = 2
_KINDS = frozenset({type(None), bool, int, float, bytes, Decimal})

_SURROGATES = re.compile("[\ud800-\udfff]")
_BYTES = (bytes, bytearray, memoryview)
_INFINITIES = (math.inf, -math.inf)
_NO_LEAF = object()

# Bytes that a Decimal takes: 300 digits, and 150,000. A wider one is converted once for an
# event, however often it is in it; one of the widest is rounded to `MAX_INT_DIGITS` first.
_WIDE, _WIDEST = 256, 65_536
_SHORT = Context(prec=MAX_INT_DIGITS + 100, traps=[])


def plain(value: Any, limit: int, max_depth: int) -> Any:
    """
    Convert a value to only dict, list, str, int, float, bool and `None`.

    Args:
        value: Anything.
        limit: The most UTF-8 bytes of the result's JSON. It bounds the work: a
            structure with shared parts may be exponentially large when written out.
        max_depth: The most nested arrays and objects; a deeper one becomes "...".

    Raises:
        EventTooLarge: The result is certain to be over the limit.
        RecursionError: The caller left too little stack for the first two levels.
    """
    return _Walk(limit, max_depth).any(value, 0)


def scalar(value: Any) -> Any:
    """
    Convert a date, a time, a `Decimal` or a `UUID`.

    Raises:
        TypeError: It is something else, perhaps a container, which `plain` converts.
    """
    if isinstance(value, (date, time)):
        return _iso(value)
    if isinstance(value, Decimal):
        if value.__sizeof__() > _WIDE:
            raise TypeError(type(value).__name__)
        return _decimal(value)
    if isinstance(value, UUID):
        return defaults.uuid_default(value)
    raise TypeError(type(value).__name__)


def id_text(value: Any) -> str | None:
    """
    Return an id as text, or `None` if the value cannot be an id.

    A str, a finite real number (not a bool), a UUID, or an `Enum` of these can be one.
    """
    try:
        if isinstance(value, Enum):
            value = value.value
        kind = type(value)  # `isinstance` would believe a false `__class__`
        if issubclass(kind, str):
            return str.__str__(value)
        is_number = issubclass(kind, (Real, Decimal)) and not issubclass(kind, bool)
        if is_number and (value != value or value in _INFINITIES):  # noqa: PLR0124
            return None
        if is_number or issubclass(kind, UUID):
            return str.__str__(str(value))
    except Exception as exc:
        # User code, a signalling NaN, or an int of more than 4,300 digits.
        if is_passing(exc):
            raise
    return None


def _iso(value: date | time) -> str | None:
    # pandas.NaT is a datetime that is not equal to itself, like NaN.
    if value != value:  # noqa: PLR0124
        return None
    # Not a subclass's own method, which may return anything.
    kind = next(k for k in (datetime, date, time) if isinstance(value, k))
    return kind.isoformat(value)  # type: ignore[arg-type]


def _decimal(value: Decimal) -> float | int | str | None:
    if not value.is_finite():
        return None
    if value.__sizeof__() > _WIDEST:
        value = _SHORT.plus(value)
    # A whole number stays whole: databases return ids as Decimals with more digits than a
    # float holds. So does a number beyond the range of floats.
    number = float(value)
    exponent = value.as_tuple().exponent
    is_whole = isinstance(exponent, int) and exponent >= 0
    # `adjusted` first: Decimal("1e999999") has a million digits as an int.
    if (is_whole or math.isinf(number)) and value.adjusted() < MAX_INT_DIGITS:
        return _int(int(value))
    return _float(number)


def _float(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _exact_float(value: float) -> float | None:
    return _float(float.__float__(value))


def _int(value: int) -> int | str:
    # The type's own methods, here and above: a subclass's may return anything.
    bits = int.bit_length(value)
    try:
        if bits <= MAX_INT_BITS:
            int.__repr__(value)
            return int.__int__(value)
    except ValueError:  # sys.set_int_max_str_digits() was lowered
        pass
    return f"<int of {bits} bits>"


def text(value: str) -> str:
    """Return an exact `str` that UTF-8 can encode: lone surrogates become U+FFFD."""
    value = str.__str__(value)
    if not _SURROGATES.search(value):
        return value
    # UTF-16 joins the pairs that stand for one character; what is left is lone.
    paired = value.encode("utf-16-le", "surrogatepass")
    value = paired.decode("utf-16-le", "surrogatepass")
    return _SURROGATES.sub("\ufffd", value)


def _bytes(value: bytes | bytearray | memoryview) -> str:
    value = memoryview(value).tobytes()
    try:
        return value.decode()
    except UnicodeDecodeError:
        return defaults.bytes_default(value, url_safe=False)


# Type → how to convert it, for values of a bounded size.
_LEAVES: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (float, _exact_float),
    ((date, time), _iso),
)


class _Walk:
    """One conversion: the bytes that are left, and the containers it is inside."""

    def __init__(self, limit: int, max_depth: int) -> None:
        self.limit = limit
        self.max_depth = max_depth
        self.left = limit
        self.inside: set[int] = set()
        # id → the value, which is kept alive, and what it became: what is slow to convert
        # is so only once, however often it is referred to.
        self.known: dict[int, tuple[Any, Any]] = {}

    def spend(self, size: int) -> None:
        """Subtract bytes from the budget; never more than the JSON will have."""
        self.left -= size
        if self.left < 0:
            raise EventTooLarge(None, self.limit)

    def any(self, value: Any, depth: int) -> Any:
        """Convert one value; if that fails, its text replaces it alone."""
        self.spend(1)
        try:
            return self.convert(value, depth)
        except EventTooLarge:
            raise
        except Exception as exc:
            # User code ran (a property, an iterator, a false `__class__`), or the stack
            # ran out here. The rest of the event must not suffer. If a text may not
            # replace this value, the container around it is replaced.
            ours = (
                depth < _EVENT_LEVELS
                or (depth == _EVENT_LEVELS and type(value) is dict)
                or type(value) in _KINDS
            )
            if (ours and isinstance(exc, RecursionError)) or is_passing(exc):
                raise
            return self.text_of(value)

    def convert(self, value: Any, depth: int) -> Any:
        """Convert one value; user code in it may do and raise anything."""
        value = libraries.unwrapped(value)
        if isinstance(value, Enum):
            return self.convert(value.value, depth)
        plain_value = self.leaf(value)
        return self.box(value, depth) if plain_value is _NO_LEAF else plain_value

    def leaf(self, value: Any) -> Any:
        """Convert a value without other values in it; else return `_NO_LEAF`."""
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            return self.string(value)
        if isinstance(value, _BYTES) and containers.has_bytes(value):
            self.spend(memoryview(value).nbytes)
            return _bytes(value)
        if isinstance(value, int):
            return self.number(_int(value))
        if isinstance(value, Decimal):
            return self.number(self.once(value, _decimal))
        for kind, convert in _LEAVES:
            if isinstance(value, kind):
                return convert(value)
        return _NO_LEAF

    def number(self, value: Any) -> Any:
        """Return a number, if its digits are within the budget."""
        if isinstance(value, int):
            # At most its digits: a bit is 0.301 of a digit.
            self.spend(value.bit_length() * 3 // 10)
        return value

    def once(self, value: Any, convert: Callable[[Any], Any]) -> Any:
        """Convert a value, or return what it became before."""
        known = self.known.get(id(value))
        if known is None:
            known = self.known[id(value)] = (value, convert(value))
        return known[1]

    def text_of(self, value: Any) -> str:
        """Convert any object to its `str()`, if that is sure to be of a bounded size."""
        if id(value) not in self.known:
            self.ensure_room(containers.text_size(value, self.left))
        return self.string(self.once(value, containers.text_of))

    def ensure_room(self, size: int) -> None:
        """Raise if the bytes are over the budget."""
        if size > self.left:
            raise EventTooLarge(None, self.limit)

    def string(self, value: str) -> str:
        """Convert a str, if its length is within the budget."""
        self.spend(str.__len__(value))
        return text(value)

    def box(self, value: Any, depth: int) -> Any:
        """Convert a value that may hold others; none is entered twice on the way down."""
        found = containers.opened(value)
        if found is None:
            return self.other(value, depth)
        is_object, items = found
        make: Callable[[list[Any], int], Any]
        make = self.object if is_object else self.array
        if depth >= self.max_depth or id(value) in self.inside:
            return ELLIPSIS
        self.inside.add(id(value))
        try:
            # A copy, because a `str()` in it may change the container. One item more than
            # there is room for is enough to find that out.
            return make(list(islice(items, self.left + 1)), depth + 1)
        finally:
            self.inside.discard(id(value))

    def object(self, items: list[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        """Convert pairs; if keys become the same text, the last one is kept."""
        return {self.key(key): self.any(value, depth) for key, value in items}

    def array(self, items: list[Any], depth: int) -> list[Any]:
        """Convert the items of an array."""
        return [self.any(value, depth) for value in items]

    def key(self, key: Any) -> str:
        """Convert a key to its value's JSON text; a container to its `str()`."""
        if issubclass(type(key), str):
            return self.string(key)
        try:
            key = libraries.unwrapped(key)
            inner = key.value if isinstance(key, Enum) else key
            inner = None if libraries.is_missing(inner) else inner
            plain_key = self.leaf(libraries.numpy_plain(inner, 1, self.limit))
            if isinstance(plain_key, str):
                return plain_key
            if plain_key is not _NO_LEAF:
                return self.string(json.dumps(plain_key))
        except EventTooLarge:
            raise
        except Exception as exc:
            if is_passing(exc):  # as in `any`
                raise
        return self.text_of(key)

    def other(self, value: Any, depth: int) -> Any:
        """Convert the rest: numbers of other libraries, then anything by its `str()`."""
        plain_value = libraries.numpy_plain(value, self.left, self.limit)
        if plain_value is not value:
            return self.convert(plain_value, depth)
        if libraries.is_missing(value):
            return None
        root = libraries.root_of(value)
        if root is not None:
            return self.any(root[0], depth + 1)
        if isinstance(value, Integral):
            return self.number(self.once(value, _whole))
        if isinstance(value, Real):
            return self.once(value, _real)
        return self.text_of(value)


def _whole(value: Any) -> int | str:
    return _int(int(value))


def _real(value: Any) -> float | None:
    return _exact_float(float(value))
