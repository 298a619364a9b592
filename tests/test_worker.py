"""Delivery through the handler: batches, flush, close, overflow, outages, exit."""

import asyncio
import json
import logging
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import pytest
from script_runner import HANG, python, until

from htlogging import DeliveryError, HtEventsHandler
from htlogging.collector import Collector, Reply
from htlogging.htevents import Client

# Seconds; the hang guard of whatever waits for another thread or process.

# Seconds; so long that nothing leaves by its age.
NEVER = 3600.0

# Bytes of a request's body at most, before compression.
MAX_BODY = 475_000

# A try that fails and is repeated at once.
AGAIN = Reply(503, retry_after="0")


@pytest.fixture
def attach(collector):
    """Return a function that makes a handler, and a logger of its own with it."""
    made = []

    def attach(**settings):
        given = {"write_key": "KEY", "host": collector.url, **settings}
        handler = HtEventsHandler(**given)
        log = logging.Logger(f"htevents.test{len(made)}")  # noqa: LOG001  (not kept)
        log.addHandler(handler)
        made.append((log, handler))
        return log, handler

    yield attach
    for log, handler in made:
        log.removeHandler(handler)
        handler.close()


@pytest.fixture
def gate(collector):
    """Have the collector hold its answers back until the gate is opened."""
    opened = threading.Event()
    collector.always(lambda _: opened.wait(HANG) and None)
    yield opened
    opened.set()


@pytest.fixture
def own_log(caplog):
    """Return a function: the lines that the package wrote so far."""
    caplog.set_level(logging.INFO, "htlogging")

    def lines():
        return [r.getMessage() for r in caplog.records if r.name == "htlogging"]

    return lines


def events(log, count, text=""):
    """Log this many events, numbered; `text` makes them larger."""
    for n in range(count):
        log.info("e", extra={"ht_user_id": "u", "n": n, "text": text})


def numbers(collector):
    """Return the numbers of the events that came in, request by request."""
    return [[e["properties"]["n"] for e in r.events] for r in collector.requests]


def flat(collector):
    """Return the same in one list."""
    return [n for batch in numbers(collector) for n in batch]


def balanced(handler):
    """Return the counters, after a look whether they add up."""
    stats = handler.stats
    assert stats["accepted"] == stats["delivered"] + stats["failed"] + stats["queued"]
    return stats


def refused_url():
    """Return an address where no server listens."""
    with Collector() as gone:
        return gone.url


def run(script, *args, code=0, options=()):
    """Run a script to its end, and return its standard output and error."""
    done = python(*options, "-c", script, *args)
    assert done.status == code, done.err
    return done.out, done.err


