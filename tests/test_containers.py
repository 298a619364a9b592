"""Containers and objects of all kinds keep their kind; the work for each is bounded."""

from __future__ import annotations

import array
import collections
import dataclasses
import functools
import json
import sys
import types
from decimal import Decimal
from fractions import Fraction

import pytest

from htlogging import EventTooLarge
from htlogging._event.encoder import encode

LIMIT = 32_768


def as_property(value):
    """Return what an event has for a value."""
    return json.loads(encode({"v": value}, LIMIT))["v"]


class TestKinds:
    @pytest.mark.parametrize(
        ("value", "plain"),
        [
            (types.MappingProxyType({"a": 1}), {"a": 1}),
            (collections.UserDict(a=1), {"a": 1}),
            (collections.ChainMap({"a": 1}, {"b": 2}), {"b": 2, "a": 1}),
            (collections.OrderedDict(a=1), {"a": 1}),
            ({"a": 1}.keys(), ["a"]),
            ({"a": 1}.values(), [1]),
            ({"a": 1}.items(), [["a", 1]]),
            (collections.deque([1, "b"]), [1, "b"]),
            (collections.UserList([1]), [1]),
            (collections.UserString("text"), "text"),
            (range(3), [0, 1, 2]),
            (array.array("d", [0.5]), [0.5]),
            (memoryview(array.array("i", [1, 2])), [1, 2]),
            (memoryview(b"text"), "text"),
            (types.SimpleNamespace(a=1), "namespace(a=1)"),
            ([collections.deque([{1}])], [[[1]]]),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_of_the_standard_library(self, value, plain):
        """Mappings are objects, sequences and sets arrays."""
        assert as_property(value) == plain
        assert as_property({"in": [value]}) == {"in": [plain]}

    def test_pydantic(self):
        """A model is an object of its fields, extra ones too; a root model its root."""
        pydantic = pytest.importorskip("pydantic")

        class Line(pydantic.BaseModel, extra="allow"):
            sku: str
            price: Decimal = Decimal("1.5")

        line = Line(sku="a", more=[1])
        assert as_property(line) == {"sku": "a", "price": 1.5, "more": [1]}
        root = pydantic.RootModel[list[int]]([1])
        assert as_property(root) == [1]

    def test_what_pydantic_leaves_out(self):
        """Excluded fields and cached values are not there; computed ones are."""
        pydantic = pytest.importorskip("pydantic")

        class Line(pydantic.BaseModel):
            count: int = 2
            secret: str = pydantic.Field("s", exclude=True)

            @functools.cached_property
            def cached(self):
                return "large"

            @pydantic.computed_field
            @property
            def total(self) -> int:
                return self.count * 3

            @pydantic.computed_field
            @property
            def broken(self) -> int:
                raise RuntimeError

        line = Line()
        assert line.cached
        assert as_property(line) == {"count": 2, "total": 6, "broken": None}

    @pytest.mark.skipif(sys.version_info >= (3, 14), reason="there is no version 1")
    def test_version_1_of_pydantic(self):
        """Its models are objects too, or their root."""
        pydantic = pytest.importorskip("pydantic.v1")

        class Line(pydantic.BaseModel):
            sku: str = "a"
            secret: str = pydantic.Field("s", exclude=True)

        class Lines(pydantic.BaseModel):
            __root__: list

        assert as_property(Lines(__root__=[Line()])) == [{"sku": "a"}]

    def test_sqlalchemy(self):
        """Of a mapped dataclass only what is loaded is looked at: there is no query."""
        sqlalchemy = pytest.importorskip("sqlalchemy")
        from sqlalchemy import orm

        table = sqlalchemy.Table(
            "order",
            sqlalchemy.MetaData(),
            sqlalchemy.Column("id", sqlalchemy.Integer, primary_key=True),
            sqlalchemy.Column("note", sqlalchemy.String),
        )
        Order = dataclasses.make_dataclass("Order", ["id", "note"])  # noqa: N806
        late = {"note": orm.deferred(table.c.note)}
        orm.registry().map_imperatively(Order, table, properties=late)
        engine = sqlalchemy.create_engine("sqlite://")
        table.metadata.create_all(engine)
        queries = []
        with orm.Session(engine) as session:
            session.add(Order(1, "a"))
            session.commit()
            order = session.get(Order, 1)
            sqlalchemy.event.listen(
                engine, "before_cursor_execute", lambda *about: queries.append(about[2])
            )
            assert as_property([order]) == [{"id": 1}]
        engine.dispose()
        assert queries == []

    def test_attrs(self):
        """An object of attrs is an object of its fields."""
        attrs = pytest.importorskip("attrs")
        point = attrs.make_class("Point", ["x", "y"], slots=True)
        assert as_property(point(1, point(2, None))) == {
            "x": 1,
            "y": {"x": 2, "y": None},
        }

    def test_pandas(self):
        """A column is an array, and what is missing null."""
        pandas = pytest.importorskip("pandas")
        assert as_property([pandas.NA, pandas.NaT]) == [None, None]
        assert as_property({pandas.NA: 1}) == {"null": 1}
        for column in (
            pandas.Series([1, None], dtype="Int64"),
            pandas.Index([1, None], dtype="Int64"),
            pandas.array([1, None], dtype="Int64"),
            pandas.Categorical([1, None]),
        ):
            assert as_property(column) == [1, None]
        days = pandas.date_range("2024-03-12", periods=2, tz="UTC")
        assert as_property(days)[1] == "2024-03-13T00:00:00+00:00"
        with pytest.raises(EventTooLarge):
            encode({"v": pandas.RangeIndex(10**12)}, LIMIT)

    def test_numpy(self):
        """A row of an array is an array; as a key, each is the JSON text of its value."""
        numpy = pytest.importorskip("numpy")
        rows = numpy.array([(1, 0.5)], dtype=[("a", "i4"), ("b", "f4")])
        assert as_property([rows, rows[0]]) == [[[1, 0.5]], [1, 0.5]]
        assert as_property({numpy.True_: 1}) == {"true": 1}


def nested(make, depth=26):
    """Return a value of few objects whose text has a part for each of 2**depth."""
    value = make(1, 2)
    for _ in range(depth):
        value = make(value, value)
    return value


class TestBounds:
    """The work for an event is bounded, whatever its values are."""

    # Made in the test: pytest looks at parameters, and writes them out.
    @pytest.mark.parametrize(
        "make",
        [
            lambda: nested(lambda a, b: collections.deque([a, b])),
            lambda: nested(lambda a, b: types.SimpleNamespace(a=a, b=b)),
            lambda: nested(ValueError),
            lambda: nested(lambda a, b: functools.partial(print, a, b)),
            lambda: nested(slice),
            lambda: nested(lambda a, b: dict[a, b]),
            lambda: nested(lambda a, b: collections.UserDict(a=a, b=b)),
            lambda: {nested(lambda a, b: frozenset([(a, 1), (b, 2)])): 1},
            lambda: {nested(lambda a, b: (a, b), 20): 1},
            lambda: array.array("b", bytes(20_000_000)),
            lambda: range(10**15),
            lambda: [Decimal("1." + "1" * 1_000_000)] * 30_000,
            lambda: [Decimal("1" * 4_000)] * 30_000,
            lambda: [Fraction(10**4000 + 1, 10**4000)] * 30_000,
            lambda: types.SimpleNamespace(a=["x" * 1_000_000] * 1_000_000),
        ],
        ids=range(15),
    )
    def test_sharing(self, make):
        """A few objects that refer to each other often cost little and are refused."""
        event = {"v": make()}
        try:
            encode(event, LIMIT)
        except EventTooLarge:
            refused = True
        else:
            refused = False
        event.clear()
        assert refused

    def test_chain(self):
        """A chain of maps is read map by map, not once through all for each key."""

        class Map(dict):
            def __getitem__(self, key):
                pytest.fail("looked up")

        chain = collections.ChainMap(Map(a=1), Map(a=2, b=3))
        assert as_property(chain) == {"a": 1, "b": 3}

    def test_what_is_wide_and_fits(self):
        """A Decimal of a million digits is the number that it is next to."""
        wide = Decimal("0." + "1" * 1_000_000)
        assert as_property([wide] * 1_000) == [pytest.approx(1 / 9)] * 1_000
        assert as_property(Decimal("7" * 400)) == int("7" * 400)


@pytest.fixture
def model(monkeypatch):
    """Return a Django model without a database: a query is an error."""
    django = pytest.importorskip("django")
    from django.conf import settings

    if not settings.configured:
        settings.configure()
    django.setup()
    from django.db import models

    name = "htlogging_values.Order"
    monkeypatch.delitem(sys.modules, "htlogging_values", raising=False)

    class Order(models.Model):  # noqa: DJ008
        class Meta:
            app_label = "htlogging_values"

    assert name.endswith(Order.__name__)
    return Order


class TestNotEvaluated:
    """What would run a query when it is looked at is not looked at."""

    @pytest.mark.filterwarnings("ignore")
    def test_queryset(self, model):
        """A queryset is its name."""
        text = as_property(model.objects.all())
        assert text == "<QuerySet of Order: not evaluated>"

    def test_lazy_object(self):
        """A lazy object is its name, until something has evaluated it."""
        pytest.importorskip("django")
        from django.utils.functional import SimpleLazyObject

        called = []
        lazy = SimpleLazyObject(lambda: called.append(1) or {"a": 1})
        assert as_property([lazy]) == ["<SimpleLazyObject: not evaluated>"]
        assert as_property(lazy) == ("<SimpleLazyObject: not evaluated>")
        assert called == []
        assert len(lazy) == 1
        assert as_property(lazy) == {"a": 1}
