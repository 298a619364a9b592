"""
One measurement of one subject, in a process of its own; prints a line of JSON.

    python measure.py WHAT SUBJECT HOST COUNT json|orjson
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
import tracemalloc
import urllib.request

from subjects import SUBJECTS, without_orjson


def idle(call, flush, count):
    """Return what a call costs in a burst that the sender has no time to ship."""
    return _calls(call, count, pause=None)


def shipping(call, flush, count):
    """Return what a call costs while the sender ships the ones before."""
    return _calls(call, count, pause=lambda: time.sleep(0.0002))


def _calls(call, count, pause):
    for n in range(200):
        call(n)
    times = []
    clock = time.perf_counter_ns
    for n in range(count):
        begun = clock()
        call(n)
        times.append(clock() - begun)
        if pause is not None and n % 20 == 0:
            pause()
    times.sort()
    return {
        "mean": sum(times) / count / 1000,
        "p99": times[int(count * 0.99)] / 1000,
        "max": times[-1] / 1000,
    }


def throughput(call, flush, count):
    """Return events a second and CPU microseconds an event, until all is delivered."""
    call(0)
    flush()
    begun, cpu = time.perf_counter(), time.process_time()
    for n in range(count):
        call(n)
    flush()
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return {"events": count / seconds, "cpu": cpu / count * 1e6}


def threads(call, flush, count):
    """Return what eight threads get through, and the 99th percentile of their calls."""
    each = count // 8
    times = [[] for _ in range(8)]

    def work(own):
        clock = time.perf_counter_ns
        for n in range(each):
            begun = clock()
            call(n)
            own.append(clock() - begun)

    call(0)
    flush()
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


def memory(call, flush, count):
    """Return the bytes that a queued event takes; the sink does not answer."""
    for n in range(5_000):
        call(n)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(count):
        call(n)
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    print(json.dumps({"bytes": used / count}), flush=True)
    os._exit(0)  # what is queued goes nowhere


def main():
    """Measure, and ask the sink what came."""
    what, subject, host, count, encoder = sys.argv[1:]
    if encoder == "json":
        without_orjson()
    call, flush = SUBJECTS[subject](host)
    result = globals()[what](call, flush, int(count))
    flush()
    with urllib.request.urlopen(host) as answer:
        requests, size = map(int, answer.read().split())
    print(json.dumps(result | {"requests": requests, "wire": size}), flush=True)


if __name__ == "__main__":
    main()
