"""What a signal handler raises into a call comes out as it came."""

from __future__ import annotations

import ctypes
import dataclasses
import datetime as dt
import functools
import gc
import logging
import opcode
import os
import queue
import signal
import socket
import sys
import threading
import uuid
import warnings
from collections.abc import Mapping
from unittest.mock import Mock

import pytest
from interrupted import TimeLimit, raise_in

import htlogging
from htlogging import HtEventsFormatter, HtEventsHandler
from htlogging._event import bindings, coercion, containers, libraries, origin
from htlogging._event.bindings import BoundBlock, ScopeBlock
from htlogging._process.interruption import RAISE, by_signal, by_thread
from htlogging._queue.spool import connection_pair, location, lockfile
from htlogging.collector import Reply
from htlogging.htevents import Client

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="no timers by signals here"
)


class Handler:
    """A handler that is an object, with a method that is one."""

    def __init__(self, error):
        self.error = error

    def __call__(self, *_):
        """Raise it."""
        raise self.error

    def method(self, *_):
        """Raise it."""
        raise self.error


def handlers(error):
    """Return handlers of each kind that raise this."""

    def function(*_):
        raise error

    return {
        "function": function,
        "object": Handler(error),
        "method": Handler(error).method,
        "partial": functools.partial(function, 1),
        "mock": Mock(side_effect=error),
    }


@pytest.fixture
def alarm():
    """Return a function that sets a handler, to be called after this time; 0: not."""
    before = signal.getsignal(signal.SIGALRM)

    def set_alarm(handler, seconds):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    yield set_alarm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("apart")
class TestRequest:
    @pytest.mark.parametrize(
        "kind", ["function", "object", "method", "partial", "mock"]
    )
    @pytest.mark.parametrize("error", [TimeLimit, TimeoutError, ConnectionResetError])
    def test_time_limit(self, collector, alarm, kind, error):
        """A time limit in the middle of a request is no fault of the network."""
        client = Client("KEY", host=collector.url, sync_mode=True)
        client.track("user123", "before")
        raised = error("the application's")
        alarm(handlers(raised)[kind], 0)

        def answer(_):
            # The main thread waits for this.
            collector.always(Reply())
            signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
            return Reply(delay=30)

        collector.always(answer)
        with pytest.raises(error) as caught:
            client.track("user123", "interrupted")
        assert caught.value is raised
        client.track("user123", "after")
        assert "after" in [e["event"] for e in collector.events]
        # What was accepted is delivered, under its one id, by a thread.
        client.join()
        assert client.stats.accepted == client.stats.delivered == 3
        assert len({e["messageId"] for e in collector.events}) == 3

    def test_body_of_an_answer(self, collector, alarm):
        """Nor while an answer's body is read."""
        client = Client("KEY", host=collector.url, sync_mode=True)
        collector.script(Reply(drip=0.02, body=b" " * 1000))
        alarm(handlers(TimeLimit())["function"], 3)
        with pytest.raises(TimeLimit):
            client.track("user123", "interrupted")
        client.join()


def strike():
    """Have the signal handler run here."""
    signal.raise_signal(signal.SIGALRM)


class Text:
    """An object whose text is interrupted."""

    def __str__(self):
        """Be interrupted."""
        strike()
        return "text"

    __repr__ = __str__


class Inner(Mapping):
    """A mapping whose reading is interrupted."""

    def __iter__(self):
        """Be interrupted."""
        strike()
        return iter("a")

    def __getitem__(self, _):
        """Return a value."""
        return 1

    def __len__(self):
        """Return how many there are."""
        return 1


@dataclasses.dataclass
class Row:
    """An object with a field that is interrupted."""

    @property
    def field(self):
        """Be interrupted."""
        strike()
        return 1

    field: int

    @field.setter
    def field(self, _):
        """Take nothing."""


class Zone(dt.tzinfo):
    """A time zone that is interrupted."""

    def utcoffset(self, _):
        """Be interrupted."""
        strike()
        return dt.timedelta(hours=1)