class TestBatches:
    def test_full_by_count(self, attach, collector):
        """A batch of `upload_size` events goes at once; the rest waits."""
        log, handler = attach(upload_size=10, upload_interval=NEVER)
        events(log, 25)
        assert collector.wait_for(20, HANG)
        assert [len(batch) for batch in numbers(collector)] == [10, 10]
        assert handler.flush(HANG)
        assert flat(collector) == list(range(25))

    def test_full_by_default_count(self, attach, collector):
        """Without `upload_size`, a hundred events are enough."""
        log, _ = attach(upload_interval=NEVER)
        events(log, 100)
        assert collector.wait_for(100, HANG)

    def test_full_by_bytes(self, attach, collector):
        """A batch of a request's bytes goes at once, however few its events are."""
        log, handler = attach(upload_interval=NEVER)
        events(log, 20, "x" * 30_000)
        assert collector.wait_for(15, HANG)
        assert handler.flush(HANG)
        assert flat(collector) == list(range(20))
        for request in collector.requests:
            assert len(request.body) <= MAX_BODY

    def test_bytes_are_those_before_compression(self, attach, collector):
        """A request is bounded by what it is uncompressed, and filled up to that."""
        log, handler = attach(upload_size=2_500, upload_interval=NEVER)
        events(log, 100, "é" * 5_000)
        assert handler.flush(HANG)
        sizes = [len(request.body) for request in collector.requests]
        assert max(sizes) <= MAX_BODY
        assert min(sizes[:-1]) > MAX_BODY - 11_000
        assert collector.problems == []

    def test_full_queue(self, attach, collector):
        """A queue smaller than a batch goes when it is full, rather than stay so."""
        log, _ = attach(max_queue_size=5, upload_interval=NEVER)
        events(log, 5)
        assert collector.wait_for(5, HANG)

    def test_by_age(self, attach, collector):
        """A lone event leaves by itself after `upload_interval`."""
        log, _ = attach(upload_interval=0.05)
        events(log, 1)
        assert collector.wait_for(1, HANG)

    def test_age_is_not_before_its_time(self, attach, collector):
        """Events wait for others: those that come within the interval go together."""
        log, handler = attach(upload_interval=NEVER)
        events(log, 5)
        assert not collector.wait_for(1, 0.1)
        events(log, 5)
        assert handler.flush(HANG)
        assert len(collector.requests) == 1

    def test_backlog_fills_requests(self, attach, collector, gate):
        """What has piled up leaves in requests filled up to the limit of 2,500."""
        log, handler = attach(upload_interval=0.0)
        events(log, 1)
        events(log, 5_000)
        gate.set()
        assert handler.flush(HANG)
        sizes = [len(batch) for batch in numbers(collector)]
        assert sum(sizes) == 5_001
        assert len(sizes) <= 6
        assert max(sizes) <= 2_500
        assert collector.problems == []

    def test_upload_size_bounds_requests(self, attach, collector, gate):
        """An `upload_size` that is set is the most, of a backlog too."""
        log, handler = attach(upload_size=7, upload_interval=0.0)
        events(log, 50)
        gate.set()
        assert handler.flush(HANG)
        assert max(len(batch) for batch in numbers(collector)) == 7

    def test_order_is_kept(self, attach, collector):
        """One thread's events arrive in the order in which it logged them."""
        log, handler = attach(upload_size=50)
        collector.script(AGAIN, AGAIN)
        events(log, 1_000)
        assert handler.flush(HANG)
        got = [e["properties"]["n"] for e in collector.events]
        assert got == list(range(1_000))

    def test_message_id_stays(self, attach, collector):
        """A retry sends the same events under the same ids."""
        log, handler = attach()
        collector.script(AGAIN, Reply(429, retry_after="0"), Reply(drop="after"))
        events(log, 3)
        assert handler.flush(HANG)
        ids = [[e["messageId"] for e in r.events] for r in collector.requests]
        assert len(ids) == 4
        assert all(one == ids[0] for one in ids)
        sent = [request.sent_at for request in collector.requests]
        assert sent == sorted(sent)

    def test_several_threads(self, attach, collector):
        """With `thread=4` requests go side by side, and each event once."""
        together = threading.Barrier(4)
        collector.always(lambda _: together.wait(HANG) and None)
        log, handler = attach(thread=4, upload_size=10)
        events(log, 40)
        assert handler.flush(HANG)
        assert len(collector.requests) == 4
        assert sorted(flat(collector)) == list(range(40))
        assert balanced(handler)["delivered"] == 40


