"""
Measure everything, and print it as ratios to events-sdk-python and to the floors.

    pip install '.[bench,fast]'
    python tests/benchmarks/run.py [--short] [--repeat N] [--picture FILE.svg]
    python tests/benchmarks/run.py --sustained MINUTES

Every measurement runs in a process of its own against a sink in another, a given number of times,
the subjects by turns (but processes that sleep come last); the tables show medians, and
in brackets the least and the most. Nothing else should run on the machine, and htlogging
should be installed, not from here: imports are measured, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
PEER = "events-sdk-python"
OURS = [
    ("logging", "json"),
    ("logging", "orjson"),
    ("facade", "json"),
    ("facade", "orjson"),
]
SPOOL = [("facade, spool", "orjson")]
PEERS = [(PEER, "json"), ("posthog", "json")]
FLOORS = [
    ("Logger.info + NullHandler", "json"),
    ("Logger.info + QueueHandler", "json"),
    ("json.dumps", "json"),
]

# Seconds after which a measurement is taken to hang, beyond those it is asked to last.
HANG = 600


@contextmanager
def sink(delay=0.0):
    """Run a sink; give its address."""
    command = [sys.executable, HERE / "sink.py", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def measure(what, subject, encoder, count, delay=0.0):
    """Return one measurement's figures; `count` is events, or seconds of `sustained`."""
    with sink(delay) as host, tempfile.TemporaryDirectory() as folder:
        command = [HERE / "measure.py", what, subject, host, str(count), encoder]
        done = subprocess.run(
            [sys.executable, *command],
            env={**os.environ, "TMPDIR": folder},
            stdout=subprocess.PIPE,
            check=True,
            timeout=HANG + count if what == "sustained" else HANG,
            text=True,
        )
    return json.loads(done.stdout)


def seconds(code):
    """Return how long a Python takes that runs this code."""
    begun = time.perf_counter()
    # From a folder without the package: the installed one is imported, compiled. Without
    # a timeout: with one, `subprocess` looks every 50 ms whether the process has ended.
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE)
    return {"ms": (time.perf_counter() - begun) * 1000}


class Table:
    """Figures by subject, and the lines that show them."""

    def __init__(self, title, columns):
        self.title = title
        self.columns = columns  # name -> (key, unit, whether more is better)
        self.rows = defaultdict(lambda: defaultdict(list))

    def add(self, name, figures):
        for key, value in figures.items():
            self.rows[name][key].append(value)

    def median(self, name, key):
        return statistics.median(self.rows[name][key])

    def cell(self, name, key, more):
        values = self.rows[name].get(key)
        if not values:
            return ""
        median = statistics.median(values)
        text = f"{median:,.{0 if median >= 100 else 1}f}"
        if len(values) > 1:
            text += f" [{min(values):,.1f} to {max(values):,.1f}]"
        if PEER in self.rows and name != PEER and key in self.rows[PEER]:
            ratio = median / self.median(PEER, key)
            text += f" **{ratio if more else 1 / ratio:,.1f}x**"
        return text

    def show(self):
        print(f"\n{self.title}\n")
        print("| |", " | ".join(self.columns), "|")
        print("|---" * (len(self.columns) + 1) + "|")
        for name in self.rows:
            cells = [self.cell(name, key, more) for key, more in self.columns.values()]
            print(f"| {name} |", " | ".join(cells), "|", flush=True)


def label(subject, encoder):
    return f"{subject}, {encoder}" if (subject, encoder) in OURS + SPOOL else subject


def take(table, what, subjects, count, repeat, delay=0.0):
    """Fill a table with a measurement of each subject, by turns."""
    for _ in range(repeat):
        for subject, encoder in subjects:
            figures = measure(what, subject, encoder, count, delay)
            figures["wire"] = figures.get("wire", 0) / count
            table.add(label(subject, encoder), figures)
    table.show()
    return table


def sustained(seconds):
    columns = {
        "events/s": ("events", True),
        "million events": ("millions", True),
        "peak MiB, first tenth": ("peak", False),
        "grown by, MiB": ("growth", False),
    }
    table = Table(f"A load of {seconds / 60:g} minutes", columns)
    for subject, encoder in (("facade", "orjson"), *SPOOL):
        figures = measure("sustained", subject, encoder, seconds)
        table.add(label(subject, encoder), figures)
    table.show()


def imports(repeat):
    codes = {
        "pass": "pass",
        "import logging.handlers, json, queue": "import logging.handlers, json, queue",
        "import requests": "import requests",
        PEER: "import hightouch.htevents",
        "import htlogging": "import htlogging",
        "from htlogging import htevents": "from htlogging import htevents",
    }
    table = Table("Import, in ms of a whole process", {"ms": ("ms", False)})
    for _ in range(repeat):
        for name, code in codes.items():
            table.add(name, seconds(code))
    table.show()


