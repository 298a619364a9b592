# Hostile values are methods more than documents.
# ruff: noqa: D102, D103

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import textwrap
import tracemalloc
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag
from fractions import Fraction
from types import MappingProxyType, ModuleType
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from htlogging._delivery import exchange
from htlogging._event import encoder
from htlogging.exceptions import EventTooLarge

LIMIT = 32_768
UID = UUID("12345678-1234-4678-9234-567812345678")


def load(name):
    """Import `_json` once more, to find orjson or the standard library alone."""
    spec = importlib.util.find_spec("htlogging._event.encoder")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        if name == "stdlib":
            patch.setitem(sys.modules, "orjson", None)
        module.prefer_orjson()
    return module.encode


ENCODERS = {name: load(name) for name in ("orjson", "stdlib")}


@pytest.fixture(params=ENCODERS)
def encode(request):
    return ENCODERS[request.param]


def kind(value):
    """Name a row: its own text may be endless."""
    return type(value).__name__


def refuse(constant):
    raise AssertionError(constant)


def unique(pairs):
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names))
    return dict(pairs)


def strict(data):
    """Read JSON as RFC 8259 has it, compact, without an escape of a surrogate."""
    assert type(data) is bytes
    text = data.decode()
    between = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    assert not re.search(r"\s", between)
    assert not re.search(r"(?<!\\)(?:\\\\)*\\u[dD][89a-fA-F]", text)
    return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)


def both(event, limit=LIMIT):
    """Encode with both; what they make means the same, kinds included."""
    results = [strict(encode(event, limit)) for encode in ENCODERS.values()]
    assert repr(results[0]) == repr(results[1])
    return results[0]


def as_property(value):
    """Encode the value between good neighbours."""
    good = {"price": 9.5, "count": 3, "name": "ok", "none": None}
    properties = {"before": good, "value": value, "after": [good]}
    event = {"type": "track", "properties": properties, "messageId": "m"}
    whole = both(event, 10**6)
    made = whole["properties"].pop("value")
    expected = {"before": good, "after": [good]}
    rest = {"type": "track", "properties": expected, "messageId": "m"}
    assert repr(whole) == repr(rest)
    return made


