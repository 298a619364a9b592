"""The queue on disk: nothing that was accepted is lost, stolen or sent for ever."""

import logging
import logging.config
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from collections import Counter
from contextlib import contextmanager
from itertools import chain

import pytest
from queue_crowd import claimed_by_thread
from script_runner import HANG
from spool_files import add_rows, row_of, sql

from htlogging import HtEventsHandler, InvalidSetting
from htlogging._process import fork
from htlogging._queue.spool import registry, statements
from htlogging._queue.spool.queue import SpoolQueue
from htlogging._queue.spool.schema import SpoolUnavailable
from htlogging._report import Report
from htlogging._settings import MAX_BODY_BYTES, MAX_BODY_EVENTS, Settings
from htlogging._stats import Counters
from htlogging.collector import Reply
from htlogging.exceptions import DeliveryError
from htlogging.htevents import Client

pytestmark = pytest.mark.skipif(os.name != "posix", reason="no spool without POSIX")

ALL = (MAX_BODY_EVENTS, MAX_BODY_BYTES)
REFUSED = DeliveryError(400, "bad", "an event is wrong", 1)


def state_of(queue):
    """Return how many events there ever were, and how many are not settled."""
    counts = queue.counts()
    return counts.accepted, counts.queued


@pytest.fixture
def path(tmp_path):
    """Return a path where no file is yet."""
    return str(tmp_path / "spool")


@pytest.fixture
def evicted():
    """Return what had to leave the file: lists of events, with the reason."""
    return []


@pytest.fixture
def make(path, evicted):
    """Return what makes a queue on the path."""
    made = []

    def make_queue(**settings):
        given = {"write_key": "K", "host": "http://localhost", "spool": path}
        counters = Counters()

        queue = SpoolQueue(Settings(given | settings), Report(), counters)
        queue.register()
        maintain = queue.maintain

        def maintain_and_give_up(**options):
            found = maintain(**options)
            for batch, failure in found:
                evicted.append((list(batch.events), failure.message))
                assert queue.bury(batch, failure)
            return found

        queue.maintain = maintain_and_give_up
        queue.counters = counters
        made.append(queue)
        return queue

    yield make_queue
    for queue in made:
        queue.close()


@pytest.fixture
def queue(make):
    """Return a queue on the path."""
    return make()


@pytest.fixture
def make_handler(path, collector):
    """Return what makes a handler on the path."""
    made = []

    def make(**settings):
        given = {
            "write_key": "K",
            "host": collector.url,
            "spool": path,
            "upload_interval": 0.01,
            "shutdown_timeout": 0.05,
        }
        made.append(HtEventsHandler(**(given | settings)))
        return made[-1]

    yield make
    for handler in made:
        handler.close()


