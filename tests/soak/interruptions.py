"""
Exceptions that are raised at random moments inside the package's calls.

    python tests/soak/interruptions.py --seconds 60 --call track --spool FILE

Every few hundred microseconds a timer's signal handler raises, wherever the call is just
then. With `--by thread`, another thread sets the exception, as the time limits of RQ and
Dramatiq do in threads (`PyThreadState_SetAsyncExc`). What must hold: the exception comes out as it is; every event whose call returned
arrives by itself, without a flush; the one that was cut short arrives at most once; no
event has two ids; the counters balance; and a `flush` at the end is true. Prints a line,
and ends with 1 where one of these does not hold.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import random
import signal
import sys
import threading
import time
from collections import defaultdict

from htlogging.collector import Collector
from htlogging.htevents import Client

# Seconds in which nothing at all arrives: what is on its way then is stuck. A slow machine
# may take longer for a long queue.
HANG = 60

CALLS = ("track", "logging", "flush", "close", "stats", "join")


class Interrupted(Exception):
    """As Celery's and RQ's time limits: an ordinary exception."""


class Interrupt(BaseException):
    """As Ctrl+C."""


class Timer:
    """
    Strikes by a signal handler.

    Args:
        strike: Raises, on the main thread.
    """

    def __init__(self, strike):
        self._before = signal.signal(signal.SIGALRM, strike)

    def arm(self, delay):
        """Strike after this time."""
        signal.setitimer(signal.ITIMER_REAL, delay)

    def disarm(self):
        """Strike no more."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def end(self):
        """Leave things as they were."""
        self.disarm()
        signal.signal(signal.SIGALRM, self._before)


class Striker:
    """
    Strikes by another thread, in the one that made it.

    Args:
        count: Counts a strike.
        kind: What is raised.
    """

    def __init__(self, count, kind):
        self._count, self._kind = count, kind
        self._target = ctypes.c_ulong(threading.get_ident())
        # One value each, changed in one step: the struck thread may be cut anywhere.
        self._armed, self._busy, self._over = None, False, False
        self._switch = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        threading.Thread(target=self._run, daemon=True).start()

    def arm(self, delay):
        """Strike after this time."""
        self._armed = (delay,)

    def disarm(self):
        """Strike no more; one that is on its way strikes here."""
        self._armed = None
        while self._busy:
            time.sleep(0)
        for _ in range(3):
            pass  # here the interpreter looks for what was set

    def end(self):
        """Leave things as they were."""
        self._over = True
        self.disarm()
        sys.setswitchinterval(self._switch)

    def _run(self):
        struck, delay = None, 0.0
        while not self._over:
            # Whatever call is there by then: a sleep takes longer than most calls.
            time.sleep(delay)
            self._busy = True
            armed = self._armed
            if armed is not None and armed is not struck:
                struck, (delay,) = armed, armed
                self._count()
                set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
                set_exception(self._target, ctypes.py_object(self._kind))
            self._busy = False