class TestFlush:
    def test_nothing_to_do(self, attach):
        """With nothing to do it is `True` at once, whatever the server does."""
        _, handler = attach(host=refused_url())
        assert handler.flush() is True
        assert handler.flush(0) is True
        assert handler.flush(-1) is True

    def test_wakes_a_sender_that_fills_a_batch(self, attach, collector):
        """It does not wait for the batch to be full or old."""
        log, handler = attach(upload_interval=NEVER)
        events(log, 1)
        assert handler.flush(HANG) is True
        assert len(collector.events) == 1
        events(log, 1)
        assert handler.flush() is True
        assert len(collector.events) == 2

    def test_timeout(self, attach, collector, gate):
        """It is `False` when the time is over; the events go on."""
        log, handler = attach()
        events(log, 1)
        assert handler.flush(0) is False
        assert handler.flush(0.05) is False
        assert balanced(handler)["queued"] == 1
        gate.set()
        assert handler.flush(HANG) is True
        assert balanced(handler)["delivered"] == 1
        assert len(collector.events) == 1

    def test_given_up_is_settled(self, attach, collector):
        """Events given up are settled too: `True`."""
        log, handler = attach()
        collector.always(403)
        events(log, 3)
        assert handler.flush(HANG) is True
        assert balanced(handler)["failed"] == 3

    def test_waits_for_what_came_before_the_call(self, attach, collector, gate):
        """It waits for on_error too: whoever has flushed has seen all of it."""
        seen = []
        log, handler = attach(on_error=lambda _, lost: seen.extend(lost))
        collector.always(lambda _: gate.wait(HANG) and 403)
        events(log, 3)
        gate.set()
        assert handler.flush(HANG)
        assert len(seen) == 3

    def test_from_many_threads(self, attach, collector):
        """Threads may log and flush at the same time."""
        log, handler = attach(upload_interval=NEVER)

        def work(_):
            events(log, 20)
            return handler.flush(HANG)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(16)))
        assert len(collector.events) == 320
        assert balanced(handler)["queued"] == 0

    def test_does_not_wait_where_logging_waits(self, attach, gate):
        """With `handler.lock` held, as in `logging.shutdown`, it only sees to sending."""
        log, handler = attach(upload_interval=NEVER)
        events(log, 1)
        with handler.lock:
            assert handler.flush() is False
        gate.set()
        assert handler.flush(HANG) is True

    def test_lock_held_elsewhere_does_not_stop_events(self, attach, collector):
        """While `logging.shutdown` flushes with the lock held, others log and send."""
        log, handler = attach(upload_interval=0.0)
        with handler.lock, ThreadPoolExecutor(1) as pool:
            pool.submit(events, log, 3).result(HANG)
            assert collector.wait_for(3, HANG)
        assert handler.flush(HANG)

    def test_from_on_error(self, attach, collector):
        """On the sending thread it does not wait for itself."""
        answers = []
        log, handler = attach(on_error=lambda *_: answers.append(handler.flush()))
        collector.script(403)
        events(log, 1)
        assert handler.flush(HANG)
        assert answers == [False]


class TestClose:
    def test_flushes(self, attach, collector):
        """It delivers what is queued, and ends the threads."""
        log, handler = attach(upload_interval=NEVER, thread=2)
        before = set(threading.enumerate())
        events(log, 3)
        handler.close()
        assert len(collector.events) == 3

        def left():
            new = set(threading.enumerate()) - before
            return [t for t in new if t.name in ("htlogging-0", "htlogging-1")]

        # One that has not begun yet is not waited for; it ends as soon as it has.
        until(lambda: not left())

    def test_twice(self, attach):
        """A second one does nothing."""
        log, handler = attach()
        events(log, 1)
        handler.close()
        handler.close()
        assert balanced(handler)["delivered"] == 1

    def test_an_event_opens_it_again(self, attach, collector):
        """An event after it is accepted and delivered, as often as one likes."""
        log, handler = attach(upload_interval=NEVER)
        for n in range(1, 4):
            events(log, 1)
            handler.close()
            assert len(collector.events) == n
        events(log, 1)
        assert handler.flush(HANG)
        assert balanced(handler)["delivered"] == 4

    def test_while_others_log(self, attach, collector):
        """Whatever is accepted while it closes is delivered, by it or by a flush."""
        log, handler = attach(upload_size=10)
        with ThreadPoolExecutor(4) as pool:
            done = [pool.submit(events, log, 500) for _ in range(3)]
            for _ in range(10):
                handler.close()
            for future in done:
                future.result(HANG)
        assert handler.flush(HANG)
        assert balanced(handler)["delivered"] == 1_500
        assert len(collector.events) == 1_500

    def test_within_shutdown_timeout(self, attach, gate, own_log):
        """What is left then is counted, reported, and given to `on_error`."""
        lost = []
        log, handler = attach(
            shutdown_timeout=0.1,
            on_error=lambda exc, batch: lost.append((exc, batch)),
        )
        events(log, 3)
        handler.close()
        stats = balanced(handler)
        assert stats["failed"] == 3
        assert stats["queued"] == 0
        ((error, batch),) = lost
        assert isinstance(error, DeliveryError)
        # Or "network", where the last try fails just before the time is over.
        assert (error.status, error.code in ("shutdown", "network")) == (None, True)
        assert [e["properties"]["n"] for e in batch] == [0, 1, 2]
        assert any("3 events failed" in line for line in own_log())
        gate.set()

    def test_wakes_a_back_off(self, attach, collector):
        """A sender that waits for its next try does not keep it waiting."""
        log, handler = attach(shutdown_timeout=0.2)
        collector.always(Reply(503, retry_after="300"))
        events(log, 1)
        assert collector.wait_for_requests(1, HANG)
        handler.close()
        assert balanced(handler)["failed"] == 1

    def test_logging_shutdown(self, attach, collector):
        """`logging.shutdown` flushes and closes, with the handler's lock held."""
        log, handler = attach(upload_interval=NEVER)
        events(log, 3)
        logging.shutdown([weakref.ref(handler)])
        assert len(collector.events) == 3
        assert balanced(handler)["delivered"] == 3

    def test_logging_shutdown_with_a_sender_that_logs(self, collector):
        """A sender that logs to the same handler does not wait for that lock."""
        out, _ = run(
            """
import logging, sys
from htlogging import HtEventsHandler
handler = HtEventsHandler(write_key="K", host=sys.argv[1], upload_interval=3600)
logging.root.addHandler(handler)
logging.root.setLevel(logging.DEBUG)
for n in range(300):
    logging.info("e", extra={"ht_user_id": "u"})
logging.shutdown()
print(handler.stats["delivered"])
""",
            collector.url,
        )
        assert out == "300\n"


