"""Application servers: an event of every answered request arrives, once."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from script_runner import until

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
]

# gevent looks names up in a thread, which Python 3.12 (3.12.1 at least) refuses at exit.
NO_THREAD_AT_EXIT = sys.version_info[:2] == (3, 12)

# Seconds after which a server is taken to hang.
HANG = 180

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

    def ask_all(self, count, workers=1):
        """
        Send requests side by side, and return the answered names and the pids.

        At least this many, and until this many workers have answered: servers take it ill
        when they are stopped while workers start.
        """
        names, pids = Counter(), set()
        with ThreadPoolExecutor(4) as pool:
            while len(names) < count or len(pids) < workers:
                begun = len(names)
                more = [f"e{n}" for n in range(begun, max(count, begun + 4))]
                for name, pid in pool.map(self.ask, more):
                    names[name] += 1
                    pids.add(pid)
        return names, pids

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
            start_new_session=True,
            **{
                "cwd": APPLICATIONS,
                "stdin": subprocess.DEVNULL,
                "stdout": output,
                "stderr": output,
                **options,
            },
        ) as process,
    ):
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
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


@pytest.fixture
def redis_url(tmp_path):
    """Return where a Redis server listens: on a socket file, so no port is taken."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    path = tmp_path / "redis"
    path.mkdir()
    # Without a port; --daemonize returns when it listens.
    options = ["--port", "0", "--unixsocket", "socket", "--dir", path, "--save", ""]
    with group(
        [program, *options],
        tmp_path / "redis.log",
        cwd=path,
        stdout=subprocess.PIPE,
    ) as process:
        for line in process.stdout:
            if b"eady to accept connections" in line:
                break
        yield f"unix://{path}/socket"


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
        options = ["--worker-class", kind, "--threads", 4]
        if kind == "gevent":
            pytest.importorskip("gevent")
            options += ["--config", "gunicorn_gevent.py"] * NO_THREAD_AT_EXIT
        with serve(
            *self.COMMAND,
            *options,
            *["--preload"] * preload,
            "wsgi_app:application",
            TRACK_AT_IMPORT="1",
        ) as server:
            asked, pids = server.ask_all(60, workers=3)
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
    COMMAND = (sys.executable, "-m", "uvicorn", "--fd", "{fd}")

    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize("app", ["asgi_app", "fastapi_app"])
    def test_graceful_stop(self, serve, collector, app, workers):
        """SIGTERM kills the workers at last; the lifespan's end delivers before that."""
        pytest.importorskip("uvicorn")
        pytest.importorskip({"asgi_app": "asyncio"}.get(app, "fastapi"))
        command = [*self.COMMAND, f"{app}:application", "--workers", workers]
        with serve(*command) as server:
            asked, pids = server.ask_all(60)
            assert server.stop() in (0, -signal.SIGTERM)
        assert arrived(collector) == (asked, 0)
        assert (server.process.pid in pids) == (workers == 1)

    def test_max_requests(self, serve, collector):
        """A worker that is replaced after some requests delivers what waits."""
        pytest.importorskip("uvicorn")
        options = ["--workers", 2, "--limit-max-requests", 20]
        answered, pids, n = set(), set(), 0
        with serve(*self.COMMAND, "asgi_app:application", *options) as server:
            while len(pids) < 3 or len(answered) < 60:
                n += 1
                # uvicorn resets the connections that it has taken in too many.
                with suppress(OSError, http.client.HTTPException):
                    name, pid = server.ask(f"e{n}")
                    answered.add(name)
                    pids.add(pid)
            server.stop()
        names, _ = arrived(collector)
        assert answered <= names.keys()
        assert set(names.values()) == {1}


class TestIdentity:
    """Scopes' middlewares where a server stops: an application without a lifespan."""

    PYTHON = (sys.executable, "-m")
    COMMANDS = {  # noqa: RUF012
        "uvicorn": ("uvicorn", "--fd", "{fd}"),
        "gunicorn": (
            *("gunicorn", "--bind", "fd://{fd}", "--workers", 2),
            *("--no-control-socket", "--worker-class", "uvicorn_worker.UvicornWorker"),
        ),
        "hypercorn": ("hypercorn", "--bind", "fd://{fd}"),
        "daphne": ("daphne", "--fd", "{fd}"),
    }

    @pytest.mark.parametrize("name", COMMANDS)
    def test_django_without_a_lifespan(self, serve, collector, name):
        """SIGTERM: what waits is delivered, though Django knows no such moment."""
        pytest.importorskip("django")
        pytest.importorskip(name)
        if name == "gunicorn":
            pytest.importorskip("uvicorn_worker")
        if name == "daphne":
            pytest.importorskip("twisted")
        command = [*self.PYTHON, *self.COMMANDS[name], "django_app:application"]
        with serve(*command, UPLOAD_INTERVAL="600") as server:
            asked, _ = server.ask_all(20)
            server.stop()
        assert arrived(collector) == (asked, 0)

    def test_granian(self, environ, collector, tmp_path):
        """It takes no socket of ours, so it says itself when it listens."""
        pytest.importorskip("django")
        pytest.importorskip("granian")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [*self.PYTHON, "granian", "--interface", "asgi", "--port", port]
        command += ["django_app:application"]
        more = {**environ, "UPLOAD_INTERVAL": "600"}
        arguments = [str(part) for part in command]
        with group(arguments, tmp_path / "log", env=more) as process:
            server = Server(process, port)

            def listens():
                with suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    return True
                return False

            until(listens, HANG)
            asked, _ = server.ask_all(20)
            server.stop()
        assert arrived(collector) == (asked, 0)


