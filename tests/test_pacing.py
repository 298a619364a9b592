"""When a batch goes: a table."""

import math

import pytest

from htlogging._delivery.pacing import PACE, Pacing, Send
from htlogging._delivery.waits import Deadline, Ending, Signal

# Full at 100, plenty at 1,000; events wait for 0.5 s.
EMPTY = Pacing(full=100, plenty=1_000, interval=0.5)


class TestDecide:
    @pytest.mark.parametrize(
        ("now", "waiting", "urgent", "wanted"),
        [
            (10.0, 1, False, (100, 0.5)),
            (10.4, 99, False, (100, 0.1)),
            (10.5, 1, False, None),
            (10.0, 100, False, None),
            (10.0, 1, True, None),
        ],
    )
    def test_first_batch(self, now, waiting, urgent, wanted):
        """A batch goes when it is full, old, or waited for."""
        pacing = EMPTY.begun(10.0)
        decision = pacing.decide(now, waiting, urgent=urgent)
        if wanted is None:
            assert isinstance(decision, Send)
        else:
            assert (decision.wake_at, pytest.approx(decision.seconds)) == wanted

    @pytest.mark.parametrize(
        ("later", "waiting", "wanted"),
        [
            (0.0, 100, (1_000, PACE)),
            (0.0, 1_000, None),
            (PACE, 100, None),
            (PACE, 5, (100, 0.5 - PACE)),
        ],
    )
    def test_after_one_that_left_nothing(self, later, waiting, wanted):
        """Full batches keep a pause, unless there is plenty."""
        pacing = EMPTY.begun(10.0).taken(10.0, 0)
        decision = pacing.begun(10.0 + later).decide(
            10.0 + later, waiting, urgent=False
        )
        if wanted is None:
            assert isinstance(decision, Send)
        else:
            assert (decision.wake_at, pytest.approx(decision.seconds)) == wanted

    def test_a_backlog_keeps_no_pause(self):
        """What is left behind goes at once when it is full, and its age counts on."""
        pacing = EMPTY.begun(10.0).taken(10.4, 250)
        assert isinstance(pacing.decide(10.4, 250, urgent=False), Send)
        pacing = EMPTY.begun(10.0).taken(10.4, 50)
        assert pacing.decide(10.4, 50, urgent=False).seconds == pytest.approx(0.1)

    def test_is_a_value(self):
        """Nothing changes one that there is; nothing waits in an empty queue."""
        assert EMPTY.empty() is EMPTY
        begun = EMPTY.begun(1.0)
        assert begun.begun(2.0) is begun
        assert begun.empty().due is None
        assert EMPTY.due is None


class TestDeadline:
    def test_none(self):
        """Without an end there is no limit."""
        deadline = Deadline(Ending())
        assert (deadline.left(), deadline.is_last()) == (math.inf, False)
        assert deadline.pause(0.0)

    def test_pause_that_is_too_long(self):
        """A wait that would end too late is not begun."""
        ending = Ending()
        assert not Deadline(ending, -math.inf).pause(0.0)
        ending.set(-math.inf)
        assert not Deadline(ending).pause(1e9)
        assert Deadline(ending).is_last()

    def test_end_during_a_pause(self):
        """The worker's end ends a pause."""
        ending = Ending()
        assert not Deadline(ending, meanwhile=lambda: ending.set(0.0)).pause(1e9)


class TestSignal:
    def test_calls_all_that_wait(self):
        """Every place is called, also before the wait begins."""
        signal = Signal()
        one, two = signal.waiter(), signal.waiter()
        signal.notify_all()
        signal.notify_all()
        assert one.wait(60)
        assert two.wait(60)
        assert not one.wait(0)

    def test_place_that_was_left(self):
        """A thread that was interrupted leaves nothing behind."""
        signal = Signal()
        signal.waiter()
        signal.notify_all()
        assert signal._places == []