class Id(uuid.UUID):
    """An id that is interrupted."""

    def __str__(self):
        """Be interrupted."""
        strike()
        return "id"


class Interrupted(HtEventsFormatter):
    """A formatter whose hook is interrupted."""

    def to_event(self, record):
        """Be interrupted."""
        strike()
        return super().to_event(record)


@pytest.mark.usefixtures("apart")
class TestValues:
    @pytest.mark.parametrize("error", [TimeLimit, RuntimeError, ValueError])
    @pytest.mark.parametrize(
        "given",
        [
            {"properties": {"text": Text()}},
            {"properties": {"in": [{"the": {"depth": Text()}}]}},
            {"properties": {Text(): 1}},
            {"properties": {(Text(),): 1}},
            {"properties": {"partial": functools.partial(print, Inner())}},
            {"properties": {"inner": Inner()}},
            {"properties": Inner()},
            {"properties": {"row": Row(1)}},
            {"context": Inner()},
            {"integrations": {"all": Text()}},
            {"user_id": Id(int=1)},
            {"timestamp": dt.datetime(2024, 1, 1, tzinfo=Zone())},
            {"properties": {"at": dt.datetime(2024, 1, 1, tzinfo=Zone())}},
        ],
        ids=str.split(
            "text deep key keys partial inner properties row context integrations id "
            "timestamp at"
        ),
    )
    def test_of_a_signal_handler(self, collector, alarm, given, error):
        """Amid the application's code in a value, it is no failure of that code."""
        client = Client("KEY", host=collector.url)
        raised = error("the application's")
        alarm(handlers(raised)["function"], 0)
        with pytest.raises(error) as caught:
            client.track(**{"user_id": "user123", "event": "Order", **given})
        assert caught.value is raised
        assert client.stats.accepted == client.stats.rejected == 0

    def test_in_a_formatter(self, collector, alarm):
        """Nor amid a formatter's hook."""
        client = Client("KEY", host=collector.url)
        client.logger.handlers[0].setFormatter(Interrupted())
        raised = TimeLimit()
        alarm(handlers(raised)["function"], 0)
        with pytest.raises(TimeLimit) as caught:
            client.track("user123", "Order")
        assert caught.value is raised

    def test_by_another_thread(self, collector):
        """So it is with what another thread has set."""
        client = Client("KEY", host=collector.url)
        thread = ctypes.c_ulong(threading.get_ident())

        class Struck:
            def __str__(self):
                set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
                set_exception(thread, ctypes.py_object(Told))
                return "a text"

        with pytest.raises(Told):
            client.track("user123", "Order", {"text": [Struck()]})

    def test_between(self, collector, alarm):
        """Nor between the application's code and the next, wherever it strikes."""
        client = Client("KEY", host=collector.url)
        raised = TimeLimit()
        alarm(handlers(raised)["function"], 0)
        files = {module.__file__ for module in (coercion, containers, libraries)}
        number, out = 0, True
        while out:
            number += 17  # lines: a prime number, to meet all sorts of them
            end = strike_in(files, number)
            try:
                client.track("user123", "Order", {"rows": [{1, (2, 3)}, object()]})
                out = False
            except TimeLimit as exc:
                assert exc is raised  # noqa: PT017
            finally:
                end()
        assert number > 100
        assert client.stats.accepted == 1


@pytest.mark.usefixtures("apart")
class TestSpool:
    def test_of_the_class_of_the_systems(self, collector, tmp_path, alarm):
        """A time limit that is an OSError is no trouble with the file."""
        client = Client("KEY", host=collector.url, spool=tmp_path / "spool")
        raised = TimeoutError()
        alarm(handlers(raised)["function"], 0)
        files = {module.__file__ for module in (connection_pair, location, lockfile)}
        number, out = 0, True
        while out:
            number += 7
            client.join()  # so that the file is opened again
            end = strike_in(files, number, handling=False)
            try:
                assert client.track("user123", "Order")[0]
                out = False
            except TimeoutError as exc:
                assert exc is raised  # noqa: PT017
            finally:
                end()
        assert number > 100
        client.join()
        assert client.stats.unspooled == 0
        # Connections whose opening was cut short are garbage; not in a later test.
        raised.__traceback__ = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def strike_in(files, number, *, handling=True):
    """
    Strike before this line that runs in these files; return how to end that.

    With `handling` also while an exception is handled. At the end of that CPython may keep
    it as the current one for ever: a trace function runs there, and no signal handler does.
    """
    before = sys.gettrace()

    def trace(frame, event, _):
        nonlocal number
        if frame.f_code.co_filename not in files:
            return None
        if event == "line" and (handling or sys.exc_info()[0] is None):
            number -= 1
            if number == 0:
                sys.settrace(before)
                strike()
        return trace

    sys.settrace(trace)
    return lambda: sys.settrace(before)


