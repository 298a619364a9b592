"""What gunicorn with gevent needs on Python 3.12, where no thread starts at exit."""

from htlogging import htevents


def worker_exit(server, worker):  # noqa: ARG001
    """Deliver while gevent can still have a thread, which looks names up."""
    htevents.join()
