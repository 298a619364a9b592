"""
Values of other packages: what they are in plain Python.

No package is imported here: a value of a package can only come when it is imported already.
"""

from __future__ import annotations

import math
import sys
from dataclasses import fields as dataclass_fields
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from pythonjsonlogger import defaults

from htlogging._process.interruption import is_passing
from htlogging.exceptions import EventTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# numpy's `dtype.kind` → the type of its values: moments become ISO 8601, durations numbers.
_NUMPY_TIMES = {"M": "U", "m": "i8"}

# Types of numpy that are not numbers of Python; a `void` is a row of an array.
_NUMPY_TYPES = ("ndarray", "bool_", "datetime64", "timedelta64", "void")

# Arrays that are no `Sequence`, what stands for a missing value, and models: a module, and
# a name in it.
_COLUMNS = (
    ("pandas", "Series"),
    ("pandas", "Index"),
    ("pandas.api.extensions", "ExtensionArray"),
    ("polars", "Series"),
)
_MISSING = (("pandas", "NA"), ("msgspec", "UNSET"))
_MODELS = (("pydantic", "BaseModel"), ("pydantic.v1", "BaseModel"))

# Where a class keeps the names of its fields: attrs has objects with a name there.
_FIELDS = ("__attrs_attrs__", "__struct_fields__")


class NotEvaluated(str):
    """The text for a value that a query, of a database say, would evaluate."""

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
    if numpy is None or not any(
        isinstance(value, getattr(numpy, name)) for name in _NUMPY_TYPES
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
    """Return whether the value is `pandas.NA` or its like."""
    return any(value is found for found in _imported(_MISSING))


def is_column(value: Any) -> bool:
    """Return whether the value is a column of pandas or polars."""
    return _is_of(type(value), _COLUMNS)


def fields_of(value: Any) -> list[tuple[Any, Any]] | None:
    """
    Return the fields of a dataclass's object, or of one of pydantic, attrs or msgspec.

    What pydantic would leave out is left out. So is what SQLAlchemy has not loaded: looking
    at it would run a query.

    Returns:
        `None` for another object.
    """
    kind = type(value)
    if _is_of(kind, _MODELS):
        return _model_fields(value) if root_of(value) is None else None
    if defaults.use_dataclass_default(value):
        # Not `asdict`: it copies deeply, without a limit.
        names = [field.name for field in dataclass_fields(value)]
        loaded = getattr(value, "__dict__", {})
        if "_sa_instance_state" in loaded:
            names = [name for name in names if name in loaded]
        return _named(value, names)
    for attribute in _FIELDS:
        found = getattr(kind, attribute, None)
        if isinstance(found, tuple):
            return _named(value, [str(getattr(each, "name", each)) for each in found])
    return None


def root_of(value: Any) -> tuple[Any] | None:
    """Return, as a tuple, the only value of a model of pydantic that has a root."""
    kind = type(value)
    if _is_of(kind, (("pydantic", "RootModel"),)):
        return (value.root,)
    if getattr(kind, "__custom_root_type__", False) is True:  # version 1
        return (object.__getattribute__(value, "__dict__")["__root__"],)
    return None


def _model_fields(value: Any) -> list[tuple[Any, Any]]:
    """Return the fields of a model of pydantic, and those that it computes."""
    kind = type(value)
    # There may be more, such as the value of a cached property.
    now = object.__getattribute__(value, "__dict__")
    known = getattr(kind, "model_fields", None)
    if known is None:  # version 1
        hidden = getattr(kind, "__exclude_fields__", None) or {}
        return [(name, now[name]) for name in now if name not in hidden]
    fields = [
        (n, now[n]) for n, about in known.items() if n in now and not about.exclude
    ]
    fields += (getattr(value, "__pydantic_extra__", None) or {}).items()
    return fields + _named(value, kind.__pydantic_decorators__.computed_fields)


def _named(value: Any, names: Iterable[str]) -> list[tuple[Any, Any]]:
    """Return attributes of an object; one that raises is `None`."""
    return [(name, _attribute(value, name)) for name in names]


def _attribute(value: Any, name: str) -> Any:
    try:
        return getattr(value, name)
    except Exception as exc:  # a slot that is not set; user code in a property
        if is_passing(exc):
            raise
        return None


def _is_of(kind: type, names: tuple[tuple[str, str], ...]) -> bool:
    """Return whether a class is one of these, or derived from one."""
    return any(issubclass(kind, found) for found in _imported(names))


def _imported(names: tuple[tuple[str, str], ...]) -> Iterator[Any]:
    """Yield those of the objects that are there; a thread may be importing the module."""
    for module, name in names:
        found = getattr(sys.modules.get(module), name, None)
        if found is not None:
            yield found
