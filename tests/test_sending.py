"""Sending threads: they survive every error, and keep nothing alive that is not used."""

import _thread
import ctypes
import gc
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref

import pytest
import requests
from interrupted import TimeLimit, raise_in
from script_runner import HANG, until

import htlogging
from htlogging import DeliveryError, HtEventsHandler
from htlogging._delivery import environment
from htlogging._delivery.outcomes import Outcomes
from htlogging._delivery.transport import HttpTransport
from htlogging._delivery.worker import Worker
from htlogging._process import shutdown
from htlogging._queue.memory import MemoryQueue
from htlogging._queue.spool import registry
from htlogging._report import Report
from htlogging._settings import Settings
from htlogging._stats import Counters
from htlogging.collector import Collector, Reply
from htlogging.htevents import Client
from htlogging.metrics import openmetrics

# Of tests that interrupt calls at many moments.
WAYS = ["memory", pytest.param("spool", marks=pytest.mark.slow)]


@pytest.fixture
def make(collector, tmp_path):
    """Return a function that makes a client of the collector."""
    made = []

    def make_client(way="memory", **settings):
        if way == "spool":
            settings["spool"] = tmp_path / f"spool{len(made)}"
        settings = {"host": collector.url, "shutdown_timeout": 0.2, **settings}
        client = Client("KEY", **settings)
        made.append(weakref.ref(client))
        return client

    yield make_client
    collector.always(None)
    for reference in made:
        client = reference()
        if client is not None:
            client.join()


def numbers(collector):
    """Return the numbers of the events that have arrived."""
    return {event["properties"]["n"] for event in list(collector.events)}


def senders():
    """Return the sending threads of this process."""
    return [t for t in threading.enumerate() if t.name == "htlogging-0"]


