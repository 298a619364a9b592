"""A Celery application on folders, installed; `python celery_identity.py N` enqueues."""

import os
import sys
from pathlib import Path

import queue_jobs
from celery import Celery, signals

import htlogging
from htlogging.integrations import celery as integration

folder = Path(os.environ.get("CELERY_FOLDER", "."))

app = Celery("celery_identity", broker="filesystem://", backend=f"file://{folder}")
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue",
    "data_folder_out": f"{folder}/queue",
    "control_folder": f"{folder}/control",
}
app.conf.broker_connection_retry_on_startup = True
integration.install(app)


@signals.worker_ready.connect
def ready(**_):
    """Tell that the queue is declared: on folders, one process at a time can do that."""
    folder.joinpath("ready").touch()


work = app.task(queue_jobs.work, name="celery_identity.work")


if __name__ == "__main__":
    from celery_identity import work as task

    results = []
    for n in range(int(sys.argv[1])):
        late = n % 2
        fields = {} if late else {"ht_user_id": f"u{n}", "ht_context": {"ip": "::1"}}
        with htlogging.bound(**fields):
            results.append(task.delay(f"u{n}", late=bool(late)))
    for result in results:
        result.get(timeout=60)
