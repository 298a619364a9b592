"""SIGPIPE at its default does not end the application."""

from __future__ import annotations

import _signal
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading

import pytest
from script_runner import run

from htlogging._process import sigpipe

pytestmark = pytest.mark.skipif(os.name != "posix", reason="no such signal here")


def test_names():
    """What `_signal` has is what `signal` has, without its enums."""
    for name in ("SIG_BLOCK", "SIG_SETMASK", "SIGPIPE"):
        assert getattr(_signal, name) == getattr(signal, name)
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, {_signal.SIGPIPE})
    try:
        _signal.pthread_kill(threading.get_ident(), _signal.SIGPIPE)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) >= {signal.SIGPIPE}
        assert signal.sigpending() == _signal.sigpending() == {signal.SIGPIPE}
        assert _signal.sigwait({_signal.SIGPIPE}) is not None
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)


class Resetting:
    """A server that resets each connection after it has read a little of a request."""

    def __init__(self, context=None):
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.count = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            try:
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
                connection.recv(100)
                # Linux reports a reset as EPIPE, and by SIGPIPE, only after a FIN.
                socket.socket.shutdown(connection, socket.SHUT_WR)
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.count += 1
            except OSError:
                pass
            connection.close()

    def close(self):
        """Take no more connections."""
        self._socket.close()


SCRIPT = """
    import signal, sys
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    from htlogging.htevents import Client
    import logging
    logging.getLogger("htlogging").addHandler(logging.NullHandler())
    client = Client("KEY", host=sys.argv[1], sync_mode=bool(sys.argv[2]), gzip=False,
                    max_retries=3, max_event_size=400_000)
    for n in range(5):
        try:
            client.track("user123", "e", {"text": "x" * 300_000})
        except Exception as exc:
            print(type(exc).__name__)
        client.flush()
    client.join()
    print(client.stats.failed)
    assert signal.SIGPIPE not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""


class TestBlocked:
    @pytest.mark.parametrize("sync_mode", ["", "1"])
    @pytest.mark.parametrize("tls", [False, True])
    def test_application_lives(self, tmp_path, sync_mode, tls):
        """A connection that breaks while a body is sent is a failure like any other."""
        context, environ = None, {}
        if tls:
            trustme = pytest.importorskip("trustme")
            authority = trustme.CA()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("127.0.0.1").configure_cert(context)
            authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
            environ = {"REQUESTS_CA_BUNDLE": str(tmp_path / "ca.pem")}
        server = Resetting(context)
        scheme = "https" if tls else "http"
        url = f"{scheme}://127.0.0.1:{server.port}"
        ended = run(tmp_path, SCRIPT, url, sync_mode, **environ)
        server.close()
        assert (ended.status, ended.err) == (0, "")
        assert ended.out.split()[-1] == "5"
        assert server.count >= 5

    def test_mask_is_restored(self):
        """Afterwards the thread's mask is as before, and no signal waits."""
        script = (
            "import os, signal; from htlogging._process import sigpipe\n"
            "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
            "with sigpipe.blocked():\n"
            "    os.kill(os.getpid(), signal.SIGPIPE)\n"
            "print(signal.sigpending())\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "set()\n", "")

    def test_one_that_was_blocked_stays(self):
        """Who blocks it already has it blocked, and waiting, afterwards."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
        try:
            with sigpipe.blocked():
                pass
            assert signal.SIGPIPE in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def test_error(self):
        """It is restored when the block raises, too."""

        class Boom(Exception):
            pass

        with pytest.raises(Boom), sigpipe.blocked():
            raise Boom
        assert signal.SIGPIPE not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