class Color(Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(IntEnum):
    HIGH = 3


class Plan(str, Enum):
    PRO = "pro"


class Nested(Enum):
    COLOR = Color.RED


class Access(IntFlag):
    READ = 4
    WRITE = 2


Point = namedtuple("Point", "x y")  # noqa: PYI024  (as users have them)


@dataclass
class Item:
    sku: str
    price: Decimal
    tags: list = field(default_factory=list)


@dataclass
class Slotted:
    __slots__ = ("sku",)
    sku: str


@dataclass(frozen=True)
class Key:
    name: str


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Ratio(float):
    pass


class Box(dict):
    pass


class Row(list):
    pass


class NaT(datetime):
    """As pandas has it: a datetime that differs from itself."""

    def __eq__(self, other):
        return False

    def __ne__(self, other):
        return True

    __hash__ = datetime.__hash__


class Zone(tzinfo):
    """A time zone whose code does as told."""

    def __init__(self, result):
        self.result = result

    def __repr__(self):
        return "Zone()"

    def utcoffset(self, when):  # noqa: ARG002
        if isinstance(self.result, type):
            raise self.result
        return self.result


class Told:
    """An object with a text."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text


NEW_YEAR = datetime(2024, 1, 1, 12, 30, 1, 500000)  # noqa: DTZ001
EAST = timezone(timedelta(hours=5, minutes=30))

VALUES = [
    (None, None),
    (True, True),
    (0, 0),
    (2**53 + 1, 2**53 + 1),
    (2**63, 2**63),
    (2**64 - 1, 2**64 - 1),
    (2**64, 2**64),
    (-(2**63) - 1, -(2**63) - 1),
    (10**400, 10**400),
    (10**4299, 10**4299),
    (10**4300, "<int of 14285 bits>"),  # no reader takes it for a number
    (-(10**4300), "<int of 14285 bits>"),
    (1.5, 1.5),
    (-0.0, -0.0),
    (1e22, 1e22),
    (1e16, 1e16),
    (5e-324, 5e-324),
    (1.7976931348623157e308, 1.7976931348623157e308),
    (float("nan"), None),
    (float("inf"), None),
    (float("-inf"), None),
    (Decimal("19.99"), 19.99),
    (Decimal(100), 100),
    (Decimal("1E+3"), 1000),
    (Decimal("100.00"), 100.0),
    (Decimal(12345678901234567890123), 12345678901234567890123),
    (Decimal("0." + "3" * 1000), 1 / 3),
    (Decimal("1E+400"), 10**400),  # a finite number stays one
    (Decimal("1" + "0" * 400 + ".5"), 10**400),
    (Decimal("1E+999999"), None),
    (Decimal("1E-400"), 0.0),
    (Decimal("NaN"), None),
    (Decimal("sNaN"), None),
    (Decimal("-Infinity"), None),
    (Fraction(1, 4), 0.25),
    (Fraction(10**400, 3), str(Fraction(10**400, 3))),  # beyond floats
    (1 + 2j, "(1+2j)"),
    ("", ""),
    ('\x00\n\u2028"\\/', '\x00\n\u2028"\\/'),
    ("\U0001f600", "\U0001f600"),
    ("\ud83d\ude00", "\U0001f600"),  # two halves that belong together
    ("a\ud800b\udfff", "a\ufffdb\ufffd"),
    ("\ude00\ud83d", "\ufffd\ufffd"),
    ("\\ud800", "\\ud800"),  # six characters
    ("é" * 1000, "é" * 1000),
    (Text("text"), "text"),
    (Whole(7), 7),
    (Ratio(0.5), 0.5),
    (Ratio("nan"), None),
    (Box(a=1), {"a": 1}),
    (Row([1, 2]), [1, 2]),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    ((1, (2,)), [1, [2]]),
    (Point(1, 2), [1, 2]),
    ({7}, [7]),
    (frozenset(), []),
    (Color.RED, "red"),
    (Color.PAIR, [1, 2]),
    (Nested.COLOR, "red"),
    (Level.HIGH, 3),
    (Plan.PRO, "pro"),
    (Access.READ | Access.WRITE, 6),
    (Color, "<enum 'Color'>"),
    (NEW_YEAR, "2024-01-01T12:30:01.500000"),
    (NEW_YEAR.replace(tzinfo=EAST), "2024-01-01T12:30:01.500000+05:30"),
    (NEW_YEAR.date(), "2024-01-01"),
    (time(1, 2), "01:02:00"),
    (time(1, 2, tzinfo=timezone.utc), "01:02:00+00:00"),
    (date(1, 1, 1), "0001-01-01"),
    (NaT(2024, 1, 1), None),
    (timedelta(days=1), "1 day, 0:00:00"),
    (UID, str(UID)),
    (b"text", "text"),
    (b"\xff\xfe", "//4="),
    (bytearray(b"\xc3\xa9"), "é"),
    (memoryview(b"abcdef")[::2], "ace"),
    (np.int64(5), 5),
    (np.uint64(2**64 - 1), 2**64 - 1),
    (np.float64(0.1), 0.1),
    (np.float32(0.5), 0.5),
    (np.float16("inf"), None),
    (np.longdouble(0.5), 0.5),
    (np.bool_(True), True),  # noqa: FBT003
    (np.str_("text"), "text"),
    (np.bytes_(b"text"), "text"),
    (np.complex64(1j), "1j"),
    (np.array([1, 2]), [1, 2]),
    (np.array([[0.5], [np.nan]]), [[0.5], [None]]),
    (np.array(5), 5),
    (np.array(0.5, np.longdouble), 0.5),
    (np.array([Decimal(1), "x", {1}], object), [1, "x", [1]]),
    (np.array([], int), []),
    (np.empty((2, 0, 10**9)), [[], []]),
    (np.ma.masked_array([1, 2], [False, True]), [1, None]),
    (np.datetime64("2024-01-01"), "2024-01-01"),
    (np.datetime64("2024-01-01T01:02:03.5", "ms"), "2024-01-01T01:02:03.500"),
    (np.datetime64("NaT", "D"), None),
    (
        np.array(["2024-01-01", "NaT"], "M8[ns]"),
        ["2024-01-01T00:00:00.000000000", None],
    ),
    (np.timedelta64(5, "D"), 5),
    (np.array([5, "NaT"], "m8[ns]"), [5, None]),
    (range(3), [0, 1, 2]),
    (MappingProxyType({"a": 1}), {"a": 1}),
    (Told("told"), "told"),
    (Told("\ud800"), "\ufffd"),
    (ValueError("no"), "no"),
]

KEYS = [
    ("text", "text"),
    ("\ud800", "\ufffd"),
    ("\ud83d\ude00", "\U0001f600"),
    (Text("text"), "text"),
    (Plan.PRO, "pro"),
    (None, "null"),
    (True, "true"),
    (False, "false"),
    (1, "1"),
    (2**70, str(2**70)),
    (10**5000, "<int of 16610 bits>"),
    (1.5, "1.5"),
    (float("nan"), "null"),
    (Decimal("1.5"), "1.5"),
    ((1, "a"), "(1, 'a')"),
    ((), "()"),
    (frozenset({1}), "frozenset({1})"),
    (Key("k"), "Key(name='k')"),
    (Color.RED, "red"),
    (Color.PAIR, "Color.PAIR"),
    (Level.HIGH, "3"),
    (UID, str(UID)),
    (NEW_YEAR.date(), "2024-01-01"),
    (NEW_YEAR, "2024-01-01T12:30:01.500000"),
    (b"text", "text"),
    (b"\xff", "/w=="),
    (np.int64(5), "5"),
    (Told("told"), "told"),
]


class TestValues:
    @pytest.mark.parametrize(("value", "made"), VALUES, ids=kind)
    def test_each_kind(self, value, made):
        """A value keeps its kind, with both encoders, wherever it stands."""
        assert repr(as_property(value)) == repr(made)
        assert repr(as_property([value, (value,)])) == repr([made, [made]])

    @pytest.mark.parametrize(("key", "made"), KEYS, ids=kind)
    def test_keys(self, key, made):
        """A key becomes the text that its value has, a container its own `str()`."""
        assert as_property({key: 1, "other": 2}) == {made: 1, "other": 2}

    def test_dataclass(self):
        """A dataclass becomes an object of its fields; one not set is null."""
        item = Item("s", Decimal("1.5"), [Slotted("t")])
        made = {"sku": "s", "price": 1.5, "tags": [{"sku": "t"}]}
        assert as_property(item) == made
        del item.tags[0].sku
        assert as_property(item)["tags"] == [{"sku": None}]

    def test_keys_that_become_the_same_text(self):
        """The last one stays, and its name stands once."""
        assert as_property({1: "a", "1": "b", "x": "c"}) == {"1": "b", "x": "c"}

    def test_generators_are_not_consumed(self):
        """An event does not eat what it is shown."""
        numbers = iter([1, 2, 3])
        generator = (n for n in (1, 2))
        as_property([numbers, generator])
        assert list(numbers) == [1, 2, 3]
        assert list(generator) == [1, 2]


class TestShape:
    def test_cycles_become_an_ellipsis(self):
        """Whatever is inside itself stops there, through every kind of container."""
        loop = [1]
        loop.append(loop)
        assert as_property(loop) == [1, "..."]
        box = {"a": 1}
        box["self"] = (box,)
        assert as_property(box) == {"a": 1, "self": ["..."]}
        item = Item("s", Decimal(1))
        item.tags.append(item)
        assert as_property(item)["tags"] == ["..."]

    def test_a_cycle_that_branches_is_not_large(self):
        """Parents that hold children that hold their parents make a small event."""
        parent = {"name": "p"}
        parent["children"] = [{"parent": parent, "n": n} for n in range(3)]
        children = [{"parent": "...", "n": n} for n in range(3)]
        assert as_property(parent) == {"name": "p", "children": children}

    def test_siblings_are_no_cycle(self):
        """A value may occur more than once."""
        shared = Row([1])
        assert as_property([shared, shared, {"a": shared}]) == [[1], [1], {"a": [1]}]

    @pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"x": x}, Row])
    def test_great_depth(self, wrap):
        """From the 65th level on a container is "..."; a scalar or object is not."""
        value = wrap([]) if wrap is not Row else Row([[]])
        for _ in range(10_000):
            value = Row([value]) if wrap is Row else wrap(value)
        made = as_property(value)
        depth = 2
        while made != "...":
            (made,) = made if isinstance(made, list) else made.values()
            depth += 1
        assert depth == 64

    def test_the_deepest_level_holds_everything_but_containers(self):
        """Level 64 is whole: long texts, odd numbers and objects are no levels."""
        leaves = ["x" * 500, 2**70, Told("told"), Decimal(1), {}]
        value = leaves
        for _ in range(61):
            value = [value]
        made = as_property(value)
        for _ in range(61):
            (made,) = made
        assert made == ["x" * 500, 2**70, "told", 1, "..."]

    def test_exponential_sharing(self, encode):
        """A structure that is small in memory and endless written out is refused."""
        value = [0]
        for _ in range(60):
            value = [value, value]
        odd = {1: value}
        for properties in ({"a": value}, odd):
            with pytest.raises(EventTooLarge) as caught:
                encode({"properties": properties}, LIMIT)
            assert caught.value.size is None


class TestLimit:
    ODD = (None, Color.RED, Level.HIGH, np.array([1, 2, 3]), b"x", {(1,) * 50: 1})

    @pytest.mark.parametrize("odd", [*ODD, [Nested.COLOR] * 9], ids=kind)
    @pytest.mark.parametrize("pad", ["x", "é", "\x00"])
    def test_to_the_byte(self, encode, odd, pad):
        """An event of exactly the limit is taken, one byte more is refused."""
        event = {"p": odd, "long": pad * 300, "short": pad}
        size = len(encode(event, LIMIT))
        assert len(encode(event, size)) == size
        with pytest.raises(EventTooLarge) as caught:
            encode(event, size - 1)
        assert caught.value.limit == size - 1
        assert caught.value.size in (None, size)

    @pytest.mark.parametrize(
        "value",
        [
            [1] * 20,
            [Level.HIGH] * 20,
            np.ones(20, int),
            np.ones((20, 1), int),
            [b""] * 20,
            [Level.HIGH, {Level.HIGH: Level.HIGH}] * 9,
            [""] * 20,
            [[]] * 20,
            (None,) * 20,
        ],
    )
    def test_the_early_refusal_is_never_wrong(self, encode, value):
        """What fits is not taken for too large, however short its values are."""
        size = len(encode({"": value}, LIMIT))
        assert len(encode({"": value}, size)) == size

    @pytest.mark.parametrize(
        "make",
        [
            lambda: "x" * 10**8,
            lambda: [["x" * 10**8]],
            lambda: Text("x" * 10**8),
            lambda: b"x" * 10**8,
            lambda: {1: "\ud800" * 10**7},
            lambda: {"x" * 10**7: 1},
            lambda: ["x" * 100] * 10**6,
            lambda: {n: n for n in range(10**6)},
            lambda: Row([0]) * 10**7,
            lambda: np.zeros(10**8, "i1"),
            lambda: np.zeros((10**8, 0)),
            lambda: Decimal("1" * 10**6),
            lambda: {"a": 1 << 10**8},
        ],
    )
    def test_giants_are_cut_short(self, encode, make):
        """What is far too large costs next to nothing; or it has a short form."""
        event = {"properties": {"giant": make(), "other": 1}}
        tracemalloc.start()
        try:
            assert len(encode(event, LIMIT)) < LIMIT
        except EventTooLarge:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 30_000_000

    def test_endless_containers_end(self, encode):
        """An iterator without end is a large value, not a hang."""

        class Endless(list):
            def __iter__(self):
                while True:
                    yield 1

        with pytest.raises(EventTooLarge):
            encode({"properties": {"a": Endless()}}, LIMIT)

    def test_text_of_an_object_counts(self, encode):
        """What `str()` returns is measured before it is copied."""
        with pytest.raises(EventTooLarge):
            encode({"properties": {"a": Told("x" * LIMIT)}}, LIMIT)


class Mute:
    """Neither `str()` nor `repr()` works."""

    def __repr__(self):
        raise ValueError("secret")


class NoText:
    def __str__(self):
        return 5  # noqa: PLE0307  (on purpose)

    def __repr__(self):
        return "NoText"


class Endlessly:
    def __repr__(self):
        return repr([self, self])


class FailingClass:
    @property
    def __class__(self):
        raise RuntimeError

    def __repr__(self):
        return "FailingClass"


class Liar:
    """Says that it is of another class."""

    def __init__(self, kind):
        self.kind = kind

    @property
    def __class__(self):
        return self.kind

    def __repr__(self):
        return "Liar"


class LyingText(str):
    __slots__ = ()

    def __len__(self):
        return -(10**9)  # noqa: PLE0303  (on purpose)

    def __str__(self):
        return "another"

    def encode(self, *_):
        return b'"'


class LyingInt(int):
    def bit_length(self):
        return 1

    def __int__(self):
        return 10**9

    def __str__(self):
        return "another"

    __repr__ = __str__


class LyingFloat(float):
    def __float__(self):
        return float("nan")

    def __repr__(self):
        return "another"


class LyingDate(date):
    def isoformat(self):
        return object()


class FailingDatetime(datetime):
    def __ne__(self, other):
        raise RuntimeError

    def __str__(self):
        return "FailingDatetime"

    __hash__ = datetime.__hash__


class FailingDict(dict):
    def items(self):
        raise RuntimeError

    def __repr__(self):
        return "FailingDict"


class CrookedDict(dict):
    def items(self):
        return [1, 2]

    def __repr__(self):
        return "CrookedDict"


class FailingList(list):
    def __iter__(self):
        raise RuntimeError

    def __repr__(self):
        return "FailingList"


class FailingEnum(Enum):
    A = 1

    @property
    def value(self):
        raise RuntimeError


class EndlessEnum(Enum):
    A = 1

    @property
    def value(self):
        return self


class FailingKey:
    def __hash__(self):
        return 1

    def __eq__(self, other):
        return self is other

    def __repr__(self):
        raise RuntimeError


@dataclass
class FailingField:
    good: int = 1

    @property
    def bad(self):
        raise RuntimeError

    @bad.setter
    def bad(self, value):
        pass


FailingField = dataclass(
    type("FailingField", (FailingField,), {"__annotations__": {"bad": int}})
)


def released():
    view = memoryview(b"x")
    view.release()
    return view


def in_zone(result):
    return NEW_YEAR.replace(tzinfo=Zone(result))


ZONED = "datetime.datetime(2024, 1, 1, 12, 30, 1, 500000, tzinfo=Zone())"
HOSTILE = [
    (Mute(), "__could_not_encode__"),
    (NoText(), "NoText"),
    (Endlessly(), "__could_not_encode__"),
    (FailingClass(), "FailingClass"),
    *(
        (Liar(kind), "Liar")
        for kind in (
            *(str, int, float, bytes, dict, list, tuple, set, bool, type(None)),
            *(date, datetime, time, Decimal, UUID, Enum, Item, Fraction, type),
            *(np.ndarray, np.datetime64),
        )
    ),
    (LyingText("text"), "text"),
    (LyingInt(3), 3),
    (LyingFloat(0.5), 0.5),
    (LyingDate(2024, 1, 1), "2024-01-01"),
    (FailingDatetime(2024, 1, 1), "FailingDatetime"),
    (FailingDict(a=1), "FailingDict"),
    (CrookedDict(a=1), "CrookedDict"),
    (FailingList([1]), "FailingList"),
    (FailingEnum.A, "FailingEnum.A"),
    (EndlessEnum.A, "EndlessEnum.A"),
    (FailingField(1, 2), {"good": 1, "bad": None}),
    ({FailingKey(): 1, (FailingKey(),): 2}, {"__could_not_encode__": 2}),
    ({LyingText("text"): 1, LyingInt(3): 2}, {"text": 1, "3": 2}),
    ({FailingEnum.A: 1}, {"FailingEnum.A": 1}),
    (Told(LyingText("text")), "text"),
    (in_zone(RuntimeError), ZONED),
    (in_zone("hours"), ZONED),
    (in_zone(timedelta(days=2)), ZONED),
    (in_zone(None), "2024-01-01T12:30:01.500000"),
]


class TestHostile:
    @pytest.mark.parametrize(("value", "made"), HOSTILE, ids=kind)
    def test_harms_itself_alone(self, value, made):
        """A value that fails or lies has a text in its place; all around it is well."""
        assert repr(as_property(value)) == repr(made)
        assert repr(as_property({"a": [value, 1.5]})) == repr({"a": [made, 1.5]})

    def test_released_memoryview(self):
        """Bytes that are gone do not take the event along."""
        assert as_property(released()).startswith("<released memory")

    @pytest.mark.parametrize(
        "change",
        [
            lambda box: box.clear(),
            lambda box: box.update(more=1) if isinstance(box, dict) else box.append(1),
        ],
    )
    @pytest.mark.parametrize("make", [dict, list])
    def test_change_to_the_container_it_is_in(self, change, make):
        """What a container held when it was come to is what is sent."""
        for encode in ENCODERS.values():
            box = make()

            class Changer:
                def __str__(self, box=box):
                    change(box)
                    return "changer"

            if make is dict:
                box.update(a=1, b=Changer(), c=2)
                expected = {"a": 1, "b": "changer", "c": 2}
            else:
                box.extend((1, Changer(), 2))
                expected = [1, "changer", 2]
            event = {"properties": {"box": box}}
            assert strict(encode(event, LIMIT)) == {"properties": {"box": expected}}

    @pytest.mark.parametrize("last", [1, Told("told")], ids=kind)
    @pytest.mark.parametrize("change", ["clear", "grow"])
    def test_change_while_the_encoder_is_inside(self, encode, change, last):
        """A list or dict changed under way, as by another thread, crashes nothing."""
        items, box = [], {}

        class Changing(tzinfo):
            def utcoffset(self, when):  # noqa: ARG002
                if change == "clear":
                    items.clear()
                    box.clear()
                elif len(items) < 1000:
                    items.extend([Told("new")] * 500)
                    box.update((str(n), Told("new")) for n in range(500))
                return timedelta(0)

        items += [NEW_YEAR.replace(tzinfo=Changing()), *map(str, range(100)), last]
        box.update((text, text * 5) for text in map(str, range(100)))
        event = {"properties": {"items": items, "box": box, "good": 1}}
        made = strict(encode(event, 10**6))["properties"]
        assert made["good"] == 1
        assert made["items"][0] == "2024-01-01T12:30:01.500000+00:00"

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_exits_pass(self, encode, error):
        """What is no `Exception` goes through, as in `logging.Handler`."""

        class Exiting:
            def __str__(self):
                raise error

        for value in (Exiting(), in_zone(error), {1: in_zone(error)}):
            with pytest.raises(error):
                encode({"properties": {"a": value}}, LIMIT)

    def test_memory_error_is_an_error_as_any(self, encode):
        """A `MemoryError` in a `str()` costs that value, as any `Exception`."""

        class Huge:
            def __str__(self):
                raise MemoryError

            def __repr__(self):
                return "Huge"

        assert strict(encode({"a": Huge()}, LIMIT)) == {"a": "Huge"}

    def test_encoding_within_encoding(self, encode):
        """A `str()` may make events itself, through the same encoder."""

        class Logs:
            def __str__(self):
                return encode({"a": Told("inner")}, LIMIT).decode()

        assert strict(encode({"a": Logs()}, LIMIT)) == {"a": '{"a":"inner"}'}

    def test_little_stack_left(self, encode):
        """Near the recursion limit: the event with all its kinds, or an error."""
        event = {"properties": {"a": 1, "b": {2: 0.5}, "c": [Told("told")], "d": None}}
        outcomes = set()

        def dive(depth):
            return dive(depth - 1) if depth else encode(event, LIMIT)

        for depth in range(1, sys.getrecursionlimit()):
            try:
                made = strict(dive(depth))["properties"]
            except RecursionError:
                outcomes.add("error")
                continue
            assert (made["a"], made["d"]) == (1, None)
            assert made["b"] in ({"2": 0.5}, "{2: 0.5}", "__could_not_encode__")
            outcomes.add("event")
        assert outcomes == {"event", "error"}


class TestSnapshot:
    def test_later_changes_do_not_show(self, encode):
        """The bytes are of the moment of the call."""
        tags = ["a"]
        event = {"properties": {"tags": tags, "box": Box(a=tags)}}
        data = encode(event, LIMIT)
        tags.append("b")
        assert strict(data)["properties"] == {"tags": ["a"], "box": {"a": ["a"]}}

    def test_the_event_is_not_changed(self, encode):
        """Encoding replaces nothing in what it is given."""
        properties = {1: Color.RED, "d": Decimal(1), "l": [{2}]}
        before = repr(properties)
        encode({"properties": properties}, LIMIT)
        assert repr(properties) == before


class TestIntegerLimits:
    def test_hold_whatever_the_interpreter_is_set_to(self):
        """More digits than the interpreter prints make a text, never an error."""
        script = textwrap.dedent("""
            import sys
            from htlogging._event.encoder import encode, prefer_orjson
            prefer_orjson()
            for digits in (640, 0, 100_000):
                sys.set_int_max_str_digits(digits)
                for size in (600, 700, 5000):
                    print(encode({"a": 10 ** size, "b": 1}, 32768).decode())
        """)
        outputs = set()
        for block in ("", "import sys; sys.modules['orjson'] = None\n"):
            run = [sys.executable, "-c", block + script]
            output = subprocess.check_output(run, text=True).splitlines()
            outputs.add(tuple("bits" in line for line in output))
        lowered, raised = (False, True, True), (False, False, True)
        assert outputs == {lowered + raised + raised}


def rows(table):
    # Not `sampled_from`: its own text would hold theirs.
    return st.integers(0, len(table) - 1).map(lambda row: table[row][0])


# Any Python object, by kind; hypothesis builds them into one another.
anything_written = st.text(st.characters(exclude_categories=()), max_size=8)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 20_000).map(lambda bits: 1 << bits),
    st.floats(),
    anything_written,
    st.binary(max_size=8),
    st.decimals(),
    st.decimals(min_value=-(10**30), max_value=10**30, places=2),
    st.fractions(),
    st.complex_numbers(),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(timezone.utc) | st.just(EAST)),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    rows(VALUES),
    rows(HOSTILE),
)
keys = st.one_of(
    anything_written,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(max_size=4),
    st.dates(),
    st.tuples(st.integers(), anything_written),
    rows(KEYS),
    st.builds(FailingKey),
)


def with_itself(items):
    items.append([items])
    return items


def as_array(items):
    array = np.empty(len(items), object)
    for n, item in enumerate(items):
        array[n] = item
    return array


def containers(inner):
    lists = st.lists(inner, max_size=4)
    dicts = st.dictionaries(keys, inner, max_size=4)
    return st.one_of(
        lists,
        dicts,
        st.dictionaries(anything_written, inner, max_size=4),
        lists.map(tuple),
        lists.map(Row),
        lists.map(with_itself),
        dicts.map(Box),
        st.frozensets(keys, max_size=4),
        st.builds(Item, anything_written, inner, lists),
        st.builds(Point, inner, inner),
        inner.map(lambda value: [value] * 3),
        lists.map(as_array),
    )


anything = st.recursive(scalars, containers, max_leaves=12)
thorough = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


class TestAnything:
    @thorough
    @given(anything)
    def test_is_valid_and_means_the_same(self, value):
        """Whatever is put in: RFC 8259, the neighbours whole, the encoders agreed."""
        as_property(value)

    @pytest.mark.slow
    @thorough
    @given(st.dictionaries(keys, anything, max_size=5))
    def test_as_properties(self, properties):
        """Whatever the properties are, the event is an object with its fields."""
        made = both({"type": "track", "properties": properties}, 10**6)
        assert list(made) == ["type", "properties"]
        assert type(made["properties"]) is dict

    @pytest.mark.slow
    @thorough
    @given(anything, st.integers(0, 400))
    def test_never_over_the_limit(self, value, limit):
        """At most `limit` bytes, and refused only what is longer."""
        for encode in ENCODERS.values():
            whole = encode({"a": value}, 10**6)
            if len(whole) <= limit:
                assert encode({"a": value}, limit) == whole
            else:
                with pytest.raises(EventTooLarge):
                    encode({"a": value}, limit)


class TestPrivates:
    """What is used of the standard library's `_json` does as `json` does."""

    @pytest.mark.parametrize(
        "value", [{"ä": [1, 2.5, None, True, '\u2028"\\\n']}, [], "x", {}, 2**70]
    )
    def test_encoder(self, value):
        """The C encoder takes these arguments, and gives what `json.dumps` gives."""
        made = type(encoder._chunks)
        assert made is json.encoder.c_make_encoder
        expected = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        assert encoder._stdlib_dumps(value) == expected.encode()

    @pytest.mark.parametrize("key", ["K", "ä\ud800\U0001f600", '"\\\n'])
    def test_write_key(self, key):
        """A write key is written as `json.dumps` does."""
        assert f'"writeKey":{json.dumps(key)}}}'.encode() in exchange.body([], key)


class TestImport:
    def test_without_json(self):
        """Neither the package nor the facade imports `json`, which takes 1 ms."""
        code = (
            "import sys; from htlogging import htevents; print('json' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-S", "-c", textwrap.dedent(code)],
            capture_output=True,
            check=True,
            text=True,
            timeout=60,
            env={"PYTHONPATH": ":".join(filter(None, sys.path))},
        )
        assert done.stdout.strip() == "False"