@pytest.fixture
def run(collector, path, tmp_path):
    """Return what runs a script, `spool` and `host` at hand, and returns its output."""

    def run_script(script, status=0, killed_at=None):
        head = f"spool, host = {path!r}, {collector.url!r}\n"
        source = tmp_path / "script.py"
        source.write_text(head + textwrap.dedent(script))
        with subprocess.Popen(
            [sys.executable, source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HTEVENTS_WRITE_KEY": "K", "PYTHONWARNINGS": "ignore"},
        ) as process:
            try:
                if killed_at is not None:
                    assert process.stdout.readline() == f"{killed_at}\n"
                    process.kill()
                    status = -signal.SIGKILL
                out, errors = process.communicate(timeout=HANG)
            finally:
                process.kill()
        assert process.returncode == status, errors
        return out, errors

    return run_script


def drain(queue, *limits):
    """Claim and settle batch after batch; return each one's events."""
    batches = []
    while (batch := queue.claim(*(limits or ALL))) is not None:
        assert queue.ack(batch)
        batches.append(list(batch.events))
    return batches


def rows(path, query="SELECT body FROM events ORDER BY id"):
    """Return what is in the file, as others see it."""
    connection = sqlite3.connect(path)
    try:
        return [row[0] if len(row) == 1 else row for row in connection.execute(query)]
    finally:
        connection.close()


@contextmanager
def interrupted(handle, seconds, beside):
    """Have a signal handler do something every so often, and a thread something else."""
    inside, stop = [], threading.Event()

    def handle_once(*_):
        if inside:
            return  # or a busy machine would begin ever more of them, and end none
        inside.append(True)
        handle()
        inside.clear()

    def work():
        while not stop.is_set():
            beside()

    thread = threading.Thread(target=work)
    before = signal.signal(signal.SIGALRM, handle_once)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        thread.start()
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        stop.set()
        thread.join(HANG)
    assert not thread.is_alive()


def size(path):
    """Return the bytes of the file and of SQLite's beside it."""
    names = [path, f"{path}-wal", f"{path}-shm"]
    return sum(os.path.getsize(name) for name in names if os.path.exists(name))


def orphans(path, count, owner=70, pad=b""):
    """Write events as of a process that died."""
    body = b'{"messageId":"%d","p":"%s"}'
    made = (row_of(owner, n, body % (n, pad)) for n in range(1, count + 1))
    registry.shared(path).change(add_rows, made)


def event(name="e", **fields):
    """Return a record that is an event."""
    record = logging.makeLogRecord({"msg": name, "levelno": logging.INFO})
    record.__dict__.update({"ht_user_id": "u"} | fields)
    return record


def names(collector):
    """Return the names of what arrived, with their numbers."""
    return Counter(event["event"] for event in collector.events)


def balances(stats):
    """Tell whether every accepted event is accounted for."""
    return stats.accepted == stats.delivered + stats.failed + stats.queued


class TestPut:
    def test_on_disk_when_it_returns(self, queue, path):
        """Another process sees the event as soon as the call is over."""
        assert queue.put(b"one") == 1
        assert rows(path) == [b"one"]
        assert queue.put(b"two") == 2
        assert queue.backlog() == queue.counts().queued == 2
        assert state_of(queue) == (2, 2)

    def test_large_ones_are_not_all_in_memory(self, make):
        """What is kept in memory as well, for a moment, is bounded in bytes."""
        queue = make(max_event_size=470_000)
        tracemalloc.start()
        try:
            for _ in range(150):
                queue.put(b'"%s"' % (b"x" * 460_000))
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 40 * 2**20

    def test_many_threads_lose_nothing(self, queue):
        """What threads put while others claim comes once, each one's in order."""
        assert claimed_by_thread(queue, 300) == [[*range(300)]] * 4
        assert state_of(queue) == (1_200, 0)

    @pytest.mark.skipif(
        "coverage" in sys.modules, reason="coverage's own lock is not re-entrant"
    )
    def test_within_a_signal_handler(self, make):
        """A signal handler may put at any moment of any verb, and loses nothing."""
        queue, count = make(spool_max_bytes=2**20), [0]

        def handle():
            queue.put(b"signal")
            count[0] += 1

        def load():
            queue.put(b"thread")
            queue.maintain(at_once=True)

        with interrupted(handle, 0.001, load):
            settled = mine = 0
            while count[0] < 200:
                queue.put(b"main")
                mine += 1
                batch = queue.claim(*ALL)
                if batch is not None:
                    settled += len(batch)
                    queue.bury(batch, REFUSED) if mine % 5 == 0 else queue.ack(batch)
                queue.counts()
                queue.settled_to(queue.mark())
        accepted, left = state_of(queue)
        assert accepted == settled + left
        assert sum(map(len, drain(queue))) == left
        assert queue.counts().queued == 0

    @pytest.mark.skipif(
        "coverage" in sys.modules, reason="coverage's own lock is not re-entrant"
    )
    def test_flush_within_a_signal_handler(self, queue):
        """A signal handler may flush while its thread puts, and another one looks."""
        looks = []

        def send():
            queue.maintain()
            drain(queue)

        with interrupted(
            lambda: looks.append(queue.maintain(at_once=True)), 0.01, send
        ):
            while len(looks) < 150:
                queue.put(b"x" * 300)

    def test_an_earlier_number_is_not_passed(self, queue, monkeypatch):
        """An event of a signal handler within `put` has the earlier number."""
        insert, claimed = statements.insert, []

        def interrupted(connection, number, body, at):
            if body == b"outer":
                monkeypatch.setattr(statements, "insert", insert)
                assert queue.put(b"inner")
                claimed.append(queue.claim(*ALL).events)
            insert(connection, number, body, at)

        monkeypatch.setattr(statements, "insert", interrupted)
        queue.put(b"outer")
        assert claimed == [[b"inner"]]
        assert drain(queue) == [[b"outer"]]

    def test_cut_short_after_the_commit(self, queue, monkeypatch, path):
        """The event is there, and is found: by the next one, or by a look at the file."""
        insert = statements.insert

        def cut(*args):
            insert(*args)
            raise KeyboardInterrupt

        for n in range(300):
            monkeypatch.setattr(statements, "insert", cut)
            with pytest.raises(KeyboardInterrupt):
                queue.put(b"cut %d" % n)
            monkeypatch.setattr(statements, "insert", insert)
            if n % 2:
                queue.put(b"%d" % n)
        queue.maintain(at_once=True)
        assert state_of(queue) == (450, 450)
        assert sum(map(len, drain(queue))) == 450
        assert rows(path) == []
        assert state_of(queue) == (450, 0)


class TestClaim:
    def test_in_the_order_accepted(self, queue):
        """First in, first out, within the limits."""
        for event in (b"1", b"2" * 50, b"3", b"4"):
            queue.put(event)
        assert drain(queue, 2, 10) == [[b"1"], [b"2" * 50], [b"3", b"4"]]
        assert queue.claim(*ALL) is None
        assert state_of(queue) == (4, 0)

    def test_larger_than_a_page(self, queue, path):
        """Events of any size come back as they were."""
        large = os.urandom(400_000)
        queue.put(large)
        assert drain(queue) == [[large]]
        assert rows(path) == []

    def test_taken_out_by_somebody(self, queue, path):
        """What is not in the file any more is not waited for."""
        queue.put(b"one")
        mark = queue.mark()
        registry.shared(path).write(sql, "DELETE FROM events")
        assert queue.claim(*ALL) is None
        assert queue.settled_to(mark)
        assert state_of(queue) == (0, 0)
        queue.put(b"two")
        assert drain(queue) == [[b"two"]]

    def test_new_one_past_all_others(self, queue, path):
        """An event can be accepted and claimed in one step, and is on disk."""
        queue.put(b"before")
        batch = queue.claim_new(b"now")
        assert rows(path) == [b"before", b"now"] or rows(path) == [b"now", b"before"]
        assert state_of(queue) == (2, 2)
        mark = queue.mark()
        assert drain(queue) == [[b"before"]]
        assert not queue.settled_to(mark)
        assert queue.ack(batch)
        assert queue.settled_to(mark)
        assert rows(path) == []
        assert queue.claim_new(b"again").events == [b"again"]


class TestSettle:
    def test_delivered_events_leave_the_file(self, queue, path):
        """`ack` is once, and takes them out."""
        queue.put(b"one")
        batch = queue.claim(*ALL)
        assert rows(path) == [b"one"]
        assert queue.ack(batch)
        assert rows(path) == []
        assert not queue.ack(batch)
        assert not queue.bury(batch, REFUSED)

    def test_dead_letter(self, queue, path):
        """What the server refuses is kept, with status, time and reason."""
        queue.put(b"one")
        assert queue.bury(queue.claim(*ALL), REFUSED)
        assert rows(path) == []
        query = "SELECT body, status, code, message, tries FROM dead"
        assert rows(path, query) == [(b"one", 400, "bad", "an event is wrong", 1)]
        ((at, failed_at),) = rows(path, "SELECT at, failed_at FROM dead")
        assert 0 < at <= failed_at
        assert state_of(queue) == (1, 0)

    def test_release_and_split(self, queue):
        """What was put back comes again as it was; halves are settled alone."""
        for n in range(3):
            queue.put(b"%d" % n)
        batch = queue.claim(*ALL)
        left, right = queue.split(batch)
        assert not queue.ack(batch)
        queue.release(batch)
        queue.release(right)
        assert queue.backlog() == MAX_BODY_EVENTS
        mark = queue.mark()
        assert not queue.claimed_to(mark)
        assert queue.claim(*ALL) is right
        assert queue.ack(left)
        assert not queue.settled_to(mark)
        assert queue.ack(right)
        assert queue.settled_to(mark)
        assert queue.split(batch)[0].events == [b"0"]
        assert state_of(queue) == (3, 0)


class TestLeaving:
    def test_who_gives_up_is_cut_short(self, path):
        """What had to leave the file is given up by whoever comes next, and once."""
        settings = Settings(
            {"write_key": "K", "host": "http://localhost", "spool": path}
            | {"spool_max_bytes": 2**20}
        )
        queue = SpoolQueue(settings, Report(), Counters())
        queue.register()
        while queue.counts().queued < 1_500:
            queue.put(b"x" * 1_000)
        first = queue.maintain(at_once=True)
        assert first
        # Whoever got these did not live to give them up.
        again = queue.maintain(at_once=True)
        assert [one for one, _ in again] == [one for one, _ in first]
        assert {why.message for _, why in again} == {"spool_max_bytes is reached"}
        assert not queue.recover()
        gone = sum(len(batch) for batch, _ in again)
        assert all(queue.bury(*one) for one in again)
        assert not any(queue.bury(*one) for one in first)
        assert queue.maintain(at_once=True) == []
        counts = queue.counts()
        assert (counts.failed, counts.queued) == (gone, 1_500 - gone)
        queue.close()


class TestAbandon:
    def test_left_in_the_file(self, queue, path, caplog):
        """All stays: what waits and what is being sent; the next look finds it."""
        for n in range(3):
            queue.put(b"%d" % n)
        sent = queue.claim(1, MAX_BODY_BYTES)
        assert queue.abandon() == []
        assert state_of(queue) == (3, 3)
        assert queue.claim(*ALL) is None
        queue.maintain()
        assert "3 events not delivered yet to " in caplog.text
        assert state_of(queue) == (3, 3)
        assert drain(queue) == [[b"0", b"1", b"2"]]
        assert not queue.ack(sent)
        assert state_of(queue) == (3, 0)
        assert rows(path) == []

    def test_delivered_after_all(self, queue, path):
        """An answer that comes too late still counts, and is not sent again."""
        for n in range(3):
            queue.put(b"%d" % n)
        sent = queue.claim(1, MAX_BODY_BYTES)
        queue.abandon()
        assert queue.ack(sent)
        assert state_of(queue) == (3, 2)
        assert rows(path) == [b"1", b"2"]

    def test_refused_after_all(self, queue, path):
        """A refusal that comes too late is for the next one to get."""
        queue.put(b"0")
        sent = queue.claim(*ALL)
        queue.abandon()
        assert not queue.bury(sent, REFUSED)
        assert rows(path) == [b"0"]

    def test_twice(self, queue):
        """Closed, opened, closed again: what was left before is left still."""
        queue.put(b"0")
        queue.abandon()
        queue.put(b"1")
        queue.claim_new(b"2")
        queue.abandon()
        assert state_of(queue) == (3, 3)
        queue.maintain()
        assert sum(map(len, drain(queue))) == 3
        assert state_of(queue) == (3, 0)

    def test_by_another_of_this_process(self, make):
        """A second queue with the same destination takes over."""
        one, two = make(), make()
        one.put(b"0")
        one.abandon()
        two.maintain()
        assert drain(two) == [[b"0"]]

    @pytest.mark.parametrize("by_another", [False, True])
    def test_delivered_when_adopted(self, make, caplog, by_another):
        """An answer that comes when the next one has them already: none is missing."""
        one = make()
        for n in range(3):
            one.put(b"%d" % n)
        sent = one.claim(2, MAX_BODY_BYTES)
        one.abandon()
        two = make() if by_another else one
        two.put(b"3")
        two.maintain(at_once=True)
        one.ack(sent)
        assert drain(two) == [[b"2", b"3"]]
        two.maintain(at_once=True)
        assert state_of(two) == (4, 0)
        assert "not in the spool any more" not in caplog.text


class TestAdopt:
    def test_events_of_the_dead(self, queue, path):
        """They are counted and claimed as one's own, the eldest owner's first."""
        queue.put(b"mine")
        for owner in (90, 80):
            orphans(path, 2, owner)
        queue.maintain(at_once=True)
        assert state_of(queue) == (5, 5)
        mark = queue.mark()
        batches = drain(queue, 2, MAX_BODY_BYTES)
        assert [len(batch) for batch in batches] == [2, 2, 1]
        assert b"mine" in batches[0]
        assert queue.settled_to(mark)
        assert state_of(queue) == (5, 0)

    def test_finished_owners_are_forgotten(self, queue, path):
        """A process that outlives many others does not collect their numbers."""
        queue.put(b"mine")
        for owner in range(20, 30):
            orphans(path, 1, owner)
        queue.maintain(at_once=True)
        assert len(queue.mark()[0]) == 11
        held = queue.claim(1, MAX_BODY_BYTES)
        drain(queue)
        queue.maintain(at_once=True)
        assert len(queue.mark()[0]) == 2
        queue.ack(held)
        queue.maintain(at_once=True)
        assert len(queue.mark()[0]) == 1

    @pytest.mark.slow
    def test_many_of_the_dead(self, queue, path):
        """A request has events of many owners, and half of it is for the living."""
        made = [row_of(1_000 + n, 1, b"%d" % n) for n in range(5_000)]
        registry.shared(path).change(add_rows, made)
        for n in range(100):
            queue.put(b"mine %d" % n)
        queue.maintain(at_once=True)
        batch = queue.claim(100, MAX_BODY_BYTES)
        assert sum(event.startswith(b"mine") for event in batch.events) == 50
        queue.ack(batch)
        batches = 1
        while queue.backlog():
            drain(queue)
            queue.maintain()
            batches += 1
        assert batches < 10
        assert rows(path) == []
        assert state_of(queue) == (5_100, 0)

    def test_interrupted(self, queue, path, monkeypatch):
        """What could be locked but not read is adopted the next time."""
        orphans(path, 3)
        span = statements.span

        def fail(*_):
            monkeypatch.setattr(statements, "span", span)
            raise SpoolUnavailable("for the test")

        monkeypatch.setattr(statements, "span", fail)
        queue.maintain(at_once=True)
        assert queue.counts().queued == 0
        queue.maintain(at_once=True)
        assert queue.counts().queued == 3

    def test_now_and_then(self, queue, path):
        """A look is due every so often, or when it is asked for."""
        queue.put(b"mine")
        queue.maintain()
        orphans(path, 1)
        queue.maintain()
        assert queue.counts().queued == 1
        queue.maintain(at_once=True)
        assert queue.counts().queued == 2

    def test_nothing_is_made(self, queue, path):
        """Looking for others' events makes no file."""
        queue.maintain(at_once=True)
        assert not os.path.exists(path)

    def test_50_000_events(self, queue, path):
        """However many there are, adopting them reads none; a claim reads its own."""
        orphans(path, 50_000, pad=b"x" * 200)
        file = registry.shared(path)
        # Its structure is checked once for a file.
        queue._maintenance._repair._was_checked = True
        statements, reader = [], file._pair[1]
        reader.set_trace_callback(statements.append)
        steps = [0]

        def step():
            steps[0] += 1

        reader.set_progress_handler(step, 100)
        queue.maintain(at_once=True)
        assert queue.counts().queued == 50_000
        assert len(statements) < 15, statements
        assert steps[0] < 10
        batch = queue.claim(100, MAX_BODY_BYTES)
        assert len(batch) == 100
        assert steps[0] < 50
        reader.set_trace_callback(None)
        reader.set_progress_handler(None, 0)


class TestBounds:
    def test_max_bytes(self, make, evicted, path):
        """The oldest go when it is too large; they are told of, and counted."""
        queue = make(spool_max_bytes=2**20)
        count = 4_000
        for n in range(count):
            assert queue.put(b"%06d" % n + b"x" * 994)
        # On a caller's thread nothing is told.
        assert not evicted
        assert state_of(queue) == (count, count)
        assert registry.shared(path).used_bytes() < 1.2 * 2**20
        queue.maintain(at_once=True)
        gone = [event for events, _ in evicted for event in events]
        assert {why for _, why in evicted} == {"spool_max_bytes is reached"}
        left = [event for batch in drain(queue) for event in batch]
        assert [int(event[:6]) for event in gone + left] == list(range(count))
        assert len(left) > 600
        assert state_of(queue) == (count, 0)
        assert queue.counts().failed == len(gone)
        queue.maintain(at_once=True)
        queue.close()
        assert size(path) < 100_000

    def test_large_file_of_before(self, make, evicted, path):
        """A limit that is set later is kept from then on."""
        orphans(path, 3_000, pad=b"x" * 1_000)
        queue = make(spool_max_bytes=2**20)
        queue.maintain(at_once=True)
        assert registry.shared(path).used_bytes() <= 2**20
        assert sum(len(events) for events, _ in evicted) + queue.backlog() == 3_000

    def test_dead_letters_go_first(self, make, evicted, path):
        """They had their turn: a full file loses them before events that wait."""
        queue = make(spool_max_bytes=2**20)
        for _ in range(20):
            queue.put(b"x" * 100_000)
            if queue.backlog() > 1:
                queue.bury(queue.claim(1, 1), REFUSED)
        queue.maintain(at_once=True)
        assert not evicted
        assert registry.shared(path).used_bytes() <= 2**20
        assert rows(path, "SELECT count(*) FROM dead")[0] < 10

    def test_what_is_claimed_stays(self, make, evicted):
        """An event that is being sent is not taken away meanwhile."""
        queue = make(spool_max_bytes=2**20)
        queue.put(b"first")
        claimed = queue.claim(*ALL)
        for _ in range(2_000):
            queue.put(b"x" * 1_000)
        queue.maintain(at_once=True)
        assert evicted
        assert all(b"first" not in events for events, _ in evicted)
        assert queue.ack(claimed)

    def test_max_age(self, make, evicted, path):
        """What is too old goes: events that wait, and dead letters."""
        queue = make(spool_max_age=100)
        for n in range(5):
            queue.put(b"%d" % n)
        queue.bury(queue.claim(1, 1), REFUSED)
        file = registry.shared(path)
        file.write(sql, "UPDATE events SET at = at - 200 WHERE id & 7 < 4")
        file.write(sql, "UPDATE dead SET failed_at = failed_at - 200")
        queue.maintain(at_once=True)
        assert evicted == [([b"1", b"2"], "too old")]
        query = "SELECT body, code, message FROM dead"
        assert rows(path, query) == [
            (b"1", "spool", "too old"),
            (b"2", "spool", "too old"),
        ]
        assert drain(queue) == [[b"3", b"4"]]
        assert state_of(queue) == (5, 0)

    def test_clock_that_goes_back(self, make, evicted, path):
        """A younger event before an elder one keeps it for a while; none is lost."""
        queue = make(spool_max_age=100)
        for n in range(3):
            queue.put(b"%d" % n)
        registry.shared(path).write(
            sql, "UPDATE events SET at = at - 200 WHERE id & 7 > 1"
        )
        queue.maintain(at_once=True)
        assert not evicted
        assert drain(queue) == [[b"0", b"1", b"2"]]

    def test_overdue(self, make, path):
        """Events that are tried again and again become too old as well."""
        queue = make(spool_max_age=100)
        queue.put(b"0")
        batch = queue.claim(*ALL)
        assert not queue.overdue(batch)
        registry.shared(path).write(sql, "UPDATE events SET at = at - 200")
        assert queue.overdue(batch)
        late = DeliveryError(None, "spool", "too old", 3)
        assert queue.bury(batch, late)
        assert rows(path, "SELECT message FROM dead") == ["too old"]
        assert not make().overdue(batch)

    def test_not_overdue_when_unknown(self, make, monkeypatch):
        """What cannot be looked at is not given up for its age; nor what is in memory."""
        queue = make(spool_max_age=100)
        queue.put(b"0")
        batch = queue.claim(*ALL)

        def fail(*_):
            raise SpoolUnavailable("for the test")

        monkeypatch.setattr(statements, "written_at", fail)
        assert not queue.overdue(batch)
        queue._maintenance.no_writes.note(SpoolUnavailable("for the test"))
        in_memory = queue.claim_new(b"1")
        assert not queue.overdue(in_memory)
        assert queue.bury(in_memory, REFUSED)

    def test_clock_that_jumps(self, make, evicted, monkeypatch, caplog):
        """A clock a day ahead for a moment makes nothing too old; a line says so."""
        queue = make(spool_max_age=100)
        for n in range(20):
            queue.put(b"%d" % n)
        batch = queue.claim(1, 1)
        queue.maintain(at_once=True)
        wall = time.time
        monkeypatch.setattr("time.time", lambda: wall() + 86_400)
        for _ in range(3):
            queue.maintain(at_once=True)
            assert not queue.overdue(batch)
        monkeypatch.setattr("time.time", wall)
        queue.maintain(at_once=True)
        assert not evicted
        assert queue.ack(batch)
        assert sum(map(len, drain(queue))) == 19
        assert caplog.text.count("the system's clock was set by +86400 s") == 1

    @pytest.mark.parametrize("in_a_process_of_its_own", [False, True])
    def test_clock_that_is_behind(
        self, make, evicted, monkeypatch, path, in_a_process_of_its_own
    ):
        """What is logged while the clock is behind is not too old when it is right again."""
        make(spool_max_age=100).put(b"first")
        make(spool_max_age=100).maintain(at_once=True)
        if in_a_process_of_its_own:
            registry.shared(path).reopen()
            registry._files.clear()
        wall = time.time
        monkeypatch.setattr("time.time", lambda: wall() - 86_400)
        queue = make(spool_max_age=100)
        for n in range(20):
            queue.put(b"%d" % n)
        refused = queue.claim_new(b"refused")
        assert queue.bury(refused, REFUSED)
        monkeypatch.setattr("time.time", wall)
        queue.maintain(at_once=True)
        assert not evicted
        assert {b"%d" % n for n in range(20)} <= {e for b in drain(queue) for e in b}
        assert rows(path, "SELECT body FROM dead") == [b"refused"]

    def test_clock_that_was_behind_from_the_start(self, make, evicted, monkeypatch):
        """Nor is what a machine without a clock logs before it is told the time."""
        wall, boot = time.time(), time.clock_gettime
        monkeypatch.setattr("time.time", lambda: 60.0)
        monkeypatch.setattr("time.clock_gettime", lambda _: 60.0)
        queue = make(spool_max_age=86_400)
        queue.put(b"1")
        queue.maintain(at_once=True)
        for seconds in (0, 3_000, 6_000, 9_000):
            monkeypatch.setattr("time.time", lambda at=wall + seconds: at)
            monkeypatch.setattr("time.clock_gettime", lambda _, at=70 + seconds: at)
            queue.put(b"2")
            queue.maintain(at_once=True)
        assert not evicted
        monkeypatch.setattr("time.time", lambda: wall + 90_000)
        monkeypatch.setattr("time.clock_gettime", lambda _: 90_070)
        queue.maintain(at_once=True)
        assert evicted == [([b"1", b"2", b"2"], "too old")]
        monkeypatch.setattr("time.clock_gettime", boot)

    def test_reader_in_the_way(self, make, path, evicted):
        """SQLite's log counts, which a reader of another process makes grow."""
        limit = 4 * 2**20
        queue = make(spool_max_bytes=limit)
        queue.put(b"first")
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM events").fetchone()
        largest = 0
        for n in range(3_000):
            assert queue.put(b"%d" % n + b"x" * 500)
            largest = max(largest, size(path)) if n % 50 == 0 else largest
        assert 2**20 < largest < 1.1 * limit
        assert queue.counters.snapshot()["unspooled"] > 1_000
        reader.execute("COMMIT")
        reader.close()
        assert not evicted
        assert sum(map(len, drain(queue))) == 3_001

    def test_shrinks_after_an_outage(self, queue, path):
        """20,000 events come and go, and the file is as small as before."""
        body = b"x" * 300
        for _ in range(20_000):
            queue.put(body)
        assert size(path) > 20_000 * 300
        drain(queue)
        queue.maintain(at_once=True)
        # The log is as large as it was until it is written to, or closed.
        assert os.path.getsize(path) < 100_000
        queue.put(b"one more")
        # A sixteenth of `spool_max_bytes`, then.
        assert size(path) < 17 * 2**20
        drain(queue)
        queue.close()
        assert size(path) < 100_000

    def test_callers_are_spared_the_log(self, queue, path):
        """The sending thread copies the log into the file, and it begins anew."""
        body = b"x" * 300
        for _ in range(10):
            for _ in range(600):
                queue.put(body)
            queue.maintain()
        assert os.path.getsize(path) > 6_000 * 300
        assert os.path.getsize(f"{path}-wal") < 2_000 * 4_096

    def test_a_log_that_cannot_be_copied(self, queue, path):
        """Events are written all the same."""
        for _ in range(600):
            queue.put(b"x")
        # A reader in the middle of it: "database table is locked".
        reader = queue._file.read(lambda c: c.execute("SELECT * FROM events"))
        reader.fetchone()
        queue.maintain()
        reader.close()
        queue.put(b"more")
        assert len(rows(path)) == 601


class TestUnusable:
    """Events go by memory: the application notices nothing but a line."""

    def check(self, make_handler, collector, caplog, reason):
        """Assert that events arrive, and that one line tells why by memory."""
        handler = make_handler(shutdown_timeout=5)
        for n in range(3):
            handler.handle(event(f"e{n}"))
        assert handler.flush(HANG)
        assert names(collector) == Counter(["e0", "e1", "e2"])
        stats = handler.stats
        assert stats.delivered == stats.unspooled == 3
        assert balances(stats)
        (line,) = [line for line in caplog.messages if "the spool" in line]
        assert line.startswith(f"the spool cannot be used ({reason}); events for http:")

    def test_garbage(self, make_handler, collector, caplog, path):
        """What is no database is left alone."""
        with open(path, "wb") as garbage:
            garbage.write(b"garbage" * 1000)
        reason = "file is not a database"
        self.check(make_handler, collector, caplog, reason)

    def test_another_programs(self, make_handler, collector, caplog, path):
        """So is another program's database."""
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE theirs (x)")
        connection.close()
        reason = "it is a database of another program"
        self.check(make_handler, collector, caplog, reason)

    def test_later_version(self, make_handler, collector, caplog, path):
        """So is what a later version wrote."""
        orphans(path, 1)
        registry.shared(path).write(sql, "PRAGMA user_version = 3")
        registry.shared(path).reopen()
        reason = "it was written by a later version of htlogging"
        self.check(make_handler, collector, caplog, reason)

    def test_locked(self, make_handler, collector, caplog, path, monkeypatch):
        """No call waits for long for a program that keeps it locked."""
        orphans(path, 0)
        registry.shared(path).reopen()
        monkeypatch.setattr("htlogging._queue.spool.connections.BUSY", 0.01)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        self.check(make_handler, collector, caplog, "database is locked")
        connection.close()

    def test_counted_once(self, make, path, monkeypatch):
        """What is delivered while the file is locked counts once, however often it is tried."""
        monkeypatch.setattr("htlogging._queue.spool.connections.BUSY", 0.01)
        queue = make()
        for n in range(3):
            queue.put(b"%d" % n)
        owner = queue._ledger.own
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        assert queue.ack(queue.claim(2, MAX_BODY_BYTES))
        for _ in range(3):
            queue.maintain(at_once=True)
        connection.close()
        queue.maintain(at_once=True)
        assert (owner.last, owner.settled) == (3, 2)
        assert drain(queue) == [[b"2"]]

    def test_folder_goes(self, make_handler, collector, path):
        """A folder that cannot be made again stops no caller."""
        handler = make_handler(shutdown_timeout=5)
        os.rmdir(os.path.dirname(path))
        with open(os.path.dirname(path), "w"):
            pass
        for n in range(3):
            handler.handle(event(f"e{n}"))
        assert handler.flush(HANG)
        assert names(collector).total() == handler.stats.unspooled == 3
        os.unlink(os.path.dirname(path))
        os.mkdir(os.path.dirname(path))

    def test_overflow(self, make_handler, collector):
        """Where memory is full, too, an event is dropped, as without a spool."""
        collector.stop()
        handler = make_handler(max_queue_size=2)
        handler.queue._maintenance.no_writes.note(InvalidSetting("for the test"))
        for n in range(3):
            handler.handle(event(f"e{n}"))
        stats = handler.stats
        assert (stats.unspooled, stats.dropped, stats.queued) == (2, 1, 2)
        handler.close()
        assert handler.stats.failed == 2

    def test_sync_mode(self, make_handler, collector, path):
        """An event that is sent at once is sent all the same."""
        with open(path, "wb") as garbage:
            garbage.write(b"garbage" * 1000)
        handler = make_handler(sync_mode=True)
        handler.handle(event())
        assert names(collector) == Counter(["e"])
        assert handler.stats.unspooled == 1

    def test_mended(self, make, path, monkeypatch):
        """When the file can be used again, it is."""
        queue = make()
        with open(path, "wb") as garbage:
            garbage.write(b"garbage" * 1000)
        queue.put(b"0")
        os.unlink(path)
        monkeypatch.setattr("htlogging._queue.spool.outage.AWAY", 0.0)
        queue._maintenance.no_writes._until = 0.0
        queue.put(b"1")
        assert rows(path) == [b"1"]
        assert drain(queue) == [[b"1"], [b"0"]]
        assert queue.counters.snapshot()["unspooled"] == 1

    def test_corrupt_while_in_use(self, make, path, caplog):
        """A file that goes bad under our hands is kept, and a new one made."""
        queue = make()
        for _ in range(200):
            queue.put(b"x" * 1_000)
        file = registry.shared(path)
        file.reopen()
        with open(path, "r+b") as spool:
            spool.seek(4096)
            spool.write(os.urandom(os.path.getsize(path) - 4096))
        assert queue.claim(*ALL) is None
        assert queue.backlog() == 0
        queue.maintain()
        kept = min(n for n in os.listdir(os.path.dirname(path)) if ".damaged-" in n)
        assert "malformed): 0 waiting events and 0 dead letters" in caplog.text
        assert kept in caplog.text
        queue.put(b"new")
        # Events so young were in memory as well.
        assert rows(path) == [b"x" * 1_000] * 200 + [b"new"]
        assert drain(queue)[-1][-1] == b"new"
        assert state_of(queue) == (201, 0)

    def test_deleted(self, make, path, caplog):
        """Events of a file that was deleted go by memory; later ones to a new file."""
        queue = make()
        for n in range(3):
            queue.put(b"%d" % n)
        claimed = queue.claim(1, 1)
        os.unlink(path)
        queue.maintain(at_once=True)
        assert "deleted or replaced" in caplog.text
        assert state_of(queue) == (3, 3)
        queue.put(b"new")
        assert rows(path) == [b"new"]
        assert queue.ack(claimed)
        assert sorted(chain(*drain(queue))) == [b"1", b"2", b"new"]
        assert state_of(queue) == (4, 0)
        assert queue.counters.snapshot()["unspooled"] == 2

    def test_deleted_with_more_than_memory_holds(self, make, path, evicted):
        """What finds no room is told of and counted."""
        queue = make(max_queue_size=2)
        for n in range(5):
            queue.put(b"%d" % n)
        os.unlink(path)
        queue.maintain(at_once=True)
        assert evicted == [
            ([b"2", b"3", b"4"], "the spool was deleted, and memory is full")
        ]
        assert state_of(queue) == (5, 2)
        assert drain(queue) == [[b"0", b"1"]]

    def test_lock_file_deleted(self, make, path, run):
        """Its locks are taken again: others do not take a living one's events."""
        queue = make()
        queue.put(b"mine")
        os.unlink(f"{path}-lock")
        queue.maintain(at_once=True)
        out, _ = run("""
            from htlogging._queue.spool import registry
            print(registry.shared(spool).adopt(9))
        """)
        assert out == "[]\n"

    @pytest.mark.parametrize("how", ["folder", "link"])
    def test_lock_file_replaced(self, make_handler, collector, path, caplog, how):
        """Events go on through the file, and the line says what does not work."""
        handler = make_handler(shutdown_timeout=5)
        handler.handle(event("e0"))
        assert handler.flush(HANG)
        os.unlink(f"{path}-lock")
        if how == "folder":
            os.mkdir(f"{path}-lock")
        else:
            os.symlink("elsewhere", f"{path}-lock")
        for n in range(1, 4):
            handler.handle(event(f"e{n}"))
            assert handler.flush(HANG)
        assert names(collector).total() == 4
        assert handler.stats.unspooled == 0
        lines = [line for line in caplog.messages if "spool" in line]
        assert len(lines) == 1
        assert "events of processes that died stay in the spool" in lines[0]
        handler.close()
        assert not os.path.exists(os.path.join(os.path.dirname(path), "elsewhere"))

    def test_settled_but_not_taken_out(self, make, path, monkeypatch):
        """What was delivered or refused while nothing could be written, is later."""
        monkeypatch.setattr("htlogging._queue.spool.connections.BUSY", 0.01)
        queue = make()
        for n in range(2):
            queue.put(b"%d" % n)
        first, second = queue.claim(1, 1), queue.claim(1, 1)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        assert queue.ack(first)
        assert queue.bury(second, REFUSED)
        assert state_of(queue) == (2, 0)
        connection.execute("ROLLBACK")
        connection.close()
        assert rows(path) == [b"0", b"1"]
        queue.maintain(at_once=True)
        assert rows(path) == []
        assert rows(path, "SELECT body, status FROM dead") == [(b"1", 400)]


class TestNoDescriptors:
    def test_after_a_fork(self, run, collector):
        """A file that cannot be opened again stops no caller: events go by memory."""
        run("""
            import os, resource, warnings
            from htlogging.htevents import Client
            warnings.simplefilter("ignore")
            client = Client("KEY", host=host, spool=spool)
            client.track("user", "before")
            assert client.flush(60)
            pid = os.fork()  # which closes the file
            if not pid:
                os._exit(0)
            os.waitpid(pid, 0)
            files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
            queued, _ = client.track("user", "without")
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
            assert queued and client.stats.unspooled == 1
            client.track("user", "after")
        """)
        assert {e["event"] for e in collector.events} == {"before", "without", "after"}


class TestDiskFull:
    def test_file_size_limit(self, run, collector):
        """At the limit of a file's size events are kept in memory, and all arrive."""
        script = """
            import resource
            from htlogging.htevents import Client
            client = Client("K", host=host, spool=spool)
            client.track("u", "e0")
            client.flush()
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
            for n in range(1, 200):
                client.track("u", f"e{n}", {"p": "x" * 3000})
            assert client.flush(30), client.stats
            stats = client.stats
            assert stats.unspooled, stats
            assert stats.accepted == stats.delivered == 200, stats
        """
        _, errors = run(script)
        assert "the spool cannot be used" in errors
        assert set(names(collector).values()) == {1}
        assert len(names(collector)) == 200

    def test_full_disk(self, run, collector, tmp_path):
        """On a disk without room as well; what was written before still arrives."""
        folder = tmp_path / "disk"
        folder.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=300k", "none", folder],
            check=False,
            capture_output=True,
        )
        if mounted.returncode:
            pytest.skip("a small disk cannot be mounted here")
        try:
            script = f"""
                import os
                from htlogging.htevents import Client
                path = {str(folder / "spool")!r}
                client = Client("K", host=host, spool=path, upload_interval=60)
                for n in range(200):
                    client.track("u", f"e{{n}}", {{"p": "x" * 3000}})
                assert 0 < client.stats.unspooled < 200
                assert client.flush(30), client.stats
                assert client.stats.accepted == client.stats.delivered == 200
            """
            run(script)
        finally:
            subprocess.run(["umount", folder], check=True)
        assert set(names(collector)) == {f"e{n}" for n in range(200)}

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
    def test_read_only(self, run, collector):
        """Where nothing may be written, events are kept in memory."""
        script = """
            import os, tempfile
            from htlogging._queue.spool import queue
            from htlogging.htevents import Client
            # All is imported by this: the interpreter may be root's own.
            client = Client("K", host=host)
            client.track("u", "first")
            assert client.flush(30)
            folder = tempfile.mkdtemp()
            os.chmod(folder, 0o755)
            os.setgid(65534); os.setuid(65534)
            client = Client("K", host=host, spool=f"{folder}/spool")
            client.track("u", "e0")
            assert client.flush(30), client.stats
            assert client.stats.unspooled == 1
        """
        _, errors = run(script)
        assert "the spool cannot be used (Permission denied)" in errors
        assert names(collector) == Counter(["first", "e0"])


