"""
A spool whose bytes are flipped, cut or taken away: nothing invalid is sent, losses are told.

In each round a process leaves events in a spool and dies, or goes on; the file, or its
log, is damaged at a random place; the next process (or the same) accepts more, and all
that can be delivered is. `python tests/soak/damage.py [ROUNDS] [SEED]`, 200 rounds by
default; a round takes half a second. The short form is in tests/test_spool_damage.py.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from htlogging.collector import Collector, Reply
from htlogging.htevents import Client

HANG = 60

LEAVE = """
    import os, signal, sys
    from htlogging.htevents import Client
    path, host, first, count = sys.argv[1:]
    client = Client("K", host=host, spool=path, upload_interval=60)
    for n in range(int(first), int(first) + int(count)):
        body = {"n": n, "pad": str(n) * (n % 60)}
        assert client.track("u", "e", body, message_id=f"m{n}")[0]
    assert client.stats.unspooled == 0, client.stats
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Lines(logging.Handler):
    """The lines of the log `htlogging`."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record.getMessage())


def damage(path: Path, rng: random.Random) -> str:
    """Damage a spool's file or log; return how."""
    wal = Path(f"{path}-wal")
    target = wal if wal.exists() and wal.stat().st_size and rng.random() < 0.5 else path
    data = bytearray(target.read_bytes())
    how = rng.choice(["flip", "flip", "cut", "take", "zero", "delete"])
    if not data:
        how = "none"
    elif how == "flip":
        for _ in range(rng.choice([1, 1, 3, 30])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del data[rng.randrange(len(data)) :]
    elif how == "take":
        start = rng.randrange(len(data))
        del data[start : start + rng.choice([1, 100, 4_096])]
    elif how == "zero":
        start = rng.randrange(len(data))
        end = min(start + rng.choice([16, 4_096]), len(data))
        data[start:end] = bytes(end - start)
    if how == "delete":
        target.unlink()
    else:
        # In place, as a disk that goes bad: a process that has it open sees it.
        with target.open("r+b") as file:
            file.write(data)
            file.truncate(len(data))
    return f"{how} {target.name}"


def check_round(folder: Path, rng: random.Random) -> str:
    """Do one round; return what was done, or raise `AssertionError`."""
    path, lines = folder / "events.spool", Lines()
    log = logging.getLogger("htlogging")
    log.addHandler(lines)
    with Collector() as collector:
        collector.always(Reply(503))
        script = textwrap.dedent(LEAVE)
        count, here = rng.choice([5, 60, 400]), 0
        command = [sys.executable, "-c", script, path, collector.url, "0", str(count)]
        subprocess.run(list(map(str, command)), check=False, timeout=HANG)
        collector.requests.clear()
        client = Client("K", host=collector.url, spool=path, shutdown_timeout=30)
        try:
            alive = rng.random() < 0.5
            if alive:  # the file is open when it is damaged
                here = 50
                track(client, 10_000, here)
            how = damage(path, rng) + (", in use" if alive else "")
            track(client, 20_000, 100)
            collector.always(Reply(200))
            done = client.flush(HANG)
            # What was found out at the end of the first flush may be told by a second.
            client.flush(HANG)
            stats = client.stats
        finally:
            client.join()
            log.removeHandler(lines)
        arrived = check_arrived(collector)
    label = f"{how}: {stats}, {lines.lines}"
    assert done, label
    assert stats.accepted == stats.delivered + stats.failed + stats.queued, label
    assert stats.queued == 0, label
    after = {f"m{n}" for n in range(20_000, 20_100)}
    assert after <= arrived, (label, len(after - arrived))
    left = {f"m{n}" for n in range(count)}
    before = left | {f"m{n}" for n in range(10_000, 10_000 + here)}
    lost = before - arrived
    # The last events of a burst may not have been counted yet: docs/spool.md.
    if lost and not (count > 64 and len(lost) < 32 and lost <= left):
        told = " ".join(lines.lines)
        assert any(word in told for word in ("damaged", "deleted", "emptied")), label
    return f"{how}: {len(lost)} of {len(before)} lost"


def track(client: Client, first: int, count: int) -> None:
    """Accept events."""
    for n in range(first, first + count):
        body = {"n": n, "pad": str(n) * (n % 60)}
        assert client.track("u", "e", body, message_id=f"m{n}")[0]


def check_arrived(collector: Collector) -> set[str]:
    """Assert that nothing differs from what was accepted; return the ids."""
    arrived = set()
    for request in collector.requests:
        for event in json.loads(request.body)["batch"]:
            n = event["properties"]["n"]
            assert event["messageId"] == f"m{n}", event
            assert event["properties"]["pad"] == str(n) * (n % 60), event
            if request.status == 200:
                arrived.add(event["messageId"])
    return arrived


def main() -> None:
    """Do as many rounds as was asked for."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    logging.getLogger("htlogging").propagate = False
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o700)
            rng = random.Random(seed + number)
            try:
                print(f"{seed + number}: {check_round(Path(folder), rng)}", flush=True)
            except AssertionError as exc:
                print(f"{seed + number}: FAILED {str(exc)[:1500]}", flush=True)
                raise SystemExit(1) from exc


if __name__ == "__main__":
    main()
