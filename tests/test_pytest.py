"""The pytest plugin: nothing leaves the machine, and what was made can be looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest

HANG = 120  # seconds: the guard, not a measurement

# Every way in of the README, made before and after; on the root logger of an application
# that has forgotten its tests.
APP = """
    import logging, logging.config, os
    import htlogging
    from htlogging import htevents
    from htlogging.htevents import Client

    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"htevents": {"()": "htlogging.HtEventsHandler", "write_key": "A"}},
        "loggers": {
            "shop": {"handlers": ["htevents"], "level": "INFO", "propagate": False}
        },
    })
    log = logging.getLogger("shop")
    before = Client("B")
    direct = Client("C", sync_mode=True)
    spooled = Client("D", spool="spool.db")
    formatted = htlogging.HtEventsHandler(write_key="E")
    formatted.setFormatter(htlogging.HtEventsFormatter())
    logging.getLogger("formatted").addHandler(formatted)
    logging.getLogger("formatted").setLevel("INFO")
    htevents.write_key = "F"

    def order(number=1):
        log.info("plain", extra={"ht_user_id": "u", "number": number})
        before.track("u", "before")
        direct.track("u", "direct")
        spooled.track("u", "spooled")
        logging.getLogger("formatted").info("formatted", extra={"ht_user_id": "u"})
        htevents.track("u", "facade")
        Client("G").track("u", "after")
        Client(host="https://elsewhere.example").track("u", "environment")

    NAMES = "plain before direct spooled formatted facade after environment".split()