def leave_one(path):
    """Leave an event in the spool, by a handler that is closed."""
    first = Client("KEY", host="http://127.0.0.1:1", spool=path, shutdown_timeout=0.1)
    first.track("user", "e0")
    first.shutdown()


class TestHandler:
    def test_left_by_a_closed_handler_with_another_host(self, collector, path):
        """A closed handler's events are taken over as those of a dead process are."""
        leave_one(path)
        second = Client("KEY", host=collector.url, spool=path)
        second.track("user", "e1")
        assert second.flush()
        assert sorted(e["event"] for e in collector.events) == ["e0", "e1"]
        second.shutdown()

    def test_a_process_without_events_delivers_at_its_end(self, collector, path):
        """Closing is enough to deliver what another left."""
        leave_one(path)
        second = Client("KEY", host=collector.url, spool=path)
        second.shutdown()
        assert [e["event"] for e in collector.events] == ["e0"]

    def test_delivers(self, make_handler, collector, path):
        """Events arrive as without a spool; the file is empty then."""
        handler = make_handler()
        for n in range(300):
            handler.handle(event(f"e{n}"))
        assert handler.flush(HANG)
        assert names(collector) == Counter(f"e{n}" for n in range(300))
        assert handler.stats.delivered == 300
        assert balances(handler.stats)
        assert rows(path) == []

    def test_outage(self, make_handler, collector):
        """Errors are retried until they pass: `max_retries` does not count them."""
        collector.script(
            500, Reply(429, retry_after=0), Reply(drop="before"), Reply(drop="after")
        )
        handler = make_handler(max_retries=0)
        handler.handle(event(ht_message_id="m"))
        assert handler.flush(HANG)
        assert {e["messageId"] for e in collector.events} == {"m"}
        assert handler.stats.failed == 0
        assert handler.stats.delivered == 1

    @pytest.mark.parametrize("status", [400, 401, 403, 404])
    def test_refused(self, make_handler, collector, path, status):
        """What the server refuses is a dead letter, and goes to `on_error` as ever."""
        told = []
        collector.script(status)
        handler = make_handler(on_error=lambda *given: told.append(given))
        handler.handle(event(ht_message_id="m"))
        assert handler.flush(HANG)
        ((failure, (lost,)),) = told
        assert (failure.status, lost["messageId"]) == (status, "m")
        query = "SELECT status, json_extract(body, '$.messageId') FROM dead"
        assert rows(path, query) == [(status, "m")]
        assert handler.stats.failed == 1
        assert balances(handler.stats)

    def test_bounds_hold_in_an_outage(self, make_handler, collector, path):
        """While the only sender waits for the server, old events still go."""
        told, enough = [], threading.Event()

        def note(failure, events):
            told.append((failure.message, len(events)))
            if sum(count for _, count in told) == 20:
                enough.set()

        collector.always(503)
        handler = make_handler(spool_max_age=1, upload_size=10, on_error=note)
        for n in range(20):
            handler.handle(event(f"e{n}"))
        assert enough.wait(HANG)
        assert {why for why, _ in told} == {"too old"}
        assert handler.flush(HANG)
        assert handler.stats.failed == 20
        assert balances(handler.stats)
        assert rows(path) == []

    def test_on_error_holds_up_its_own_thread(self, make_handler, collector):
        """While one thread tells what had to leave the file, another one sends."""
        handler = make_handler(thread=2)
        looking, enough = threading.Event(), threading.Event()
        look = handler.queue.maintain

        def slow_once(*, at_once=False):
            if not looking.is_set():
                looking.set()
                assert enough.wait(HANG)
            return look(at_once=at_once)

        handler.queue.maintain = slow_once
        handler.handle(event("e0"))
        try:
            assert collector.wait_for(1, HANG)
        finally:
            enough.set()

    def test_close_and_reopen(self, make_handler, collector, path, caplog):
        """What is left at `close` is told in one line, and goes after the next event."""
        collector.always(503)
        handler = make_handler()
        for n in range(5):
            handler.handle(event(f"e{n}"))
        handler.close()
        stays = [line for line in caplog.messages if "stay in" in line]
        (line,) = stays
        assert line.startswith("5 events not delivered yet to http://127.0.0.1:")
        assert len(rows(path)) == handler.stats.queued == 5
        handler.handle(event("e5"))
        handler.close()
        assert "6 events not delivered yet to http://" in caplog.text
        collector.always(None)
        handler.handle(event("e6"))
        assert handler.flush(HANG)
        # One whose answer comes after `close` may have been sent again by then.
        assert set(names(collector)) == {f"e{n}" for n in range(7)}
        stats = handler.stats
        assert (stats.accepted, stats.queued, stats.failed) == (7, 0, 0)
        assert balances(stats)

    def test_sync_mode(self, make_handler, collector, path):
        """Sent at once; what does not get through is sent later, not given up."""
        handler = make_handler(sync_mode=True)
        handler.handle(event("e0"))
        assert names(collector) == Counter(["e0"])
        collector.script(500)
        handler.handle(event("e1"))
        assert handler.stats.failed == 0
        assert handler.flush(HANG)
        assert names(collector) == Counter(["e0", "e1"])
        assert balances(handler.stats)
        assert rows(path) == []

    def test_sync_mode_refused(self, collector, path):
        """A refusal is the caller's to know, and a dead letter."""
        collector.script(400)
        client = Client("K", host=collector.url, spool=path, sync_mode=True)
        with pytest.raises(DeliveryError):
            client.track("u", "e")
        assert rows(path, "SELECT status FROM dead") == [400]
        client.shutdown()

    def test_send_false(self, make_handler, collector, path):
        """Nothing is written, nothing sent; what others left stays."""
        orphans(path, 1)
        handler = make_handler(send=False)
        handler.handle(event())
        assert handler.flush()
        assert len(rows(path)) == 1
        assert not collector.requests

    def test_parallel_senders(self, make_handler, collector):
        """Four threads claim from one file; each event goes once."""
        handler = make_handler(thread=4, upload_size=5)
        for n in range(200):
            handler.handle(event(f"e{n}"))
        assert handler.flush(HANG)
        assert names(collector) == Counter(f"e{n}" for n in range(200))

    def test_flush_waits_for_what_it_adopts(self, make_handler, collector, path):
        """Events of the dead are delivered when `flush` says so."""
        orphans(path, 300)
        handler = make_handler()
        assert handler.flush(HANG)
        assert len(collector.events) == 300
        assert handler.stats.delivered == handler.stats.accepted == 300
        assert rows(path) == []

    def test_flush_has_an_end(self, make_handler, collector):
        """Without a timeout `flush` takes `shutdown_timeout`: retries have no end."""
        collector.always(503)
        handler = make_handler()
        handler.handle(event())
        assert not handler.flush()
        collector.always(None)
        assert handler.flush(HANG)

    def test_events_taken_out_stop_no_sender(self, make_handler, collector, path):
        """`spool drop` in the middle of an outage: the thread goes on afterwards."""
        handler = make_handler(upload_interval=3600)
        handler.handle(event("e0"))
        registry.shared(path).write(sql, "DELETE FROM events")
        assert handler.flush(HANG)
        handler.handle(event("e1"))
        assert handler.flush(HANG)
        assert names(collector) == Counter(["e1"])
        assert handler.stats.accepted == handler.stats.delivered == 1


