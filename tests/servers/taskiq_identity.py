"""
taskiq's tasks on Redis; `python taskiq_identity.py N` enqueues and waits.

The server is QUEUE_REDIS, a URL.
"""

import asyncio
import os
import sys

import queue_jobs
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

import htlogging
from htlogging.integrations.taskiq import HtEventsMiddleware

url = os.environ["QUEUE_REDIS"]
broker = (
    ListQueueBroker(url)
    .with_result_backend(RedisAsyncResultBackend(url))
    .with_middlewares(HtEventsMiddleware())
)

tasks = [
    broker.task(task_name="work")(queue_jobs.work),
    broker.task(task_name="work_async")(queue_jobs.work_async),
]


async def enqueue(count):
    """Enqueue them, and wait until they are done."""
    await broker.startup()
    sent = []
    for n in range(count):
        late = n % 2
        with htlogging.bound(**({} if late else {"ht_user_id": f"u{n}"})):
            sent.append(await tasks[n // 2 % 2].kiq(f"u{n}", late=bool(late)))
    for each in sent:
        result = await each.wait_result(timeout=180)
        assert not result.is_err, result.error
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(enqueue(int(sys.argv[1])))
