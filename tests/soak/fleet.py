"""
Chaos for the way through Redis: what Redis acknowledged arrives, or is a dead letter.

Four applications append, four relays send, the receiver fails at random; in each round one
of the applications, a relay or Redis itself is killed and started again::

    python tests/soak/fleet.py --rounds 1000
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import redis

sys.path.insert(0, str(Path(__file__).parent.parent))
from redis_server import RedisServer

from htlogging.collector import Collector, Reply

PRODUCERS = RELAYS = 4
STREAM = "htevents"

# Notes the ids of events as soon as Redis has acknowledged all of them.
PRODUCER = textwrap.dedent(
    """
    import itertools, os, sys, time
    from htlogging.htevents import Client

    url, notes, name = sys.argv[1:]
    client = Client(None, host=url, timeout=2, upload_interval=0.01)
    for turn in itertools.count():
        ids = [f"{name}-{os.getpid()}-{turn}-{n}" for n in range(20)]
        for one in ids:
            client.track("user123", "Order completed", {"turn": turn}, message_id=one)
        while not client.flush(1):
            pass
        if client.stats.failed == 0:
            with open(notes, "a") as file:
                file.write("".join(f"{one}\\n" for one in ids))
        else:
            client = Client(None, host=url, timeout=2, upload_interval=0.01)
        time.sleep(0.02)
    """
)


class Receiver:
    """A collector that fails at random, and notes the ids of what it took."""

    def __init__(self, dice):
        self._dice = dice
        # Guards the ids and the dice: connections' threads come here.
        self._lock = threading.Lock()
        self.ids = set()
        self.calm = False
        self.collector = Collector(keep=0, on_request=self._note)
        self.collector.always(self._answer)

    def _note(self, request):
        if request.taken:
            with self._lock:
                self.ids.update(event["messageId"] for event in request.events)

    def _answer(self, request):
        with self._lock:
            fault = 1.0 if self.calm else self._dice.random()
        if fault < 0.05:
            return 500
        if fault < 0.08:
            return Reply(429, retry_after=0)
        if fault < 0.10:
            return 400
        if fault < 0.14:
            return Reply(drop=("before", "middle", "after")[len(request.raw) % 3])
        return None


class Fleet:
    """The processes, each of which can be killed and started again."""

    def __init__(self, folder, receiver, server):
        self._folder, self._server = Path(folder), server
        self._host = receiver.collector.url
        self._started = 0
        self.notes = []
        self.producers = [self.producer() for _ in range(PRODUCERS)]
        self.relays = [self.relay() for _ in range(RELAYS)]

    def producer(self):
        """Start an application."""
        self._started += 1
        notes = self._folder / f"notes-{self._started}"
        notes.touch()
        self.notes.append(notes)
        name = f"p{self._started}"
        return self._popen("-c", PRODUCER, self._server.url, str(notes), name)

    def relay(self):
        """Start a relay."""
        return self._popen(
            *("-m", "htlogging", "relay", self._server.url, "--host", self._host),
            *("--take-over", "2", "--thread", "2"),
        )

    def _popen(self, *arguments):
        env = {**os.environ, "HTEVENTS_WRITE_KEY": "K", "NO_PROXY": "127.0.0.1"}
        with (self._folder / "said").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, *arguments], stderr=said, stdout=said, env=env
            )

    def harm(self, dice):
        """Kill one, and start it again."""
        kind = dice.choice(["producer", "relay", "relay", "redis"])
        if kind == "redis":
            self._server.end(signal.SIGKILL)
            time.sleep(dice.random() * 0.5)
            self._server.start()
            return
        ones = self.producers if kind == "producer" else self.relays
        place = dice.randrange(len(ones))
        ones[place].kill()
        ones[place].wait()
        ones[place] = self.producer() if kind == "producer" else self.relay()

    def end(self):
        """Kill all."""
        for one in [*self.producers, *self.relays]:
            one.kill()
            one.wait()

    def acknowledged(self):
        """Return the ids that an application noted."""
        return {
            line
            for notes in self.notes
            for line in notes.read_text().splitlines()
            # A kill may cut the last line; it has no line break then.
            if line.count("-") == 3
        }


def dead_ids(store):
    """Return the ids of dead letters."""
    letters = store.xrange(f"{STREAM}:dead")
    return {json.loads(letter[b"event"])["messageId"] for _, letter in letters}


def run(rounds, seed, seconds=300):
    """
    Do this many rounds; return how many events were acknowledged and how many are missing.

    Args:
        rounds: Kills.
        seed: Of the dice.
        seconds: How long the relays may take at the end.
    """
    dice = random.Random(seed)
    receiver = Receiver(random.Random(seed + 1))
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder) / "redis") as server,
        receiver.collector,
    ):
        fleet = Fleet(folder, receiver, server)
        try:
            for _ in range(rounds):
                time.sleep(dice.random() * 0.6)
                fleet.harm(dice)
            for one in fleet.producers:
                one.kill()
                one.wait()
            receiver.calm = True
            store = redis.Redis.from_url(server.url)
            end = time.monotonic() + seconds
            while store.xlen(STREAM) and time.monotonic() < end:
                time.sleep(0.1)
            left = store.xlen(STREAM)
            wanted = fleet.acknowledged()
            missing = wanted - receiver.ids - dead_ids(store)
            store.close()
        finally:
            fleet.end()
        said = (Path(folder) / "said").read_text(errors="replace")
    return len(wanted), sorted(missing), left, said


def main():
    """Run it, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    wanted, missing, left, said = run(arguments.rounds, arguments.seed)
    print(
        f"{wanted:,} events acknowledged by Redis, {len(missing)} missing, {left} left"
    )
    if missing or left or "Traceback" in said:
        print(said[-5000:])
        sys.exit(1)


if __name__ == "__main__":
    main()
