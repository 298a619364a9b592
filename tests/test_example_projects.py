"""The examples that are projects, copied and run as people do, against the collector."""

from __future__ import annotations

import http.client
import os
import shutil
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest
from script_runner import python, until
from test_servers import HANG, environ, group, redis_url, serve

__all__ = ["environ", "redis_url", "serve"]

pytestmark = pytest.mark.servers

EXAMPLES = Path(__file__).parent.parent / "examples"
VISITOR = "3f6d1c1e-6f0e-4b57-9a55-0f5d7b3c0a11"
GUNICORN = ("gunicorn", "--bind", "fd://{fd}", "--no-control-socket")
UVICORN = ("uvicorn", "--fd", "{fd}")


@pytest.fixture
def project(environ, tmp_path):
    """Return what copies an example's folder and makes it the place of all that runs."""

    def copy(name):
        folder = tmp_path / name
        shutil.copytree(EXAMPLES / name, folder)
        environ["PYTHONPATH"] = str(folder)
        return folder

    return copy


def run(folder, environ, *command, **more):
    """Run Python there to its end."""
    done = python(*command, cwd=folder, **{**environ, **more})
    assert done.status == 0, done.err
    return done.out


class Visitor:
    """A visitor with the browser SDK's cookie, who keeps those that are set."""

    def __init__(self, port):
        self.port = port
        self.cookies = {"htjs_anonymous_id": VISITOR}

    def ask(self, method, path, form=None, **headers):
        """Send a request; return its body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG)
        headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        body = None if form is None else urlencode(form)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        for cookie in response.headers.get_all("Set-Cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        text = response.read().decode()
        connection.close()
        assert response.status == 200, text
        return text


def made(collector):
    """Return what arrived: name, user, visitor and properties, sorted by name."""
    fields = ("event", "userId", "anonymousId", "properties")
    return sorted(
        (tuple(event[field] for field in fields) for event in collector.events),
        key=lambda event: event[0],
    )


class TestDjango:
    def test_check_without_a_key(self, environ, project):
        """`manage.py check` needs no write key."""
        pytest.importorskip("django")
        folder = project("django")
        said = run(folder, environ, "manage.py", "check", HTEVENTS_WRITE_KEY=None)
        assert "no issues" in said

    @pytest.mark.parametrize(
        "command",
        [(*GUNICORN, "shop.wsgi"), (*UVICORN, "shop.asgi:application")],
        ids=["wsgi", "asgi"],
    )
    def test_shop(self, serve, environ, project, collector, command):
        """Views, a stream and the authenticated user, under WSGI and ASGI."""
        pytest.importorskip("django")
        pytest.importorskip(command[0])
        folder = project("django")
        run(folder, environ, "manage.py", "migrate")
        with serve(sys.executable, "-W", "ignore", "-m", *command) as server:
            visitor = Visitor(server.port)
            assert visitor.ask("GET", "/") == "Hello, stranger\n"
            visitor.ask("POST", "/buy?total=15.3", {})
            visitor.ask("GET", "/export")
            visitor.ask("POST", "/ht/renew", Origin=f"http://127.0.0.1:{server.port}")
            server.stop()
        assert visitor.cookies["htjs_anonymous_id_srvr"] == VISITOR
        assert made(collector) == [
            ("Home viewed", None, VISITOR, {}),
            ("Order completed", None, VISITOR, {"total": 15.3}),
            ("Report exported", None, VISITOR, {"orders": 3}),
        ]
        assert collector.problems == []


class TestFlask:
    def test_shop(self, serve, environ, project, collector):
        """A login, an order and a stream: the user is whom the session knows."""
        pytest.importorskip("flask")
        pytest.importorskip("gunicorn")
        project("flask")
        command = [*GUNICORN, "--worker-class", "gthread", "app:app"]
        with serve(sys.executable, "-m", *command, **environ) as server:
            visitor = Visitor(server.port)
            visitor.ask("POST", "/login", {"user": "user123"})
            visitor.ask("POST", "/buy", {"total": "15.3"})
            visitor.ask("GET", "/export")
            Visitor(server.port).ask("POST", "/buy", {"total": "1"})
            server.stop()
        assert made(collector) == [
            ("Logged in", "user123", VISITOR, {}),
            ("Order completed", "user123", VISITOR, {"total": 15.3}),
            ("Order completed", None, VISITOR, {"total": 1.0}),
            ("Report exported", "user123", VISITOR, {"orders": 3}),
        ]


class TestFastApi:
    def test_shop(self, serve, environ, project, collector):
        """A dependency on a thread, an endpoint, a task in the background."""
        pytest.importorskip("fastapi")
        pytest.importorskip("uvicorn")
        project("fastapi")
        command = [*UVICORN, "main:app"]
        with serve(sys.executable, "-m", *command, **environ) as server:
            visitor = Visitor(server.port)
            visitor.ask("POST", "/buy?total=15.3", Authorization="Bearer user123")
            server.stop()
        assert made(collector) == [
            ("Order completed", "user123", VISITOR, {"total": 15.3}),
            ("Receipt mailed", "user123", VISITOR, {}),
        ]


class TestCelery:
    EVENTS = (
        ("Order completed", "user123", None, {"order_id": "5012"}),
        ("Receipt mailed", "user123", None, {"order_id": "5012"}),
    )

    def test_without_a_broker(self, environ, project, collector):
        """The job runs where it is enqueued."""
        pytest.importorskip("celery")
        run(project("celery"), environ, "jobs.py", CELERY_BROKER_URL=None)
        assert tuple(made(collector)) == self.EVENTS

    @pytest.mark.slow
    def test_with_a_worker(self, environ, project, collector, tmp_path, redis_url):
        """The job runs in another process, for the same user."""
        pytest.importorskip("celery")
        pytest.importorskip("redis")
        folder = project("celery")
        environ["CELERY_BROKER_URL"] = redis_url.replace("unix:", "redis+socket:")
        command = [sys.executable, "-m", "celery", "-A", "jobs", "worker"]
        with group(command, tmp_path / "log", env=environ, cwd=folder) as worker:
            run(folder, environ, "jobs.py")
            until(lambda: len(collector.events) == 2)
            worker.terminate()
            worker.wait(HANG)
        assert tuple(made(collector)) == self.EVENTS


def test_all_of_them_are_named():
    """The examples' page has each file and folder."""
    page = (EXAMPLES / "README.md").read_text("utf-8")
    for entry in os.scandir(EXAMPLES):
        if entry.name not in ("README.md", "__pycache__", "data"):
            assert f"]({entry.name}" in page
