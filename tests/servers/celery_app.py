"""A Celery application on folders, and what asks it for work."""

import os
import sys
from pathlib import Path

from celery import Celery, signals

from htlogging import htevents

# Longer than any test: events that wait at the end are delivered by that end alone.
htevents.upload_interval = 600

folder = Path(os.environ["CELERY_FOLDER"])

app = Celery("celery_app", broker="filesystem://", backend=f"file://{folder}")
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue",
    "data_folder_out": f"{folder}/queue",
    "control_folder": f"{folder}/control",
}
app.conf.broker_connection_retry_on_startup = True


@signals.worker_ready.connect
def ready(**_):
    """Tell that the queue is declared: on folders, one process at a time can do that."""
    folder.joinpath("ready").touch()


@app.task
def work(name):
    """Track an event, and return whether it was queued, and by whom."""
    queued, _ = htevents.track("user", name)
    return f"{queued:d} {os.getpid()}"


if __name__ == "__main__":
    # Under its own name, as the worker knows the tasks.
    from celery_app import work as task

    results = [task.delay(f"e{n}") for n in range(int(sys.argv[1]))]
    for result in results:
        print(result.get(timeout=60))  # noqa: T201
