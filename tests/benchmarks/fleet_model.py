"""
Plan a fleet: Redis's memory for an outage, relays, requests, and where it breaks.

    python tests/benchmarks/fleet_model.py --rate 1000000 --hours 4 [--model measured.json]

It computes with what `fleet.py --model` measured, by default with the figures of the
manual's page about fleets. It is linear: that holds until a core, Redis's one thread or the
network is full, and it says which of these is first.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

# As measured for docs/fleet.md.
MEASURED = json.loads(Path(__file__).with_name("fleet.json").read_text())

RELAY_CORES = 1.0  # a relay's Python fills one core
MOST_REQUESTS = 1_000  # a second; Segment's limit, the only one that is known
ENTRY_EVENTS = 2_000
MARGIN = 0.7  # of what was measured, to plan with


def plan(rate, hours, measured, *, price=0.045):
    """
    Return the plan, as (what, figure, unit) rows.

    Args:
        rate: Events a second, all applications together.
        hours: Of an outage that Redis must hold.
        measured: What `fleet.py` measured.
        price: Of a core for an hour, in any currency.
    """
    full = measured["bytes_full"]
    alone = measured["bytes_alone"]
    one = measured["relays"]["1"] * MARGIN
    relays = math.ceil(rate / one)
    requests = rate / ENTRY_EVENTS
    backlog = rate * 3600 * hours
    wire = rate * full / 1e6
    cost = relays * RELAY_CORES * price / (rate * 3600) * 1e6
    return [
        ("entries a second into Redis", requests, "if they are full"),
        ("share of Redis's one thread", requests / measured["entries"] * 100, "%"),
        ("Redis's memory for the outage", backlog * full / 2**30, "GiB, full entries"),
        ("the same, an event in each entry", backlog * alone / 2**30, "GiB"),
        ("into and out of Redis", wire, "MB/s each"),
        ("relays (cores)", relays, f"at {MARGIN:.0%} of what one did"),
        ("requests a second to the receiver", requests, f"of {MOST_REQUESTS:,}"),
        ("to catch up with twice the relays", hours, "hours"),
        ("relays' cost per million events", cost, f"at {price} a core and hour"),
    ]


def limits(measured):
    """Return (rate, what is full then) rows, the first one first."""
    found = [
        (measured["entries"] * ENTRY_EVENTS * MARGIN, "Redis's one thread"),
        (MOST_REQUESTS * ENTRY_EVENTS, "1,000 requests a second to the receiver"),
        (1.25e9 / measured["bytes_full"] / 2, "10 Gbit/s of Redis's network"),
    ]
    return sorted(found)


def main():
    """Print the plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=1e6, help="events a second")
    parser.add_argument("--hours", type=float, default=1.0, help="of an outage")
    parser.add_argument("--price", type=float, default=0.045, help="a core for an hour")
    parser.add_argument("--model", type=Path, help="what fleet.py --model has saved")
    arguments = parser.parse_args()
    measured = MEASURED
    if arguments.model is not None:
        measured = json.loads(arguments.model.read_text())
    print(f"{arguments.rate:,.0f} events/s, an outage of {arguments.hours:g} h")
    for what, figure, unit in plan(
        arguments.rate, arguments.hours, measured, price=arguments.price
    ):
        print(f"  {what:<36}{figure:>14,.4g}  {unit}")
    print("it breaks at")
    for rate, what in limits(measured):
        print(f"  {rate:>14,.0f} events/s  {what}")


if __name__ == "__main__":
    main()
