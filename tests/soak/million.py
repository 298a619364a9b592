"""
A million events in a spool: how long each step takes, and how much memory.

::

    python tests/soak/million.py --events 1000000
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from htlogging._queue.spool import registry, schema
from htlogging.collector import Collector

BODY = b'{"type":"track","userId":"u%07d","messageId":"%036d","properties":{"p":"%s"}}'

# Run in a process of its own, for its memory.
STEPS = """
import resource, sys, time
from htlogging._report import Report
from htlogging._settings import Settings
from htlogging._queue.spool.queue import SpoolQueue
from htlogging._stats import Counters

def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def step(name, work):
    began = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - began
    print(f"{name:<34}{seconds * 1000:>12,.2f} ms{memory():>8} MB", flush=True)
    return found

settings = Settings(
    {"write_key": "K", "spool": sys.argv[1], "spool_max_bytes": 2**40}
)
counters = Counters()
queue = step(
    "make the queue",
    lambda: SpoolQueue(settings, Report(), counters, lambda *_: None),
)
step("put the first event", lambda: queue.put(b"{}"))
step("adopt all others", lambda: queue.maintain(at_once=True))
print(f"{'':<34}{queue.counts().queued:>12,} waiting")
batch = step("claim 2,500", lambda: queue.claim(2_500, 475_000))
step("settle them", lambda: queue.ack(batch))
step("put one more", lambda: queue.put(b"{}"))
step("look again", lambda: queue.maintain(at_once=True))
step("count", lambda: queue.counts())

def drain():
    while (batch := queue.claim(2_500, 475_000)) is not None:
        queue.ack(batch)
        queue.maintain()

step("claim and settle all", drain)
step("give the room back", queue.close)
"""


def fill(path, count):
    """Write events as a process did that is dead by now."""
    file = registry.shared(path)
    file.write("DELETE FROM events")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN")
    pad = b"x" * 200
    rows = ((1 << 20, n, time.time(), BODY % (n, n, pad)) for n in range(1, count + 1))
    connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
    connection.execute("COMMIT")
    connection.close()
    file.reopen()


def sizes(path):
    """Return the bytes of the spool's files."""
    return sum(os.stat(p).st_size for p in Path(path).parent.iterdir())


def main():
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    count = parser.parse_args().events
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "spool")
        fill(path, count)
        print(f"{count:,} events, schema {schema.VERSION}: {sizes(path):,} bytes")
        subprocess.run([sys.executable, "-c", STEPS, path], check=True)
        print(f"afterwards: {sizes(path):,} bytes")
        fill(path, count)
        with Collector(keep=1) as collector:
            began = time.perf_counter()
            script = (
                "import sys; from htlogging import HtEventsHandler as H;"
                "h = H(write_key='K', host=sys.argv[2], spool=sys.argv[1], spool_max_bytes=2**40);"
                "assert h.flush(600), h.stats; h.close()"
            )
            command = [sys.executable, "-c", script, path, collector.url]
            subprocess.run(command, check=True)
            seconds = time.perf_counter() - began
        print(f"over HTTP, by a new process: {count / seconds:,.0f} events/s")
        print(f"afterwards: {sizes(path):,} bytes")


if __name__ == "__main__":
    main()
