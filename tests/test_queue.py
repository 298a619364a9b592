"""The queue in memory: order, bounds, claims and marks."""

import signal
import threading

import pytest
from queue_crowd import claimed_by_thread

from htlogging._queue.claims import Batch
from htlogging._queue.memory import MemoryQueue
from htlogging._settings import MAX_BODY_BYTES, MAX_BODY_EVENTS
from htlogging.exceptions import DeliveryError

ALL = (MAX_BODY_EVENTS, MAX_BODY_BYTES)

REFUSED = DeliveryError(400, "bad", "an event is wrong")

# Room to spare, so that `put` takes no lock; and none.
SIZES = (10_000, 100)


def filled(count, max_size=100):
    """Return a queue of this many events: b"0", b"1" and so on."""
    queue = MemoryQueue(max_size)
    for n in range(count):
        queue.put(b"%d" % n)
    return queue


def state_of(queue):
    """Return how many events there ever were, and how many are not settled."""
    counts = queue.counts()
    return counts.accepted, counts.queued


def drain(queue, *limits):
    """Claim and settle batch after batch; return each one's events."""
    batches = []
    while (batch := queue.claim(*(limits or ALL))) is not None:
        assert queue.ack(batch)
        batches.append(list(batch.events))
    return batches


class TestPut:
    @pytest.mark.parametrize("max_size", SIZES)
    def test_returns_how_many_wait(self, max_size):
        """The count of events that wait tells the caller when a request is full."""
        queue = MemoryQueue(max_size)
        assert [queue.put(b"x") for _ in range(3)] == [1, 2, 3]
        assert queue.backlog() == 3

    @pytest.mark.parametrize("max_size", SIZES)
    def test_never_0_when_added(self, max_size):
        """An event that is claimed before `put` returns was not refused."""
        queue = MemoryQueue(max_size)

        claimed = []

        class Event(bytes):
            __slots__ = ()

            def __len__(self):
                # Looked at when the event was added: here another thread comes in.
                if not claimed:
                    claimed.append(True)
                    claimed.append(queue.claim(*ALL))
                return 1

        assert queue.put(Event(b"x")) > 0
        assert len(claimed[1]) == 1

    def test_heavy_events_fill_a_request(self):
        """When there are bytes enough for a request, it counts as full."""
        queue = MemoryQueue(100)
        size = MAX_BODY_BYTES // 10
        fills = [queue.put(b"x" * size) for _ in range(10)]
        assert fills == [*range(1, 10), MAX_BODY_EVENTS]
        assert len(queue.claim(*ALL)) == 9  # there are commas too
        assert queue.backlog() == 1

    @pytest.mark.parametrize("max_size", [1, 2, 100, 2 * MAX_BODY_EVENTS + 3])
    def test_full(self, max_size):
        """A full queue takes nothing: max_size is exact."""
        queue = MemoryQueue(max_size)
        assert all(queue.put(b"x") for _ in range(max_size))
        assert queue.put(b"x") == 0
        assert state_of(queue) == (max_size, max_size)

    @pytest.mark.parametrize("max_size", [100, 100_000])
    def test_full_of_bytes(self, max_size):
        """Events take no more than max_bytes, claimed ones included."""
        queue = MemoryQueue(max_size, max_bytes=1_000, max_event=100)
        assert [queue.put(b"%100d" % n) for n in range(12)] == [*range(1, 11), 0, 0]
        batch = queue.claim(5, MAX_BODY_BYTES)
        assert queue.put(b"x") == 0
        queue.ack(batch)
        assert queue.counts().queued_bytes == 500
        assert [queue.put(b"%100d" % n) for n in range(6)] == [6, 7, 8, 9, 10, 0]

    @pytest.mark.parametrize("rounds", [1, 50])
    def test_bytes_of_small_ones_then_large_ones(self, rounds):
        """The bound holds whatever came and went before."""
        queue = MemoryQueue(100_000, max_bytes=100_000, max_event=1_000)
        for _ in range(rounds):
            for _ in range(300):
                assert queue.put(b"%10d" % 1)
            for _ in range(3):
                queue.ack(queue.claim(90, MAX_BODY_BYTES))
            queue.ack(queue.claim(*ALL))
            accepted = sum(queue.put(b"%1000d" % n) > 0 for n in range(150))
            assert accepted == 100
            assert queue.counts().queued_bytes == 100_000
            drain(queue)

    def test_empty_queue_takes_any_event(self):
        """An event larger than max_bytes goes alone, or it would never go."""
        queue = MemoryQueue(100, max_bytes=10)
        assert queue.put(b"x" * 100) == 1
        assert queue.put(b"x") == 0

    def test_claimed_events_count_as_well(self):
        """Events being sent take their room until they are settled."""
        queue = filled(3, max_size=3)
        batch = queue.claim(2, MAX_BODY_BYTES)
        assert queue.put(b"x") == 0
        queue.release(batch)
        assert queue.put(b"x") == 0
        queue.ack(queue.claim(*ALL))
        assert [queue.put(b"x") for _ in range(3)] == [2, 3, 0]

    @pytest.mark.parametrize("max_size", [10, 2 * MAX_BODY_EVENTS])
    def test_many_threads_at_the_bound(self, max_size):
        """Threads that put at the same time never get past max_size together."""
        queue = MemoryQueue(max_size)
        start = threading.Barrier(8)
        added = []

        def put():
            start.wait(30)
            added.append(sum(queue.put(b"x") > 0 for _ in range(max_size)))

        threads = [threading.Thread(target=put) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sum(added) == max_size == len(queue)

    def test_many_threads_lose_nothing(self):
        """What threads put while others claim arrives once, each one's in order."""
        queue = MemoryQueue(100_000)
        assert claimed_by_thread(queue, 2_000) == [[*range(2_000)]] * 4
        assert state_of(queue) == (8_000, 0)

    @pytest.mark.parametrize("max_size", SIZES)
    def test_within_put(self, max_size):
        """A `__del__` or signal handler that logs within `put` does not hang it."""
        queue = MemoryQueue(max_size)

        class Event(bytes):
            __slots__ = ()

            def __len__(self):
                with queue._measuring:  # as while `put` or `claim` holds it
                    queue.put(b"inner")
                return 1

        queue.put(Event(b"outer"))
        assert len(queue) == 2

    @pytest.mark.skipif(
        not hasattr(signal, "setitimer"), reason="there is no such timer on Windows"
    )
    def test_within_a_signal_handler(self):
        """A signal handler may put at any moment of `put`, `claim` and `ack`."""
        queue, count = MemoryQueue(10**6), [0]

        def handle(*_):
            queue.put(b"signal")
            count[0] += 1

        before = signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        try:
            settled = 0
            while count[0] < 20:
                queue.put(b"x")
                batch = queue.claim(*ALL)
                settled += len(batch)
                queue.ack(batch)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        accepted, left = state_of(queue)
        assert accepted == settled + left


class TestClaim:
    def test_in_the_order_accepted(self):
        """First in, first out."""
        assert drain(filled(5), 2, MAX_BODY_BYTES) == [
            [b"0", b"1"],
            [b"2", b"3"],
            [b"4"],
        ]

    def test_nothing(self):
        """Of an empty queue nothing is claimed."""
        assert MemoryQueue(1).claim(*ALL) is None

    @pytest.mark.parametrize(
        ("max_bytes", "sizes"),
        [
            (12, [2, 1]),  # 5 + comma twice
            (11, [1, 1, 1]),
            (18, [3]),
            (1, [1, 1, 1]),  # one too large comes alone
        ],
    )
    def test_bytes(self, max_bytes, sizes):
        """Bytes are counted with a comma for each event; a larger one comes alone."""
        queue = MemoryQueue(100)
        for _ in range(3):
            queue.put(b"12345")
        assert [len(events) for events in drain(queue, 100, max_bytes)] == sizes

    def test_large_one_after_small_ones(self):
        """An event that does not fit waits for the next batch, and is not passed."""
        queue = MemoryQueue(100)
        for event in (b"1", b"2" * 50, b"3"):
            queue.put(event)
        assert drain(queue, 100, 10) == [[b"1"], [b"2" * 50], [b"3"]]

    def test_numbers(self):
        """Each event has a number of its own, in order."""
        queue = filled(3)
        assert list(queue.claim(2, MAX_BODY_BYTES).ids) == [0, 1]
        assert list(queue.claim(2, MAX_BODY_BYTES).ids) == [2]

    def test_new_one_past_all_others(self):
        """An event can be accepted and claimed in one step, even past a full queue."""
        queue = filled(2, max_size=2)
        batch = queue.claim_new(b"now")
        assert batch.events == [b"now"]
        assert state_of(queue) == (3, 3)
        assert queue.ack(batch)
        assert drain(queue) == [[b"0", b"1"]]


class TestSettle:
    @pytest.mark.parametrize(("verb", "more"), [("ack", []), ("bury", [REFUSED])])
    def test_once(self, verb, more):
        """Events are settled once; a second time is told from the first."""
        queue = filled(2)
        batch = queue.claim(*ALL)
        assert getattr(queue, verb)(batch, *more)
        assert not queue.ack(batch)
        assert not queue.bury(batch, REFUSED)
        assert state_of(queue) == (2, 0)

    def test_release(self):
        """What was not sent is claimed again, before what came later."""
        queue = filled(4)
        first = queue.claim(2, MAX_BODY_BYTES)
        queue.release(first)
        assert state_of(queue) == (4, 4)
        assert queue.backlog() == MAX_BODY_EVENTS
        assert drain(queue) == [[b"0", b"1"], [b"2", b"3"]]
        assert queue.backlog() == 0

    def test_release_of_what_was_settled(self):
        """Settled events do not come again."""
        queue = filled(2)
        batch = queue.claim(*ALL)
        queue.ack(batch)
        queue.release(batch)
        assert queue.claim(*ALL) is None

    def test_split(self):
        """Each half is settled alone, the whole no more."""
        queue = filled(3)
        batch = queue.claim(*ALL)
        left, right = queue.split(batch)
        assert (left.events, right.events) == ([b"0"], [b"1", b"2"])
        assert not queue.ack(batch)
        assert queue.ack(left)
        assert state_of(queue) == (3, 2)
        assert queue.bury(right, REFUSED)
        assert state_of(queue) == (3, 0)

    def test_split_of_what_was_abandoned(self):
        """Halves of abandoned events are not settled any more."""
        queue = filled(2)
        batch = queue.claim(*ALL)
        queue.abandon()
        left, right = queue.split(batch)
        assert not queue.ack(left)
        assert not queue.ack(right)
        assert state_of(queue) == (2, 0)

    def test_abandon(self):
        """All events come out: those being sent, those put back and those waiting."""
        queue = filled(5)
        sent = queue.claim(2, MAX_BODY_BYTES)
        back = queue.claim(1, MAX_BODY_BYTES)
        queue.release(back)
        assert sorted(queue.abandon()) == [b"0", b"1", b"2", b"3", b"4"]
        assert state_of(queue) == (5, 0)
        assert queue.backlog() == 0
        assert queue.claim(*ALL) is None
        queue.release(sent)
        assert not queue.ack(sent)
        assert not queue.ack(back)
        assert queue.abandon() == []

    def test_batch_of_another_queue(self):
        """A batch is its queue's only."""
        queue = filled(1)
        queue.claim(*ALL)
        assert not queue.ack(Batch([b"0"], [0]))


class TestMark:
    def test_all_before_it(self):
        """A mark is reached when all that was accepted before it is settled."""
        queue = filled(3)
        mark = queue.mark()
        queue.put(b"later")
        first = queue.claim(2, MAX_BODY_BYTES)
        assert not queue.claimed_to(mark)
        second = queue.claim(2, MAX_BODY_BYTES)
        assert queue.claimed_to(mark)
        queue.ack(second)
        assert not queue.settled_to(mark)
        queue.ack(first)
        assert queue.settled_to(mark)

    def test_of_an_empty_queue(self):
        """With nothing to wait for, a mark is reached at once."""
        queue = MemoryQueue(1)
        mark = queue.mark()
        assert queue.claimed_to(mark)
        assert queue.settled_to(mark)
        queue.put(b"later")
        assert queue.settled_to(mark)

    def test_released_events_are_not_settled(self):
        """What was put back is waited for, though it was claimed once."""
        queue = filled(3)
        mark = queue.mark()
        queue.release(queue.claim(*ALL))
        assert queue.mark() == mark
        assert not queue.settled_to(mark)
        batch = queue.claim(*ALL)
        assert not queue.settled_to(mark)
        queue.ack(batch)
        assert queue.settled_to(mark)

    def test_halves(self):
        """A split batch is settled when both halves are."""
        queue = filled(2)
        mark = queue.mark()
        left, right = queue.split(queue.claim(*ALL))
        queue.ack(right)
        assert not queue.settled_to(mark)
        queue.ack(left)
        assert queue.settled_to(mark)

    def test_abandoned_events_are_settled(self):
        """What was abandoned is not waited for."""
        queue = filled(3)
        mark = queue.mark()
        queue.claim(1, MAX_BODY_BYTES)
        queue.abandon()
        assert queue.settled_to(mark)


class TestRest:
    def test_nothing_to_do(self):
        """What a queue on disk does now and then leaves this one as it is."""
        queue = filled(3)
        queue.register()
        assert queue.maintain(at_once=True) == []
        queue.unregister()
        queue.close()
        assert state_of(queue) == (3, 3)
        assert drain(queue) == [[b"0", b"1", b"2"]]
