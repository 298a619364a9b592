"""Application servers: an event of every answered request arrives, once."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

# Seconds after which a server is taken to hang.
HANG = 25

APPLICATIONS = Path(__file__).with_name("servers")


class Server:
    """A process group that serves on a socket which the test made: no wait for it."""

    def __init__(self, process, port):
        self.process = process
        self.port = port

    def ask(self, name):
        """Send a request, and return its name and the pid that queued its event."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG)
        try:
            connection.request("GET", f"/{name}", headers={"Connection": "close"})
            queued, pid = connection.getresponse().read().split()
        finally:
            connection.close()
        assert queued == b"1"
        return name, int(pid)

    def ask_all(self, count):
        """Send requests side by side, and return the answered names and the pids."""
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(self.ask, [f"e{n}" for n in range(count)]))
        return Counter(name for name, _ in answers), {pid for _, pid in answers}

    def stop(self, sign=signal.SIGTERM):
        """Send the main process a signal, and return its exit status."""
        self.process.send_signal(sign)
        return self.process.wait(HANG)


@contextmanager
def group(command, log, **options):
    """Run a command in a process group, of which nothing stays."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=APPLICATIONS,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        ) as process,
    ):
        try:
            yield process
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            print(log.read_text(errors="replace"))  # noqa: T201


@pytest.fixture
def environ(collector):
    """Return the environment of the servers."""
    return {
        **os.environ,
        "HTEVENTS_HOST": collector.url,
        "HTEVENTS_WRITE_KEY": "WRITE_KEY",
        "PYTHONPATH": str(APPLICATIONS),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture
def serve(environ, tmp_path):
    """Return what runs a server: a command in which `{fd}` is the socket's number."""

    @contextmanager
    def run_server(*command, **more):
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
            fd, port = listening.fileno(), listening.getsockname()[1]
            arguments = [str(part).format(fd=fd) for part in command]
            environment = {**environ, **more}
            log = tmp_path / "log"
            with group(arguments, log, env=environment, pass_fds=[fd]) as process:
                # The server's alone: without it, requests fail at once.
                listening.close()
                yield Server(process, port)

    return run_server


def arrived(collector):
    """Return how often each event was taken in, those of imports aside."""
    names = Counter(event["event"] for event in collector.events)
    imports = [name for name in names if name.startswith("import")]
    for name in imports:
        assert names.pop(name) == 1
    return names, len(imports)


