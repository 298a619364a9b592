"""
Count what arrives of 1,000 events when a script ends without a flush.

    pip install '.[bench]'
    python tests/benchmarks/arrived.py [--repeat N] [--delay SECONDS]

Each SDK runs in a process of its own, as its documentation begins and with its default
settings, against a server on this machine that answers 200. The server counts each event
once, by its number. The server waits `--delay` seconds before each answer, as one far away
does. Where the runs differ, the table shows the least and the most that arrived.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

EVENTS = 1_000
HANG = 120  # seconds: the guard, not a measurement

# The distribution, and a script that logs the events. {host} is the server's address.
SCRIPTS = {
    "htlogging": """
from htlogging import htevents
htevents.write_key = "WRITE_KEY"
htevents.host = "{host}"
for n in range({events}):
    htevents.track("user123", "Order completed", {{"order_id": n}})
""",
    "posthog": """
from posthog import Posthog
posthog = Posthog("WRITE_KEY", host="{host}")
for n in range({events}):
    posthog.capture("Order completed", distinct_id="user123", properties={{"order_id": n}})
""",
    "segment-analytics-python": """
import segment.analytics as analytics
analytics.write_key = "WRITE_KEY"
analytics.host = "{host}"
for n in range({events}):
    analytics.track("user123", "Order completed", {{"order_id": n}})
""",
    "events-sdk-python": """
import hightouch.htevents as htevents
htevents.write_key = "WRITE_KEY"
htevents.host = "{host}"
for n in range({events}):
    htevents.track("user123", "Order completed", {{"order_id": n}})
""",
}


class Server(ThreadingHTTPServer):
    """
    A server that answers 200 and remembers which events it has taken.

    Args:
        delay: Seconds before each answer.
    """

    def __init__(self, delay: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.delay = delay
        self.lock = threading.Lock()  # guards `ids`, for the connections' threads
        self.ids: set[int] = set()

    def handle_error(self, *arguments) -> None:
        """Print nothing: a client that ends before its answer is what is measured."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take a batch."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        ids = {
            event["properties"]["order_id"]
            for event in json.loads(body).get("batch", [])
            if "order_id" in event.get("properties", {})
        }
        time.sleep(self.server.delay)
        with self.server.lock:
            self.server.ids |= ids
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments) -> None:
        """Print nothing."""


def arrived(script: str, delay: float) -> int:
    """Run a script to its end; return how many of its events arrived."""
    with Server(delay) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"http://127.0.0.1:{server.server_port}"
        subprocess.run(
            [sys.executable, "-c", script.format(host=host, events=EVENTS)],
            check=True,
            timeout=HANG,
            # Without what the environment says of other servers, proxies included.
            env={k: v for k, v in os.environ.items() if not k.startswith("HTEVENTS_")}
            | {"NO_PROXY": "127.0.0.1"},
        )
        server.shutdown()
        return len(server.ids)


def main() -> None:
    """Measure each SDK, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--repeat", type=int, default=3, help="runs (default: 3)")
    parser.add_argument(
        "--delay",
        type=float,
        default=0.05,
        help="seconds before an answer (default: %(default)s)",
    )
    options = parser.parse_args()
    print(f"{EVENTS:,} events and a plain end of the script; arrived:")
    for name, script in SCRIPTS.items():
        counts = [arrived(script, options.delay) for _ in range(options.repeat)]
        least, most = min(counts), max(counts)
        shown = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        print(f"{name:26} {version(name):9} {shown}")


if __name__ == "__main__":
    main()