"""


class Proxy(BaseRequestHandler):
    """A proxy that counts requests, and refuses them all."""

    def handle(self):
        """Note a request."""
        self.server.seen.append(self.request.recv(1000))


@pytest.fixture
def proxy():
    """Return a proxy for all that leaves the machine."""
    ThreadingTCPServer.daemon_threads = True
    with ThreadingTCPServer(("127.0.0.1", 0), Proxy) as server:
        server.seen = []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def project(tmp_path, proxy):
    """Return a function that runs pytest on a project with these test files."""
    url = f"http://127.0.0.1:{proxy.server_address[1]}"

    def run(test, *options, status=0, module="pytest", **environ):
        (tmp_path / "app.py").write_text(textwrap.dedent(APP))
        (tmp_path / "test_app.py").write_text(textwrap.dedent(test))
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HTEVENTS_", "PYTEST_", "COV_CORE"))
        }
        ended = subprocess.run(
            [sys.executable, "-m", module, *options],
            check=False,
            cwd=tmp_path,
            env={
                **clean,
                "http_proxy": url,
                "https_proxy": url,
                "no_proxy": "localhost,127.0.0.1",
                "HTEVENTS_WRITE_KEY": "ENVIRONMENT",
                **environ,
            },
            capture_output=True,
            text=True,
            timeout=HANG,
        )
        out = ended.stdout + ended.stderr
        assert ended.returncode == status, out
        assert not (tmp_path / "spool.db").exists()
        return out

    return run


class TestNothingLeaves:
    def test_of_a_project_that_forgot(self, project, proxy):
        """Without a fixture, a setting or a plugin option: no event leaves."""
        project(
            """
            import app

            def test_order():
                app.order()
                assert app.htevents.flush(10)
            """
        )
        assert proxy.seen == []

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [(), ("-p", "no:logging"), ("-n", "2")])
    def test_and_all_is_seen(self, project, proxy, options):
        """Each event is in `ht_events`, once, in order; by whatever way in."""
        if "-n" in options:
            pytest.importorskip("xdist")
        project(
            """
            import app

            def test_order(ht_events):
                app.order()
                assert [event["event"] for event in ht_events] == app.NAMES
                assert ht_events.one("plain", number=1)["userId"] == "u"

            def test_another(ht_events):
                assert ht_events == []
            """,
            *options,
        )
        assert proxy.seen == []

    @pytest.mark.parametrize("options", [(), ("-n", "1")])
    @pytest.mark.once
    def test_logs(self, project, options):
        """A worker of pytest-xdist logs what a single process logs."""
        if options:
            pytest.importorskip("xdist")
        project(
            """
            from htlogging.htevents import Client

            def test_order(caplog):
                Client("K", host="https://elsewhere.example").track("u", "e")
                assert [record.getMessage() for record in caplog.records] == ["e"]
            """,
            *options,
        )

    @pytest.mark.once
    def test_in_processes_that_a_test_starts(self, project, proxy):
        """Nor do events leave from another process, or a forked one."""
        project(
            """
            import multiprocessing, subprocess, sys
            import app, pytest

            def test_other():
                done = subprocess.run(
                    [sys.executable, "-c", "import app; app.order(); app.order()"],
                    check=True, capture_output=True, text=True,
                )
                for host in ("https://us-east-1.hightouch-events.com", "https://elsewhere"):
                    assert done.stderr.count(f"events for {host}") == 1

            @pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
            def test_child(method):
                child = multiprocessing.get_context(method).Process(target=app.order)
                child.start()
                child.join()
                assert child.exitcode == 0
            """,
            PYTHONWARNINGS="ignore",
        )
        assert proxy.seen == []

    @pytest.mark.once
    def test_at_exit(self, project, proxy):
        """What the application logs when pytest has ended stays here, too."""
        project(
            """
            import atexit
            import app

            atexit.register(app.order)

            def test_order():
                pass
            """
        )
        assert proxy.seen == []

    @pytest.mark.slow
    def test_through_unittest(self, project, proxy):
        """A `TestCase` under pytest is a test like others."""
        project(
            """
            import unittest
            import app

            class TestOrder(unittest.TestCase):
                def test_order(self):
                    with self.assertLogs("htevents"):
                        app.order()
            """
        )
        assert proxy.seen == []

    @pytest.mark.slow
    def test_lifted(self, project, proxy):
        """The marker lets this test's events leave, and no other's."""
        out = project(
            """
            import app, pytest
            from htlogging.htevents import Client

            @pytest.mark.htevents(send=True)
            def test_that_sends(ht_events):
                client = Client("K", host="http://elsewhere.example", max_retries=0)
                client.track("u", "leaves")
                assert client.flush(60)
                assert client.stats.failed == 1
                assert ht_events.one("leaves")

            def test_that_does_not():
                Client("K", host="http://elsewhere.example").track("u", "stays")
            """
        )
        assert b"POST http://elsewhere.example/v1/batch" in proxy.seen[0]
        assert "passed" in out

    @pytest.mark.slow
    def test_remote_proxy_of_a_local_server(self, project, proxy):
        """A server on this machine behind a proxy elsewhere is not this machine."""
        project(
            """
            from htlogging.htevents import Client

            def test_proxy(ht_events):
                proxies = {"http": "http://elsewhere.example:3128"}
                client = Client("K", host="http://localhost:9", proxies=proxies)
                client.track("u", "stays")
                assert client.stats.accepted == 0
                assert ht_events.one("stays")
            """
        )
        assert proxy.seen == []

    @pytest.mark.slow
    def test_needs_the_plugin(self, project, proxy):
        """Without the plugin they would leave: the proxy sees what there is to see."""
        (bad,) = [
            project(
                """
                from htlogging.htevents import Client

                def test_order():
                    Client("K", max_retries=0).track("u", "leaves")
                """,
                "-p",
                "no:htlogging",
            )
        ]
        assert "passed" in bad
        assert proxy.seen[0].startswith(b"CONNECT us-east-1.hightouch-events.com")


@pytest.mark.once
class TestEvents:
    def test_no_key(self, project):
        """No write key is needed, by no way in; nor does a key-less client stay."""
        project(
            """
            import pytest
            import htlogging
            from htlogging import htevents
            from htlogging.htevents import Client

            def test_without(ht_events):
                Client().track("u", "client")
                htevents.track("u", "facade")
                assert len(ht_events) == 2

            def test_with():
                with pytest.raises(htlogging.InvalidSetting):
                    htevents.track("u", "facade")
            """,
            HTEVENTS_WRITE_KEY="",
        )

    def test_threads_ids_and_order(self, project):
        """Message ids count from 1 in each test, and are those that calls return."""
        project(
            """
            import threading
            from unittest.mock import ANY
            from htlogging import bind, bound, htevents

            def test_first(ht_events):
                _, event = htevents.track("u", "a", {"n": 1})
                thread = threading.Thread(target=htevents.track, args=("u", "b"))
                thread.start()
                thread.join()
                with bound(ht_user_id="bound", plan="pro"):
                    htevents.track(event="c")
                assert ht_events[0] == event
                assert ht_events == [
                    {
                        "type": "track", "event": name, "userId": user,
                        "anonymousId": None, "properties": properties,
                        "context": ANY, "integrations": {}, "timestamp": ANY,
                        "messageId": f"00000000-0000-4000-8000-{number:012d}",
                    }
                    for number, (name, user, properties) in enumerate([
                        ("a", "u", {"n": 1}), ("b", "u", {}), ("c", "bound", {"plan": "pro"})
                    ], 1)
                ]

            def test_second(ht_events):
                htevents.track("u", "a")
                assert ht_events[0]["messageId"].endswith("-000000000001")
            """
        )

    @pytest.mark.slow
    def test_fixtures_count(self, project):
        """What the test's other fixtures make is seen, whichever comes first."""
        project(
            """
            import pytest
            from htlogging import htevents

            @pytest.fixture(autouse=True)
            def user():
                htevents.identify("u", {"plan": "pro"})

            def test_first(ht_events):
                assert ht_events.one("identify", plan="pro")
            """
        )

    def test_caplog(self, project):
        """Records show what was bound, for calls and for plain logging."""
        project(
            """
            import logging
            from htlogging import bound, htevents
            import app

            def test_first(caplog):
                caplog.set_level("INFO")
                with bound(ht_user_id="u7", plan="pro"):
                    htevents.track(event="a")
                    logging.getLogger("formatted").info("b")
                for record in caplog.records:
                    assert (record.ht_user_id, record.plan) == ("u7", "pro")
                assert len(caplog.records) == 2
            """
        )

    @pytest.mark.slow
    def test_failures_are_readable(self, project):
        """A comparison names the event, the place and both values."""
        out = project(
            """
            from unittest.mock import ANY
            import app

            def test_equal(ht_events):
                app.before.track("u", "Order completed", {"total": 15.3, "tax": 1})
                expected = dict(ht_events[0], properties={"total": 15.4, "code": "x"})
                assert ht_events == [expected, expected]

            def test_one(ht_events):
                app.before.track("u", "Order completed", {"total": 15.3})
                ht_events.one("Order completed", total=99)
            """,
            status=1,
        )
        assert (
            "event 1: track 'Order completed' of 'u' {'total': 15.3, 'tax': 1}" in out
        )
        assert "properties.total is 15.3, not 15.4" in out
        assert "properties.tax is not expected: 1" in out
        assert "properties.code is missing: 'x'" in out
        assert "event 2 is missing: " in out
        assert (
            "expected one event 'Order completed' with {'total': 99}, there is none"
        ) in out
        assert "track 'Order completed' of 'u' {'total': 15.3}" in out

    def test_collector(self, project):
        """`ht_collector` is a server of the test's own; its events are seen, too."""
        project(
            """
            from htlogging.htevents import Client

            def test_sent(ht_collector, ht_events):
                client = Client("K", host=ht_collector.url)
                client.track("u", "a")
                assert client.flush(30)
                assert ht_collector.events == list(ht_events)
            """
        )