class TestUwsgi:
    @pytest.fixture
    def command(self):
        """Return the command, which is no module."""
        path = Path(sys.executable).with_name("uwsgi")
        if not path.exists():
            pytest.skip("uWSGI is not installed")
        graceful = "unix_signal:15 gracefully_kill_them_all"
        return (
            *(path, "--http-socket", "fd://{fd}", "--master", "--processes", 3),
            *("--need-app", "--wsgi", "wsgi_app", "--hook-master-start", graceful),
            "--enable-threads",
        )

    @pytest.mark.parametrize("lazy", [True, False])
    @pytest.mark.parametrize("at_import", ["TRACK_AT_IMPORT", "NO"])
    def test_events_of_running_workers(
        self, serve, collector, command, lazy, at_import
    ):
        """Each worker delivers its own, whether or not uWSGI tells Python of forks."""
        options = ["--lazy-apps"] * lazy
        more = {"UPLOAD_INTERVAL": "0.1", at_import: "1"}
        with serve(*command, *options, **more) as server:
            asked, pids = server.ask_all(60, workers=3)
            assert server.process.pid not in pids
            count = len(asked) + 3 * (lazy and at_import == "TRACK_AT_IMPORT")
            assert collector.wait_for(count, HANG)
            server.stop()
        names, imports = arrived(collector)
        assert names == asked
        assert imports == count - len(asked) or not lazy

    @pytest.mark.parametrize("options", [[], ["--max-requests", 7]])
    def test_spool(self, serve, environ, collector, command, tmp_path, options):  # noqa: PLR0913, PLR0917
        """What waits when a worker ends, which uWSGI cuts short, is in the spool."""
        options = [*options, "--lazy-apps", "--min-worker-lifetime", 0]
        more = {"SPOOL": str(tmp_path / "spool")}
        with serve(*command, *options, **more) as server:
            asked, _ = server.ask_all(60, workers=3)
            server.stop()
        subprocess.run(
            [
                *(sys.executable, "-c"),
                "import wsgi_app; assert wsgi_app.htevents.flush(30)",
            ],
            env={**environ, **more},
            timeout=HANG,
            check=True,
        )
        names, _ = arrived(collector)
        assert names.keys() == asked.keys()


class TestCelery:
    @pytest.fixture
    def run(self, environ, tmp_path):
        """Return what has a worker do tasks; it yields the worker and who did each."""
        pytest.importorskip("celery")
        for name in ("queue", "control"):
            tmp_path.joinpath(name).mkdir()
        environ["CELERY_FOLDER"] = str(tmp_path)

        @contextmanager
        def run_worker(*options):
            celery = [sys.executable, "-m", "celery", "-A", "celery_app", "worker"]
            quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
            command = [*celery, *quiet, "--concurrency", "2", *options]
            with group(command, tmp_path / "log", env=environ) as worker:
                until(tmp_path.joinpath("ready").exists, HANG)
                answers = subprocess.run(
                    [sys.executable, "celery_app.py", "20"],
                    cwd=APPLICATIONS,
                    env=environ,
                    timeout=HANG,
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                ).stdout.splitlines()
                assert [answer[0] for answer in answers] == ["1"] * 20
                yield worker, [int(answer[2:]) for answer in answers]

        return run_worker

    @pytest.mark.parametrize("pool", ["prefork", "threads"])
    def test_warm_shutdown(self, run, collector, pool):
        """A pool's processes deliver, though they end by `os._exit`."""
        with run("--pool", pool) as (worker, pids):
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(HANG) == 0
        assert (worker.pid in pids) == (pool == "threads")
        names, _ = arrived(collector)
        assert names == Counter(f"e{n}" for n in range(20))

    def test_max_tasks_per_child(self, run, collector):
        """
        So does a process that is replaced, right then.

        The worker is killed: at a warm shutdown meanwhile, Celery 5.7.0 itself kills
        processes without its signal, or waits for them without end.
        """
        with run("--max-tasks-per-child", "3") as (_, pids):
            replaced = {f"e{n}" for n, pid in enumerate(pids) if pids.count(pid) == 3}
            assert replaced
            until(lambda: replaced <= set(arrived(collector)[0]), HANG)
        names, _ = arrived(collector)
        assert names == Counter(replaced)


