"""
Processes with one spool, killed at any moment, and a server that fails at random.

Every event whose call returned arrives, or is a dead letter when the server refuses it.
`tests/test_chaos.py` runs a few hundred rounds of this; here as many as are asked for::

    python tests/soak/chaos.py --rounds 10000 --seed 1
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

from htlogging.collector import Collector, Reply

# Seconds after which something is taken to hang.
HANG = 120

# Writers that live at the same time.
ALIVE = 4


def writer(seed, path, notes, url):
    """Track events until killed; note each one's id when its call has returned."""
    from htlogging.htevents import Client

    said = logging.FileHandler(f"{notes}-said")
    said.addFilter(lambda record: "the spool cannot be used" in record.msg)
    logging.getLogger("htlogging").addHandler(said)
    rng = random.Random(seed)
    client = Client(
        "WRITE_KEY",
        host=url,
        spool=path,
        spool_sync=rng.choice(["normal", "normal", "full"]),
        upload_interval=rng.choice([0.0, 0.01, 0.5]),
        upload_size=rng.choice([None, 1, 7]),
        thread=rng.choice([1, 1, 3]),
        sync_mode=rng.random() < 0.1,
        shutdown_timeout=0.05,
        timeout=1,
        # A slow disk or server would reach the default, and the oldest events would go.
        spool_max_bytes=2**40,
    )
    noted = os.open(notes, os.O_WRONLY | os.O_APPEND)
    name, n = str(seed), 0
    while True:
        refuse = rng.random() < 0.02
        size = rng.choice([0, 0, 0, 100, 20_000])
        properties = {"writer": name, "n": n, "refuse": refuse, "pad": "x" * size}
        message = f"{name}/{n}"
        with suppress(Exception):  # sync_mode tells of what is refused
            client.track("user", "e", properties, message_id=message)
        lost = client.stats.unspooled + client.stats.dropped + client.stats.rejected
        # One write: lines of several processes do not mix.
        os.write(noted, f"{message} {int(refuse)} {lost}\n".encode())
        n += 1
        dice = rng.random()
        if dice < 0.01:
            client.flush(0.02)
        elif dice < 0.015:
            client.shutdown()
        elif dice < 0.02 and name.count("-") < 2:
            forked = rng.random()
            pid = os.fork()
            if pid == 0:
                rng = random.Random(forked)
                name, n = f"{name}-{rng.randrange(10**9)}", 0
                # Dies with its parent's parent, at the latest.
            elif rng.random() < 0.5:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def nursery(path, notes, url):
    """Fork a writer for each line; the package is imported, nothing is logged yet."""
    from htlogging import htevents  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            writer(int(line), path, notes, url)
        with suppress(OSError):
            os.setpgid(pid, pid)
        print(pid, flush=True)


LAST = """
import sys
from htlogging import HtEventsHandler
handler = HtEventsHandler(
    write_key="WRITE_KEY", host=sys.argv[2], spool=sys.argv[1], spool_max_bytes=2**40
)
assert handler.flush(100), handler.stats
stats = handler.stats
assert stats.accepted == stats.delivered + stats.failed, stats
assert not stats.queued, stats
handler.close()
"""


