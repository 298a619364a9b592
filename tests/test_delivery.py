"""What becomes of a batch, for each answer of the server."""

import json
import math
import time

import pytest

from htlogging._delivery.exchange import Answer, Unreachable, body
from htlogging._delivery.outcomes import Outcomes
from htlogging._delivery.sender import Sender
from htlogging._process.lines import log
from htlogging._queue.memory import MemoryQueue
from htlogging._report import Report
from htlogging._settings import Settings
from htlogging._stats import Counters
from htlogging.exceptions import DeliveryError


class Transport:
    """A way to the server that answers by a script, then 200."""

    def __init__(self, *script):
        self.script = list(script)
        self.bodies = []
        self.compressed = []
        self.timeouts = []

    def body(self, events):
        """Return a request's JSON, as HTTP has it."""
        return body(events, "KEY")

    def post(self, body, *, compress, timeout):
        """Note the body; return or raise the script's next step."""
        self.bodies.append(json.loads(body))
        self.compressed.append(compress)
        self.timeouts.append(timeout)
        step = self.script.pop(0) if self.script else 200
        if callable(step):
            step = step(self.bodies[-1]["batch"])
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, int):
            step = Answer(step, message="No.")
        return step

    def open(self):
        """Open nothing."""

    def close(self):
        """Close nothing."""

    @property
    def sent(self):
        """Return the events of each request, by their numbers."""
        return [[event["n"] for event in body["batch"]] for body in self.bodies]


class Time:
    """This many pauses, then a deadline."""

    def __init__(self, pauses=1000, *, last=True, left=math.inf):
        self.pauses = pauses
        self.last = last
        self.seconds = left
        self.waits = []

    def left(self):
        """Return the seconds left."""
        return self.seconds

    def pause(self, seconds):
        """Note the pause."""
        self.waits.append(seconds)
        return len(self.waits) <= self.pauses

    def is_last(self):
        """Return whether this is the last chance to send."""
        return self.last


class Scene:
    """A queue with events, claimed, and all that delivers them."""

    def __init__(self, count=1, **settings):
        self.errors = []
        self.queue = MemoryQueue(100)
        for n in range(count):
            self.queue.put(b'{"n":%d}' % n)
        self.batch = self.queue.claim(100, 100_000)
        self.counters = Counters()
        given = {"write_key": "KEY", "on_error": self.on_error, **settings}
        self.outcomes = Outcomes(
            Settings(given), self.queue, self.counters, Report(lambda: 0.0)
        )

    def on_error(self, exc, events):
        """Note what was given up."""
        assert not self.outcomes.idle()
        self.errors.append((exc, [event["n"] for event in events]))

    def deliver(self, *script, deadline=None):
        """Deliver the batch to a server that answers by the script."""
        transport = Transport(*script)
        Sender(self.outcomes, transport).deliver(self.batch, deadline or Time())
        return transport

    def count(self, name):
        """Return a counter, once it is sure that all of them balance."""
        assert self.outcomes.idle()
        return self.counters.snapshot().get(
            name, getattr(self.queue.counts(), name, None)
        )

    @property
    def lost(self):
        """Return the numbers of the events that reached `on_error`."""
        return [n for _, events in self.errors for n in events]


@pytest.fixture(autouse=True)
def _quiet():
    log.disabled, before = True, log.disabled
    yield
    log.disabled = before


def unreachable(**kwargs):
    """Return what a transport raises when there was no answer."""
    return Unreachable("away", **kwargs)


class TestDelivered:
    @pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
    @pytest.mark.parametrize(
        "said", [("200", ""), ("error", "events were refused"), ("400", "bad")]
    )
    def test_2xx(self, status, said):
        """A 2xx delivers, whatever its body says."""
        scene = Scene(3)
        transport = scene.deliver(Answer(status, code=said[0], message=said[1]))
        assert transport.sent == [[0, 1, 2]]
        assert (scene.count("delivered"), scene.count("retries")) == (3, 0)
        assert (scene.count("accepted"), scene.count("queued")) == (3, 0)
        assert scene.errors == []

    @pytest.mark.parametrize(("left", "timeout"), [(math.inf, 15), (3, 3), (-1, 0.001)])
    def test_timeout(self, left, timeout):
        """A try has the timeout that was set, or what is left until the deadline."""
        transport = Scene().deliver(deadline=Time(left=left))
        assert transport.timeouts == [timeout]


