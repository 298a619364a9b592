"""
A Celery application on Redis, installed; `python celery_identity.py N` enqueues.

The server is CELERY_REDIS, the path of its socket.
"""

import os
import sys

import queue_jobs
from celery import Celery

import htlogging
from htlogging.integrations import celery as integration

server = f"redis+socket://{os.environ['CELERY_REDIS']}"

app = Celery("celery_identity", broker=server, backend=server)
app.conf.broker_connection_retry_on_startup = True
integration.install(app)

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
        result.get(timeout=180)