class Told(Exception):
    """One with a text of its own, as RQ's JobTimeoutException has."""

    def __init__(self):
        super().__init__("took too long")


@pytest.mark.usefixtures("apart")
class TestByThread:
    @pytest.mark.parametrize(
        "error", [TimeLimit, Told, TimeoutError, KeyboardInterrupt]
    )
    def test_time_limit(self, collector, error):
        """What another thread sets in the middle of a request comes out, too."""
        client = Client("KEY", host=collector.url, sync_mode=True)
        client.track("user123", "before")
        arrived, caught = threading.Event(), []

        def answer(_):
            # The caller waits for this; what is set now is raised when it has come.
            number = ctypes.c_ulong(thread.ident)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(error))
            arrived.set()
            collector.always(Reply())
            return Reply()

        def call():
            try:
                client.track("user123", "interrupted")
            except BaseException as exc:  # noqa: BLE001
                caught.append(exc)

        collector.always(answer)
        thread = threading.Thread(target=call)
        thread.start()
        thread.join(60)
        assert arrived.is_set()
        assert [type(exc) for exc in caught] == [error]
        client.track("user123", "after")
        client.join()
        stats = client.stats
        assert stats.accepted == stats.delivered == 3
        ids = {event["messageId"] for event in collector.events}
        assert len(ids) == 3

    @pytest.mark.parametrize(
        "fail",
        [
            lambda: os.stat("/nowhere/at/all"),
            lambda: int("x"),
            lambda: raise_(TimeLimit),
            lambda: raise_(TimeoutError()),
            lambda: {}["x"],
            lambda: bytes(sys.maxsize),
            lambda: next(iter(())),
            lambda: queue.SimpleQueue().get_nowait(),
            lambda: raise_in_c(TimeLimit, b"a library that is not known"),
        ],
    )
    def test_of_the_call(self, fail):
        """Another error is none of it."""
        with pytest.raises(Exception) as caught:  # noqa: PT011
            fail()
        assert by_thread([caught.value]) is None

    def test_without_ctypes(self, monkeypatch):
        """Where nothing can set one, an error of C code is none of it."""
        with pytest.raises(TimeLimit) as caught:
            raise_in_c(TimeLimit)
        assert by_thread([caught.value]) is caught.value
        monkeypatch.delitem(sys.modules, "ctypes")
        assert by_thread([caught.value]) is None

    def test_what_raise_is(self):
        """It is the instruction that the interpreter says, without `opcode`."""
        assert opcode.opmap["RAISE_VARARGS"] == RAISE

    def test_on_a_sending_thread(self, collector, monkeypatch):
        """There an error of C code is an outage, with the waits of one."""
        resolve, failed = socket.getaddrinfo, []

        def fail_once(*args, **options):
            if not failed:
                failed.append(threading.current_thread())
                raise_in_c(TimeLimit)
            return resolve(*args, **options)

        monkeypatch.setattr(socket, "getaddrinfo", fail_once)
        client = Client("KEY", host=collector.url)
        client.track("user123", "e")
        assert client.flush(60)
        assert failed != [threading.current_thread()]
        stats = client.stats
        assert (stats.delivered, stats.failed, stats.retries) == (1, 0, 1)