class TestDestinations:
    def test_another_write_key(self, make_handler):
        """Two write keys on one path, both in use, are refused: whose are the dead's?"""
        make_handler()
        with pytest.raises(InvalidSetting, match="another write_key or host"):
            make_handler(write_key="OTHER")

    def test_same_destination(self, make_handler, collector):
        """Two handlers with the same settings share a path."""
        for handler in (make_handler(), make_handler()):
            handler.handle(event())
            assert handler.flush(HANG)
        assert names(collector) == Counter(e=2)

    def test_after_close(self, make_handler, collector, caplog):
        """A path is free after `close`; one that comes back goes by memory then."""
        old = make_handler()
        old.handle(event("e0"))
        assert old.flush(HANG)
        old.close()
        make_handler(write_key="OTHER").handle(event("e1"))
        old.handle(event("e2"))
        assert old.flush(HANG)
        assert old.stats.unspooled == 1
        assert "in use in this process with another write_key" in caplog.text
        keys = {r.events[0]["event"]: r.write_key for r in collector.requests}
        assert keys["e0"] == keys["e2"] == "K"
        assert "K" not in [word.strip("()") for word in caplog.text.split()]

    def test_reconfigured(self, collector, path):
        """`dictConfig` may change the key: what was accepted before keeps its own."""
        gate = threading.Event()
        collector.always(lambda _: None if gate.wait(HANG) else 500)

        def configure(key):
            handler = {
                "()": "htlogging.HtEventsHandler",
                "write_key": key,
                "host": collector.url,
                "spool": path,
            }
            logging.config.dictConfig(
                {
                    "version": 1,
                    "handlers": {"ht": handler},
                    "loggers": {"spooled": {"handlers": ["ht"], "level": "INFO"}},
                }
            )

        log = logging.getLogger("spooled")
        for key in ("ONE", "TWO", "TWO", "ONE"):
            configure(key)
            for n in range(5):
                log.info("%s", n, extra={"ht_user_id": key})
        gate.set()
        assert collector.wait_for(20, HANG)
        log.handlers[0].flush(HANG)
        for request in collector.requests:
            assert {e["userId"] for e in request.events} == {request.write_key}
        assert len(collector.events) == 20
        log.handlers[0].close()
        del log.handlers[0]

    @pytest.mark.parametrize("busy", ["importing", "writing"])
    def test_made_while_another_thread_is(self, make_handler, collector, path, busy):
        """`dictConfig` does not wait for who may wait for logging's lock."""
        file = registry.shared(path)
        do = fork.do_whole if busy == "importing" else file.with_writing
        began, over = threading.Event(), threading.Event()

        def hold():
            began.set()
            over.wait(HANG)

        def configure():
            with logging._lock:
                record = logging.makeLogRecord({"msg": "e", "ht_user_id": "u"})
                make_handler().handle(record)

        holding = threading.Thread(target=do, args=(hold,))
        holding.start()
        began.wait(HANG)
        configuring = threading.Thread(target=configure)
        configuring.start()
        configuring.join(HANG / 2)
        made = not configuring.is_alive()
        over.set()
        holding.join(HANG)
        configuring.join(HANG)
        assert made
        assert collector.wait_for(1, HANG)


