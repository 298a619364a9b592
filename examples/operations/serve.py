"""
An application that shows its figures and its health: the standard library alone.

    pip install htlogging
    python serve.py                             # then http://127.0.0.1:8000/metrics
    prometheus --config.file=prometheus.yml     # in another terminal

GET /order makes an event, /metrics is for Prometheus, /health for a load balancer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from wsgiref.simple_server import WSGIRequestHandler, make_server

import htlogging
from htlogging import htevents, metrics

Headers = list[tuple[str, str]]
Answer = Iterable[bytes]


def app(environ: dict[str, str], start: Callable[[str, Headers], object]) -> Answer:
    """Answer a request."""
    path = environ["PATH_INFO"]
    status, kind, body = "200 OK", "text/plain; charset=utf-8", "ok\n"
    if path == "/metrics":
        kind, body = metrics.CONTENT_TYPE, metrics.openmetrics()
    elif path == "/health":
        health = htlogging.health()
        body = f"{health.status}: {health.reason}\n"
        # Events that wait or are lost are no reason to stop the application: it works.
        # Whoever wants it so answers 503 when the status is "failing".
    elif path == "/order":
        htevents.track("user123", "Order completed")
    else:
        status, body = "404 Not Found", "ask for /order, /metrics or /health\n"
    start(status, [("Content-Type", kind)])
    return [body.encode()]


class Quiet(WSGIRequestHandler):
    """Prints no line for each request."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing."""


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    with make_server("127.0.0.1", port, app, handler_class=Quiet) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