class Hunt:
    """
    One client, one kind of call, and what became of each event.

    Args:
        client: Its collector counts what arrives.
        call: What is interrupted.
        seed: Of the moments.
        longest: Seconds after which the timer strikes at most.
        by: What strikes: `signal` or `thread`.
    """

    def __init__(self, client, call, seed, longest, by="signal"):
        self.by = by
        self.client = client
        self.call = call
        self.random = random.Random(seed)
        self.longest = longest
        # Plain logging hands an ordinary exception to `handleError`, as every handler.
        self.kind = Interrupt if call == "logging" else Interrupted
        self.returned, self.cut, self.wrong = set(), set(), []
        self.number = self.raised = self.came_out = self.ignored = 0

    def _count(self):
        self.raised += 1

    def _strike(self, *_):
        self._count()
        raise self.kind

    def _ignore(self, unraisable):
        """Count one that came where no call of ours can hand it on."""
        # In a weak reference's callback, say. Or in a thread that the struck one is just
        # starting: until that runs, it has the other's number, and CPython finds it first.
        if unraisable.exc_type is self.kind:
            self.ignored += 1
        else:
            sys.__unraisablehook__(unraisable)

    def _track(self):
        return self.client.track("user", "e", {"n": self.number})[0]

    def _do(self):
        """Do the call; return whether it accepted this number's event."""
        if self.call == "track":
            return self._track()
        if self.call == "logging":
            extra = {"ht_user_id": "user", "n": self.number}
            self.client.logger.handle(
                self.client.logger.makeRecord(
                    "htevents.client", 20, "f", 1, "e", (), None, extra=extra
                )
            )
            return True
        if self.call == "flush":
            self.client.flush(0.002)
        elif self.call == "stats":
            return self.client.stats is None
        elif self.call == "join":
            self.client.join()
        else:
            (handler,) = self.client.logger.handlers
            handler.close()
        return False

    def _one(self):
        accepted = False
        if self.call not in ("track", "logging") and self._track():
            self.returned.add(self.number)
        try:
            delay = self.random.uniform(1e-6, self.longest)
            self.striker.arm(delay)
            accepted = self._do()
            self.striker.disarm()
        except self.kind:
            self.came_out += 1
            if not accepted and self.number not in self.returned:
                self.cut.add(self.number)
        except BaseException as exc:  # noqa: BLE001
            self.wrong.append(repr(exc))
        if accepted:
            self.returned.add(self.number)

    def run(self, seconds):
        """Interrupt calls for this long."""
        sys.unraisablehook = self._ignore
        if self.by == "thread":
            self.striker = Striker(self._count, self.kind)
        else:
            self.striker = Timer(self._strike)
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                self.number += 1
                for _ in range(3):
                    try:
                        self._one()
                        self.striker.disarm()
                        break
                    except self.kind:
                        # Struck between two lines of ours.
                        self.came_out += 1
                        if self.number not in self.returned:
                            self.cut.add(self.number)
                        break
        finally:
            self.striker.end()
            sys.unraisablehook = sys.__unraisablehook__

    def faults(self, collector):
        """Return what does not hold."""
        faults = [f"came out: {one}" for one in self.wrong[:3]]
        sure = self.returned
        # Some C code drops one, rarely: a slow machine raises few.
        dropped = self.raised - self.came_out - self.ignored
        if not self.raised:
            faults.append("nothing was raised")
        if dropped > max(0.02 * self.raised, 5):
            faults.append(f"of {self.raised} raised {self.came_out} came out")

        def missing():
            return sure - {e["properties"]["n"] for e in list(collector.events)}

        settle(collector, missing)
        if missing():
            faults.append(f"{len(missing())} did not arrive by themselves")
        if not self.client.flush(HANG) or missing():
            faults.append(f"flush, and {len(missing())} have not arrived")
        return faults + self._odd(collector) + self._unbalanced(collector)

    def _odd(self, collector):
        ids = defaultdict(set)
        for event in collector.events:
            ids[event["properties"]["n"]].add(event["messageId"])
        ids.pop(0, None)  # of `usual`
        twice = [n for n, found in ids.items() if len(found) > 1]
        stray = ids.keys() - self.returned - self.cut
        if twice or stray:
            return [f"{len(twice)} under two ids, {len(stray)} that none accepted"]
        return []

    def _unbalanced(self, collector):
        stats = self.client.stats
        arrived = len({event["messageId"] for event in collector.events})
        whole = stats.accepted == stats.delivered + stats.failed + stats.queued
        if not whole or stats.queued or stats.failed or stats.delivered < arrived:
            return [f"out of balance: {stats}, {arrived} arrived"]
        return []


def settle(collector, missing):
    """Wait until nothing is missing, without a flush; or nothing arrives any more."""
    waiting = threading.Event()
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < HANG:
        count = len(collector.events)
        if count != seen:
            seen, since = count, time.monotonic()
        # Not as long as they come: that takes the sender's time.
        elif not missing():
            return
        waiting.wait(0.05)


def usual(client):
    """Return twice the seconds that a call takes here: half are cut short, at most."""
    took = []
    for _ in range(200):
        began = time.perf_counter()
        client.track("user", "e", {"n": 0})
        took.append(time.perf_counter() - began)
    return max(2 * sorted(took)[len(took) // 2], 100e-6)


def main():
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--call", choices=CALLS, default="track")
    parser.add_argument("--by", choices=("signal", "thread"), default="signal")
    parser.add_argument("--spool")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--longest", type=float, help="seconds; else measured")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    logging.raiseExceptions = False
    with Collector() as collector:
        client = Client(
            "KEY", host=collector.url, spool=options.spool, max_queue_size=1_000_000
        )
        longest = options.longest or usual(client)
        hunt = Hunt(client, options.call, seed, longest, options.by)
        if options.by == "thread":  # jobs with such limits run on threads
            caller = threading.Thread(target=hunt.run, args=(options.seconds,))
            caller.start()
            caller.join()
        else:
            hunt.run(options.seconds)
        faults = hunt.faults(collector)
        client.join()
    print(
        f"{options.call:8}{'spool' if options.spool else 'memory':8}seed {seed:<8}"
        f"{len(hunt.returned):>8} accepted {len(hunt.cut):>8} cut short  "
        f"{hunt.raised:>8} raised  "
        f"{'; '.join(faults) or 'ok'}"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