@pytest.mark.usefixtures("apart")
class TestLife:
    @pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, MemoryError])
    def test_raised_on_a_sending_thread(self, make, collector, raised):
        """The thread lives, or another takes its place: all is delivered by itself."""
        before = set(senders())
        client = make(upload_interval=0.0)
        raise_on = ctypes.pythonapi.PyThreadState_SetAsyncExc
        for n in range(20):
            assert client.track("user", "e", {"n": n})[0]
            for thread in filter(threading.Thread.is_alive, set(senders()) - before):
                raise_on(ctypes.c_ulong(thread.ident), ctypes.py_object(raised))
            assert client.track("user", "e", {"n": n + 100})[0]
            until(lambda n=n: {n, n + 100} <= numbers(collector))
        assert client.flush(HANG)
        stats = client.stats
        assert (stats.delivered, stats.failed, stats.queued) == (40, 0, 0)

    def test_modules_that_are_gone(self):
        """Where delivery cannot be imported it is an outage; nothing raises."""
        script = """
        import sys
        from htlogging.htevents import Client

        class Gone:
            def find_spec(self, name, path=None, target=None):
                if name.startswith(("requests", "urllib3", "htlogging._delivery")):
                    raise ModuleNotFoundError(name)

        sys.meta_path.insert(0, Gone())
        lost = []
        client = Client("K", host="http://127.0.0.1:1", shutdown_timeout=0.2,
                        on_error=lambda error, events: lost.extend(events))
        assert client.track("user", "e")[0]
        assert client.flush(0.1) is False
        client.join()
        assert (client.stats.failed, client.stats.queued, len(lost)) == (1, 0, 1)
        """
        done = subprocess.run(
            [sys.executable, "-c", "\n".join(x[8:] for x in script.splitlines())],
            capture_output=True,
            check=False,
            text=True,
            timeout=HANG,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "ModuleNotFoundError" in done.stderr


class Unreadable(MemoryQueue):
    """A queue whose events cannot be claimed now, as in a spool that cannot be read."""

    tries = 0

    def claim(self, *_):
        """Count the tries."""
        self.tries += 1


class TestWithoutThreads:
    def test_waits_for_a_queue_that_cannot_be_read(self, monkeypatch):
        """A flush looks now and then, and does not spin until its deadline."""

        def refuse(_):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        settings, queue = Settings({"write_key": "KEY"}), Unreadable(100)
        outcomes = Outcomes(settings, queue, Counters(), Report(lambda: 0.0))
        worker = Worker(settings, queue, outcomes, lambda: HttpTransport(settings))
        queue.put(b"{}")
        assert worker.flush(time.monotonic() + 1) is False
        assert 0 < queue.tries < 100


class Connecting:
    """A way to a server that takes its time to connect."""

    def __init__(self):
        self.is_asked = threading.Event()
        self.is_open = threading.Event()

    def open(self):
        """Connect."""
        self.is_asked.set()
        self.is_open.wait(HANG)

    def close(self):
        """Do nothing."""


class TestStart:
    def test_is_not_woken(self):
        """A call does not wake a thread that has not looked for events yet."""
        settings, queue = Settings({"write_key": "KEY"}), MemoryQueue(100)
        outcomes = Outcomes(settings, queue, Counters(), Report(lambda: 0.0))
        transport = Connecting()
        worker = Worker(settings, queue, outcomes, lambda: transport)
        queue.put(b"{}")
        worker.wake()
        try:
            assert transport.is_asked.wait(HANG)
            wake_at, thread = worker.wake_when
            assert queue.put(b"{}") < wake_at
            assert thread.locked()
        finally:
            worker.stop_sending()
            transport.is_open.set()

    @pytest.mark.parametrize("first", ["thread", "caller"])
    def test_ends_before_it_begins(self, make, collector, monkeypatch, first):
        """What another thread sets for the caller may hit the new thread first."""
        start, struck = _thread.start_new_thread, []

        def strike(*_):
            struck.append(True)
            raise KeyboardInterrupt

        def start_thread(function, args):
            if struck:
                return start(function, args)
            if first == "caller":
                return start(strike, (function, args))
            struck.append(True)  # it has come and gone before its caller goes on
            return 0

        monkeypatch.setattr(_thread, "start_new_thread", start_thread)
        monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
        assert make().track("user", "e", {"n": 1})[0]
        until(lambda: numbers(collector) == {1})
        assert struck

    def test_for_want_of_memory(self, make, collector, monkeypatch):
        """An event that is queued is accepted, though no thread can be started now."""
        start, failures = _thread.start_new_thread, [MemoryError, MemoryError]

        def start_thread(function, args):
            if failures:
                raise failures.pop()
            return start(function, args)

        monkeypatch.setattr(_thread, "start_new_thread", start_thread)
        assert make().track("user", "e", {"n": 1})[0]
        until(lambda: numbers(collector) == {1})
        assert not failures

    def test_thread_that_never_comes(self, make, collector, monkeypatch):
        """CPython waits for a thread that a lack of memory has ended; others come."""
        start, waiting = threading.Thread.start, []

        def start_thread(thread):
            if thread.name == "htlogging-0" and not waiting:
                waiting.append(threading.Event())
                waiting[0].wait(HANG)
            else:
                start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_thread)
        client = make()
        assert client.track("user", "e", {"n": 1})[0]
        until(lambda: waiting)
        assert client.flush(HANG)
        waiting[0].set()
        assert numbers(collector) == {1}

    def test_no_memory_on_the_new_thread(self, make, collector, monkeypatch):
        """What is raised where threads are started is waited out there."""
        start, failures = threading.Thread.start, [MemoryError, KeyboardInterrupt]

        def start_thread(thread):
            if thread.name == "htlogging-0" and failures:
                raise failures.pop()
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_thread)
        assert make().track("user", "e", {"n": 1})[0]
        until(lambda: numbers(collector) == {1})
        assert not failures

    @pytest.mark.parametrize("way", WAYS)
    def test_cut_short(self, make, collector, way):
        """An event is sent by itself though what queued it ended before it woke a thread."""
        number, cut, accepted = 0, True, set()
        while cut:
            number += 1
            client = make(way)
            end = raise_in(number, HtEventsHandler.enqueue)
            try:
                client.track("user", "e", {"n": number})
                cut = False
            except TimeLimit:
                pass
            finally:
                end()
            if client.stats.accepted:
                accepted.add(number)
        assert len(accepted) > 3
        until(lambda: numbers(collector) == accepted)


