"""
One measurement of one subject, in a process of its own; prints a line of JSON.

    python measure.py WHAT SUBJECT HOST COUNT json|orjson
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import threading
import time
import tracemalloc
import urllib.request

from sink import WARM_UP
from subjects import SUBJECTS, without_orjson

# Different events, where they are made ahead.
SOME = 100

# Events of which `queued` takes the mean.
BLOCK = 10_000


def idle(given, call, _flush, count):
    """Return what a call costs in a burst, of which the sender ships what it can."""
    return _calls(given, call, count, pause=None)


def shipping(given, call, _flush, count):
    """Return what a call costs while the sender ships the ones before."""
    return _calls(given, call, count, pause=lambda: time.sleep(0.0002))


def _calls(given, call, count, pause):
    for n in range(200):
        call(given(n))
    times = []
    clock = time.perf_counter_ns
    for n in range(count):
        item = given(n)
        begun = clock()
        call(item)
        times.append(clock() - begun)
        if pause is not None and n % 20 == 0:
            pause()
    times.sort()
    return {
        "mean": sum(times) / count / 1000,
        "p99": times[int(count * 0.99)] / 1000,
        "max": times[-1] / 1000,
    }


def throughput(given, call, flush, count):
    """Return events a second and CPU microseconds an event, until all is delivered."""
    items = _some(given)
    begun, cpu = time.perf_counter(), time.process_time()
    for n in range(count):
        call(items[n % SOME])
    flush()
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return {"events": count / seconds, "cpu": cpu / count * 1e6}


def threads(given, call, flush, count):
    """Return what eight threads get through, and the 99th percentile of their calls."""
    items = _some(given)
    each = count // 8
    times = [[] for _ in range(8)]

    def work(own):
        clock = time.perf_counter_ns
        for n in range(each):
            item = items[n % SOME]
            begun = clock()
            call(item)
            own.append(clock() - begun)

    workers = [threading.Thread(target=work, args=(own,)) for own in times]
    begun = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    flush()
    seconds = time.perf_counter() - begun
    together = sorted(t for own in times for t in own)
    return {
        "events": each * 8 / seconds,
        "p99": together[int(len(together) * 0.99)] / 1000,
    }


def _some(given):
    """
    Make what calls are given, which is not our cost.

    Not all of it: what the application has just made is in the processor's caches.
    """
    return [given(n) for n in range(SOME)]


def memory(given, call, _flush, count):
    """Return the bytes that a queued event takes; the sink has ceased to answer."""
    for n in range(5_000):
        call(given(n))
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(count):
        call(given(n))
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    _end({"bytes": used / count})


def queued(given, call, _flush, count):
    """Return a call's mean in the first and last 10,000 of this many that are queued."""
    items = _some(given)
    means = []
    for _ in range(count // BLOCK):
        begun = time.perf_counter()
        for n in range(BLOCK):
            call(items[n % SOME])
        means.append((time.perf_counter() - begun) / BLOCK * 1e6)
    _end({"first": means[0], "last": means[-1], "most": max(means)})


def _end(result):
    print(json.dumps(result), flush=True)
    os._exit(0)  # what is queued goes nowhere


def sustained(given, call, flush, seconds):
    """
    Return what gets through in this many seconds, in bursts of 10,000 that are flushed.

    And the most memory that the process has taken, MiB: in the first tenth of the time,
    and how much more after that.
    """
    begun = time.monotonic()
    count, settled = 0, 0.0
    while (passed := time.monotonic() - begun) < seconds:
        for n in range(count, count + 10_000):
            call(given(n))
        flush()
        count += 10_000
        if passed < seconds / 10:
            settled = _peak()
    return {
        "events": count / (time.monotonic() - begun),
        "millions": count / 1e6,
        "peak": settled,
        "growth": _peak() - settled,
    }


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    """Measure, and ask the sink what came."""
    what, subject, host, count, encoder = sys.argv[1:]
    if encoder == "json":
        without_orjson()
    given, call, flush = SUBJECTS[subject](host)
    for n in range(WARM_UP):
        call(given(n))
        flush()
    result = globals()[what](given, call, flush, int(count))
    flush()
    with urllib.request.urlopen(host) as answer:
        requests, size = map(int, answer.read().split())
    print(json.dumps(result | {"requests": requests, "wire": size}), flush=True)


if __name__ == "__main__":
    main()
