"""Jobs for RQ, and the worker that does them."""

import os

import rq

from htlogging import htevents

# Longer than any test: events that wait at the end are delivered by that end alone.
htevents.upload_interval = 600


class Worker(rq.Worker):
    """A worker whose work horses deliver their events."""

    def perform_job(self, *args, **kwargs):
        """Deliver, once the job is done, what it tracked: `os._exit` follows."""
        try:
            return super().perform_job(*args, **kwargs)
        finally:
            htevents.join()


def work(name):
    """Track an event, and return whether it was queued, and by whom."""
    queued, _ = htevents.track("user", name)
    return f"{queued:d} {os.getpid()}"
