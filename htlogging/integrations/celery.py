"""
Celery: prefork, threads, gevent and eager mode.

::

    from htlogging.integrations import celery as htevents_celery

    app = Celery("shop")
    htevents_celery.install(app)
"""

from __future__ import annotations

from celery import signals

from htlogging._process import hosts
from htlogging.integrations import _propagation
from htlogging.integrations._delivery import deliver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from celery import Celery

__all__ = ["install"]

_UID = "htlogging.integrations.celery"

# The attribute of a task's request that holds its scope.
_BLOCK = "_htevents_block"


def install(app: Celery) -> None:
    """
    Give each task a scope, with what was bound where it was enqueued.

    Call it where the application is made: code that enqueues needs it as well as workers.
    Celery's signals belong to the process, so it applies to the process's other
    applications, too. A second call does nothing. Events are delivered when a worker, or a
    process of its pool, ends.

    Args:
        app: The application.

    Raises:
        TypeError: It is not an application.
    """
    if not callable(getattr(app, "send_task", None)):
        raise TypeError(f"install() takes the Celery app, not {type(app).__name__}")
    hosts.keep_on_root()
    for signal, receiver in (
        (signals.before_task_publish, _publish),
        (signals.task_prerun, _begin),
        (signals.task_postrun, _end),
        (signals.worker_process_shutdown, _stop),
        (signals.worker_shutdown, _stop),
    ):
        uid = f"{_UID}.{receiver.__name__}"
        signal.connect(receiver, weak=False, dispatch_uid=uid)


def _publish(headers: dict[str, Any] | None = None, **_: object) -> None:
    # A retry keeps the headers that the job came with, and nothing of the failed try.
    if headers is not None and not headers.get("retries"):
        text = _propagation.packed()
        if text is not None:
            headers[_propagation.NAME] = text


def _begin(task: Any, **_: object) -> None:
    request = task.request
    # Eager mode sends nothing: the bound fields are here already.
    block = (
        _propagation.eager()
        if request.is_eager
        else _propagation.job(getattr(request, _propagation.NAME, None))
    )
    setattr(request, _BLOCK, block)
    block.resume()


def _end(task: Any, **_: object) -> None:
    block = task.request.__dict__.pop(_BLOCK, None)
    if block is not None:
        block.pause()
        block.end()


def _stop(**_: object) -> None:
    deliver()
