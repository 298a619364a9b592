"""
Track for half an hour while the collector misbehaves at random; then count.

    python tests/soak/soak.py [--minutes 30] [--processes 4] [--threads 8] [--seed N]

Exits 0 when in every process `accepted == delivered + failed`, when the collector has
every accepted event that was not given up, and no other, and when memory stayed flat.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter

from htlogging.collector import Collector, Reply
from htlogging.htevents import Client

# Events a second of each thread, on average.
RATE = 100

# Bytes that a process may have grown by after its first tenth: batches of another size,
# fragmentation. A leak of one queued event in a hundred passes it in half an hour.
GROWTH = 24 * 1024 * 1024

# Seconds that a process gets to deliver the rest once the collector is well again.
REST = 120


def resident():
    """Return the bytes that this process takes in memory."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def write(number, threads, seconds):
    """Track from several threads, and print what became of it: one process's life."""
    lost = Counter()

    def on_error(error, events):
        for event in events:
            lost[event["messageId"]] += 1

    client = Client("WRITE_KEY", timeout=2, on_error=on_error)
    counts = [0] * threads
    end = time.monotonic() + seconds
    pause = threading.Event()

    def work(thread):
        chance = random.Random(f"{number}-{thread}")
        while time.monotonic() < end:
            for _ in range(chance.randrange(1, 20)):
                queued, _ = client.track(
                    f"user-{thread}",
                    "Soaked",
                    {"text": "x" * chance.randrange(600)},
                    message_id=f"{number}.{thread}.{counts[thread]}",
                )
                counts[thread] += queued
            pause.wait(chance.random() * 20 / RATE)

    running = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for thread in running:
        thread.start()
    pause.wait(seconds / 10)
    early = resident()
    for thread in running:
        thread.join()
    late = resident()
    flushed = client.flush(REST)
    print(
        json.dumps(
            {
                "counts": counts,
                "early": early,
                "flushed": flushed,
                "late": late,
                "lost": list(lost),
                "stats": client.stats,
            }
        )
    )


def misbehave(chance):
    """Return what decides on each request's fate: one in five goes wrong."""
    bad = [
        lambda: Reply(500),
        lambda: Reply(503, retry_after="1"),
        lambda: Reply(429, retry_after="1"),
        lambda: Reply(408),
        lambda: Reply(drop="before"),
        lambda: Reply(drop="middle"),
        lambda: Reply(drop="after"),
        lambda: Reply(drop="stale"),
        lambda: Reply(delay=chance.random()),
        lambda: Reply(delay=3),  # over the timeout
        lambda: Reply(drip=0.01),
    ]
    return lambda _request: chance.choice(bad)() if chance.random() < 0.2 else None


def check(number, result, arrived):
    """Return what is wrong with a process's counts, a line each."""
    stats, lost = result["stats"], set(result["lost"])
    accepted = {
        f"{number}.{thread}.{n}"
        for thread, count in enumerate(result["counts"])
        for n in range(count)
    }
    faults = {
        "events are left": not result["flushed"] or stats["queued"],
        "counts do not add up": stats["accepted"]
        != stats["delivered"] + stats["failed"],
        "accepted is not what was queued": stats["accepted"] != len(accepted),
        "failed is not what on_error got": stats["failed"] != len(lost),
        "events are missing": accepted - arrived - lost,
        "there are unknown events": arrived - accepted,
        "memory grew": result["late"] - result["early"] > GROWTH,
    }
    return [f"process {number}: {fault}" for fault, is_so in faults.items() if is_so]


def main():
    """Run the collector and the processes, and compare their counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    parser.add_argument("--write", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write is not None:
        write(options.write, options.threads, options.minutes * 60)
        return 0
    arrived = [Counter() for _ in range(options.processes)]
    guard = threading.Lock()

    def note(request):
        with guard:
            for event in request.events if request.taken else ():
                number = int(event["messageId"].partition(".")[0])
                arrived[number][event["messageId"]] += 1

    print("seed", options.seed, flush=True)
    with Collector(keep=10, on_request=note) as collector:
        collector.always(misbehave(random.Random(options.seed)))
        command = [sys.executable, __file__, "--minutes", str(options.minutes)]
        command += ["--threads", str(options.threads), "--write"]
        env = {**os.environ, "HTEVENTS_HOST": collector.url}
        running = [
            subprocess.Popen(
                [*command, str(n)], env=env, stdout=subprocess.PIPE, text=True
            )
            for n in range(options.processes)
        ]
        threading.Event().wait(options.minutes * 60)
        collector.always(None)
        results = [json.loads(process.communicate()[0]) for process in running]
    faults = []
    for number, result in enumerate(results):
        twice = sum(count > 1 for count in arrived[number].values())
        growth = (result["late"] - result["early"]) / 2**20
        print(number, result["stats"], f"{twice} twice, grew by {growth:.1f} MiB")
        faults += check(number, result, set(arrived[number]))
    print("\n".join(faults) or "all events are accounted for")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