class TestGunicorn:
    COMMAND = (
        *(sys.executable, "-m", "gunicorn", "--bind", "fd://{fd}", "--workers", 3),
        "--no-control-socket",
    )

    @pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
    @pytest.mark.parametrize("preload", [True, False])
    def test_graceful_stop(self, serve, collector, kind, preload):
        """SIGTERM: workers deliver what waits; the master its own, from the import."""
        pytest.importorskip("gunicorn")
        if kind == "gevent":
            pytest.importorskip("gevent")
        options = ["--worker-class", kind, "--threads", 4]
        with serve(
            *self.COMMAND,
            *options,
            *["--preload"] * preload,
            "wsgi_app:application",
            TRACK_AT_IMPORT="1",
        ) as server:
            asked, pids = server.ask_all(60)
            assert server.process.pid not in pids
            assert server.stop() == 0
        names, imports = arrived(collector)
        assert names == asked
        assert imports == 1 if preload else imports >= len(pids)

    @pytest.mark.parametrize("kind", ["sync", "gthread"])
    @pytest.mark.parametrize("preload", [True, False])
    def test_max_requests(self, serve, collector, kind, preload):
        """A worker that is replaced after some requests delivers what waits."""
        pytest.importorskip("gunicorn")
        options = ["--worker-class", kind, "--threads", 4, "--max-requests", 7]
        with serve(
            *self.COMMAND, *options, *["--preload"] * preload, "wsgi_app:application"
        ) as server:
            asked, pids = server.ask_all(60)
            assert len(pids) > 3
            assert server.stop() == 0
        assert arrived(collector) == (asked, 0)

    def test_stop_under_load(self, serve, collector):
        """Whoever got an answer, before or after SIGTERM, has his event delivered."""
        pytest.importorskip("gunicorn")
        options = ["--worker-class", "gthread", "--threads", 4]
        with serve(*self.COMMAND, *options, "wsgi_app:application") as server:
            answered, done = [], threading.Event()

            def load(start):
                for n in range(start, 10**6, 4):
                    try:
                        answered.append(server.ask(f"e{n}")[0])
                    except (OSError, http.client.HTTPException, ValueError):
                        return
                    if n > 200:
                        done.set()

            threads = [threading.Thread(target=load, args=(n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            assert done.wait(HANG)
            assert server.stop() == 0
            for thread in threads:
                thread.join(HANG)
        names, _ = arrived(collector)
        # An answer that was lost with the connection may have left an event.
        assert set(answered) <= set(names)
        assert set(names.values()) == {1}
        assert len(names) - len(answered) <= 4


class TestUvicorn:
    COMMAND = (
        *(sys.executable, "-m", "uvicorn", "--fd", "{fd}"),
        "asgi_app:application",
    )

    @pytest.mark.parametrize("workers", [1, 2])
    def test_graceful_stop(self, serve, collector, workers):
        """SIGTERM kills the workers at last; the lifespan's end delivers before that."""
        pytest.importorskip("uvicorn")
        with serve(*self.COMMAND, "--workers", workers) as server:
            asked, pids = server.ask_all(60)
            assert server.stop() in (0, -signal.SIGTERM)
        assert arrived(collector) == (asked, 0)
        assert (server.process.pid in pids) == (workers == 1)

    def test_max_requests(self, serve, collector):
        """A worker that is replaced after some requests delivers what waits."""
        pytest.importorskip("uvicorn")
        options = ["--workers", 2, "--limit-max-requests", 20]
        with serve(*self.COMMAND, *options) as server:
            asked, pids = server.ask_all(60)
            assert len(pids) > 2
            server.stop()
        assert arrived(collector) == (asked, 0)


class TestUwsgi:
    @pytest.fixture
    def command(self):
        """Return the command, which is no module."""
        path = Path(sys.executable).with_name("uwsgi")
        if not path.exists():
            pytest.skip("uWSGI is not installed")
        return (
            *(path, "--http-socket", "fd://{fd}", "--master", "--processes", 3),
            *("--need-app", "--die-on-term", "--wsgi", "wsgi_app"),
        )

    @pytest.mark.parametrize("lazy", [True, False])
    @pytest.mark.parametrize("threads", [True, False])
    def test_stop(self, serve, collector, command, lazy, threads):
        """Each worker delivers its own; the master what it tracked at import."""
        options = ["--lazy-apps"] * lazy + ["--enable-threads"] * threads
        with serve(*command, *options, TRACK_AT_IMPORT="1") as server:
            asked, pids = server.ask_all(60)
            assert server.process.pid not in pids
            server.stop()
        names, imports = arrived(collector)
        assert names == asked
        assert imports == 3 if lazy else imports == 1

    @pytest.mark.parametrize("lazy", [True, False])
    def test_max_requests(self, serve, collector, command, lazy):
        """A worker that is replaced after some requests delivers what waits."""
        options = ["--lazy-apps"] * lazy + ["--enable-threads", "--max-requests", 7]
        with serve(*command, *options) as server:
            asked, pids = server.ask_all(60)
            assert len(pids) > 3
            server.stop()
        assert arrived(collector) == (asked, 0)


class TestCelery:
    @pytest.fixture
    def run(self, environ, collector, tmp_path):
        """Return what has a worker do tasks, and stops it."""
        pytest.importorskip("celery")

        def run_worker(*options):
            for name in ("queue", "control"):
                tmp_path.joinpath(name).mkdir()
            more = {**environ, "CELERY_FOLDER": str(tmp_path)}
            celery = [sys.executable, "-m", "celery", "-A", "celery_app", "worker"]
            quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
            command = [*celery, *quiet, "--concurrency", "2", *options]
            with group(command, tmp_path / "log", env=more) as worker:
                answers = subprocess.run(
                    [sys.executable, "celery_app.py", "20"],
                    cwd=APPLICATIONS,
                    env=more,
                    timeout=HANG,
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                ).stdout.splitlines()
                worker.send_signal(signal.SIGTERM)
                assert worker.wait(HANG) == 0
            assert [answer[0] for answer in answers] == ["1"] * 20
            pids = {int(answer[2:]) for answer in answers}
            names, imports = arrived(collector)
            assert names == Counter(f"e{n}" for n in range(20))
            return worker.pid, pids, imports

        return run_worker

    def test_warm_shutdown(self, run):
        """The pool's processes deliver, though they end by `os._exit`."""
        pid, pids, _ = run()
        assert pid not in pids

    def test_max_tasks_per_child(self, run):
        """So does a process that is replaced."""
        _, pids, _ = run("--max-tasks-per-child", "3")
        assert len(pids) >= 20 / 3

    def test_threads(self, run):
        """A pool of threads is a process like others."""
        pid, pids, _ = run("--pool", "threads")
        assert pids == {pid}


class TestRq:
    def test_work_horses(self, environ, collector, tmp_path):
        """Each job has a process, which ends by `os._exit`; the worker flushes there."""
        pytest.importorskip("rq")
        fakeredis = pytest.importorskip("fakeredis")
        pytest.importorskip("lupa")
        import redis
        import rq

        server = fakeredis.TcpFakeServer(("127.0.0.1", 0))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        url = f"redis://127.0.0.1:{port}"
        queue = rq.Queue(connection=redis.Redis.from_url(url))
        jobs = [queue.enqueue("rq_jobs.work", f"e{n}") for n in range(8)]
        rq_worker = [sys.executable, "-m", "rq.cli", "worker", "--burst", "--url", url]
        command = [*rq_worker, "--worker-class", "rq_jobs.Worker"]
        with group(command, tmp_path / "log", env=environ) as worker:
            assert worker.wait(HANG) == 0
        answers = [job.return_value(refresh=True) for job in jobs]
        server.shutdown()
        server.server_close()
        assert [answer[0] for answer in answers] == ["1"] * 8
        assert worker.pid not in {int(answer[2:]) for answer in answers}
        assert arrived(collector) == (Counter(f"e{n}" for n in range(8)), 0)
