"""Enqueue jobs for RQ: `python rq_identity.py URL N`."""

import sys

import queue_jobs
import redis
import rq

import htlogging
import htlogging.integrations.rq  # what is bound travels

connection = redis.Redis.from_url(sys.argv[1])
queue = rq.Queue(connection=connection)
for n in range(int(sys.argv[2])):
    late = n % 2
    with htlogging.bound(**({} if late else {"ht_user_id": f"u{n}"})):
        queue.enqueue(queue_jobs.work, f"u{n}", late=bool(late))
connection.close()
