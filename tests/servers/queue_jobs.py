"""What workers of all the task queues do: one kind of job each, and its events."""

import asyncio
import os
import sys
import time

import htlogging
from htlogging import htevents

# Longer than any test: events that wait at the end are delivered by that end alone.
htevents.upload_interval = 600


def work(of, late=False):  # noqa: FBT002
    """Make an event that says whose it should be; some jobs bind late."""
    if late:
        htlogging.bind(ht_user_id=of)
    time.sleep(0)
    htevents.track(event="work", properties={"of": of})
    # For the next job on this thread, were this not the job's own.
    htlogging.bind(ht_user_id="leaks", leaked=1)
    return os.getpid()


async def work_async(of, late=False):  # noqa: FBT002
    """Do the same in an event loop."""
    if late:
        htlogging.bind(ht_user_id=of)
    await asyncio.sleep(0)
    htevents.track(event="work", properties={"of": of})
    htlogging.bind(ht_user_id="leaks", leaked=1)


def loaded(module):
    """Return whether a module was imported before this one's jobs made an event."""
    return module in sys.modules