class TestExit:
    """What a process does when it ends by itself."""

    SCRIPT = """
import atexit, logging, sys, time
from htlogging import HtEventsHandler
from htlogging.htevents import Client
count = int(sys.argv[2])
seconds = float(sys.argv[3])
client = Client("K", host=sys.argv[1], upload_interval=3600, shutdown_timeout=seconds,
                max_retries=10_000,
                on_error=lambda exc, lost: print(exc.code, len(lost)))
for n in range(count):
    client.track("u", "e", {"n": n})
"""

    @pytest.mark.parametrize("count", [1, 99, 100, 5_000])
    def test_delivers_everything(self, collector, count):
        """A script may end right after its last event."""
        out, err = run(self.SCRIPT, collector.url, str(count), str(HANG))
        assert (out, err) == ("", "")
        got = [e["properties"]["n"] for e in collector.events]
        assert got == list(range(count))

    def test_delivers_after_an_exception(self, collector):
        """So may one that ends by an exception, or by sys.exit."""
        for end in ("raise RuntimeError", "sys.exit(1)"):
            run(self.SCRIPT + end, collector.url, "3", str(HANG), code=1)
        assert len(collector.events) == 6

    def test_delivers_what_atexit_hooks_log(self, collector):
        """An event in an atexit hook, even as the very first, is delivered."""
        hook = "\natexit.register(client.track, 'u', 'at exit', {'n': -1})"
        run(self.SCRIPT + hook, collector.url, "0", str(HANG))
        run(self.SCRIPT + hook, collector.url, "2", str(HANG))
        got = [e["properties"]["n"] for e in collector.events]
        assert sorted(got) == [-1, -1, 0, 1]

    def test_with_a_dead_server(self):
        """It ends within `shutdown_timeout`; what is lost is reported, to all."""
        # Registered before logging's own hook would be, it runs after that.
        last = "import atexit\natexit.register(print, 'the end')\n"
        out, err = run(last + self.SCRIPT, refused_url(), "3", "1")
        # Or "network", where the last try fails just before the time is over.
        assert out.replace("network", "shutdown") == "shutdown 3\nthe end\n"
        assert "3 events failed" in err
        # The latter where the machine is so busy that no try was over in time.
        assert "Connection refused" in err or "shutdown_timeout" in err

    def test_waits_for_on_error(self):
        """What a sending thread reports is not cut short, though the time is over."""
        out, _ = run(
            """if True:
            import sys, threading, time
            from htlogging.htevents import Client

            def on_error(exc, lost):
                called.set()
                time.sleep(0.1)
                print(exc.code, len(lost))

            called = threading.Event()
            client = Client("K", host=sys.argv[1], max_retries=0, upload_interval=0,
                            shutdown_timeout=0.01, on_error=on_error)
            client.track("u", "e")
            called.wait()
            """,
            refused_url(),
        )
        assert out == "network 1\n"

    def test_reports_what_on_error_logs(self):
        """It comes too late, on a sending thread, too; it is lost with a line."""
        _, err = run(
            """if True:
            import sys, threading, time
            from htlogging._process import shutdown
            from htlogging.htevents import Client

            def on_error(exc, lost):
                if not called.is_set():
                    called.set()
                    while not shutdown.is_exiting():
                        time.sleep(0.001)
                    time.sleep(0.1)
                    client.track("u", "late")

            called = threading.Event()
            client = Client("K", host=sys.argv[1], max_retries=0, upload_interval=0,
                            shutdown_timeout=0.01, on_error=on_error)
            client.track("u", "e")
            called.wait()
            """,
            refused_url(),
        )
        # The latter where the machine is so busy that the time was not over.
        assert "made by on_error at the end" in err or "shutdown_timeout" in err

    def test_with_a_silent_server(self, collector, gate):
        """So it does when the server takes a request and does not answer."""
        out, err = run(self.SCRIPT, collector.url, "3", "1")
        assert not gate.is_set()
        assert out.replace("network", "shutdown") == "shutdown 3\n"
        assert "3 events failed" in err


