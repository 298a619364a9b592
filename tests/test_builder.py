# Helpers are one line each; zones are hostile.
# ruff: noqa: D102, D103

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from unittest.mock import Mock
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from htlogging import __version__
from htlogging._event import builder
from htlogging.exceptions import InvalidEvent

CREATED = 1710235800.123
STAMP = "2024-03-12T09:30:00.123+00:00"
LIBRARY = {"name": "htlogging", "version": __version__}
UID = UUID("12345678-1234-4678-9234-567812345678")
TYPES = ["track", "identify", "page", "screen", "group", "alias"]

# What each type needs besides an id, and a whole call of each.
NEEDS = {"group": {"ht_group_id": "g"}, "alias": {"ht_previous_id": "p"}}


def kind_of(value):
    # `isinstance` and `str()` are what some rows are hostile to.
    return value if type(value) is str else type(value).__name__


def build(own, bound=None, name="Order completed", created=CREATED):
    return builder.build(own, bound or {}, name, created)


def of_type(kind, bound=None, **own):
    fields = {"ht_type": kind, "ht_user_id": "u", **NEEDS.get(kind, {})}
    return build({**fields, **own}, bound)


class Plan(Enum):
    ID = "from-enum"
    NUMBER = 7
    FLAG = True
    EMPTY = ""


class Text(str):
    __slots__ = ()

    def __str__(self):
        return "another"


class Whole(int):
    def __str__(self):
        return Text("seven")


class FailingNumber(int):
    def __str__(self):
        raise RuntimeError("secret")


class Zone(tzinfo):
    def __init__(self, *results):
        self.results = list(results)

    def utcoffset(self, _):
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, type):
            raise result("secret")
        return result


class NaT(datetime):
    """As pandas has it: a datetime that differs from itself."""

    def __ne__(self, other):
        return True

    __hash__ = datetime.__hash__


class TestTypes:
    def test_without_a_type_it_is_track(self):
        """The event of a plain record, field for field."""
        event = build({"ht_user_id": "user123", "product_id": "123"})
        UUID(event.pop("messageId"))
        assert event == {
            "type": "track",
            "event": "Order completed",
            "userId": "user123",
            "anonymousId": None,
            "properties": {"product_id": "123"},
            "context": {"library": LIBRARY},
            "integrations": {},
            "timestamp": STAMP,
        }

    @pytest.mark.parametrize(
        ("kind", "own"),
        [
            ("track", {"event": "Order completed", "properties": {"a": 1}}),
            ("identify", {"traits": {"a": 1}}),
            ("page", {"category": None, "name": None, "properties": {"a": 1}}),
            ("screen", {"category": None, "name": None, "properties": {"a": 1}}),
            ("group", {"groupId": "g", "traits": {"a": 1}}),
            ("alias", {"previousId": "p"}),  # takes neither properties nor traits
        ],
    )
    def test_fields_of_each(self, kind, own):
        """Each type has its own fields, and those that all have."""
        event = of_type(kind, ht_message_id="m", a=1)
        assert event == {
            "type": kind,
            **own,
            "userId": "u",
            "anonymousId": None,
            "context": {"library": LIBRARY},
            "integrations": {},
            "timestamp": STAMP,
            "messageId": "m",
        }

    @pytest.mark.parametrize(
        "kind", ["", "Track", 1, Mock(spec=str), b"track"], ids=kind_of
    )
    def test_unknown(self, kind):
        """The message lists the types there are."""
        with pytest.raises(InvalidEvent, match=r"ht_type.*track, identify, page"):
            of_type(kind)

    def test_type_from_an_enum_is_an_exact_str(self):
        """A str of a class of its own is a str in the event."""
        assert type(of_type(Text("page"))["type"]) is str

    @pytest.mark.parametrize("kind", TYPES)
    def test_from_the_bound_fields(self, kind):
        """Every field may be bound instead of given."""
        bound = {"ht_type": kind, "ht_user_id": "u", **NEEDS.get(kind, {})}
        assert build({}, bound)["type"] == kind