class TestIdle:
    def test_dropped_clients(self, make, collector):
        """What is not used any more goes away: threads, connections and handlers."""
        before = set(senders())
        for n in range(30):
            client = make()
            client.logger.propagate = False  # pytest keeps the records it sees
            client.track("user", "e", {"n": n})
            assert client.flush(HANG)
        handler = weakref.ref(client.logger.handlers[0])
        del client

        def gone():
            gc.collect()
            return handler() is None and not set(senders()) - before

        until(gone)
        assert numbers(collector) == set(range(30))

    def test_dropped_with_an_event(self, make, collector):
        """A client that is dropped right after its event delivers it all the same."""
        make(upload_interval=0.2).track("user", "e", {"n": 1})
        gc.collect()
        until(lambda: numbers(collector) == {1})

    def test_dropped_with_a_spool(self, make, collector, tmp_path):
        """The spool of a client that is dropped is closed."""
        client = make("spool")
        client.logger.propagate = False  # as above
        client.track("user", "e", {"n": 1})
        del client
        file = registry.shared(str(tmp_path / "spool0"))
        assert file.is_open()

        def gone():
            gc.collect()
            return not file.is_open()

        until(gone)
        assert numbers(collector) == {1}

    @pytest.mark.slow
    def test_idle_thread_ends(self, make, collector):
        """A client that is held keeps no thread for nothing, and begins again."""
        before = set(senders())
        client = make()
        client.track("user", "e", {"n": 1})
        assert client.flush(HANG)
        until(lambda: not set(senders()) - before)
        client.track("user", "e", {"n": 2})
        until(lambda: numbers(collector) == {1, 2})


def calls(client, count):
    """Return a function that makes the call of a name, and says whether all is well."""
    each = {
        "track": lambda: client.track("user", "e", {"n": next(count)})[0],
        "flush": lambda: client.flush(HANG),
        "stats": lambda: bool(client.stats),
        "join": lambda: client.join() is None,
        "metrics": lambda: bool(openmetrics() and htlogging.health()),
    }
    return lambda name: each[name]()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such timer")
@pytest.mark.usefixtures("apart")
class TestPairs:
    CALLS = ("track", "flush", "stats", "join")

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize(
        ("outer", "inner"),
        list(itertools.product(CALLS, CALLS)),
    )
    def test_within_a_signal_handler(self, make, collector, way, outer, inner):
        """Any call may be made in a signal handler that interrupts any other one."""
        client = make(way, upload_interval=0.0, shutdown_timeout=HANG)
        count = itertools.count()
        answers = []
        do = calls(client, count)
        before = signal.signal(signal.SIGALRM, lambda *_: answers.append(do(inner)))
        try:
            for n in range(60):
                do("track")
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + n * 3e-6)
                do(outer)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert all(answers)
        assert client.flush(HANG)
        assert numbers(collector) == set(range(next(count)))

    def test_flush_within_a_durable_call(self, make, collector):
        """Who writes the spool's file may be stopped: a flush meanwhile is answered."""
        client = make("spool", upload_interval=0.0)
        answers = []
        handle = lambda *_: answers.append(client.flush(HANG / 2))  # noqa: E731
        before = signal.signal(signal.SIGALRM, handle)
        try:
            for n in range(40):
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + n * 10e-6)
                client.track("user", "e", {"n": n})
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert answers
        assert all(answers)
        assert client.flush(HANG)
        assert numbers(collector) == set(range(40))