class TestContext:
    @pytest.mark.parametrize(
        "options",
        [
            (),
            pytest.param(
                ("-X", "thread_inherit_context=1"),
                marks=pytest.mark.skipif(
                    sys.version_info < (3, 14), reason="not before 3.14"
                ),
            ),
        ],
        ids=["default", "inherit"],
    )
    def test_is_empty(self, collector, options):
        """
        A sender has nothing of the request that started it, and keeps none alive.

        Free-threaded builds, and others by an option, give threads their maker's context.
        """
        collector.always(401)
        script = """
import contextvars, gc, sys, weakref
import htlogging
from htlogging.htevents import Client

class Request:
    pass

request = contextvars.ContextVar("request", default=None)

def serve():
    mine = Request()
    request.set(mine)
    with htlogging.bound(tenant="acme"):
        client.track("u", "first")
    return weakref.ref(mine)

def on_error(_error, events):
    print(request.get(), client.track("u", "second")[1]["properties"])

client = Client("K", host=sys.argv[1], on_error=on_error, max_retries=0)
alive = contextvars.Context().run(serve)
client.flush()
gc.collect()
print(alive())
client.join()
"""
        out, _ = run(script, collector.url, options=options)
        assert out.splitlines()[0] == "None {}"
        assert "None" in out.splitlines()[1:]
        assert "Request" not in out


class TestStats:
    def test_names(self, attach):
        """The promised counters are there, and begin at 0."""
        _, handler = attach()
        names = "accepted delivered rejected dropped failed retries queued".split()
        assert [handler.stats[name] for name in names] == [0] * 7
        assert set(handler.stats.values()) == {0}

    def test_balance_under_concurrency(self, attach, collector):
        """At every moment, and at rest, accepted is delivered + failed + queued."""
        log, handler = attach(max_queue_size=100_000, thread=2)
        collector.script(AGAIN, 403, AGAIN, Reply(413), AGAIN)
        over = threading.Event()
        watching = threading.Event()

        def watch():
            while not over.is_set():
                balanced(handler)
                watching.set()

        with ThreadPoolExecutor(9) as pool:
            watcher = pool.submit(watch)
            assert watching.wait(HANG)
            done = [pool.submit(events, log, 1_000) for _ in range(8)]
            for future in done:
                future.result(HANG)
            assert handler.flush(HANG)
            over.set()
            watcher.result(HANG)
        stats = balanced(handler)
        assert stats["accepted"] == 8_000
        assert stats["queued"] == 0
        assert stats["delivered"] == len(collector.events)
        assert stats["failed"] == 8_000 - len(collector.events) > 0
        assert stats["retries"] == 3
        assert stats["dropped"] == stats["rejected"] == 0

    def test_each_event_once(self, attach, collector):
        """Eight threads of a thousand events: each arrives, and none twice."""
        log, handler = attach()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: events(log, 1_000), range(8)))
        assert handler.flush(HANG)
        assert balanced(handler)["delivered"] == 8_000
        ids = {event["messageId"] for event in collector.events}
        assert len(ids) == len(collector.events) == 8_000

    def test_retries(self, attach, collector):
        """Each try that is repeated counts one."""
        log, handler = attach()
        collector.script(AGAIN, AGAIN)
        events(log, 1)
        assert handler.flush(HANG)
        assert balanced(handler)["retries"] == 2


