"""A Redis server of the tests' own: on a free port, with its files in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from script_runner import HANG

REDIS = shutil.which("redis-server")


def free_port():
    """Return a port that is free now, and that a cluster's node can add 10,000 to."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port < 55_536:
            return port


class RedisServer:
    """
    A server that can be killed, stopped and started again.

    Args:
        folder: Where its files go.
        options: More of its command line.
    """

    def __init__(self, folder, *options):
        self.folder = Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.port = free_port()
        self.options = options
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.end(signal.SIGKILL)

    @property
    def url(self):
        """The URL of its database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self):
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(
            [
                REDIS,
                *("--port", str(self.port), "--bind", "127.0.0.1"),
                *("--dir", str(self.folder), "--save", ""),
                *("--appendonly", "yes", "--appendfsync", "always"),
                *("--daemonize", "no", "--loglevel", "warning"),
                *self.options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + HANG
        while not self.answers():
            assert time.monotonic() < end, "redis-server does not start"
            assert self.process.poll() is None, "redis-server ended"

    def answers(self):
        """Return whether it takes commands."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                said = connection.recv(100)
        except OSError:
            time.sleep(0.02)
            return False
        return said.startswith((b"+PONG", b"-NOAUTH"))

    def end(self, number=signal.SIGTERM):
        """End it by a signal, and wait for that."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(HANG)
            self.process = None

    def freeze(self):
        """Have it hang: connections are taken, nothing is answered."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self):
        """Have it go on."""
        os.kill(self.process.pid, signal.SIGCONT)