class TestStrict:
    TEST = """
        import pytest
        from htlogging.htevents import Client
        from htlogging.testing import capture

        client = Client("K")

        def test_nobody_looks():
            client.track("u", "unseen")

        def test_one_is_looked_at(ht_events):
            client.track("u", "seen")
            client.track("u", "unseen too")
            assert ht_events.one("seen")

        def test_all_are(ht_events):
            client.track("u", "seen")
            assert len(ht_events) == 1

        def test_own_server(ht_collector):
            own = Client("K", host=ht_collector.url)
            own.track("u", "sent")
            assert own.flush(30)

        def test_a_list_of_its_own():
            with capture() as events:
                client.track("u", "captured")
            assert events.one("captured")

        def test_a_list_that_is_not_looked_at():
            with capture():
                client.track("u", "captured unseen")

        @pytest.mark.htevents(strict=False)
        def test_lenient():
            client.track("u", "unseen")
    """

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "options", [("--htevents-strict",), ("-o", "htevents_strict=true")]
    )
    def test_fails(self, project, options):
        """Events that a test did not look at fail it, and are shown."""
        out = project(self.TEST, *options, status=1)
        assert "3 failed, 4 passed" in out
        assert "the test did not look at these events:" in out
        assert "track 'unseen' of 'u' {}" in out
        assert "track 'unseen too' of 'u' {}" in out
        assert "track 'captured unseen' of 'u' {}" in out
        assert "'seen' of" not in out
        assert "'captured' of" not in out

    @pytest.mark.slow
    def test_only_where_asked_for(self, project):
        """By default a test need not look."""
        assert "7 passed" in project(self.TEST)


@pytest.mark.once
class TestMarker:
    def test_misspelt(self, project):
        """What it does not take fails the test: it would have no effect."""
        out = project(
            """
            import pytest

            @pytest.mark.htevents(sent=True)
            def test_misspelt(): ...

            @pytest.mark.htevents(True)
            def test_without_a_name(): ...

            @pytest.mark.htevents
            def test_bare(): ...
            """,
            status=1,
        )
        assert "2 failed, 1 passed" in out
        assert "takes send=True or False and strict=True or False, not sent" in out


class TestPlugin:
    def test_imports(self):
        """Loaded, it has imported nothing but pytest beside the package itself."""
        script = """
            import sys, json
            import pytest, htlogging
            before = set(sys.modules)
            import htlogging._pytest
            print(json.dumps(sorted(set(sys.modules) - before)))
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            capture_output=True,
            check=True,
            text=True,
            timeout=HANG,
        )
        assert json.loads(done.stdout) == ["htlogging._pytest"]

    def test_is_an_entry_point(self):
        """Installing the package is all that a project does."""
        from importlib.metadata import entry_points

        (found,) = [p for p in entry_points(group="pytest11") if p.name == "htlogging"]
        assert found.value == "htlogging._pytest"
        assert Path(sys.modules["htlogging._pytest"].__file__).is_file()
