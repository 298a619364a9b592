"""
A sink for benchmarks: takes HTTP requests, answers 200, looks at nothing.

Run as a process of its own, so that its work is not the caller's: prints its port, and
answers `GET /` with how many requests and body bytes it has taken.
"""

from __future__ import annotations

import socket
import sys
import threading
import time

# Requests that are answered at once: connections are made, orjson is imported, and so on.
WARM_UP = 3

_counts = [0, 0]  # requests, bytes of their bodies
_lock = threading.Lock()


def _serve(connection: socket.socket, delay: float) -> None:
    pending = b""
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            while b"\r\n\r\n" not in pending:
                data = connection.recv(1 << 18)
                if not data:
                    return
                pending += data
            head, _, pending = pending.partition(b"\r\n\r\n")
            if head.startswith(b"GET"):
                _answer(connection, b"%d %d" % tuple(_counts))
                continue
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line[15:])
                if line.startswith(b"expect:"):
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            left = length - len(pending)
            pending = pending[length:] if left <= 0 else b""
            while left > 0:
                left -= len(connection.recv(min(left, 1 << 18)))
            with _lock:
                _counts[0] += 1
                _counts[1] += length
            if delay and _counts[0] > WARM_UP:
                time.sleep(delay)
            _answer(connection, b'{"success":true}')


def _answer(connection: socket.socket, body: bytes) -> None:
    connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )


def main() -> None:
    """Serve until killed; the argument is the seconds before each later answer."""
    delay = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(
                target=_serve, args=(connection, delay), daemon=True
            ).start()


if __name__ == "__main__":
    main()