def one_event(repeat):
    table = Table("A process that tracks one event and ends", {"ms": ("ms", False)})
    ours = "from htlogging.htevents import Client; c = Client('K', host={host!r});"
    theirs = "from hightouch.htevents import Client; c = Client('K', host={host!r});"
    track = " c.track('user123', 'Order completed', {{'product_id': '123'}});"
    quick = {
        "one POST by requests": "import requests; requests.post({host!r}, json={{}})",
        "htlogging": ours + track,
        "htlogging, with flush()": ours + track + " c.flush()",
    }
    # Not by turns with the others: they sleep, and what comes after that finds a machine
    # that has cooled down.
    slow = {
        PEER: theirs + track,
        f"{PEER}, with flush()": theirs + track + " c.flush()",
    }
    with sink() as host:
        for codes in (quick, slow):
            for _ in range(repeat):
                for name, code in codes.items():
                    table.add(name, seconds(code.format(host=host)))
    table.show()


def picture(path, calls, delivered):
    """Draw what a call costs and what gets delivered."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "htlogging"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for axis, table, key, title in (
        (axes[0], calls, "mean", "a call costs, us (less is better)"),
        (axes[1], delivered, "events", "delivered, events/s (more is better)"),
    ):
        names = [name for name in table.rows if key in table.rows[name]][::-1]
        values = [table.median(name, key) for name in names]
        ours = [
            "#2a6f97" if n.startswith(("logging", "facade")) else "#b0b0b0"
            for n in names
        ]
        bars = axis.barh(names, values, color=ours)
        axis.bar_label(
            bars,
            [f"{v:,.0f}" if v > 100 else f"{v:.1f}" for v in values],
            padding=3,
            fontsize=8,
        )
        axis.set_title(title, fontsize=10)
        axis.margins(x=0.18)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--short", action="store_true", help="a tenth, once")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--picture", help="also draw this file (needs matplotlib)")
    parser.add_argument("--sustained", type=float, help="only a load of these minutes")
    options = parser.parse_args()
    if options.sustained:
        sustained(int(options.sustained * 60))
        return
    repeat = 1 if options.short else options.repeat
    part = 10 if options.short else 1
    cost = {
        "mean, us": ("mean", False),
        "p99, us": ("p99", False),
        "longest, us": ("max", False),
    }
    rate = {"events/s": ("events", True), "CPU us/event": ("cpu", False)}
    wire = {"requests": ("requests", False), "wire bytes/event": ("wire", False)}

    take(
        Table("A call, in a burst", cost),
        "idle",
        OURS + SPOOL + PEERS + FLOORS,
        20_000 // part,
        repeat,
    )
    calls = take(
        Table("A call, while the sender ships", cost),
        "shipping",
        OURS + SPOOL + PEERS + FLOORS[:2],
        20_000 // part,
        repeat,
    )
    delivered = take(
        Table("50,000 events until all are delivered", rate | wire),
        "throughput",
        OURS + SPOOL + PEERS,
        50_000 // part,
        repeat,
    )
    take(Table("5,000 events", wire), "throughput", [*OURS, (PEER, "json")], 5_000, 1)
    take(
        Table("50,000 events, 50 ms an answer", rate),
        "throughput",
        [*OURS, ("facade, 4 senders", "orjson"), (PEER, "json")],
        50_000 // part,
        1,
        0.05,
    )
    take(
        Table(
            "Eight threads", {"events/s": ("events", True), "p99, us": ("p99", False)}
        ),
        "threads",
        OURS + PEERS,
        50_000 // part,
        repeat,
    )
    size = {"bytes": ("bytes", False)}
    queued = 100_000 // part
    take(
        Table(f"Memory of a queued event, {queued:,} of them", size),
        "memory",
        [*OURS, *PEERS],
        queued,
        1,
        HANG,
    )
    million = 1_000_000 // part
    take(Table(f"{million:,} of them", size), "memory", OURS[-1:], million, 1, HANG)
    means = {
        "first 10,000": ("first", False),
        "last 10,000": ("last", False),
        "dearest 10,000": ("most", False),
    }
    take(
        Table(f"A call, us, while {million:,} events are queued", means),
        "queued",
        [*OURS, (PEER, "json")],
        million,
        1,
        HANG,
    )
    imports(repeat * 3)
    one_event(repeat * 3)
    if options.picture:
        picture(options.picture, calls, delivered)


if __name__ == "__main__":
    main()
