"""A worker of another kind: its jobs' processes inherit nothing."""

import rq

from htlogging.integrations.rq import HtEventsMixin


class Worker(HtEventsMixin, rq.SpawnWorker):
    """RQ's worker that spawns, with our part."""