class Chaos:
    """
    One run.

    Args:
        folder: Where the spool and the notes are.
        seed: What all but the moments of the kills follows from.
    """

    def __init__(self, folder, seed):
        self.path = str(folder / "spool")
        self.notes = folder / "notes"
        self.notes.touch()
        self.seed = seed
        self.rng = random.Random(seed)
        self.collector = Collector()
        self.collector.always(self._answer)
        self.ill = 0.3

    def _answer(self, request):
        if any(event["properties"]["refuse"] for event in request.events):
            return 400
        if self.rng.random() > self.ill:
            return None
        return self.rng.choice(
            [
                500,
                503,
                Reply(429, retry_after=0),
                Reply(drop="before"),
                Reply(drop="middle"),
                Reply(drop="after"),
                Reply(drop="stale"),
                Reply(delay=0.05),
                Reply(502, delay=0.02),
            ]
        )

    def run(self, rounds):
        """Kill this many writers, deliver what is left, and check."""
        with self.collector:
            arguments = [sys.executable, __file__, "--nursery"]
            arguments += [self.path, str(self.notes), self.collector.url]
            with subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
            ) as process:
                try:
                    self._kill(process, rounds)
                finally:
                    process.stdin.close()
                    process.kill()
            self.ill = 0.0
            last = subprocess.run(
                [sys.executable, "-c", LAST, self.path, self.collector.url],
                check=False,
                capture_output=True,
                text=True,
                timeout=HANG,
            )
            assert last.returncode == 0, last.stderr
            return self._check()

    def _kill(self, process, rounds):
        alive, names = [], itertools.count(self.seed * 1_000_000)
        try:
            for _ in range(rounds):
                while len(alive) < ALIVE:
                    process.stdin.write(f"{next(names)}\n")
                    process.stdin.flush()
                    ready, _, _ = select.select([process.stdout], [], [], HANG)
                    assert ready, "the nursery hangs"
                    alive.append(int(process.stdout.readline()))
                # The moment: a writer may be anywhere in its life.
                select.select([], [], [], self.rng.random() * 0.2)
                victim = alive.pop(self.rng.randrange(len(alive)))
                os.killpg(victim, signal.SIGKILL)
                if self.rng.random() < 0.03:
                    self.collector.stop()
                    self.collector.start()
        finally:
            for victim in alive:
                with suppress(OSError):
                    os.killpg(victim, signal.SIGKILL)

    def _check(self):
        lines = [line.split() for line in self.notes.read_text().splitlines()]
        noted = {message: refuse == "1" for message, refuse, _ in lines}
        assert len(noted) == len(lines)
        lost = [line for line in lines if line[2] != "0"]
        said = Path(f"{self.notes}-said").read_text()
        assert not lost, f"not by the spool: {lost[:3]}: {said}"
        arrived = Counter(event["messageId"] for event in self.collector.events)
        with sqlite3.connect(self.path) as connection:
            left = connection.execute("SELECT count(*) FROM events").fetchone()[0]
            letters = connection.execute(
                "SELECT json_extract(body, '$.messageId'), status, message FROM dead"
            ).fetchall()
        connection.close()
        assert not left, f"{left} are left in the spool"
        assert all(status == 400 for _, status, _ in letters), letters[:3]
        dead = {message for message, _, _ in letters}
        missing = [m for m in noted if m not in arrived and m not in dead]
        assert not missing, f"{len(missing)} were lost: {missing[:5]}"
        wrong = [m for m, refused in noted.items() if refused != (m in dead)]
        assert not wrong, f"not as the server wanted: {wrong[:5]}"
        # Whoever was killed within a call may have got that event through.
        unknown = defaultdict(set)
        for message in {*arrived, *dead} - noted.keys():
            unknown[message.rpartition("/")[0]].add(message)
        assert all(len(some) == 1 for some in unknown.values()), unknown
        problems = [problem.text for problem in self.collector.problems]
        assert all(text.startswith("always()") is False for text in problems), problems
        return len(noted), sum(arrived.values()) - len(arrived), len(dead)


def main():
    """Run what the command line asks for."""
    if sys.argv[1:2] == ["--nursery"]:
        nursery(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5_000)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    seed = options.seed or random.SystemRandom().randrange(10**6)
    done = 0
    while done < options.rounds:
        # In parts: the collector remembers all requests.
        part = min(200, options.rounds - done)
        with tempfile.TemporaryDirectory() as folder:
            try:
                events, again, dead = Chaos(Path(folder), seed).run(part)
            except BaseException:
                print(f"seed {seed}", file=sys.stderr)
                raise
        done += part
        print(
            f"seed {seed}: {done} kills, {events} events, {again} twice, {dead} dead",
            flush=True,
        )
        seed += 1


if __name__ == "__main__":
    main()