class _Interruption:
    """Makes a call at a line of packages that another call comes to, as signals do."""

    def __init__(self, line, call, *packages):
        packages = packages or (htlogging,)
        self._folders = tuple(os.path.dirname(each.__file__) for each in packages)
        self._left = line
        self._call = call

    def done(self):
        return self._left <= 0

    def during(self, call):
        """Make a call that is interrupted."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            call()
        finally:
            sys.settrace(before)

    def _trace(self, frame, event, _):
        if not frame.f_code.co_filename.startswith(self._folders):
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                self._call()
        return self._trace


@pytest.mark.usefixtures("apart", "alone")
class TestEveryLine:
    """What `TestPairs` shows at moments that chance chooses, at each line there is."""

    # And how many lines to go on: each takes milliseconds. The slow tests take them all.
    WAYS = pytest.mark.parametrize(
        "way",
        [
            ("memory", 7),
            pytest.param(("memory", 1), marks=pytest.mark.slow),
            pytest.param(("spool", 23), marks=pytest.mark.slow),
        ],
        ids=lambda way: f"{way[0]}-{way[1]}",
    )

    @pytest.fixture
    def alone(self, monkeypatch):
        """Hide the handlers that earlier tests have left: metrics are of all that live."""
        monkeypatch.setattr(shutdown, "_handlers", weakref.WeakKeyDictionary())

    @pytest.mark.parametrize("inner", ["flush", "join"])
    @pytest.mark.parametrize("outer", ["track", "flush", "stats", "join", "metrics"])
    @WAYS
    def test_delivers_at_once(self, make, collector, way, outer, inner):
        """The handler's call ends with all delivered, whatever it interrupts."""
        kind, step = way
        client = make(kind, upload_interval=0.0, shutdown_timeout=HANG)
        count = itertools.count()
        missing = []
        do = calls(client, count)

        def interrupt():
            n = next(count)
            client.track("user", "e", {"n": n})
            if client.logger.handlers[0].queue.stops_senders():
                do(inner)  # it does not wait while connections to a file are closed
            elif not do(inner) or n not in numbers(collector) or client.stats.queued:
                missing.append(n)

        for line in itertools.count(1, step):
            assert do("track")
            interruption = _Interruption(line, interrupt)
            interruption.during(lambda: do(outer))
            assert not missing, f"interrupted at line {line}"
            if not interruption.done():
                break
        assert line > 50
        assert client.flush(HANG)
        assert numbers(collector) == set(range(next(count)))
        assert client.stats.failed == 0

    # A file whose use is interrupted is not closed, but freed later.
    @pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
    @WAYS
    def test_shutdown_of_logging(self, make, collector, way):
        """`logging.shutdown` delivers in a signal handler that interrupts `log.info`."""
        kind, step = way
        client = make(kind, upload_interval=0.0, shutdown_timeout=HANG)
        log, (handler,) = client.logger, client.logger.handlers
        log.setLevel(logging.INFO)
        count = itertools.count()
        missing = []

        def say():
            log.info("e", extra={"ht_user_id": "user", "n": next(count)})

        def interrupt():
            n = next(count)
            client.track("user", "e", {"n": n})
            logging.shutdown([weakref.ref(handler)])
            # While logging's own lock is held it does not wait, and threads send the rest.
            if n not in numbers(collector) and not client.flush(HANG):
                missing.append(n)

        for line in itertools.count(1, step):
            interruption = _Interruption(line, interrupt, htlogging, logging)
            interruption.during(say)
            assert not missing, f"interrupted at line {line}"
            if not interruption.done():
                break
        assert line > 50
        assert client.flush(HANG)
        assert numbers(collector) == set(range(next(count)))
        assert client.stats.failed == 0
        gc.collect()