class TestRetried:
    @pytest.mark.parametrize("failure", [408, 429, 500, 502, 503, 599, unreachable()])
    def test_until_it_passes(self, failure):
        """A failure that may pass is tried again, and costs nothing when it does."""
        scene = Scene(2)
        deadline = Time()
        transport = scene.deliver(failure, failure, deadline=deadline)
        assert transport.sent == [[0, 1]] * 3
        assert (scene.count("delivered"), scene.count("retries")) == (2, 2)
        assert len(deadline.waits) == 2
        assert scene.errors == []

    @pytest.mark.parametrize("failure", [408, 429, 500, 503, unreachable()])
    @pytest.mark.parametrize("max_retries", [0, 1, 3])
    def test_at_most_max_retries(self, failure, max_retries):
        """After `max_retries` more tries the batch is given up, all of it."""
        scene = Scene(2, max_retries=max_retries)
        deadline = Time()
        transport = scene.deliver(*[failure] * 20, deadline=deadline)
        assert len(transport.sent) == max_retries + 1
        assert (scene.count("failed"), scene.count("retries")) == (2, max_retries)
        assert len(deadline.waits) == max_retries
        [(error, events)] = scene.errors
        assert events == [0, 1]
        assert error.tries == max_retries + 1

    def test_sent_at_is_fresh(self):
        """Each try says when it was made; the events are the same."""

        class UntilTheClockMoves(Time):
            def pause(self, seconds):
                """Wait for the next millisecond."""
                before = time.time_ns() // 1_000_000
                while time.time_ns() // 1_000_000 == before:
                    pass
                return super().pause(seconds)

        answers = 500, unreachable(), 503
        transport = Scene(2).deliver(*answers, deadline=UntilTheClockMoves())
        times = [body["sentAt"] for body in transport.bodies]
        assert times == sorted(times)
        assert len(set(times)) == 4
        assert len({json.dumps(body["batch"]) for body in transport.bodies}) == 1

    @pytest.mark.parametrize(("asked", "wait"), [(7.0, 7), (9e9, 300)])
    def test_retry_after(self, asked, wait):
        """The wait is what the server asks for, up to 300 s."""
        deadline = Time()
        Scene().deliver(
            Answer(429, retry_after=asked, message="No."), deadline=deadline
        )
        assert deadline.waits == [wait]

    def test_backoff(self):
        """Without Retry-After the wait is random, below a bound that doubles."""
        deadline = Time()
        Scene().deliver(*[500] * 10, deadline=deadline)
        bounds = [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]
        assert all(w < b for w, b in zip(deadline.waits, bounds, strict=True))
        assert len(set(deadline.waits)) > 1


class TestStale:
    def test_once_at_once(self):
        """A stale connection is one more try, without a wait."""
        scene, deadline = Scene(), Time()
        scene.deliver(unreachable(stale=True), deadline=deadline)
        assert deadline.waits == []
        assert (scene.count("delivered"), scene.count("retries")) == (1, 1)

    def test_not_twice_in_a_row(self):
        """Connections that are stale again and again are waited for, and end."""
        scene, deadline = Scene(max_retries=4), Time()
        transport = scene.deliver(
            *[unreachable(stale=True)] * 100, 200, deadline=deadline
        )
        assert len(transport.sent) < 10
        assert len(deadline.waits) >= 2
        assert (scene.count("failed"), scene.lost) == (1, [0])

    def test_is_no_outage(self):
        """A stale connection, then another failure: the second one is waited for."""
        scene, deadline = Scene(), Time()
        scene.deliver(unreachable(stale=True), 503, deadline=deadline)
        assert len(deadline.waits) == 1
        assert scene.count("delivered") == 1


