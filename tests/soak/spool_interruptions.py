"""
A signal handler raises inside `track` all the time; the spool loses nothing by that.

Every event whose call returned arrives, at most the one that was cut short may arrive as
well, none comes under two ids, and the counters balance.
`python tests/soak/spool_interruptions.py [SECONDS]`, a minute by default.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from htlogging.collector import Collector
from htlogging.htevents import Client

HANG = 60


class Interrupted(Exception):
    """What the signal handler raises."""


# Holds something as long as a signal is meant for the call.
armed: list[str] = []


def handle(*_: object) -> None:
    """Raise at whatever bytecode the main thread is; not if it is late."""
    if armed:
        armed.clear()
        raise Interrupted


def hunt(folder: Path, seconds: float) -> str:
    """Interrupt for a while; return what happened, or raise `AssertionError`."""
    returned, cut, interruptions = [], [], 0
    before = signal.signal(signal.SIGALRM, handle)
    with Collector() as collector:
        client = Client("K", host=collector.url, spool=folder / "events.spool")
        client.track("u", "first")
        end, n = time.monotonic() + seconds, 0
        try:
            while time.monotonic() < end:
                name = f"e{n}"
                n += 1
                done = False
                # No `suppress`: it may be struck itself, as it ends.
                try:
                    delay = random.uniform(0.000_02, 0.000_4)
                    armed.append(name)
                    signal.setitimer(signal.ITIMER_REAL, delay)
                    try:
                        done = client.track("u", name)[0]
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except Interrupted:
                    pass
                armed.clear()
                (returned if done else cut).append(name)
                interruptions += not done
        finally:
            for _ in range(3):
                with suppress(Interrupted):
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    signal.signal(signal.SIGALRM, before)
        for m in range(1_000):
            client.track("u", f"after{m}")
            returned.append(f"after{m}")
        assert client.flush(HANG), client.stats
        stats = client.stats
        client.join()
        arrived = Counter(event["event"] for event in collector.events)
    missing = [name for name in returned if name not in arrived]
    assert not missing, f"{len(missing)} lost: {missing[:10]}; {stats}"
    assert max(arrived.values()) == 1, "an event came twice"
    assert set(arrived) <= {*returned, *cut, "first"}
    assert stats.accepted == stats.delivered + stats.failed + stats.queued, stats
    assert stats.queued == 0, stats
    return f"{interruptions} interruptions, {len(returned)} returned, {stats}"


def main() -> None:
    """Hunt for as long as was asked for."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory() as folder:
        print(hunt(Path(folder), seconds))


if __name__ == "__main__":
    main()