class TestName:
    def test_given(self):
        """`ht_event` wins over the record's message."""
        assert of_type("track", ht_event="Signed up")["event"] == "Signed up"

    def test_is_an_exact_str(self):
        """A subclass's content counts, not its `str()`."""
        name = of_type("track", ht_event=Text("Signed up"))["event"]
        assert (name, type(name)) == ("Signed up", str)

    @pytest.mark.parametrize(
        "name", [1, b"x", ["x"], Mock(spec=str), True], ids=kind_of
    )
    def test_no_str(self, name):
        """The message names field and parameter, and the type that came."""
        match = rf"ht_event \(event\) must be a str.*not {type(name).__name__}"
        with pytest.raises(InvalidEvent, match=match):
            of_type("track", ht_event=name)

    def test_empty(self):
        """It is refused, whether given or the record's message."""
        with pytest.raises(InvalidEvent, match="is empty"):
            of_type("track", ht_event="")
        with pytest.raises(InvalidEvent, match="is empty"):
            build({"ht_user_id": "u"}, name="")

    @pytest.mark.parametrize("kind", TYPES[1:])
    def test_other_types_have_none(self, kind):
        """Neither the message nor `ht_event` gets into them."""
        event = of_type(kind, ht_event="x")
        assert "event" not in event
        assert not event.get("properties")
        assert not event.get("traits")


class TestCategoryAndName:
    @pytest.mark.parametrize("kind", ["page", "screen"])
    def test_given(self, kind):
        """Both are texts; the empty one is one."""
        event = of_type(kind, ht_category=Text("Docs"), ht_name="")
        assert (event["category"], event["name"]) == ("Docs", "")
        assert type(event["category"]) is str

    @pytest.mark.parametrize("field", ["ht_category", "ht_name"])
    @pytest.mark.parametrize("value", [1, b"x", Mock(spec=str)], ids=kind_of)
    def test_no_str(self, field, value):
        """The message names the field."""
        with pytest.raises(InvalidEvent, match=rf"{field} \(\w+\) must be a str, not"):
            of_type("page", **{field: value})


IDS = [
    ("user123", "user123"),
    (" ", " "),
    (Text("text"), "text"),
    (0, "0"),
    (-5, "-5"),
    (2**70, str(2**70)),
    (10**1000, str(10**1000)),
    (Whole(7), "seven"),
    (1.5, "1.5"),
    (0.0, "0.0"),
    (Decimal("1.50"), "1.50"),
    (Fraction(1, 3), "1/3"),
    (UID, str(UID)),
    (Plan.ID, "from-enum"),
    (Plan.NUMBER, "7"),
    (np.int64(5), "5"),
    (np.float64(1.5), "1.5"),
    (np.str_("text"), "text"),
]
NO_IDS = [
    "",
    Text(""),
    True,
    False,
    Plan.FLAG,
    Plan.EMPTY,
    np.bool_(True),  # noqa: FBT003
    float("nan"),
    float("inf"),
    float("-inf"),
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("Infinity"),
    1j,
    b"secret",
    ["secret"],
    {"secret": 1},
    ("secret",),
    object(),
    np.array([1, 2]),
    FailingNumber(7),
    10**5000,  # more digits than str() takes
    date(2024, 1, 1),
    Mock(spec=str),
    Mock(spec=int),
    Mock(spec=UUID),
]
ID_FIELDS = [
    ("track", "ht_user_id", "userId"),
    ("track", "ht_anonymous_id", "anonymousId"),
    ("group", "ht_group_id", "groupId"),
    ("alias", "ht_previous_id", "previousId"),
    ("alias", "ht_user_id", "userId"),
    ("track", "ht_message_id", "messageId"),
]