class TestSplit:
    @pytest.mark.parametrize("status", [400, 413])
    @pytest.mark.parametrize("count", [2, 3, 7, 16])
    def test_one_bad_event_costs_itself_alone(self, status, count):
        """Of a batch with one bad event all others are delivered, in order."""
        for bad in range(count):
            scene = Scene(count)

            def judge(batch, bad=bad):
                return status if {"n": bad} in batch else 200

            transport = scene.deliver(*[judge] * 99)
            assert scene.lost == [bad]
            assert (scene.count("delivered"), scene.count("failed")) == (count - 1, 1)
            assert scene.count("retries") == 0
            arrived = [
                e for events in transport.sent if bad not in events for e in events
            ]
            assert arrived == [n for n in range(count) if n != bad]

    @pytest.mark.parametrize("status", [400, 413])
    def test_all_bad(self, status):
        """When every event is bad, each is given up by itself."""
        scene = Scene(5)
        scene.deliver(*[status] * 99)
        assert [events for _, events in scene.errors] == [[0], [1], [2], [3], [4]]
        assert (scene.count("failed"), scene.count("delivered")) == (5, 0)

    def test_halves_are_retried_too(self):
        """A half has tries of its own."""
        scene = Scene(2, max_retries=1)
        scene.deliver(400, 503, 200, 503, 200)
        assert (scene.count("delivered"), scene.count("retries")) == (2, 2)


class TestGivenUp:
    @pytest.mark.parametrize("status", [400, 413])
    def test_one_event(self, status):
        """A bad event by itself is given up at once."""
        scene = Scene(1)
        assert len(scene.deliver(status).sent) == 1
        assert scene.lost == [0]

    @pytest.mark.parametrize(
        "status", [301, 302, 304, 307, 401, 402, 403, 404, 405, 410, 422]
    )
    def test_without_split(self, status):
        """What would befall every event alike gives the batch up after one try."""
        scene = Scene(4)
        assert len(scene.deliver(status).sent) == 1
        [(error, events)] = scene.errors
        assert events == [0, 1, 2, 3]
        assert isinstance(error, DeliveryError)
        assert (error.status, error.code, error.message) == (status, str(status), "No.")
        assert (scene.count("failed"), scene.count("retries")) == (4, 0)

    def test_without_answer(self):
        """Where there was no answer, the error has no status."""
        scene = Scene(max_retries=0)
        scene.deliver(unreachable())
        error = scene.errors[0][0]
        assert (error.status, error.code, error.message) == (None, "network", "away")

    def test_without_on_error(self):
        """Without `on_error` what is given up is counted all the same."""
        scene = Scene(2, on_error=None)
        scene.deliver(401)
        assert scene.count("failed") == 2

    def test_already_abandoned(self):
        """Events that were taken out meanwhile are not given up a second time."""
        scene = Scene(2)
        scene.queue.abandon()
        scene.deliver(401)
        assert scene.errors == []
        assert scene.count("failed") == 2

    def test_delivered_after_abandon(self):
        """Nor are they counted as delivered."""
        scene = Scene(2)
        scene.queue.abandon()
        scene.deliver(200)
        assert scene.count("delivered") == 0


class TestUncompressed:
    def test_from_then_on(self):
        """A 415 for a compressed body: once more, and later batches, uncompressed."""
        scene = Scene(2)
        transport = scene.deliver(415)
        assert transport.compressed == [True, False]
        assert scene.count("delivered") == 2
        scene.queue.put(b'{"n":9}')
        scene.batch = scene.queue.claim(1, 1000)
        assert scene.deliver().compressed == [False]

    def test_is_no_cure(self):
        """A 415 for an uncompressed body as well gives the batch up."""
        scene = Scene(2)
        assert scene.deliver(415, 415).compressed == [True, False]
        assert scene.lost == [0, 1]
        assert scene.count("failed") == 2

    def test_setting(self):
        """With `gzip=False` nothing is compressed from the first."""
        scene = Scene(2, gzip=False)
        assert scene.deliver(415).compressed == [False]
        assert scene.count("failed") == 2


class TestOnError:
    @pytest.mark.parametrize("raised", [ValueError, SystemExit, RecursionError])
    def test_that_raises_harms_nothing(self, raised):
        """What `on_error` raises stops neither the batch nor the thread."""

        def on_error(*_):
            raise raised

        scene = Scene(3, on_error=on_error)
        scene.deliver(400, 400, *[200] * 9)
        assert (scene.count("failed"), scene.count("delivered")) == (1, 2)

    def test_positional(self):
        """It has two arguments: the error, and the events as dicts."""
        calls = []
        scene = Scene(2, on_error=lambda *args: calls.append(args))
        scene.deliver(401)
        [(error, events)] = calls
        assert isinstance(error, DeliveryError)
        assert events == [{"n": 0}, {"n": 1}]

    def test_interrupted(self):
        """Ctrl+C within it leaves no event that is never settled."""

        def on_error(*_):
            raise KeyboardInterrupt

        scene = Scene(4, on_error=on_error)
        with pytest.raises(KeyboardInterrupt):
            scene.deliver(400, 400, 400)
        assert scene.count("failed") == 1
        rest = []
        while batch := scene.queue.claim(10, 1000):
            rest += batch.events
        assert rest == [b'{"n":1}', b'{"n":2}', b'{"n":3}']


