"""A WSGI application that tracks an event for each request, named by its path."""

import os

from htlogging import htevents

# Longer than any test: events that wait at the end are delivered by that end alone.
htevents.upload_interval = float(os.environ.get("UPLOAD_INTERVAL", "600"))
htevents.spool = os.environ.get("SPOOL")

if "TRACK_AT_IMPORT" in os.environ:
    # With it the process has a sending thread, and an event, when it forks.
    htevents.track("user", f"import in {os.getpid()}")


def application(environ, start_response):
    """Answer whether the event was queued, and by whom."""
    queued, _ = htevents.track("user", environ["PATH_INFO"].strip("/"))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d %d" % (queued, os.getpid())]
