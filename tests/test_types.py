from __future__ import annotations

import typing

import pytest

from htlogging import types
from htlogging._event import builder

OF_TYPE = {
    "track": types.TrackEvent,
    "identify": types.IdentifyEvent,
    "page": types.PageEvent,
    "screen": types.ScreenEvent,
    "group": types.GroupEvent,
    "alias": types.AliasEvent,
}
FIELDS = {"ht_user_id": "u", "ht_group_id": "g", "ht_previous_id": "p"}


def build(kind):
    """Make an event of that type."""
    return builder.build({"ht_type": kind, **FIELDS}, {}, "name", 0.0)


class TestTypes:
    @pytest.mark.parametrize(("kind", "described"), OF_TYPE.items())
    def test_keys_are_those_of_the_event(self, kind, described):
        """What is described is what is made: no key more, none less."""
        assert described.__required_keys__ == build(kind).keys()
        assert not described.__optional_keys__

    @pytest.mark.parametrize(("kind", "described"), OF_TYPE.items())
    def test_values_are_of_the_kind_described(self, kind, described):
        """A checker is told the truth about every value."""
        event = build(kind)
        for name, hint in typing.get_type_hints(described).items():
            value = event[name]
            if typing.get_origin(hint) is typing.Literal:
                assert typing.get_args(hint) == (value,)
            elif hint is types.Context:
                assert type(value) is dict
            else:
                allowed = typing.get_args(hint) or (hint,)
                kinds = dict if typing.get_origin(hint) is dict else allowed
                assert isinstance(value, kinds)

    def test_union_has_them_all(self):
        """`Event` is any of the six."""
        assert set(typing.get_args(types.Event)) == set(OF_TYPE.values())

    def test_context(self):
        """`library` is always there, as name and version."""
        context = build("track")["context"]
        assert types.Context.__required_keys__ == context.keys()
        assert types.Library.__required_keys__ == context["library"].keys()

    def test_all_is_public(self):
        """`__all__` names what is defined for users."""
        public = {n for n, v in vars(types).items() if typing.is_typeddict(v)}
        assert set(types.__all__) == {n for n in public if n[0] != "_"} | {"Event"}