class TestDeadline:
    @pytest.mark.parametrize("pauses", [0, 2])
    def test_last(self, pauses):
        """When nothing is sent after the deadline, what is left is given up."""
        scene = Scene(2)
        transport = scene.deliver(*[503] * 9, deadline=Time(pauses))
        assert len(transport.sent) == pauses + 1
        assert scene.lost == [0, 1]
        assert (scene.count("failed"), scene.count("retries")) == (2, pauses)

    @pytest.mark.parametrize("pauses", [0, 2])
    def test_not_last(self, pauses):
        """When others will send, the events are put back."""
        scene = Scene(2)
        deadline = Time(pauses, last=False)
        scene.deliver(*[unreachable()] * 9, deadline=deadline)
        assert scene.errors == []
        assert scene.count("failed") == 0
        assert scene.queue.claim(10, 1000).events == scene.batch.events

    def test_within_a_split(self):
        """Halves that no time is left for are put back, those sent are not."""
        scene = Scene(4)
        scene.deliver(400, 200, 503, deadline=Time(0, last=False))
        assert scene.count("delivered") == 2
        assert scene.queue.claim(10, 1000).events == [b'{"n":2}', b'{"n":3}']


class TestInternal:
    @pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, MemoryError])
    def test_puts_back(self, raised):
        """What is raised within a try costs no event: they go again, in order."""
        scene = Scene(4)
        with pytest.raises(raised):
            scene.deliver(400, raised("secret"))
        assert scene.errors == []
        rest = []
        while batch := scene.queue.claim(10, 1000):
            rest += batch.events
        assert rest == [b'{"n":0}', b'{"n":1}', b'{"n":2}', b'{"n":3}']

    def test_not_for_ever(self):
        """A fault that comes again and again gives the batch up, by its class."""
        scene = Scene(2)
        for _ in range(10):
            with pytest.raises(RuntimeError):
                scene.deliver(RuntimeError("secret"))
        [(error, events)] = scene.errors
        assert events == [0, 1]
        assert (error.code, error.message) == ("internal", "RuntimeError")

    def test_memory_may_be_there_again(self):
        """A lack of memory costs no event, however long it lasts."""
        scene = Scene(2)
        for _ in range(20):
            with pytest.raises(MemoryError):
                scene.deliver(MemoryError())
        scene.deliver(200)
        assert scene.count("delivered") == 2
        assert scene.errors == []


class TestOnce:
    def deliver(self, scene, *script):
        """Deliver the batch as `sync_mode` does."""
        transport = Transport(*script)
        Sender(scene.outcomes, transport).deliver_once(scene.batch, 15)
        return transport

    def test_delivered(self):
        """An event that is delivered returns."""
        scene = Scene()
        assert self.deliver(scene, 200).timeouts == [15]
        assert scene.count("delivered") == 1

    @pytest.mark.parametrize("failure", [400, 401, 302, 429, 500, unreachable()])
    def test_failed(self, failure):
        """One that is not raises, after one try; `on_error` and counters know it."""
        scene = Scene()
        with pytest.raises(DeliveryError) as caught:
            self.deliver(scene, failure, 200)
        assert scene.errors == [(caught.value, [0])]
        assert (scene.count("failed"), scene.count("retries")) == (1, 0)
        assert caught.value.tries == 1

    @pytest.mark.parametrize("failure", [415, unreachable(stale=True)])
    def test_says_nothing_of_the_event(self, failure):
        """A stale connection, or a body that must not be compressed, is sent again."""
        scene = Scene()
        assert len(self.deliver(scene, failure).sent) == 2
        assert scene.count("delivered") == 1

    def test_interrupted(self):
        """Ctrl+C costs no event: who sends next takes it."""
        scene = Scene()
        with pytest.raises(KeyboardInterrupt):
            self.deliver(scene, KeyboardInterrupt())
        assert scene.count("failed") == 0
        assert scene.queue.claim(10, 1000).events == [b'{"n":0}']
