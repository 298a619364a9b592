"""
Dramatiq actors on Redis; `python dramatiq_identity.py N` enqueues and waits.

The server is QUEUE_REDIS, a URL.
"""

import os
import sys

import dramatiq
import queue_jobs
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AsyncIO

import htlogging
from htlogging.integrations.dramatiq import HtEventsMiddleware

broker = RedisBroker(url=os.environ["QUEUE_REDIS"])
broker.add_middleware(AsyncIO())
broker.add_middleware(HtEventsMiddleware())
dramatiq.set_broker(broker)

actors = [dramatiq.actor(queue_jobs.work), dramatiq.actor(queue_jobs.work_async)]


if __name__ == "__main__":
    for n in range(int(sys.argv[1])):
        late = n % 2
        with htlogging.bound(**({} if late else {"ht_user_id": f"u{n}"})):
            actors[n // 2 % 2].send(f"u{n}", late=bool(late))
    broker.join("default", timeout=180_000)
    broker.close()