class TestIds:
    @pytest.mark.parametrize(("kind", "field", "key"), ID_FIELDS)
    @pytest.mark.parametrize(("value", "text"), IDS, ids=kind_of)
    def test_become_strings(self, kind, field, key, value, text):
        """All five ids take strings, numbers and UUIDs, and are exact strings."""
        made = of_type(kind, **{field: value})[key]
        assert (made, type(made)) == (text, str)

    @pytest.mark.parametrize(("kind", "field", "key"), ID_FIELDS)
    @pytest.mark.parametrize("value", NO_IDS, ids=kind_of)
    def test_refused(self, kind, field, key, value):  # noqa: ARG002
        """Empty, no number and what is no id: named, and its value never shown."""
        with pytest.raises(InvalidEvent, match=rf"{field} \(\w+\) must be") as caught:
            of_type(kind, **{field: value})
        assert "secret" not in str(caught.value)

    def test_empty_is_told_from_wrong(self):
        """An empty id is called empty."""
        with pytest.raises(InvalidEvent, match="not an empty one"):
            of_type("track", ht_user_id="")

    @pytest.mark.parametrize("kind", [k for k in TYPES if k != "alias"])
    def test_one_of_the_two_is_needed(self, kind):
        """Either does; with neither the message says what to do."""
        needs = {"ht_type": kind, **NEEDS.get(kind, {})}
        assert build({**needs, "ht_anonymous_id": "a"})["anonymousId"] == "a"
        for nothing in ({}, {"ht_user_id": None, "ht_anonymous_id": None}):
            with pytest.raises(InvalidEvent, match=r"bind\(ht_user_id=\.\.\.\)"):
                build({**needs, **nothing})

    @pytest.mark.parametrize(
        ("own", "missing"),
        [
            ({"ht_type": "group", "ht_user_id": "u"}, "group needs ht_group_id"),
            ({"ht_type": "alias", "ht_user_id": "u"}, "alias needs ht_previous_id"),
            ({"ht_type": "alias", "ht_previous_id": "p"}, "alias needs ht_user_id"),
            (  # an anonymous id does not do for an alias
                {"ht_type": "alias", "ht_previous_id": "p", "ht_anonymous_id": "a"},
                "alias needs ht_user_id",
            ),
        ],
    )
    def test_what_a_type_needs(self, own, missing):
        """The missing field is named, as in `extra` and as a parameter."""
        with pytest.raises(InvalidEvent, match=missing):
            build(own)

    def test_misspelt_fields_are_pointed_at(self):
        """Where an id is missing, misspelt names are shown, with the fields meant."""
        own = {"ht_userid": "secret", "ht_x": 1, 7: "not a name", "plan": "pro"}
        shown = r"no such field: ht_userid, ht_x; did you mean ht_user_id\?$"
        with pytest.raises(InvalidEvent, match=shown) as e:
            build(own)
        assert "secret" not in str(e.value)
        own = {"ht_user_id": "u", "ht_properties": {"ht_x": 1}, "ht_message_id": ""}
        with pytest.raises(InvalidEvent, match=r"an empty one$"):
            build(own)
        with pytest.raises(
            InvalidEvent, match=r"ht_groupid; did you mean ht_group_id\?"
        ):
            build({"ht_type": "group", "ht_user_id": "u", "ht_groupid": 1})

    def test_misspelt_fields_are_kept_otherwise(self):
        """A name that is no field is an extra as any."""
        assert of_type("track", ht_x=1)["properties"] == {"ht_x": 1}


class TestBody:
    @pytest.mark.parametrize("kind", [k for k in TYPES if k != "alias"])
    def test_the_dict_over_the_extras(self, kind):
        """Extras join; the dict of that name wins over them, the call over the task."""
        body = "traits" if kind in ("identify", "group") else "properties"
        event = of_type(
            kind,
            bound={"a": 1, "b": 1, "c": 1, "d": 1, f"ht_{body}": {"b": 2, "e": 2}},
            c=3,
            **{f"ht_{body}": {"d": 4, "name": "refused by extra", 5: "a key"}},
        )
        assert event[body] == {
            "a": 1,
            "b": 2,
            "c": 3,
            "d": 4,
            "e": 2,
            "name": "refused by extra",
            5: "a key",
        }

    def test_an_extra_of_none_is_null(self):
        """It hides the bound one: null is a value of a property."""
        assert of_type("track", bound={"a": 1}, a=None)["properties"] == {"a": None}

    def test_bound_dict_of_the_other_name_rests(self):
        """Traits bound for `identify` calls do not disturb a `track`."""
        event = of_type("track", bound={"ht_traits": {"plan": "pro"}})
        assert event["properties"] == {}
        assert "traits" not in event

    @pytest.mark.parametrize(
        ("kind", "field", "cure"),
        [
            ("track", "ht_traits", "its dict is ht_properties"),
            ("page", "ht_traits", "its dict is ht_properties"),
            ("screen", "ht_traits", "its dict is ht_properties"),
            ("identify", "ht_properties", "its dict is ht_traits"),
            ("group", "ht_properties", "its dict is ht_traits"),
            ("alias", "ht_properties", "takes neither"),
            ("alias", "ht_traits", "takes neither"),
        ],
    )
    def test_dict_of_the_other_name(self, kind, field, cure):
        """What would be lost is refused; an empty one loses nothing."""
        with pytest.raises(InvalidEvent, match=f"{field} does not go with.*{cure}"):
            of_type(kind, **{field: {"a": 1}})
        assert of_type(kind, **{field: {}})["type"] == kind

    def test_alias_drops_extras(self):
        """It has no place for them; what is bound for other events is no mistake."""
        event = of_type("alias", bound={"plan": "pro"}, a=1)
        assert not {"properties", "traits", "plan", "a"} & event.keys()

    def test_callers_own_values(self):
        """The values are the caller's, the dict around them is not."""
        tags, properties = ["a"], {}
        properties["tags"] = tags
        event = of_type("track", ht_properties=properties)
        assert event["properties"]["tags"] is tags
        assert event["properties"] is not properties
        assert properties == {"tags": ["a"]}


