"""
A process forks all the time while five of its threads track, and the children track too.

Afterwards the spool's structure is sound, no child hung, nothing accepted is lost, and
nothing came twice under two ids. `python tests/soak/forks.py [SECONDS] [spool|memory]`,
ten minutes with a spool by default; a minute of it is for `.ci/run`. Half of the children
flush, a quarter end by `os._exit` at once, the rest by themselves.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from htlogging.collector import Collector
from htlogging.htevents import Client

# Seconds between two forks, and for which a child may live.
PAUSE = 0.04
HANG = 60

# Children at a time.
CHILDREN = 6


class Tracker(threading.Thread):
    """
    A thread that tracks all the time.

    Args:
        client: What it tracks with.
        number: Its own, which its events' names have.
        stop: Set when it must end.
    """

    def __init__(self, client: Client, number: int, stop: threading.Event) -> None:
        super().__init__()
        self._client = client
        self._number = number
        self._over = stop
        self.accepted: list[str] = []
        self.error: BaseException | None = None  # of which it died

    def run(self) -> None:
        """Track until the end."""
        try:
            while not self._over.is_set():
                name = f"p{self._number}-{len(self.accepted)}"
                if self._client.track("u", name)[0]:
                    self.accepted.append(name)
                self._over.wait(random.random() * 0.002)
        except BaseException as exc:
            self.error = exc
            raise


def assert_alive(trackers: list[Tracker]) -> None:
    """Assert that none has died: nothing would be hunted any more."""
    errors = [tracker.error for tracker in trackers if tracker.error is not None]
    assert not errors, f"a tracking thread died: {errors[0]!r}"


def child(client: Client, number: int, *, spooled: bool) -> None:
    """Be a child: track a little, then end in one way or another."""
    signal.alarm(HANG)  # which kills a child that hangs
    for n in range(5):
        assert client.track("u", f"c{number}-{n}")[0]
    how = number % 4
    if how in (0, 1) and not client.flush(HANG / 2):
        os._exit(3)
    if how == 2 and not spooled:
        client.flush(HANG / 2)  # memory does not outlive `os._exit`
    if how < 3:
        os._exit(0)
    client.join()
    os._exit(0)


def reap(children: dict[int, int], *, wait: bool) -> None:
    """Collect children that ended, each with status 0."""
    while children:
        pid, status = os.waitpid(-1, 0 if wait else os.WNOHANG)
        if not pid:
            return
        number = children.pop(pid)
        assert status == 0, f"child {number} ended with status {status}"


def hunt(folder: Path, seconds: float, *, spooled: bool) -> str:
    """Fork for a while; return what happened, or raise `AssertionError`."""
    path = folder / "events.spool"
    stop, children, forked = threading.Event(), {}, 0
    with Collector() as collector:
        settings = {"spool": path} if spooled else {"max_queue_size": 1_000_000}
        client = Client("K", host=collector.url, shutdown_timeout=HANG, **settings)
        client.track("u", "first")
        trackers = [Tracker(client, n, stop) for n in range(5)]
        for tracker in trackers:
            tracker.start()
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                if len(children) < CHILDREN:
                    pid = os.fork()
                    if not pid:
                        child(client, forked, spooled=spooled)
                    children[pid] = forked
                    forked += 1
                stop.wait(PAUSE)
                assert_alive(trackers)
                reap(children, wait=False)
        finally:
            stop.set()
            for tracker in trackers:
                tracker.join(HANG)
            reap(children, wait=True)
        assert_alive(trackers)
        assert not any(map(threading.Thread.is_alive, trackers)), "a thread hangs"
        assert client.flush(HANG), client.stats
        stats = client.stats
        client.join()
        # What children left by `os._exit` is for whoever looks next.
        last = Client("K", host=collector.url, shutdown_timeout=HANG, **settings)
        last.track("u", "last")
        assert last.flush(HANG), last.stats
        last.join()
        arrived = Counter(event["event"] for event in collector.events)
        ids = {event["messageId"]: event["event"] for event in collector.events}
    wanted = {
        "first",
        "last",
        *(name for tracker in trackers for name in tracker.accepted),
    }
    wanted |= {f"c{number}-{n}" for number in range(forked) for n in range(5)}
    missing = sorted(wanted - arrived.keys())
    assert not missing, f"{len(missing)} lost: {missing[:20]}; {stats}"
    assert len(ids) == len(arrived), "an event came under two ids"
    assert stats.accepted == stats.delivered + stats.failed + stats.queued, stats
    if spooled:
        check_file(path)
    twice = sum(count - 1 for count in arrived.values())
    return f"{forked} forks, {len(wanted)} events, {twice} sent twice, {stats}"


def check_file(path: Path) -> None:
    """Assert that a spool's structure is sound, and always was."""
    assert not list(path.parent.glob("*.damaged-*")), "the spool was damaged"
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("PRAGMA integrity_check").fetchone()
    assert found == "ok", found


def main() -> None:
    """Hunt for as long as was asked for."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    spooled = sys.argv[2:] != ["memory"]
    sys.setswitchinterval(1e-5)
    with tempfile.TemporaryDirectory() as folder:
        print(hunt(Path(folder), seconds, spooled=spooled))


if __name__ == "__main__":
    main()
