"""A request's body: its form, its time and its size."""

import json
import re
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htlogging._delivery.exchange import body, room
from htlogging._queue.claims import Batch
from htlogging._queue.memory import MemoryQueue
from htlogging._settings import (
    MAX_BODY_BYTES,
    MAX_BODY_EVENTS,
    MAX_EVENT_LIMIT,
)
from htlogging._settings.checks import MAX_KEY


class TestBody:
    @pytest.mark.parametrize(
        "events", [[], [b'{"n":1}'], [b'{"n":1}', b'{"n":"\xc3"}']]
    )
    def test_form(self, events):
        """The body has the batch, the moment and the key; events are as they were."""
        text = body(events, "KEY")
        assert text.startswith(b'{"batch":[' + b",".join(events) + b'],"sentAt":"')
        assert text.endswith(b'","writeKey":"KEY"}')

    @pytest.mark.parametrize("key", ["KEY", 'K"E\\Y', "</script>"])
    def test_is_json(self, key):
        """Whatever the key, the body is JSON, and holds the key as it is."""
        said = json.loads(body([b'{"n":1}', b'{"n":2}'], key))
        assert list(said) == ["batch", "sentAt", "writeKey"]
        assert said["batch"] == [{"n": 1}, {"n": 2}]
        assert said["writeKey"] == key

    def test_sent_at_is_now(self):
        """`sentAt` is the moment of the call, in UTC with an offset, in milliseconds."""
        now = datetime.now(timezone.utc)
        times = [now.replace(microsecond=now.microsecond // 1000 * 1000)]
        for _ in range(3):
            said = json.loads(body([], "KEY"))["sentAt"]
            assert re.search(r"\.[0-9]{3}\+00:00$", said)
            times.append(datetime.fromisoformat(said))
        times.append(datetime.now(timezone.utc))
        assert times == sorted(times)
        assert times[1].utcoffset() == timedelta(0)


class TestRoom:
    @pytest.mark.parametrize("key", ["K", "K" * MAX_KEY, '"' * MAX_KEY])
    def test_is_what_a_body_leaves(self, key):
        """Events that fill the room, with a comma each, make a body within bounds."""
        size = room(key) - 1
        assert len(body([b"x" * size], key)) == MAX_BODY_BYTES - 1

    @pytest.mark.parametrize("key", ["K", '"' * MAX_KEY])
    def test_the_largest_event_fits(self, key):
        """An event of the greatest `max_event_size` fits beside the longest key."""
        assert len(body([b"x" * MAX_EVENT_LIMIT], key)) <= MAX_BODY_BYTES

    @settings(deadline=None)
    @given(
        sizes=st.lists(
            st.one_of(
                st.integers(2, 300),
                st.integers(30_000, 33_000),
                st.integers(MAX_EVENT_LIMIT - 5, MAX_EVENT_LIMIT),
            ),
            min_size=1,
            max_size=30,
        ),
        repeat=st.integers(1, 4),
        key=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    )
    def test_no_request_is_too_large(self, sizes, repeat, key):
        """Whatever the events, no request has over 475,000 bytes or 2,500 events."""
        queue = MemoryQueue(10**6)
        for event in [b"x" * size for size in sizes] * repeat:
            queue.put(event)
        arrived = []
        while (batch := queue.claim(MAX_BODY_EVENTS, room(key))) is not None:
            assert len(body(batch.events, key)) <= MAX_BODY_BYTES
            assert 1 <= len(batch) <= MAX_BODY_EVENTS
            arrived += map(len, batch.events)
        assert arrived == sizes * repeat

    def test_most_events(self):
        """Of very small events a request has 2,500."""
        queue = MemoryQueue(10_000)
        for _ in range(MAX_BODY_EVENTS + 1):
            queue.put(b"{}")
        assert len(queue.claim(MAX_BODY_EVENTS, room("KEY"))) == MAX_BODY_EVENTS


class TestBatch:
    @pytest.mark.parametrize("count", [2, 3, 2_500])
    def test_halves(self, count):
        """Both halves have events, in order, with their numbers."""
        events = [b"%d" % n for n in range(count)]
        left, right = Batch(events, range(7, 7 + count)).halves()
        assert len(left) + len(right) == count
        assert 0 <= len(right) - len(left) <= 1
        assert [*left.events, *right.events] == events
        assert [*left.ids, *right.ids] == list(range(7, 7 + count))
