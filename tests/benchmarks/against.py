"""
Compare this checkout with another one: calls, imports and whole processes.

    git worktree add --detach ../before COMMIT
    pip install orjson requests python-json-logger
    python tests/benchmarks/against.py ../before [--rounds N] [--only calls|processes]

Each measurement runs in a process of its own, of both checkouts by turns, a given number of times.
The figures are CPU time: of the calling thread for a call, of the whole process for an
import and for a process. So other programs on the machine disturb them little. A row has
the least of all rounds, which nothing has disturbed, and the median. The last column is
how much longer this checkout takes. Both are compiled first.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from run import sink
from subjects import ROOM, properties

HERE = Path(__file__).parent
HANG = 120  # seconds: the guard, not a measurement

# Calls of which the time is taken together, and how often that is done in a process.
BLOCK, BLOCKS = 500, 40

IMPORT = "from htlogging import htevents"
SETTINGS = "htevents.write_key = 'K'; htevents.host = {host!r}"
TRACK = "htevents.track('user123', 'Order completed', {{'product_id': '123'}})"

PROCESSES = {
    "pass": "pass",
    "import htlogging": "import htlogging",
    IMPORT: IMPORT,
    "one event": f"{IMPORT}; {SETTINGS}; {TRACK}",
    "one event, flush()": f"{IMPORT}; {SETTINGS}; {TRACK}; htevents.flush()",
    "settings, no event": f"{IMPORT}; {SETTINGS}",
    "a handler, no event": (
        "import logging; from htlogging import HtEventsHandler; "
        "logging.getLogger('htevents').addHandler(HtEventsHandler(write_key='K'))"
    ),
}


def _events(host):
    from htlogging import HtEventsHandler

    return HtEventsHandler(write_key="K", host=host, max_queue_size=ROOM)


def _logger(name, handler):
    import logging

    log = logging.getLogger(name)
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    return log


def facade(host):
    """Return a call of the facade, whose handler alone sees the event."""
    from htlogging.htevents import Client

    client = Client("K", host=host, max_queue_size=ROOM)
    given = properties(1)
    return lambda: client.track("user-1", "Order completed", given)


def logging_2_extras(host):
    log = _logger("htevents", _events(host))
    extra = {"ht_user_id": "user-1", "product_id": "SKU-4711"}
    return lambda: log.info("Order completed", extra=extra)


def logging_11_extras(host):
    log = _logger("htevents", _events(host))
    extra = {"ht_user_id": "user-1", **properties(1)}
    return lambda: log.info("Order completed", extra=extra)


def other_record(host):
    """Return a call of a logger that has nothing to do with events."""
    import logging

    _logger("htevents", _events(host))
    log = _logger("shop", logging.NullHandler())
    return lambda: log.info("Cache filled in %d ms", 12)


def other_record_with_extra(host):
    import logging

    _logger("htevents", _events(host))
    log = _logger("shop", logging.NullHandler())
    extra = {"request_id": "5f2c", "path": "/basket"}
    return lambda: log.info("Cache filled in %d ms", 12, extra=extra)


def spool(host):
    """Return a durable call: it returns when the event is in SQLite's log."""
    from htlogging.htevents import Client

    path = os.path.join(tempfile.mkdtemp(dir=os.environ["FOLDER"]), "events.db")
    client = Client("K", host=host, spool=path, max_queue_size=ROOM)
    given = properties(1)
    return lambda: client.track("user-1", "Order completed", given)


CALLS = {
    "facade": facade,
    "logging, 2 extras": logging_2_extras,
    "logging, 11 extras": logging_11_extras,
    "another logger's record": other_record,
    "another logger's record, 2 extras": other_record_with_extra,
    "facade, spool": spool,
}


def measure_call(name):
    """Print the microseconds of a call: the least and the median of the blocks."""
    # It accepts connections and never answers: one batch is under way all the time.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        call = CALLS[name](f"http://127.0.0.1:{silent.getsockname()[1]}")
        for _ in range(200):
            call()
        clock, each = time.thread_time_ns, []
        for _ in range(BLOCKS):
            begun = clock()
            for _ in range(BLOCK):
                call()
            each.append((clock() - begun) / BLOCK / 1000)
        print(json.dumps([min(each), statistics.median(each)]), flush=True)
        os._exit(0)  # what is queued goes nowhere


def environment(checkout, folder=""):
    """Return the environment in which a checkout's package is imported."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HTEVENTS_")}
    return kept | {"PYTHONPATH": str(checkout), "NO_PROXY": "*", "FOLDER": folder}


def take_call(checkout, name):
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, "--measure", name],
            env=environment(checkout, folder),
            stdout=subprocess.PIPE,
            check=True,
            timeout=HANG,
        )
    return json.loads(done.stdout)


def take_process(checkout, code):
    """Return the CPU milliseconds of a process, twice: as `take_call` does."""
    child = os.posix_spawn(
        sys.executable, [sys.executable, "-c", code], environment(checkout)
    )
    _, status, used = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"{code!r} ended with {status}")
    return [(used.ru_utime + used.ru_stime) * 1000] * 2


def compare(title, names, checkouts, rounds, take):
    """Take each figure of both checkouts by turns, and print a table."""
    print(f"\n{title}\n\n| | before | now | more |\n|---|---|---|---|")
    for name, what in names.items():
        figures = {checkout: [] for checkout in checkouts}
        for n in range(rounds):
            for checkout in checkouts[:: 1 if n % 2 else -1]:
                figures[checkout].append(take(checkout, what))
        least = [min(low for low, _ in figures[each]) for each in checkouts]
        mid = [statistics.median(m for _, m in figures[each]) for each in checkouts]
        more = [(now / before - 1) * 100 for before, now in (least, mid)]
        cells = [f"{a:.2f}, {b:.2f}" for a, b in zip(least, mid, strict=True)]
        cells.append(f"{more[0]:+.1f} %, {more[1]:+.1f} %")
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("before", nargs="?", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--only", choices=("calls", "processes"))
    parser.add_argument("--measure", choices=CALLS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure_call(options.measure)
    if options.before is None:
        parser.error("name the checkout to compare with")
    checkouts = [options.before.resolve(), HERE.parent.parent]
    for checkout in checkouts:
        compileall.compile_dir(checkout / "htlogging", quiet=1)
    os.chdir(HERE)  # `python -c` imports from the current folder first
    if options.only != "processes":
        names = {name: name for name in CALLS}
        rounds = max(options.rounds // 4, 1)
        compare("A call, us (least, median)", names, checkouts, rounds, take_call)
    if options.only != "calls":
        with sink() as host:
            names = {name: code.format(host=host) for name, code in PROCESSES.items()}
            title = "A process, ms (least, median)"
            compare(title, names, checkouts, options.rounds, take_process)


if __name__ == "__main__":
    main()
