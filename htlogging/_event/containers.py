"""Objects that hold others: how they are opened, and how large their text would be."""

from __future__ import annotations

from array import array
from collections import ChainMap, UserString
from collections.abc import Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from decimal import Decimal
from functools import partial
from itertools import islice
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from htlogging._event import libraries
from htlogging._process.interruption import is_passing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ARRAYS = (list, tuple, set, frozenset)

# Sequences that are one text.
_TEXTS = (str, UserString)

# Of a view whose items are bytes.
_BYTE_FORMATS = ("B", "b", "c")

# Where the classes of `dict[str, int]`, `int | None` and `Optional[int]` are.
_OF_TYPES = ("types", "typing")

# The most nested levels that are measured; deeper, `repr` itself gives up.
_MAX_DEPTH = 500


def opened(value: Any) -> tuple[bool, Iterable[Any]] | None:
    """
    Return whether a value is an object or an array, and its pairs or items.

    Returns:
        `None` if the value holds no others, or none that JSON should show.
    """
    if isinstance(value, dict):
        return True, value.items()
    if isinstance(value, _ARRAYS):
        return False, value
    fields = libraries.fields_of(value)
    if fields is not None:
        return True, fields
    if isinstance(value, _TEXTS) or has_bytes(value):
        return None
    if isinstance(value, Mapping):
        if type(value) is ChainMap:
            # Each look goes through its maps: 20,000 of them took 34 s.
            maps = reversed(value.maps)
            return True, {k: v for one in maps for k, v in one.items()}.items()
        return True, value.items()
    if isinstance(value, (Sequence, AbstractSet, ValuesView, array)):
        return False, value
    return (False, value) if libraries.is_column(value) else None


def has_bytes(value: Any) -> bool:
    """Return whether a value is bytes; a view may be one of numbers."""
    if isinstance(value, memoryview):
        return value.format in _BYTE_FORMATS
    return isinstance(value, (bytes, bytearray))


def text_size(value: Any, most: int) -> int:
    """
    Return at least how many characters the text of a value has, or more than `most`.

    `repr` writes a part as often as it is referred to: `x = (x, x)`, thirty times, has a
    text of gigabytes. Objects of unknown types count as one.
    """
    size = 0
    inside: set[int] = set()
    # Containers that are being looked at, and their other parts.
    stack: list[tuple[int, Iterator[Any]]] = [(0, iter((value,)))]
    while stack:
        for part in stack[-1][1]:
            try:
                size += _own_size(part)
                parts = _parts(part, most - size + 1) if size <= most else None
            except Exception as exc:
                if is_passing(exc):
                    raise
                # User code: a false `__class__`, an iterator. `repr` may know better.
                size, parts = size + 1, None
            if size > most:
                return size
            if parts is not None and id(part) not in inside:
                inside.add(id(part))
                stack.append((id(part), iter(parts)))
                break
        else:
            inside.discard(stack.pop()[0])
        if len(stack) > _MAX_DEPTH:
            return size
    return size


def text_of(value: Any) -> str:
    """Return the `str()` of an object, or its `repr()`, or a text that says it has none."""
    for write in (str, repr):
        try:
            return write(value)
        except Exception as exc:  # noqa: PERF203
            if is_passing(exc):
                raise
    return "__could_not_encode__"


def _own_size(value: Any) -> int:
    if isinstance(value, str):
        return 1 + str.__len__(value)
    if isinstance(value, (bytes, bytearray, Decimal)):
        return max(value.__sizeof__() // 4, 1)
    return 1


def _parts(value: Any, most: int) -> list[Any] | None:
    """
    Return what the text of a value shows, or `None` if it is not known to show any.

    Args:
        value: Anything.
        most: How many parts are enough.
    """
    if isinstance(value, BaseException):
        return list(value.args)
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, SimpleNamespace):
        return list(vars(value).values())
    if isinstance(value, slice):
        return [value.start, value.stop, value.step]
    if type(value).__module__ in _OF_TYPES:
        return list(getattr(value, "__args__", ()))
    found = opened(value)
    if found is None:
        return None
    is_object, items = found
    some = islice(items, most)
    return [part for pair in some for part in pair] if is_object else list(some)
