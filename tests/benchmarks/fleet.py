"""
Measure the way through Redis: applications that append, Redis itself, relays that send.

    pip install '.[bench]'
    python tests/benchmarks/fleet.py [--events N] [--model measured.json]

Needs `redis-server`; it runs on a port of its own, AOF on (`appendfsync everysec`). The
receiver is a sink that looks at nothing. All processes share this machine, so a figure says
what the whole chain does here, not what one part could do alone. `--model` saves what
`fleet_model.py` computes with.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis

sys.path.insert(0, str(Path(__file__).parent.parent))
from redis_server import RedisServer

from htlogging._queue.redis.entry import fields, lines

HANG = 600  # seconds: the guard, not a measurement
PER_ENTRY = 2_000

PRODUCER = """
import sys, time
from htlogging.htevents import Client
client = Client(None, host=sys.argv[1], max_queue_size=200_000)
total = int(sys.argv[2])
client.track("user", "Warm up")
client.flush(60)
print("ready", flush=True)
sys.stdin.readline()
began = time.perf_counter()
for n in range(total):
    client.track(
        f"user-{n % 1000}",
        "Order completed",
        {"order_id": n, "currency": "GBP", "total": 15.3, "country": "United Kingdom",
         "products": [{"product_id": "85123A", "quantity": 6, "price": 2.55}]},
    )
    if n % 5000 == 4999:
        while client.stats.queued > 20_000:
            time.sleep(0.01)
called = time.perf_counter() - began
assert client.flush(600) and client.stats.failed == 0
print(called, flush=True)
"""


def event(n):
    """Return an event as the producers make it, as bytes."""
    return json.dumps(
        {
            "type": "track",
            "event": "Order completed",
            "userId": f"user-{n % 1000}",
            "anonymousId": None,
            "properties": {
                "order_id": n,
                "currency": "GBP",
                "total": 15.3,
                "country": "United Kingdom",
                "products": [{"product_id": "85123A", "quantity": 6, "price": 2.55}],
            },
            "context": {"library": {"name": "htlogging", "version": "0.1.0"}},
            "integrations": {},
            "timestamp": "2026-11-26T10:00:00.123+00:00",
            "messageId": os.urandom(16).hex(),
        },
        separators=(",", ":"),
    ).encode()


def produce(server, store, processes, total):
    """Return events/s of this many processes, together, until Redis has all."""
    store.flushall()
    each = total // processes
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PRODUCER, server.url, str(each)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    for one in running:
        assert one.stdout.readline() == "ready\n"
    began = time.perf_counter()
    for one in running:
        one.stdin.write("\n")
        one.stdin.flush()
    called = [float(one.stdout.readline()) for one in running]
    seconds = time.perf_counter() - began
    for one in running:
        one.communicate()
    return each * processes / seconds, max(called)


def fill(store, total):
    """Put this many events into the stream; return entries/s that Redis took."""
    store.flushall()
    batch = [event(n) for n in range(PER_ENTRY)]
    entry = fields(lines(batch), PER_ENTRY, compress=True)
    count = total // PER_ENTRY
    began = time.perf_counter()
    for _ in range(0, count, 50):
        pipeline = store.pipeline(transaction=False)
        for _ in range(min(50, count)):
            pipeline.xadd("htevents", entry)
        pipeline.execute()
    seconds = time.perf_counter() - began
    return count / seconds, sum(map(len, batch)) / PER_ENTRY, len(entry["events"])


def alone(store, count=2_000):
    """Return the bytes of Redis that an event takes which is an entry by itself."""
    store.flushall()
    pipeline = store.pipeline(transaction=False)
    for n in range(count):
        pipeline.xadd("htevents", fields(lines([event(n)]), 1, compress=True))
    pipeline.execute()
    return store.memory_usage("htevents", samples=0) / count


def relay(server, store, relays):
    """Return events/s of this many relays until the stream is empty, and their memory."""
    total = store.xlen("htevents") * PER_ENTRY
    sink = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("sink.py"))],
        stdout=subprocess.PIPE,
        text=True,
    )
    host = f"http://127.0.0.1:{sink.stdout.readline().strip()}"
    env = {**os.environ, "HTEVENTS_WRITE_KEY": "K"}
    command = [sys.executable, "-m", "htlogging", "relay", server.url, "--host", host]
    running = [
        subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
        for _ in range(relays)
    ]
    try:
        while store.xlen("htevents") * PER_ENTRY > total * 0.95:
            time.sleep(0.01)  # they have started
        first, began = store.xlen("htevents"), time.perf_counter()
        end = began + HANG
        while store.xlen("htevents") and time.perf_counter() < end:
            time.sleep(0.01)
        seconds = time.perf_counter() - began
        memory = max(_peak(one.pid) for one in running)
    finally:
        for one in [*running, sink]:
            one.terminate()
            one.wait()
    return first * PER_ENTRY / seconds, memory


def _peak(pid):
    """Return the most memory that a process has taken, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def main():
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    total = arguments.events
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(folder, "--appendfsync", "everysec") as server,
        redis.Redis.from_url(server.url) as store,
    ):
        found = {"producers": {}, "relays": {}}
        for processes in (1, 10, 100):
            rate, _ = produce(server, store, processes, total // 4)
            found["producers"][processes] = round(rate)
            print(f"{processes:>4} applications: {rate:>12,.0f} events/s", flush=True)
        count = sum(int(e[b"n"]) for _, e in store.xrange("htevents"))
        used = store.memory_usage("htevents", samples=0)
        found["bytes_busy"] = round(used / count, 1)
        print(f"Redis, entries of 100 applications: {used / count:.1f} bytes an event")
        found["bytes_alone"] = round(alone(store), 1)
        print(f"Redis, entries of one event: {found['bytes_alone']} bytes an event")
        entries, plain, packed = fill(store, total)
        used = store.memory_usage("htevents", samples=0)
        found["event_bytes"] = round(plain)
        found["bytes_full"] = round(used / (store.xlen("htevents") * PER_ENTRY), 1)
        found["entries"] = round(entries)
        print(f"an event is {plain:.0f} bytes; {PER_ENTRY:,} are {packed:,} packed")
        print(f"Redis, full entries: {found['bytes_full']} bytes an event")
        print(f"Redis takes {entries:,.0f} such entries/s")
        for relays in (1, 2, 4):
            if relays > 1:
                fill(store, total)
            rate, memory = relay(server, store, relays)
            found["relays"][relays] = round(rate)
            print(f"{relays:>4} relays: {rate:>12,.0f} events/s, {memory:.0f} MiB each")
    if arguments.model is not None:
        arguments.model.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