class NoTruth:
    def __bool__(self):
        raise RuntimeError


DICTS = ["ht_properties", "ht_context", "ht_integrations", "ht_traits"]


class TestDicts:
    @pytest.mark.parametrize("field", DICTS)
    @pytest.mark.parametrize("value", [None, {}, [], "", 0, False, ()], ids=repr)
    def test_falsy_means_empty(self, field, value):
        """As in Hightouch's own SDK."""
        event = of_type(
            "identify" if field == "ht_traits" else "track", **{field: value}
        )
        assert event["context"] == {"library": LIBRARY}
        assert event["integrations"] == {}

    @pytest.mark.parametrize("field", DICTS)
    @pytest.mark.parametrize(
        "value",
        ["x", [1], 1, {1}, np.array([1, 2]), NoTruth(), Mock(spec=dict)],
        ids=kind_of,
    )
    def test_no_dict(self, field, value):
        """Refused by name, for the type that takes it and for one that does not."""
        for kind in ("track", "identify"):
            with pytest.raises(InvalidEvent, match=rf"{field} \(\w+\) must be a dict"):
                of_type(kind, **{field: value})

    def test_context(self):
        """The call's is merged over the task's; `library` stays ours."""
        mine = {"ip": "1.1.1.1", "library": {"name": "other"}, "app": {"name": "a"}}
        event = of_type(
            "track",
            bound={"ht_context": {"ip": "0.0.0.0", "locale": "de", "library": None}},
            ht_context=mine,
        )
        assert event["context"] == {
            "ip": "1.1.1.1",
            "locale": "de",
            "app": {"name": "a"},
            "library": LIBRARY,
        }
        assert mine["library"] == {"name": "other"}

    def test_context_passes_through(self):
        """Consent, contract version and the like are untouched."""
        given = {
            "htevents": {"schemaVersion": "1.2"},
            "consent": {"categoryPreferences": {"Advertising": True}},
        }
        event = of_type("track", ht_context=given)
        assert event["context"] == {**given, "library": LIBRARY}

    def test_integrations(self):
        """The call's are merged over the task's."""
        event = of_type(
            "track",
            bound={"ht_integrations": {"All": False, "A": True}},
            ht_integrations={"A": {"b": 1}},
        )
        assert event["integrations"] == {"All": False, "A": {"b": 1}}

    def test_library_is_made_anew(self):
        """Changing one event's library does not change the next one's."""
        of_type("track")["context"]["library"]["name"] = "changed"
        assert of_type("track")["context"]["library"] == LIBRARY


class TestBound:
    def test_call_wins_and_none_is_not_given(self):
        """A field of `None` in the call leaves the bound one in force."""
        bound = {"ht_user_id": "task", "ht_anonymous_id": "anon"}
        event = build({"ht_user_id": "call", "ht_anonymous_id": None}, bound)
        assert (event["userId"], event["anonymousId"]) == ("call", "anon")

    def test_nothing_given_is_changed(self):
        """`build` changes neither the call's fields nor the task's."""
        own = {"ht_user_id": "u", "a": 1, "ht_context": {"x": 1}}
        bound = {"b": 2, "ht_context": {"y": 1}}
        build(own, bound)
        assert own == {"ht_user_id": "u", "a": 1, "ht_context": {"x": 1}}
        assert bound == {"b": 2, "ht_context": {"y": 1}}


EAST = timezone(timedelta(hours=5, minutes=30))
NOON = datetime(2024, 3, 12, 12, 0, 0, 123999)  # noqa: DTZ001


def stamp(value):
    return of_type("track", ht_timestamp=value)["timestamp"]


