"""Queues that have no place for what is bound: it is an argument like any other."""

import asyncio
import logging

import huey

import htlogging
from htlogging import htevents

log = logging.getLogger("htevents")

queue = huey.MemoryHuey(immediate=True)


@queue.task()
def mail_receipt(order_id, bound):
    with htlogging.scope(**bound):
        log.info("Receipt mailed", extra={"order_id": order_id})


@queue.on_shutdown()
def deliver():
    htevents.join()


def buy():
    mail_receipt("5012", htlogging.get())


async def mail_receipt_later(ctx, order_id, bound):
    with htlogging.scope(**bound):
        log.info("Receipt mailed", extra={"order_id": order_id})


async def shutdown(ctx):
    await asyncio.to_thread(htevents.join)


class WorkerSettings:
    functions = [mail_receipt_later]
    on_shutdown = shutdown


async def buy_later(pool):
    await pool.enqueue_job("mail_receipt_later", "5012", htlogging.get())