class TestRetries:
    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
    def test_of_statuses(self, attach, collector, status):
        """These are tried again."""
        log, handler = attach()
        collector.script(Reply(status, retry_after="0"))
        events(log, 1)
        assert handler.flush(HANG)
        assert balanced(handler)["delivered"] == 1
        assert len(collector.requests) == 2

    @pytest.mark.parametrize("drop", ["before", "after", "stale"])
    def test_of_broken_connections(self, attach, collector, drop):
        """So are requests whose connection breaks."""
        log, handler = attach()
        collector.script(Reply(drop=drop))
        for _ in range(2):
            events(log, 1)
            assert handler.flush(HANG)
        assert balanced(handler)["delivered"] == 2

    @pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 409, 422])
    def test_not_of_refusals(self, attach, collector, status):
        """These give the batch up at once, whole."""
        log, handler = attach()
        collector.script(Reply(status, location="/"))
        events(log, 3)
        assert handler.flush(HANG)
        assert balanced(handler)["failed"] == 3
        assert len(collector.requests) == 1

    @pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
    @pytest.mark.parametrize("body", [b"", b"no json", b'{"error":"no"}'])
    def test_none_of_a_2xx(self, attach, collector, status, body):
        """A 2xx delivers, whatever it says."""
        log, handler = attach()
        collector.script(Reply(status, body=body))
        events(log, 1)
        assert handler.flush(HANG)
        assert balanced(handler)["delivered"] == 1
        assert len(collector.requests) == 1

    def test_are_at_most_max_retries(self, attach, collector):
        """After `max_retries` more tries the batch is given up."""
        lost = []
        log, handler = attach(max_retries=2, on_error=lambda *a: lost.append(a))
        collector.always(AGAIN)
        events(log, 1)
        assert handler.flush(HANG)
        assert len(collector.requests) == 3
        assert balanced(handler)["failed"] == 1
        ((error, _),) = lost
        assert (error.status, error.tries) == (503, 3)

    @pytest.mark.parametrize("status", [400, 413])
    def test_one_bad_event_costs_itself(self, attach, collector, status):
        """A 400 or 413 splits the batch, until the bad event is alone."""
        lost = []
        log, handler = attach(on_error=lambda _, batch: lost.extend(batch))
        collector.always(
            lambda r: (
                status if any(e["properties"]["n"] == 13 for e in r.events) else None
            )
        )
        events(log, 40)
        assert handler.flush(HANG)
        assert balanced(handler)["delivered"] == 39
        assert [e["properties"]["n"] for e in lost] == [13]
        got = [e["properties"]["n"] for e in collector.events]
        assert got == [n for n in range(40) if n != 13]

    def test_415_turns_compression_off(self, attach, collector):
        """A 415 is answered by the same uncompressed, and so are all later ones."""
        log, handler = attach()
        collector.always(
            lambda r: 415 if r.headers.get("Content-Encoding") == "gzip" else None
        )
        for _ in range(2):
            events(log, 1)
            assert handler.flush(HANG)
        encodings = [r.headers.get("Content-Encoding") for r in collector.requests]
        assert encodings == ["gzip", None, None]
        assert balanced(handler)["delivered"] == 2