class TestRq:
    def test_work_horses(self, environ, collector, tmp_path, redis_url):
        """Each job has a process, which ends by `os._exit`; the worker flushes there."""
        rq = pytest.importorskip("rq")
        import redis

        with redis.Redis.from_url(redis_url) as connection:
            queue = rq.Queue(connection=connection)
            jobs = [queue.enqueue("rq_jobs.work", f"e{n}") for n in range(8)]
            rq_worker = [sys.executable, "-m", "rq.cli", "worker", "--burst"]
            options = ["--url", redis_url, "--worker-class", "rq_jobs.Worker"]
            log = tmp_path / "log"
            with group([*rq_worker, *options], log, env=environ) as worker:
                assert worker.wait(HANG) == 0
            answers = [job.return_value(refresh=True) for job in jobs]
        assert [answer[0] for answer in answers] == ["1"] * 8
        assert worker.pid not in {int(answer[2:]) for answer in answers}
        assert arrived(collector) == (Counter(f"e{n}" for n in range(8)), 0)


class TestGevent:
    def test_patched_script(self, environ, collector, tmp_path):
        """Events of greenlets, a forked child's too, arrive, once."""
        pytest.importorskip("gevent")
        script = """if True:
            from gevent import monkey
            monkey.patch_all()
            import os, sys, threading
            from htlogging import htevents
            htevents.upload_interval = 600
            def work(start):
                for n in range(start, start + 50):
                    assert htevents.track("user", f"e{n}")[0]
            threads = [threading.Thread(target=work, args=(n,)) for n in (0, 50)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            pid = os.fork()
            if pid == 0:
                work(100)
                if "join" in sys.argv:
                    htevents.join()
                sys.exit()
            assert os.waitpid(pid, 0)[1] == 0
            work(150)
            assert htevents.flush(30)
            work(200)
            if "join" in sys.argv:
                htevents.join()
        """
        log = tmp_path / "log"
        command = [sys.executable, "-c", script, *["join"] * NO_THREAD_AT_EXIT]
        with group(command, log, env=environ) as process:
            assert process.wait(HANG) == 0
        assert arrived(collector) == (Counter(f"e{n}" for n in range(250)), 0)

    def test_patched_after_import(self, environ, collector, tmp_path):
        """The package was imported before gevent's patch: to close it takes no time."""
        pytest.importorskip("gevent")
        script = """if True:
            from htlogging import htevents
            from gevent import monkey
            monkey.patch_all()
            htevents.shutdown_timeout = 600
            htevents.track("user", "e0")
            htevents.join()
        """
        command = [sys.executable, "-c", script]
        with group(command, tmp_path / "log", env=environ) as process:
            assert process.wait(HANG) == 0
        assert arrived(collector) == (Counter(["e0"]), 0)


class TestUntoldFork:
    def test_of_c_code(self, environ, collector, tmp_path):
        """
        A fork that runs none of Python's hooks, as uWSGI's: events arrive once.

        Before it no thread runs, or its locks would be held in the child for ever.
        """
        script = """if True:
            import ctypes, os, sys, threading, time, types
            worker = 0
            sys.modules["uwsgi"] = types.SimpleNamespace(
                worker_id=lambda: worker, mule_id=lambda: 0
            )
            from htlogging import htevents
            htevents.upload_interval = 600
            htevents.track("user", "e0")
            assert threading.active_count() == 1
            pid = ctypes.PyDLL(None).fork()
            if pid == 0:
                worker = 1
                htevents.track("user", "e1")
                assert htevents.default_client.stats["accepted"] == 1
                until = time.monotonic() + 30
                while threading.active_count() < 2 and time.monotonic() < until:
                    time.sleep(0.01)  # the thread is on its way
                assert threading.active_count() >= 2
                os._exit(not htevents.flush(30))
            assert os.waitpid(pid, 0)[1] == 0
        """
        log = tmp_path / "log"
        with group([sys.executable, "-c", script], log, env=environ) as process:
            assert process.wait(HANG) == 0
        assert arrived(collector) == (Counter(["e0", "e1"]), 0)


class TestFreeze:
    def test_frozen_after_the_function_returned(self, environ, collector, tmp_path):
        """What a function flushed before it returned needs no further moment of it."""
        script = """if True:
            import sys
            from htlogging import htevents
            htevents.upload_interval = 600
            @htevents.flushed(timeout=5)
            def handler(event, context):
                htevents.track("user", event)
                return event
            for line in sys.stdin:
                print(handler(line.strip(), None), flush=True)
        """
        with group(
            [sys.executable, "-c", script],
            tmp_path / "log",
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            for n in range(5):
                process.stdin.write(f"e{n}\n")
                process.stdin.flush()
                assert process.stdout.readline() == f"e{n}\n"
                process.send_signal(signal.SIGSTOP)
                assert len(collector.events) == n + 1
                process.send_signal(signal.SIGCONT)
            process.stdin.close()
            assert process.wait(HANG) == 0
        assert arrived(collector) == (Counter(f"e{n}" for n in range(5)), 0)