@pytest.mark.skipif(os.name != "posix", reason="signals")
class TestSignalToEnd:
    SCRIPT = """
import signal, sys, threading
from htlogging.htevents import Client
client = Client("KEY", host=sys.argv[3], shutdown_timeout=60, spool=sys.argv[2] or None)
count = 0
def end(*_):
    settled = client.flush(60) if sys.argv[1] == "flush" else client.join() is None
    print(settled, client.stats.queued, count, flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, end)
def poll():
    while True:
        client.stats
threading.Thread(target=poll, daemon=True).start()
while True:
    client.track("user", "e", {"n": count})
    count += 1
    client.stats
    if count % 20 == 0:
        client.flush(60)
    if count == 100:
        print("ready", flush=True)
"""

    @pytest.mark.parametrize("call", ["flush", "join"])
    @pytest.mark.parametrize("way", ["memory", "spool"])
    def test_beside_a_metrics_thread(self, collector, tmp_path, way, call):
        """A SIGTERM handler that flushes or joins, then exits, has all delivered."""
        spool = str(tmp_path / "spool") if way == "spool" else ""
        with subprocess.Popen(
            [sys.executable, "-c", self.SCRIPT, call, spool, collector.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                assert process.stdout.readline() == "ready\n"
                process.send_signal(signal.SIGTERM)
                said, _ = process.communicate(timeout=HANG)
            finally:
                process.kill()
        settled, queued, count = said.split()
        assert (settled, queued, process.returncode) == ("True", "0", 0)
        # One more may have been accepted that was not counted yet.
        assert numbers(collector) - {int(count)} == set(range(int(count)))


@pytest.mark.skipif(os.name != "posix", reason="signals")
class TestInterruptedExit:
    SCRIPT = """
import os, signal, socket, sys, threading
from htlogging.htevents import Client
silent = socket.create_server(("127.0.0.1", 0))
url = "http://127.0.0.1:%d" % silent.getsockname()[1]
def lost(error, events):
    print(error.code, len(events), flush=True)
clients = [Client(key, host=url, on_error=lost, shutdown_timeout=60) for key in "AB"]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
for client in clients:
    for _ in range(51):
        client.track("user", "e")
number = getattr(signal, sys.argv[1])
def strike(seconds=0.5):
    # While the process ends: a thread would not live to do it.
    if os.fork() == 0:
        threading.Event().wait(seconds)
        os.kill(os.getppid(), number)
        os._exit(0)
strike()
"""

    @pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
    def test_says_what_is_lost(self, name):
        """A second Ctrl+C or SIGTERM ends the exit: a line, counts and on_error."""
        done = subprocess.run(
            [sys.executable, "-c", self.SCRIPT, name],
            capture_output=True,
            check=False,
            text=True,
            timeout=HANG - 5,
        )
        assert sorted(done.stdout.split("\n")) == ["", "shutdown 51", "shutdown 51"]
        assert done.stderr.count("51 events failed") == 2


class TestPoison:
    @pytest.mark.parametrize("way", ["memory", "spool"])
    @pytest.mark.parametrize("bad", [0, 77, 199])
    def test_holds_up_no_others(self, make, collector, way, bad):
        """An event that the server fails at waits alone; later ones go as well."""
        collector.always(
            lambda r: (
                500 if any(e["properties"]["n"] == bad for e in r.events) else None
            )
        )
        client = make(way, max_retries=4)
        for n in range(200):
            client.track("user", "e", {"n": n})
        until(lambda: numbers(collector) == set(range(200)) - {bad})
        for n in range(200, 210):
            client.track("user", "e", {"n": n})
        until(lambda: numbers(collector) == set(range(210)) - {bad})

    @pytest.mark.parametrize("way", ["memory", "spool"])
    @pytest.mark.parametrize("answer", [Reply(408), Reply(drop="before")])
    def test_has_no_answer(self, make, collector, way, answer):
        """So does one for which the server, or what is before it, cuts the connection."""
        collector.always(
            lambda r: (
                answer if any(e["properties"]["n"] == 2 for e in r.events) else None
            )
        )
        client = make(way)
        for n in range(5):
            client.track("user", "e", {"n": n})
        until(lambda: numbers(collector) == {0, 1, 3, 4})

    @pytest.mark.parametrize("way", ["memory", "spool"])
    def test_outage_that_comes_then(self, make, collector, way):
        """A server that fails at all events while one is looked for is not flooded."""
        taken = []

        def answer(request):
            if taken or any(e["properties"]["n"] == 99 for e in request.events):
                return Reply(503)
            taken.append(request)
            return None

        collector.always(answer)
        client = make(way, max_retries=2)
        for n in range(200):
            client.track("user", "e", {"n": n})
        until(lambda: taken)
        client.flush(2)
        assert len(collector.requests) < 60

    def test_lone_one(self, make, collector):
        """One that is sent alone lets those go that come later."""
        collector.always(
            lambda r: 500 if any(e["properties"]["n"] == 0 for e in r.events) else None
        )
        client = make(upload_interval=0.0)
        client.track("user", "e", {"n": 0})
        assert collector.wait_for_requests(1, HANG)
        for n in range(1, 50):
            client.track("user", "e", {"n": n})
        until(lambda: numbers(collector) == set(range(1, 50)))

    def test_is_given_up_alone(self, make, collector):
        """After max_retries it is given up; on_error has it alone."""
        collector.always(
            lambda r: 500 if any(e["properties"]["n"] == 7 for e in r.events) else None
        )
        lost = []
        client = make(max_retries=2, on_error=lambda _, events: lost.extend(events))
        for n in range(100):
            client.track("user", "e", {"n": n})
        assert client.flush(HANG)
        assert [event["properties"]["n"] for event in lost] == [7]
        assert client.stats.delivered == 99

    def test_outage_is_no_poison(self, make, collector):
        """Where all is answered with 5xx, tries are as many as max_retries says."""
        collector.always(Reply(500))
        lost = []
        client = make(max_retries=2, on_error=lambda *a: lost.append(a))
        for n in range(50):
            client.track("user", "e", {"n": n})
        assert client.flush(HANG)
        assert len(collector.requests) == 3
        ((error, events),) = lost
        assert (error.tries, len(events)) == (3, 50)


class TestOnErrorThatWaits:
    @pytest.mark.slow
    def test_for_a_thread_that_flushes(self, make, collector):
        """A flush does not wait for ever for an `on_error` that waits for it."""
        done = []

        def on_error(*_):
            flusher = threading.Thread(target=lambda: done.append(client.flush()))
            flusher.start()
            flusher.join(HANG)

        client = make(on_error=on_error)
        collector.script(403)
        client.track("user", "e", {"n": 0})
        until(lambda: done)


class TestClock:
    def test_time_that_stands_still(self, make, monkeypatch):
        """Tools that stop `time.monotonic` in tests do not stop a wait."""
        with Collector() as gone:
            url = gone.url
        client = make(host=url)
        monkeypatch.setattr(time, "monotonic", lambda: 0.0)
        client.track("user", "e")
        assert client.flush(0.1) is False


PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture
def no_proxies(monkeypatch):
    """Take the environment's proxies out."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.usefixtures("no_proxies")
class TestResolution:
    @pytest.mark.htevents(send=True)
    @pytest.mark.parametrize("proxies", [None, "http://proxy.example:3128"])
    def test_that_hangs(self, make, monkeypatch, proxies):
        """A caller's thread waits for a name no longer than for an answer."""
        opened, asked = threading.Event(), []

        def getaddrinfo(name, *_, **__):
            asked.append(name)
            opened.wait(HANG)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        client = make(
            host="http://slow.example", sync_mode=True, timeout=1, proxies=proxies
        )
        try:
            with pytest.raises(DeliveryError, match="not resolved in time"):
                client.track("user", "e")
            assert client.stats.failed == 1
            assert ("proxy.example" if proxies else "slow.example") in asked
        finally:
            opened.set()

    @pytest.mark.htevents(send=True)
    def test_several_addresses(self, make, monkeypatch):
        """A caller's thread connects to all addresses of a host within `timeout`."""
        limits = []

        def send(*_, timeout, **__):
            limits.append(timeout)
            raise requests.ConnectionError

        def getaddrinfo(*_, **__):
            return [("an", "address")] * 4

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr(requests.Session, "send", send)
        client = make(host="http://four.example", sync_mode=True, timeout=8)
        with pytest.raises(DeliveryError):
            client.track("user", "e")
        [(connecting, whole)] = limits
        assert 0 < connecting * 4 <= whole <= 8

    @pytest.mark.parametrize(
        ("given", "variables", "found"),
        [
            (None, {}, ["host.example"]),
            ({"https": "http://one:3128"}, {}, ["one"]),
            ({"https": "one:3128"}, {}, ["one"]),
            ({"http": "http://one:3128"}, {}, ["host.example"]),
            (None, {"HTTPS_PROXY": "http://two:3128"}, ["two"]),
            ({"https": "http://one"}, {"HTTPS_PROXY": "http://two"}, ["one"]),
            (None, {"ALL_PROXY": "socks5h://two"}, ["two"]),
            (None, {"ALL_PROXY": "socks5://two"}, ["two", "host.example"]),
            (None, {"HTTPS_PROXY": "http://x", "NO_PROXY": "*"}, ["host.example"]),
            ({"https": "http://one", "no_proxy": ".example"}, {}, ["host.example"]),
            ({"https": "http://"}, {}, []),
        ],
    )
    def test_names(self, monkeypatch, given, variables, found):
        """What is looked up here: the host's name, or the proxy's in its place."""
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert environment.names("https://host.example/path", given) == found