class TestOverflow:
    def test_drop(self, attach, collector, gate, own_log):
        """A full queue refuses events: counted, and told of once."""
        log, handler = attach(max_queue_size=5)
        events(log, 12)
        stats = balanced(handler)
        assert (stats["accepted"], stats["dropped"]) == (5, 7)
        assert len([line for line in own_log() if "dropped" in line]) == 1
        gate.set()
        assert handler.flush(HANG)
        assert [e["properties"]["n"] for e in collector.events] == list(range(5))

    def test_drop_through_a_client(self, collector, gate):
        """The call says `False`, with the event, and raises nothing."""
        client = Client("KEY", host=collector.url, max_queue_size=2)
        queued = [client.track("u", "e", {"n": n}) for n in range(3)]
        assert [one[0] for one in queued] == [True, True, False]
        assert queued[2][1]["properties"] == {"n": 2}
        gate.set()
        client.shutdown()
        assert client.stats["delivered"] == 2

    def test_room_again(self, attach, gate):
        """When events have left, others are accepted."""
        log, handler = attach(max_queue_size=5)
        events(log, 6)
        gate.set()
        assert handler.flush(HANG)
        events(log, 5)
        assert handler.flush(HANG)
        assert balanced(handler)["delivered"] == 10

    def test_rest_is_told_at_the_end(self, attach, gate, own_log):
        """Losses that no line has told of are told when the handler closes."""
        log, handler = attach(max_queue_size=1)
        events(log, 4)
        gate.set()
        handler.close()
        told = [line for line in own_log() if "dropped" in line]
        assert [line.partition(":")[0] for line in told] == [
            "1 event dropped",
            "2 more events dropped",
        ]

    def test_block(self, attach, collector, gate):
        """With `overflow="block"` the caller waits for room, and nothing is lost."""
        log, handler = attach(max_queue_size=5, overflow="block")
        thread = threading.Thread(target=events, args=(log, 50))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        assert balanced(handler)["accepted"] == 5
        gate.set()
        thread.join(HANG)
        assert handler.flush(HANG)
        assert [e["properties"]["n"] for e in collector.events] == list(range(50))
        assert balanced(handler)["dropped"] == 0

    def test_block_has_an_end(self, attach, gate):
        """A caller waits for `timeout`, no longer; then the event is dropped."""
        log, handler = attach(max_queue_size=1, overflow="block", timeout=0.1)
        events(log, 2)
        assert balanced(handler)["dropped"] == 1
        assert not gate.is_set()
        gate.set()
        assert handler.flush(HANG)

    def test_block_does_not_block_an_event_loop(self, attach, gate):
        """In a running event loop a full queue drops: the loop must not stand."""
        log, handler = attach(max_queue_size=1, overflow="block", timeout=NEVER)

        async def main():
            events(log, 2)

        asyncio.run(main())
        assert balanced(handler)["dropped"] == 1
        gate.set()

    def test_block_does_not_block_trio(self, attach, gate):
        """Nor does it block trio's loop."""
        trio = pytest.importorskip("trio")
        log, handler = attach(max_queue_size=1, overflow="block", timeout=NEVER)

        async def main():
            events(log, 2)

        trio.run(main)
        assert balanced(handler)["dropped"] == 1
        gate.set()


class TestSyncMode:
    def test_sends_on_the_callers_thread(self, attach, collector):
        """An event is delivered when the call returns; there is no thread."""
        log, handler = attach(sync_mode=True)
        before = threading.active_count()
        events(log, 3)
        assert [len(batch) for batch in numbers(collector)] == [1, 1, 1]
        assert balanced(handler)["delivered"] == 3
        assert handler.flush(0)
        assert not [
            t for t in threading.enumerate()[before:] if t.name == "htlogging-0"
        ]

    def test_plain_logging_raises_nothing(self, attach, collector, capsys):
        """What fails is counted and handed to `on_error`, after one try."""
        lost = []
        log, handler = attach(
            sync_mode=True,
            on_error=lambda *a: lost.append((threading.current_thread(), *a)),
        )
        collector.script(500)
        events(log, 1)
        assert len(collector.requests) == 1
        assert balanced(handler)["failed"] == 1
        ((thread, error, batch),) = lost
        assert thread is threading.current_thread()
        assert error.status == HTTPStatus.INTERNAL_SERVER_ERROR
        assert len(batch) == 1
        assert capsys.readouterr().err == ""


class TestOnError:
    def test_arguments(self, attach, collector):
        """It is given the error and the events as they were sent, on the sender."""
        calls = []

        def on_error(exc, lost):
            calls.append((threading.current_thread(), exc, lost))

        log, handler = attach(on_error=on_error)
        body = json.dumps({"code": "bad_key", "message": "No such key."}).encode()
        collector.script(Reply(401, body=body))
        events(log, 2)
        assert handler.flush(HANG)
        ((thread, error, lost),) = calls
        assert thread is not threading.current_thread()
        assert isinstance(error, DeliveryError)
        assert (error.status, error.code) == (401, "bad_key")
        assert error.message == "No such key."
        assert lost == collector.requests[0].events

    def test_without_an_answer(self, attach):
        """A server that cannot be reached has no status."""
        errors = []
        log, handler = attach(
            host=refused_url(), max_retries=0, on_error=lambda e, _: errors.append(e)
        )
        events(log, 1)
        assert handler.flush(HANG)
        (error,) = errors
        assert (error.status, error.code) == (None, "network")
        assert error.message

    @pytest.mark.parametrize("raised", [ValueError("no"), SystemExit(3)])
    def test_that_raises_harms_nothing(self, attach, collector, own_log, raised):
        """Later events are delivered, by the same thread."""

        def on_error(exc, lost):  # noqa: ARG001
            raise raised

        log, handler = attach(on_error=on_error)
        collector.script(403)
        for _ in range(2):
            events(log, 1)
            assert handler.flush(HANG)
        stats = balanced(handler)
        assert (stats["failed"], stats["delivered"]) == (1, 1)
        assert any("on_error raised" in line for line in own_log())

    def test_that_logs_events(self, attach, collector):
        """Of what it logs on its thread only what is meant as an event is one."""

        def on_error(exc, lost):  # noqa: ARG001
            log.info("ordinary")
            events(log, 1)

        log, handler = attach(on_error=on_error)
        collector.script(403)
        events(log, 1)
        assert handler.flush(HANG)
        assert handler.flush(HANG)
        assert balanced(handler)["accepted"] == 2

    def test_is_not_called_for_a_full_queue(self, attach, gate):
        """A refused event is the caller's to see: `False`, and the counter."""
        lost = []
        log, handler = attach(max_queue_size=1, on_error=lambda *a: lost.append(a))
        events(log, 3)
        gate.set()
        assert handler.flush(HANG)
        assert balanced(handler)["dropped"] == 2
        assert lost == []