def raise_in_c(error, text=None):
    """Raise it as C code does: no `raise` stands where it appears."""
    kind = ctypes.py_object(error)
    if text is None:
        ctypes.pythonapi.PyErr_SetNone(kind)
    else:
        ctypes.pythonapi.PyErr_SetString(kind, text)


def raise_(error):
    """Raise it, as Python code does."""
    raise error


class TestBySignal:
    def test_of_the_network(self):
        """Another error is none of it."""
        with pytest.raises(FileNotFoundError) as caught:
            os.stat("/nowhere/at/all")
        assert by_signal([caught.value]) is None

    def test_on_another_thread(self):
        """Handlers run on the main thread alone."""
        found = []
        thread = threading.Thread(target=lambda: found.append(by_signal([OSError()])))
        thread.start()
        thread.join()
        assert found == [None]


class Striking(dict):
    """An `extra` that is interrupted when it is looked at again, once logging has it."""

    looks = 0

    def __iter__(self):
        """Count the looks."""
        self.looks += 1
        if self.looks > 1:
            signal.raise_signal(signal.SIGALRM)
        return super().__iter__()


@pytest.mark.usefixtures("apart")
class TestNoting:
    @pytest.mark.parametrize("error", [TimeLimit, RuntimeError, LookupError])
    def test_of_a_signal_handler(self, alarm, error):
        """Whatever its class, it comes out of the call that makes the record."""
        raised = error("the application's")
        alarm(handlers(raised)["function"], 0)
        extra = Striking(ht_user_id="user123")
        with pytest.raises(error) as caught:
            logging.getLogger("shop.struck").warning("Order", extra=extra)
        assert caught.value is raised
        assert extra.looks == 2

    @pytest.mark.parametrize("of", ["logger", "handler"])
    def test_in_a_filter(self, collector, alarm, of):
        """So it does of a call whose filters are the application's."""
        client = Client("KEY", host=collector.url)
        filtered = client.logger if of == "logger" else client.logger.handlers[0]
        filtered.addFilter(lambda _: signal.raise_signal(signal.SIGALRM) is None)
        raised = TimeLimit()
        alarm(handlers(raised)["function"], 0)
        with pytest.raises(TimeLimit) as caught:
            client.track("user123", "interrupted")
        assert caught.value is raised
        assert client.stats.accepted == client.stats.rejected == 0

    def test_comes_out(self, collector):
        """What is raised while a record of a call is made comes out of the call."""
        client = Client("KEY", host=collector.url)
        client.logger.addFilter(lambda _: True)  # so there is a record
        end = raise_in(1, origin.note)
        try:
            with pytest.raises(TimeLimit):
                client.track("user123", "interrupted")
        finally:
            end()

    def test_is_whole_or_not_there(self):
        """Wherever it is raised, the record can be handled."""
        handler = HtEventsHandler(send=False)
        number, cut = 0, True
        while cut:
            number += 1
            record = logging.makeLogRecord({"msg": "e", "ht_user_id": "u"})
            end = raise_in(number, origin.note)
            try:
                origin.note(record, None, "e", {"ht_user_id": "u"}, {}, explicit=True)
                cut = False
            except TimeLimit:
                pass
            finally:
                end()
            assert handler.handle(record)
        assert number > 10
        assert handler.stats.rejected == 0


class TestBlocks:
    @pytest.mark.parametrize("make", [htlogging.bound, htlogging.scope])
    @pytest.mark.parametrize("way", ["with", "function", "generator"])
    def test_leaves_nothing_bound(self, make, way):
        """Wherever a block is cut short, its fields do not stay for what comes next."""

        def use():
            if way == "with":
                with make(ht_user_id="user123"):
                    pass
            elif way == "function":
                make(ht_user_id="user123")(lambda: None)()
            else:
                list(make(ht_user_id="user123")(generate)())

        number, cut = 0, True
        while cut:
            number += 1
            end = raise_in(
                number, bindings._set, bindings._reset, BoundBlock, ScopeBlock
            )
            try:
                use()
                cut = False
            except TimeLimit:
                pass
            finally:
                end()
            assert htlogging.get() == {}
        assert number > 10


def generate():
    """Yield two values."""
    yield 1
    yield 2
