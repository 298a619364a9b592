from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date, datetime, time, timezone
from decimal import Decimal
from enum import Enum
from types import SimpleNamespace
from uuid import UUID

import pytest

from htlogging._event import coercion
from htlogging.exceptions import EventTooLarge

UID = UUID("12345678-1234-4678-9234-567812345678")
NOON = datetime(2024, 1, 1, 12, tzinfo=timezone.utc)


def plain(value, limit=1000, max_depth=64):
    """Convert with room enough."""
    return coercion.plain(value, limit, max_depth)


class TestPlain:
    def test_types_are_exact(self):
        """Whatever the classes were, the result has those of `json.loads`."""

        class Text(str):
            __slots__ = ()

        class Box(dict):
            pass

        made = plain(Box({Text("a"): Text("b")}))
        assert type(made) is dict
        ((key, value),) = made.items()
        assert (type(key), type(value)) == (str, str)

    def test_depth_counts_containers(self):
        """`max_depth` arrays and objects are whole, the next is an ellipsis."""
        assert plain([[[], 1]], max_depth=2) == [["...", 1]]
        assert plain([(Enum("E", "A").A,)], max_depth=2) == [[1]]

    @pytest.mark.parametrize(
        "value",
        ["x" * 11, b"x" * 11, [None] * 11, {"x" * 11: 1}, {1: 1, 2: "x" * 9}],
    )
    def test_limit(self, value):
        """What cannot fit is refused before it is made."""
        with pytest.raises(EventTooLarge) as caught:
            plain(value, limit=10)
        assert (caught.value.size, caught.value.limit) == (None, 10)

    def test_limit_in_keys(self):
        """The text of an odd key counts as well."""
        for key in (b"x" * 11, ("x" * 11,)):
            with pytest.raises(EventTooLarge):
                plain({key: 1}, limit=10)

    def test_out_of_stack(self):
        """An event's first two levels stay what they are, or there is no event."""

        class Recursive(dict):
            def items(self):
                return self.items()

            def __repr__(self):
                return "Recursive"

        with pytest.raises(RecursionError):
            plain(Recursive())
        with pytest.raises(RecursionError):
            plain({"properties": Recursive()})
        made = plain({"properties": {"a": Recursive(), "b": 1}})
        assert made == {"properties": {"a": "Recursive", "b": 1}}


class TestNumpyIsOptional:
    @pytest.mark.parametrize("numpy", [None, SimpleNamespace(), object()])
    def test_absent_or_half_imported(self, numpy, monkeypatch):
        """Another thread may be importing it; objects have their text all the same."""
        monkeypatch.setitem(sys.modules, "numpy", numpy)
        assert plain([1j, Decimal("1.5"), {2}]) == ["1j", 1.5, [2]]


class TestScalar:
    @pytest.mark.parametrize(
        ("value", "made"),
        [
            (NOON, "2024-01-01T12:00:00+00:00"),
            (date(2024, 1, 1), "2024-01-01"),
            (time(12), "12:00:00"),
            (Decimal("1.5"), 1.5),
            (Decimal(3), 3),
            (UID, str(UID)),
        ],
    )
    def test_converts(self, value, made):
        """Dates, times, decimals and UUIDs."""
        assert coercion.scalar(value) == made

    @pytest.mark.parametrize("value", [{}, object(), "text", b"bytes"])
    def test_anything_else_is_refused(self, value):
        """It might hold other values: that is `plain`'s work."""
        with pytest.raises(TypeError, match=type(value).__name__):
            coercion.scalar(value)


@pytest.fixture
def few_digits() -> Iterator[None]:
    """Lower the interpreter's limit for ints, for one test."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    yield
    sys.set_int_max_str_digits(before)


class TestInts:
    @pytest.mark.usefixtures("few_digits")
    def test_follow_a_lower_limit(self):
        """What the interpreter cannot write is described."""
        assert plain([10**600, 10**700]) == [10**600, "<int of 2326 bits>"]
        assert plain({10**700: 1}) == {"<int of 2326 bits>": 1}

    @pytest.mark.usefixtures("few_digits")
    def test_ids_too(self):
        """An id that cannot be written is none."""
        assert coercion.id_text(10**700) is None
        assert coercion.id_text(10**600) == "1" + "0" * 600


class TestText:
    @pytest.mark.parametrize(
        ("value", "made"),
        [
            ("plain", "plain"),
            ("\ud83d\ude00", "\U0001f600"),
            ("\U0001f600\ude00", "\U0001f600\ufffd"),  # a pair, then a lone half
            ("\ud83d\U0001f600", "\ufffd\U0001f600"),
            ("\ud83d", "\ufffd"),
        ],
    )
    def test_surrogates(self, value, made):
        """Pairs are joined, lone ones replaced, one for one."""
        assert coercion.text(value) == made