class TestOwnLog:
    def test_one_warning_per_outage(self, attach, collector, own_log):
        """An outage is a line when it begins and one when it ends."""
        log, handler = attach()
        collector.script(AGAIN, AGAIN, AGAIN, Reply(drop="after"))
        events(log, 3)
        assert handler.flush(HANG)
        begin, end = own_log()
        assert "do not get through" in begin
        assert "503" in begin
        assert "get through again" in end

    def test_losses_are_a_line_at_once(self, attach, collector, own_log):
        """The first loss is told of at once, with its cause."""
        log, handler = attach()
        collector.always(403)
        events(log, 3)
        assert handler.flush(HANG)
        (line,) = own_log()
        assert line.startswith("3 events failed")
        assert "403" in line

    def test_silence_when_all_is_well(self, attach, own_log):
        """Without losses and outages nothing is said but that the first ones arrived."""
        log, handler = attach()
        events(log, 300)
        handler.close()
        assert [line for line in own_log() if "first of this process" not in line] == []

    def test_debug_tells_of_requests(self, collector):
        """With `debug=True` stderr tells of each request, without configuration."""
        script = """
import sys
from htlogging.htevents import Client
client = Client("SECRETKEY", host=sys.argv[1], debug=True)
client.track("u", "e", {"email": "a@example.com"})
client.shutdown()
"""
        _, err = run(script, collector.url)
        assert "200" in err
        assert "SECRETKEY" not in err
        assert "example.com" not in err

    def test_no_line_holds_the_key(self):
        """Neither a log line of any library, nor an error, nor a repr holds the key."""
        script = """
import base64, io, logging, sys
from htlogging import HtEventsHandler
from htlogging.collector import Collector, Reply
from htlogging.htevents import Client
KEY = "SECRETKEY"
stream = io.StringIO()
logging.basicConfig(level=logging.DEBUG, stream=stream)
said = []
with Collector() as collector:
    echo = f'{{"code":"{KEY}","message":"{KEY} is bad"}}'.encode()
    for sync_mode in (False, True):
        client = Client(
            KEY, host=collector.url, debug=True, sync_mode=sync_mode, max_retries=1,
            on_error=lambda exc, lost: said.extend([repr(exc), str(exc), repr(lost)]),
        )
        for reply in (200, 401, Reply(403, body=echo), Reply(drop="before"), 500):
            collector.script(reply)
            try:
                client.track("u", "e")
            except Exception as exc:
                said += [repr(exc), str(exc), repr(exc.__cause__), repr(exc.__context__)]
            client.flush(60)
        (handler,) = client.logger.handlers
        said += [repr(client), repr(handler), repr(vars(handler)), repr(client.logger)]
        said += [repr(handler.stats), repr(handler._settings)]
        client.shutdown()
try:
    HtEventsHandler(write_key=KEY + " \\n")
except ValueError as exc:
    said += [repr(exc), str(exc)]
said.append(stream.getvalue())
for form in (KEY, base64.b64encode(f"{KEY}:".encode()).decode()):
    assert not [text for text in said if form in text], form
print(len(said))
"""
        out, err = run(script)
        assert int(out) > 20
        assert "SECRETKEY" not in err
