"""The clock that says what is too old: believed, unless it was set."""

import pytest

from htlogging._queue.spool.clock import PROBATION, Clock

DAY = 86_400


class Time:
    """Two clocks: one can be set."""

    def __init__(self):
        self.wall, self.steady = 1_000_000.0, 5_000.0

    def pass_by(self, seconds):
        """Let time go by."""
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def times():
    """Return the clocks."""
    return Time()


@pytest.fixture
def clock(times):
    """Return what watches them."""
    return Clock(lambda: times.wall, lambda: times.steady, "boot")


class TestClock:
    def test_all_is_well(self, times, clock):
        """It goes on, and is believed."""
        times.pass_by(DAY)
        assert clock.now() == times.wall

    @pytest.mark.parametrize("jump", [DAY, -DAY, 3_600])
    def test_jump(self, times, clock, jump):
        """It is not believed until it is set back."""
        times.wall += jump
        assert clock.now() is None
        assert clock.jump == jump
        times.pass_by(3)
        times.wall -= jump
        assert clock.now() == times.wall
        assert clock.jump == 0

    @pytest.mark.parametrize(("jump", "later"), [(DAY, DAY), (-DAY, 0)])
    def test_time_for_what_is_written(self, times, clock, jump, later):
        """The later one of the two, so that nothing is ever older than it is."""
        right = times.wall
        times.wall += jump
        assert clock.time() == right + later
        times.pass_by(5)
        assert clock.time() == right + later + 5

    def test_seen_before_it_is_used(self, times):
        """What the file says of this boot is believed from the beginning."""
        right = times.wall
        times.wall = 0.0
        clock = Clock(lambda: times.wall, lambda: times.steady, "boot")
        clock.see((b"boot", right - times.steady))
        assert clock.time() == right
        clock.see((b"another", 0.0))
        clock.see(None)
        assert clock.time() == right

    def test_differs(self, times, clock):
        """The file is written when it says something else, and only then."""
        assert clock.differs(None)
        assert clock.differs((b"another", clock.note[1]))
        assert not clock.differs((b"boot", clock.note[1]))
        times.wall += 2
        clock.now()
        assert clock.differs((b"boot", clock.note[1] - 2))

    def test_waited_out(self, times, clock):
        """A time that stands for an hour is the right one."""
        times.wall += DAY
        assert clock.now() is None
        times.pass_by(PROBATION - 1)
        assert clock.now() is None
        times.pass_by(1)
        assert clock.now() == times.wall

    def test_another_jump_begins_anew(self, times, clock):
        """The hour begins with the last jump."""
        times.wall += DAY
        assert clock.now() is None
        times.pass_by(PROBATION - 1)
        times.wall += DAY
        assert clock.now() is None
        times.pass_by(PROBATION - 1)
        assert clock.now() is None

    def test_corrections(self, times, clock):
        """NTP's small steps are none, however many."""
        for _ in range(100):
            times.wall += 5
            times.pass_by(60)
            assert clock.now() == times.wall

    def test_noted_by_an_earlier_process(self, times):
        """A jump between two processes of a boot is one as well."""
        started = times.wall - times.steady
        times.wall += DAY
        clock = Clock(lambda: times.wall, lambda: times.steady, "boot")
        assert clock.now((b"boot", started)) is None
        assert clock.now((b"boot", started)) is None

    def test_another_boot(self, times):
        """There is nothing to compare with: it is believed."""
        clock = Clock(lambda: times.wall, lambda: times.steady, "boot")
        assert clock.now((b"another", 7.0)) == times.wall

    def test_of_this_machine(self):
        """The defaults are this machine's clocks."""
        assert Clock().now() is not None
