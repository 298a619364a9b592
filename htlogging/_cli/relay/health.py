"""`relay --listen`: its health and figures over HTTP, for an orchestrator and Prometheus."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from htlogging._cli.relay.status import status_of
from htlogging._delivery.redis_transport import why
from htlogging.metrics._openmetrics import CONTENT_TYPE, Family, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from htlogging._cli.relay.relay import Relay

# Name, kind, what it says, the field of `status_of`.
_GAUGES = (
    ("entries", "Entries in the stream, claimed ones included.", "entries"),
    ("pending", "Entries that relays have claimed.", "pending"),
    ("lag", "Entries that no relay has claimed yet.", "lag"),
    ("oldest_seconds", "Age of the oldest entry.", "oldest_seconds"),
    ("bytes", "Bytes of Redis that the stream takes.", "bytes"),
    ("dead", "Dead letters.", "dead"),
)


class _Server(ThreadingHTTPServer):
    def server_bind(self) -> None:
        """Bind, without HTTPServer's look-up of the host name, which may be slow."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]


class Health:
    """
    The endpoint: `/health` and `/metrics`.

    Args:
        relay: What it tells about.
        client: A client of its own.
        address: Host and port.

    Raises:
        OSError: The port cannot be used.
    """

    def __init__(self, relay: Relay, client: Any, address: tuple[str, int]) -> None:
        outer = self

        class Answer(BaseHTTPRequestHandler):
            timeout = 10.0

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Print nothing."""

            def do_GET(self) -> None:
                status, kind, body = outer.answer(self.path.partition("?")[0])
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._relay = relay
        self._client = client
        self._server = _Server(address, Answer)
        self.port = self._server.server_port
        # A daemon: `close` ends it, else the process does. A relay does not fork.
        threading.Thread(
            target=self._server.serve_forever, name="relay-health", daemon=True
        ).start()

    def close(self) -> None:
        """Stop answering, and close the client."""
        self._server.shutdown()
        self._server.server_close()
        self._client.close()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and body."""
        if path not in ("/health", "/metrics"):
            return 404, "text/plain", b"ask for /health or /metrics\n"
        try:
            found = status_of(self._client, self._relay.location)
            reason = self._relay.trouble or self._relay.report.outage
        except Exception as exc:  # noqa: BLE001
            # Whatever Redis has: that is what is asked for.
            found, reason = {}, why(exc, self._relay.location)
        if path == "/health":
            state = "degraded" if reason else "ok"
            said = {"status": state, "reason": reason}
            status = 200 if not self._relay.trouble and found else 503
            return status, "application/json", json.dumps(said).encode() + b"\n"
        return 200, CONTENT_TYPE, self._metrics(found, failing=bool(reason)).encode()

    def _metrics(self, found: dict[str, Any], *, failing: bool) -> str:
        families = [
            Family(f"htlogging_relay_{name}", "gauge", says).add(found[field])
            for name, says, field in _GAUGES
            if found.get(field) is not None
        ]
        says = "1 while Redis or the receiver cannot be used."
        families.append(
            Family("htlogging_relay_failing", "gauge", says).add(int(failing))
        )
        says = "Events that this relay has settled."
        events = Family("htlogging_relay_events", "counter", says)
        events.add(self._relay.delivered, {"outcome": "delivered"})
        events.add(self._relay.buried, {"outcome": "dead"})
        return text([*families, events])