class TestProcesses:
    def test_kill(self, run, collector, path):
        """`kill -9` right after the call: the next process delivers, same id."""
        collector.always(503)
        script = """
            from htlogging.htevents import Client
            client = Client("K", host=host, spool=spool)
            for n in range(100):
                client.track("u", f"e{n}", message_id=f"m{n}")
            print("ready", flush=True)
            input()
        """
        run(script, killed_at="ready")
        collector.always(None)
        run("""
            from htlogging import HtEventsHandler
            assert HtEventsHandler(host=host, spool=spool).flush(30)
        """)
        arrived = {e["messageId"]: e["event"] for e in collector.events}
        assert arrived == {f"m{n}": f"e{n}" for n in range(100)}
        assert rows(path) == []

    def test_exit_with_a_dead_server(self, run, collector, path):
        """The process ends in time, and one line says how many stay."""
        collector.stop()
        _, errors = run("""
            from htlogging.htevents import Client
            client = Client("K", host=host, spool=spool, shutdown_timeout=0.2)
            for n in range(100):
                client.track("u", f"e{n}")
        """)
        stays = [line for line in errors.splitlines() if "stay" in line]
        assert [line.partition(" yet")[0] for line in stays] == [
            "100 events not delivered"
        ]
        assert len(rows(path)) == 100

    def test_event_at_exit(self, run, collector, path):
        """One that an atexit hook makes, with a dead server, stays as well."""
        collector.stop()
        run("""
            import atexit
            @atexit.register
            def late():
                client.track("u", "late")
            from htlogging.htevents import Client
            client = Client("K", host=host, spool=spool, shutdown_timeout=0.2)
            client.track("u", "early")
        """)
        assert len(rows(path)) == 2

    @pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit()"])
    def test_fork(self, run, collector, path, end):
        """Each delivers its own; what a child leaves the parent adopts."""
        run(f"""
            import os, sys
            from htlogging.htevents import Client
            client = Client("K", host=host, spool=spool)
            client.track("u", "e0")
            for n in range(1, 11):
                pid = os.fork()
                if pid == 0:
                    client.track("u", f"e{{n}}")
                    {end}
                assert os.waitpid(pid, 0)[1] == 0
            assert client.flush(30)
            stats = client.stats
            assert stats.accepted == stats.delivered, stats
        """)
        assert names(collector) == Counter(f"e{n}" for n in range(11))
        assert rows(path) == []

    @pytest.mark.slow
    def test_fork_under_load(self, run, collector):
        """Forks while threads write, read, configure and flush: no thread hangs."""
        out, _ = run("""
            import logging, os, sys, threading
            from htlogging import HtEventsHandler
            from htlogging.htevents import Client
            client = Client("K", host=host, spool=spool, upload_interval=0)
            client.track("u", "load")
            assert client.flush(30)  # so that all imports are done
            stop = threading.Event()
            def load():
                while not stop.is_set():
                    client.track("u", "load")
            def flush():
                while not stop.is_set():
                    client.flush(0.05)
            def configure():
                while not stop.is_set():
                    with logging._lock:
                        client.track("u", "load")
            threads = [threading.Thread(target=f) for f in (load, load, flush, configure)]
            for thread in threads:
                thread.start()
            for n in range(20):
                pid = os.fork()
                if pid == 0:
                    client.track("u", f"e{n}")
                    os._exit(0 if client.flush(30) else 9)
                status = os.waitpid(pid, 0)[1]
                if status:
                    break
            stop.set()
            for thread in threads:
                thread.join()
            print(status, client.stats.unspooled, client.flush(30))
        """)
        assert out == "0 0 True\n"
        arrived = names(collector)
        del arrived["load"]
        assert arrived == Counter(f"e{n}" for n in range(20))

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_multiprocessing(self, run, collector, method):
        """Children of each kind share the path, and deliver at their own end."""
        run(f"""
            import multiprocessing
            from htlogging.htevents import Client
            client = Client("K", host=host, spool=spool)
            def work(n):
                client.track("u", f"e{{n}}")
            if __name__ == "__main__":
                client.track("u", "e0")
                context = multiprocessing.get_context({method!r})
                jobs = [context.Process(target=work, args=(n,)) for n in range(1, 4)]
                for job in jobs:
                    job.start()
                for job in jobs:
                    job.join()
                assert client.flush(30)
        """)
        assert names(collector) == Counter(f"e{n}" for n in range(4))

    def test_living_ones_are_not_robbed(self, run, make_handler, collector, path):
        """Another process sends the dead's events alone, not those of a living one."""
        gate = threading.Event()
        collector.always(lambda _: None if gate.wait(HANG) else 500)
        handler = make_handler(timeout=HANG)
        handler.handle(event("mine"))
        assert collector.wait_for_requests(0, 0)
        run("""
            from htlogging import HtEventsHandler
            assert HtEventsHandler(host=host, spool=spool).flush(30)
        """)
        assert rows(path)
        gate.set()
        assert handler.flush(HANG)
        assert names(collector) == Counter(["mine"])

    @pytest.mark.slow
    @pytest.mark.skipif(
        not os.path.exists("/proc/self/status"), reason="no /proc to read it from"
    )
    def test_memory_is_flat(self, run, collector, path):
        """A backlog does not come into memory: a batch at a time does."""
        peaks = []
        for count in (1_000, 50_000):
            orphans(path, count, pad=b"x" * 1_000)
            registry.shared(path).reopen()
            out, _ = run("""
                from htlogging import HtEventsHandler
                handler = HtEventsHandler(host=host, spool=spool)
                assert handler.flush(50), handler.stats
                print(open("/proc/self/status").read())
            """)
            (peak,) = [x for x in out.splitlines() if x.startswith("VmHWM")]
            peaks.append(int(peak.split()[1]))
            collector.clear()
        assert peaks[1] < peaks[0] + 15_000
