"""
Any Python object → plain JSON types: the patient half of `_json`.

Walks a value in Python, so it copes with what the C encoders refuse or would write
wrongly. Imported on the first odd value only: what it needs takes longer to import
than all the rest of this package.
"""

from __future__ import annotations

import math
import re
import sys
from dataclasses import fields as fields_of
from datetime import date, time
from decimal import Decimal
from enum import Enum
from numbers import Integral, Number, Real
from typing import Any
from uuid import UUID

from pythonjsonlogger import defaults

from htlogging.exceptions import EventTooLarge

# What stands in for a value inside itself, and for what lies too deep.
ELLIPSIS = "..."

# CPython converts integers of up to 4,300 digits by default, in both directions; one
# that the receiver could not read back would cost the whole event.
MAX_INT_BITS = 14_284

# What `scalar` makes a bounded number of bytes of, dates and times aside.
SCALARS = frozenset({Decimal, UUID})

_SURROGATES = re.compile("[\ud800-\udfff]")
_BYTES = (bytes, bytearray, memoryview)


def plain(value: Any, limit: int, max_depth: int) -> Any:
    """
    Convert to dict, list, str, int, float, bool and `None`, nothing else.

    Args:
        value: Anything.
        limit: UTF-8 bytes that the JSON of the result may have. It bounds the work: a
            structure whose parts are shared may be exponentially large written out.
        max_depth: Arrays and objects inside one another; a deeper one becomes "...".

    Raises:
        EventTooLarge: The result is sure to be over the limit.
    """
    return _Walk(limit, max_depth).any(value, 0)


def scalar(value: Any) -> Any:
    """
    Convert a date, a time, a `Decimal` or a `UUID`.

    Raises:
        TypeError: It is something else, so perhaps a container; `plain` copes.
    """
    if isinstance(value, (date, time)):
        # pandas.NaT is a datetime that differs from itself, as NaN does.
        return defaults.datetime_any(value) if value == value else None  # noqa: PLR0124
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, UUID):
        return defaults.uuid_default(value)
    raise TypeError(type(value).__name__)


def id_text(value: Any) -> str | None:
    """Return an id as text, or `None` when it is no str, number or UUID, or a bool."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return str.__str__(value)
    is_number = isinstance(value, Number) and not isinstance(value, bool)
    if not (is_number or isinstance(value, UUID)) or value != value:  # noqa: PLR0124
        return None
    try:
        return str(value)
    except Exception:  # noqa: BLE001  (an int of more than 4,300 digits; user code)
        return None


def _decimal(value: Decimal) -> float | int | None:
    if not value.is_finite():
        return None
    # What was written as a whole number stays one: databases give ids as Decimals of
    # more digits than a float holds. `adjusted` first: Decimal("1e999999") is whole.
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent >= 0 and value.adjusted() < 309:  # noqa: PLR2004
        return int(value)
    return _float(float(value))


def _float(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _int(value: int) -> int | str:
    if value.bit_length() > MAX_INT_BITS:
        return f"<int of {value.bit_length()} bits>"
    try:
        int.__repr__(value)
    except ValueError:  # sys.set_int_max_str_digits() was lowered
        return f"<int of {value.bit_length()} bits>"
    return int(value)


def text(value: str) -> str:
    """Return an exact `str` that UTF-8 can hold: lone surrogates become U+FFFD."""
    value = str.__str__(value)
    if not _SURROGATES.search(value):
        return value
    # UTF-16 joins the pairs, which stand for one character; what is left is lone.
    paired = value.encode("utf-16-le", "surrogatepass")
    value = paired.decode("utf-16-le", "surrogatepass")
    return _SURROGATES.sub("\ufffd", value)


def _bytes(value: bytes | bytearray | memoryview) -> str:
    value = bytes(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return defaults.bytes_default(value, url_safe=False)


class _Walk:
    """One conversion: what is left of its budget, and the containers it is inside."""

    def __init__(self, limit: int, max_depth: int) -> None:
        self.limit = limit
        self.max_depth = max_depth
        self.left = limit
        self.inside: set[int] = set()

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise EventTooLarge(None, self.limit)

    def any(self, value: Any, depth: int) -> Any:
        """Convert one value; user code in it (`str()`, properties) may do anything."""
        self.spend(1)
        if value is None or value is True or value is False:
            return value
        if isinstance(value, Enum):
            return self.any(value.value, depth)
        if isinstance(value, str):
            return self.string(value)
        if isinstance(value, int):
            return _int(value)
        if isinstance(value, float):
            return _float(float(value))
        if isinstance(value, _BYTES):
            self.spend(memoryview(value).nbytes)
            return text(_bytes(value))
        try:
            return scalar(value)
        except TypeError:
            return self.container(value, depth)

    def string(self, value: str) -> str:
        self.spend(len(value))
        return text(value)

    def container(self, value: Any, depth: int) -> Any:
        """Convert what may hold other values; each is entered once on the way down."""
        if depth >= self.max_depth or id(value) in self.inside:
            return ELLIPSIS
        self.inside.add(id(value))
        try:
            if isinstance(value, dict):
                return self.mapping(value, depth)
            if isinstance(value, (list, tuple, set, frozenset)):
                return [self.any(item, depth + 1) for item in value]
            if defaults.use_dataclass_default(value):
                # Not `asdict`: it copies deeply, without a limit.
                fields = {
                    f.name: getattr(value, f.name, None) for f in fields_of(value)
                }
                return self.mapping(fields, depth)
            return self.other(value, depth)
        except EventTooLarge:
            raise
        except Exception:  # noqa: BLE001
            # User code ran (a property, an iterator, another thread's change to the
            # dict), or the stack ran out here: the rest of the event shall not suffer.
            return self.string(defaults.unknown_default(value))
        finally:
            self.inside.discard(id(value))

    def mapping(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        # Keys that become the same string: the last one stays, as in a dict.
        return {self.key(k, depth): self.any(v, depth + 1) for k, v in value.items()}

    def key(self, key: Any, depth: int) -> str:
        """Convert a dict's key to the text that its value would have in JSON."""
        if type(key) is str:
            return self.string(key)
        plain_key = self.any(key, depth + 1)
        if isinstance(plain_key, str):
            return plain_key
        if plain_key is None or isinstance(plain_key, bool):
            return {None: "null", True: "true", False: "false"}[plain_key]
        return self.string(str(key if isinstance(plain_key, list) else plain_key))

    def other(self, value: Any, depth: int) -> Any:
        """Convert the rest: numbers of other libraries, then whatever has a `str()`."""
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.ndarray):
            self.spend(value.size)
            return self.any(value.tolist(), depth)
        if numpy is not None and isinstance(value, numpy.bool_):
            return bool(value)
        if isinstance(value, Integral):
            return _int(int(value))
        if isinstance(value, Real):
            return _float(float(value))
        return self.string(defaults.unknown_default(value))