class TestTimestamp:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (NOON.replace(tzinfo=timezone.utc), "2024-03-12T12:00:00.123+00:00"),
            (NOON.replace(tzinfo=EAST), "2024-03-12T12:00:00.123+05:30"),
            (
                NOON.replace(tzinfo=ZoneInfo("America/New_York")),
                "2024-03-12T12:00:00.123-04:00",
            ),
            (NOON, "2024-03-12T12:00:00.123+00:00"),  # naive: UTC
            (NOON.replace(tzinfo=Zone(None)), "2024-03-12T12:00:00.123+00:00"),
            # A local mean time: ISO 8601 has no seconds in an offset.
            (
                NOON.replace(tzinfo=timezone(timedelta(seconds=3601))),
                "2024-03-12T10:59:59.123+00:00",
            ),
            (
                NOON.replace(tzinfo=timezone(-timedelta(seconds=1))),
                "2024-03-12T12:00:01.123+00:00",
            ),
            # The zone is asked once: it cannot contradict itself.
            (
                NOON.replace(tzinfo=Zone(timedelta(hours=1), RuntimeError)),
                "2024-03-12T12:00:00.123+01:00",
            ),
            (datetime(1, 1, 1), "0001-01-01T00:00:00.000+00:00"),  # noqa: DTZ001
            (datetime.max, "9999-12-31T23:59:59.999+00:00"),  # noqa: DTZ901
        ],
    )
    def test_iso_8601_in_milliseconds(self, value, text):
        """An offset stays as it is; a naive time of another day is UTC."""
        assert stamp(value) == text

    @pytest.mark.parametrize("seconds", [-4, 0, 4])
    def test_naive_near_now_is_local(self, seconds):
        """What `datetime.now()` gave moments ago is local time."""
        value = datetime.now() + timedelta(seconds=seconds)  # noqa: DTZ005
        local = value.astimezone()
        assert stamp(value) == local.isoformat(timespec="milliseconds")

    @pytest.mark.parametrize("seconds", [-60, 60])
    def test_naive_far_from_now_is_utc(self, seconds):
        """More than 5 s away it cannot have been the clock."""
        value = datetime.now() + timedelta(seconds=seconds)  # noqa: DTZ005
        assert stamp(value) == value.isoformat(timespec="milliseconds") + "+00:00"

    @pytest.mark.parametrize(
        "value",
        [
            date(2024, 1, 1),
            "2024-01-01T00:00:00Z",
            0,
            1710235800.0,
            False,
            Mock(spec=datetime),
            NaT(2024, 1, 1),
        ],
        ids=kind_of,
    )
    def test_no_datetime(self, value):
        """Dates, numbers and texts are refused: guessing shifts events."""
        with pytest.raises(InvalidEvent, match=r"ht_timestamp \(timestamp\) must be"):
            stamp(value)

    @pytest.mark.parametrize(
        "value",
        [
            NOON.replace(tzinfo=Zone(RuntimeError)),
            NOON.replace(tzinfo=Zone("hours")),
            NOON.replace(tzinfo=Zone(timedelta(days=2))),
            datetime(1, 1, 1, tzinfo=timezone(timedelta(seconds=1))),
        ],
    )
    def test_zone_that_does_not_work(self, value):
        """A zone's failure is a mistake in the event, told without its text."""
        with pytest.raises(InvalidEvent, match="time zone that does not") as caught:
            stamp(value)
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is not None

    @pytest.mark.parametrize(
        ("created", "text"),
        [
            (0.0, "1970-01-01T00:00:00.000+00:00"),
            (CREATED, STAMP),
            (1710235800.9999998, "2024-03-12T09:30:00.999+00:00"),  # never the next
            (1710235800, "2024-03-12T09:30:00.000+00:00"),
            (-0.25, "1969-12-31T23:59:59.750+00:00"),
        ],
    )
    def test_the_records_own(self, created, text):
        """Without one it is when the record was made, to the millisecond."""
        assert build({"ht_user_id": "u"}, created=created)["timestamp"] == text

    def test_every_millisecond(self):
        """0.123 s may be 0.12299999 as a float; it is 123 ms."""
        for ms in range(1000):
            text = build({"ht_user_id": "u"}, created=1710235800 + ms / 1000)
            assert text["timestamp"] == f"2024-03-12T09:30:00.{ms:03d}+00:00"


class TestMessageId:
    def test_fresh(self):
        """A random UUID."""
        assert UUID(build({"ht_user_id": "u"})["messageId"]).version == 4

    def test_given(self):
        """It stays as it is, so that a repeated event can be told."""
        mine = uuid4()
        assert of_type("track", ht_message_id=mine)["messageId"] == str(mine)


class Failing(dict):
    """A dict whose iteration fails."""

    def __iter__(self):
        raise RuntimeError("secret")

    keys = items = values = __iter__


def outcome(kind, fields):
    """Return the event's type, or the refusal's text."""
    try:
        return of_type(kind, **fields)["type"]
    except InvalidEvent as error:
        return str(error)


class TestAnyValue:
    @pytest.mark.parametrize("field", sorted(builder.FIELDS))
    @pytest.mark.parametrize("kind", TYPES)
    def test_in_any_field(self, field, kind):
        """Whatever a field holds, there is an event or an `InvalidEvent`."""
        hostile = [NoTruth(), Zone(RuntimeError), Failing(), NaT(2024, 1, 1)]
        for value in [*NO_IDS, *(value for value, _ in IDS), *hostile]:
            assert "secret" not in outcome(kind, {field: value})
