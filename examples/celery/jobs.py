"""
A shop's jobs in Celery: whoever is bound where a job is enqueued is bound in the job.

    export HTEVENTS_WRITE_KEY=... CELERY_BROKER_URL=redis://
    celery -A jobs worker
    python jobs.py
"""

import logging.config
import os

from celery import Celery

import htlogging
from htlogging.integrations import celery as htevents_celery

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "htevents": {
                "()": "htlogging.HtEventsHandler",
                # Without a key, on a developer's machine, nothing is sent.
                "send": "HTEVENTS_WRITE_KEY" in os.environ,
            }
        },
        "loggers": {
            "htevents": {"handlers": ["htevents"], "level": "INFO", "propagate": False}
        },
    }
)
log = logging.getLogger("htevents")

app = Celery("jobs", broker=os.environ.get("CELERY_BROKER_URL"))
# For a look at it without a broker: jobs run where they are enqueued.
app.conf.task_always_eager = "CELERY_BROKER_URL" not in os.environ
htevents_celery.install(app)


@app.task(name="jobs.mail_receipt")
def mail_receipt(order_id: str) -> None:
    """Mail a receipt. The event has the customer of the request that enqueued it."""
    log.info("Receipt mailed", extra={"order_id": order_id})


if __name__ == "__main__":
    # In a web application its middleware opens the scope.
    with htlogging.scope(ht_user_id="user123"):
        log.info("Order completed", extra={"order_id": "5012"})
        mail_receipt.delay("5012")
