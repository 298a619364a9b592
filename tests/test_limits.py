"""Connections are counted: the application's own files can always be opened."""

import os
import threading

import pytest
from script_runner import HANG, run

from htlogging._delivery.exchange import Answer, Unreachable
from htlogging._delivery.limits import Limit, Limited
from htlogging.collector import Reply


class Transport:
    """A transport that notes what is asked of it, and waits where it is told to."""

    def __init__(self):
        self.posted, self.closed = [], 0
        self.began, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def open(self):
        """Do nothing."""

    def body(self, events):
        """Return something."""
        return b"".join(events)

    def post(self, body, *, compress, timeout):
        """Note the time that is left."""
        self.posted.append((body, compress, timeout))
        self.began.set()
        assert self.go_on.wait(HANG)
        return Answer(200)

    def close(self):
        """Count."""
        self.closed += 1


def limited(limit, is_over=lambda: False):
    """Return a transport, and what is behind it."""
    inner = Transport()
    return Limited(inner, is_over, limit), inner


def post(transport, timeout=HANG):
    """Send something."""
    return transport.post(b"x", compress=False, timeout=timeout)


class TestLimited:
    def test_kept_while_there_are_enough(self):
        """Up to the half, connections stay open for the next request."""
        limit = Limit(lambda: 4)
        one, first = limited(limit)
        two, second = limited(limit)
        for transport in (one, two, one, two):
            assert post(transport).status == 200
        assert first.closed == second.closed == 0
        assert first.posted == [(b"x", False, HANG)] * 2

    def test_closed_beyond_the_half(self):
        """So that no thread waits for one that is idle."""
        limit = Limit(lambda: 2)
        one, first = limited(limit)
        two, second = limited(limit)
        post(one)
        post(two)
        assert (first.closed, second.closed) == (0, 1)
        post(limited(limit)[0])

    def test_waits_for_another(self):
        """Who comes when all are in use sends as soon as one is free."""
        limit = Limit(lambda: 1)
        (one, first), (two, second) = limited(limit), limited(limit)
        first.go_on.clear()
        threads = [threading.Thread(target=post, args=(one,))]
        threads[0].start()
        assert first.began.wait(HANG)
        threads.append(threading.Thread(target=post, args=(two,)))
        threads[1].start()
        assert not second.began.wait(0.05)
        first.go_on.set()
        for thread in threads:
            thread.join(HANG)
        ((_, _, left),) = second.posted
        assert 0 < left < HANG

    @pytest.mark.parametrize("over", [False, True])
    def test_not_in_time(self, over):
        """It is as if the server were away; at once, when nothing more may be sent."""
        limit = Limit(lambda: 1)
        (one, first), (two, second) = limited(limit), limited(limit, lambda: over)
        post(one)
        limit.acquire(first)  # as if in a request
        with pytest.raises(Unreachable, match="limit of open files"):
            post(two, HANG if over else 0.01)
        assert not second.posted

    def test_counted_no_more(self):
        """A transport that was closed, or dropped, makes room; so does a fork's child."""
        limit = Limit(lambda: 1)
        one, _ = limited(limit)
        two, inner = limited(limit)
        limit.acquire(one)
        one.close()
        limit.acquire(one)
        del one
        post(two)
        limit.acquire(limit)
        limit.after_fork_in_child()
        post(two)
        assert len(inner.posted) == 2


@pytest.mark.skipif(os.name != "posix", reason="descriptors as POSIX has them")
class TestDescriptors:
    def test_the_application_has_its_own(self, tmp_path, collector):
        """300 clients dropped at once, a slow server, 256 descriptors: all goes well."""
        collector.always(Reply(200, delay=0.5))
        script = """
            import os, resource, sys, threading
            from htlogging import htevents
            from htlogging.htevents import Client
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
            for n in range(300):
                Client(f"KEY{n}", host=sys.argv[1]).track("user", "e", {"n": n})
            done = threading.Event()

            def deliver():
                if htevents.flush(50):
                    print("flushed")
                done.set()

            threading.Thread(target=deliver).start()
            most = 0
            while not done.wait(0.01):
                most = max(most, len(os.listdir("/dev/fd")))
                files = [open(os.devnull) for _ in range(90)]
                for file in files:
                    file.close()
            assert most > 20  # there was something to be bounded
        """
        ended = run(tmp_path, script, collector.url)
        assert (ended.status, ended.out, ended.err) == (0, "flushed\n", "")
        assert {e["properties"]["n"] for e in collector.events} == set(range(300))
