"""
RQ.

::

    rq worker --worker-class htlogging.integrations.rq.HtEventsWorker

and, where jobs are enqueued, `import htlogging.integrations.rq`. From then on each job that
the process makes carries the bound fields in its `meta`.
"""

from __future__ import annotations

import functools

import rq
from rq.job import Job

from htlogging.integrations import _propagation
from htlogging.integrations._delivery import deliver, import_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["HtEventsMixin", "HtEventsWorker"]


class HtEventsMixin:
    """
    Run each job in a scope of its own, and deliver its events when it is done.

    Use it for other kinds of workers: `class Worker(HtEventsMixin, rq.SpawnWorker)`.
    """

    def work(self, *args: Any, **kwargs: Any) -> Any:
        """Work as without us; what delivers is imported before the first job's fork."""
        # Each job's process would do it again: 20 of 50 ms CPU time of a small job.
        import_all()
        return super().work(*args, **kwargs)  # type: ignore[misc]

    def perform_job(self, job: Job, *args: Any, **kwargs: Any) -> Any:
        """Run the job; its process may end by `os._exit` right after it."""
        try:
            with _propagation.job(job.meta.get(_propagation.NAME)):
                return super().perform_job(job, *args, **kwargs)  # type: ignore[misc]
        finally:
            deliver()


class HtEventsWorker(HtEventsMixin, rq.Worker):
    """RQ's worker, which runs each job in a process of its own."""


def _carry() -> None:
    """Make `Job.create`, RQ's only way to make a job, save the bound fields."""
    create = Job.create.__func__  # perhaps another tool's wrapper

    @functools.wraps(create)
    def create_with_bound(cls: type[Job], *args: Any, **kwargs: Any) -> Job:
        job: Job = create(cls, *args, **kwargs)
        text = _propagation.packed()
        if text is not None:
            # Not in place: the dict may be the caller's.
            job.meta = {_propagation.NAME: text, **job.meta}
        return job

    Job.create = classmethod(create_with_bound)


_carry()