class TestWithoutOrjson:
    def test_is_not_needed(self):
        """Events mean the same where orjson is not installed."""
        script = textwrap.dedent("""
            import sys
            sys.modules["orjson"] = None
            from htlogging._event.encoder import encode, prefer_orjson
            prefer_orjson()
            sys.stdout.write(encode({"a": [1e22, "é", None], 1: 2}, 100).decode())
        """)
        run = [sys.executable, "-X", "utf8", "-c", script]
        data = subprocess.check_output(run)
        assert strict(data) == {"a": [1e22, "é", None], "1": 2}

    def test_another_module_of_that_name(self, monkeypatch):
        """What is no orjson is not used."""
        monkeypatch.setitem(sys.modules, "orjson", ModuleType("orjson"))
        assert encoder._choose_dumps() is encoder._stdlib_dumps

    def test_orjson_and_odd_types_load_late(self):
        """Importing costs neither; plain events never load the patient half."""
        script = textwrap.dedent("""
            import sys
            from htlogging._event.encoder import encode
            encode({"a": [1, "x" * 999]}, 9999)
            print("orjson" in sys.modules, "htlogging._event.coercion" in sys.modules)
        """)
        run = [sys.executable, "-c", script]
        assert subprocess.check_output(run, text=True).strip() == "False False"
