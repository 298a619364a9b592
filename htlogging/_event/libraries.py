"""
Values of other packages: what they are in plain Python.

No package is imported here: a value of a package can only come when it is imported already.
"""

from __future__ import annotations

import math
import sys
from itertools import takewhile
from typing import Any

from htlogging.exceptions import EventTooLarge

# numpy's `dtype.kind` → the type of its values: moments become ISO 8601, durations numbers.
_NUMPY_TIMES = {"M": "U", "m": "i8"}

# Where a class keeps the names of its fields: attrs has objects with a name there.
_FIELDS = ("__attrs_attrs__", "__struct_fields__")


class NotEvaluated(str):
    """The text for a value that would ask a database, or its like, to be one."""

    __slots__ = ()


def unwrapped(value: Any) -> Any:
    """
    Return a lazy value's object, or its name if it is not evaluated yet.

    Evaluating a queryset or a lazy object of Django runs a query, on the caller's thread.
    `type` alone is looked at: `isinstance` would evaluate a lazy object.
    """
    functional = sys.modules.get("django.utils.functional")
    if functional is not None and issubclass(type(value), functional.LazyObject):
        inner = object.__getattribute__(value, "__dict__").get("_wrapped")
        if inner is functional.empty:
            return NotEvaluated(f"<{type(value).__name__}: not evaluated>")
        return inner
    query = sys.modules.get("django.db.models.query")
    if query is not None and issubclass(type(value), query.QuerySet):
        if value._result_cache is None:  # noqa: SLF001
            model = getattr(value.model, "__name__", "?")
            return NotEvaluated(f"<{type(value).__name__} of {model}: not evaluated>")
        return list(value._result_cache)  # noqa: SLF001
    return value


def numpy_plain(value: Any, most: int, limit: int) -> Any:
    """
    Return the lists and Python objects of a numpy value, or the value itself.

    Args:
        value: Anything.
        most: Elements that an array may have.
        limit: Bytes that the event may have.

    Raises:
        EventTooLarge: It has more.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(
        value, (numpy.ndarray, numpy.bool_, numpy.datetime64, numpy.timedelta64)
    ):
        return value
    # An axis of length 0 ends the lists: a shape of (10**9, 0) has no elements.
    if math.prod(takewhile(bool, value.shape)) > most:
        raise EventTooLarge(None, limit)
    kind = value.dtype.kind
    if kind in _NUMPY_TIMES:
        # By itself, `tolist` returns another type of object for each unit.
        values = value.astype(_NUMPY_TIMES[kind])
        value = numpy.where(numpy.isnat(value), None, values)
    return value.tolist()


def is_missing(value: Any) -> bool:
    """Return whether the value is `pandas.NA`."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and value is getattr(pandas, "NA", pandas)


def fields_of(value: Any) -> list[tuple[Any, Any]] | None:
    """Return the fields of an object of pydantic, attrs or msgspec, else `None`."""
    kind = type(value)
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(kind, pydantic.BaseModel):
        if root_of(value) is not None:
            return None
        fields = dict(object.__getattribute__(value, "__dict__"))
        fields.update(getattr(value, "__pydantic_extra__", None) or {})
        return list(fields.items())
    for attribute in _FIELDS:
        names = getattr(kind, attribute, None)
        if isinstance(names, tuple):
            each = [str(getattr(name, "name", name)) for name in names]
            return [(name, getattr(value, name, None)) for name in each]
    return None


def root_of(value: Any) -> tuple[Any] | None:
    """Return, as a tuple, the only value of a pydantic `RootModel`, else `None`."""
    pydantic = sys.modules.get("pydantic")
    root = getattr(pydantic, "RootModel", None)
    if isinstance(root, type) and issubclass(type(value), root):
        return (value.root,)
    return None
