"""Message ids: random, and unique."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122, UUID

import pytest

from htlogging._event import message_id
from htlogging._event.message_id import new_id, uuid_text

SOME = 5_000


def some_ids(_: int = 0) -> list[str]:
    """Return more than are drawn at once."""
    return [new_id() for _ in range(SOME)]


@pytest.fixture
def clock(monkeypatch):
    """Stop the clock, so that ids drawn ahead stay good; return what sets it."""

    def set_to(now):
        monkeypatch.setattr(time, "time", lambda: now)

    set_to(1_700_000_000.0)
    return set_to


class TestNewId:
    def test_form(self):
        """They are what `uuid4` makes."""
        for text in some_ids():
            uuid = UUID(text)
            assert str(uuid) == text
            assert (uuid.version, uuid.variant) == (4, RFC_4122)

    def test_threads(self):
        """Threads share what was drawn ahead, and each id is taken once."""
        with ThreadPoolExecutor(8) as pool:
            drawn = [text for ids in pool.map(some_ids, range(8)) for text in ids]
        assert len(set(drawn)) == 8 * SOME

    def test_few(self, clock):
        """Where events are far apart, none is drawn ahead."""
        for n in range(3):
            clock(1_700_000_000.0 + n)
            new_id()
            assert not message_id._supply.drawn[1]

    @pytest.mark.parametrize("now", [0.0, -1.0, 1e-9])
    def test_clock_that_was_never_set(self, clock, now):
        """The first id is one whatever the clock says."""
        message_id.take_from(None)
        clock(now)
        assert len({str(UUID(new_id())) for _ in range(5)}) == 5

    # 3.12 on: a fork with threads warns; those of tests before may still run.
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
    @pytest.mark.usefixtures("clock")
    def test_fork(self):
        """A child leaves what its parent has drawn ahead to its parent."""
        some_ids()
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(write, " ".join(some_ids()[:100]).encode())
            os._exit(0)
        os.close(write)
        with open(read) as pipe:
            theirs = pipe.read().split()
        os.waitpid(pid, 0)
        assert len(theirs) == 100
        assert not set(theirs) & set(some_ids())

    @pytest.mark.parametrize("passed", [0.11, 3600.0, -0.1])
    def test_frozen_process(self, clock, passed):
        """Copies of a process, whose clocks have gone on, use none drawn before."""
        some_ids()
        assert message_id._supply.drawn[1]
        common = new_id()[8:24]
        clock(1_700_000_000.0 + passed)
        assert common not in {text[8:24] for text in some_ids()}


class TestUuidText:
    def test_version_and_variant(self):
        """The two digits that RFC 9562 fixes are put over the random ones."""
        assert uuid_text("0123456789abcdef" * 2, 8) == (
            "01234567-89ab-8def-8123-456789abcdef"
        )
