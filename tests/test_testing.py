"""Events in tests: kept, in order, as they would be sent."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import textwrap
import threading
import unittest
from types import SimpleNamespace
from unittest.mock import ANY

import pytest
from script_runner import HANG

import htlogging
from htlogging import HtEventsHandler, htevents
from htlogging._process import capturing
from htlogging.htevents import Client
from htlogging.testing import Events, capture
from htlogging.testing._events import unseen


def ids(events):
    """Return message ids as numbers."""
    return [int(event["messageId"].replace("-", "")[-12:]) for event in events]


class TestCapture:
    def test_every_way_in(self, tmp_path):
        """Handlers and clients made before and after, with any setting."""
        before = Client("K")
        with capture() as events:
            before.track("u", "before")
            Client("K").track("u", "after")
            Client("K", sync_mode=True).track("u", "direct")
            Client("K", send=False).track("u", "off")
            Client("K", spool=tmp_path / "spool").track("u", "spooled")
            handler = HtEventsHandler(write_key="K")
            record = {"name": "shop", "msg": "plain", "ht_user_id": 7, "n": {1, 2}}
            handler.handle(logging.makeLogRecord(record))
        names = ["before", "after", "direct", "off", "spooled", "plain"]
        assert [event["event"] for event in events] == names
        assert events.one("plain")["properties"] == {"n": [1, 2]}
        assert before.stats.accepted == 0
        assert list(tmp_path.iterdir()) == []

    def test_no_key(self, monkeypatch):
        """No write key is needed; afterwards it is, and no client without one stays."""
        monkeypatch.delenv("HTEVENTS_WRITE_KEY", raising=False)
        monkeypatch.setattr(htevents, "write_key", None)
        monkeypatch.setattr(htevents, "default_client", None)
        with capture() as events:
            Client().track("u", "client")
            htevents.track("u", "facade")
        assert len(events) == 2
        for call in (Client, lambda: htevents.track("u", "facade")):
            with pytest.raises(htlogging.InvalidSetting):
                call()

    def test_threads(self):
        """What other threads make is there, in order; ids are the calls'."""
        client = Client("K")
        made = []

        def track(name):
            made.append(client.track("u", name)[1]["messageId"])

        with capture() as events:
            for name in "abc":
                thread = threading.Thread(target=track, args=(name,))
                thread.start()
                thread.join(HANG)
        assert [event["event"] for event in events] == ["a", "b", "c"]
        assert [event["messageId"] for event in events] == made
        assert ids(events) == [1, 2, 3]

    def test_nested(self):
        """A block in another sees its own events, and the outer one sees all."""
        client = Client("K")
        with capture() as outer:
            client.track("u", "a")
            with capture() as inner:
                client.track("u", "b")
            client.track("u", "c")
        assert [event["event"] for event in inner] == ["b"]
        assert [event["event"] for event in outer] == ["a", "b", "c"]
        assert ids(outer) == [1, 2, 3]

    def test_ends(self, collector):
        """Afterwards ids are random again, and events are sent."""
        before = capturing.generation
        with capture():
            pass
        assert capturing.generation > before
        client = Client("K", host=collector.url)
        _, event = client.track("u", "a")
        assert not event["messageId"].startswith("00000000-0000")
        assert client.flush(HANG)
        assert client.stats.delivered == 1

    def test_leaves_nothing(self):
        """When it has ended, no list gets events."""
        before = capturing._observers
        with capture():
            assert len(capturing._observers) == len(before) + 1
        assert capturing._observers == before

    def test_decorator(self):
        """It decorates a function, too."""

        @capture()
        def test():
            return Client("K").track("u", "a")[0]

        assert test() is True

    def test_decorator_of_steps(self):
        """What runs in steps has it from its first to its last."""
        client, made = Client("K"), []

        def track():
            made.append(client.track("u", "a")[1])

        @capture()
        async def coroutine():
            await asyncio.sleep(0)
            track()

        @capture()
        def generator():
            track()
            yield
            track()

        @capture()
        async def async_generator():
            yield
            track()

        async def run():
            await coroutine()
            async for _ in async_generator():
                track()

        asyncio.run(run())
        for _ in generator():
            track()
        assert ids(made) == [1, 1, 2, 1, 2, 3]
        assert client.stats.accepted == 0

    def test_decorator_of_a_class(self):
        """A class is refused: its methods would not run in it, or not at all."""
        with pytest.raises(TypeError, match="on each method"):

            @capture()
            class TestOrder(unittest.TestCase):
                pass

    def test_collector(self, collector):
        """What goes to loopback is sent, and shown."""
        with capture() as events:
            client = Client("K", host=collector.url)
            client.track("u", "a")
            assert client.flush(HANG)
        assert list(events) == collector.events


class TestEvents:
    @pytest.fixture
    def events(self):
        """Return some events."""
        client = Client("K")
        with capture() as events:
            client.track("u", "Order completed", {"total": 1, "plan": "pro"})
            client.track("u", "Order completed", {"total": 2, "plan": "pro"})
            client.page("u", "Docs", "Index")
            client.identify("u", {"plan": "pro"})
            client.group("u", "g")
        return events

    def test_named(self, events):
        """By a track event's, a page's or a screen's name; by the type of others."""
        assert len(events.named("Order completed")) == 2
        assert events.named("Index")[0]["category"] == "Docs"
        assert events.named("identify")[0]["traits"] == {"plan": "pro"}
        assert events.named("group")[0]["groupId"] == "g"
        assert events.named("track") == []

    def test_one(self, events):
        """The only one with these properties or traits."""
        assert events.one("Order completed", total=2) is events[1]
        assert events.one("Order completed", plan=ANY, total=1) is events[0]
        assert events.one("identify", plan="pro") is events[3]

    @pytest.mark.parametrize(
        ("name", "properties", "said"),
        [
            ("Order", {}, "expected one event 'Order', there is none"),
            (
                "Order completed",
                {"plan": "pro"},
                "one event 'Order completed' with {'plan': 'pro'}, there are 2 events",
            ),
            ("Order completed", {"total": None}, "with {'total': None}, there is none"),
            ("Index", {"path": "/"}, "there is none"),
        ],
    )
    def test_not_one(self, events, name, properties, said):
        """Otherwise the error shows what there was."""
        with pytest.raises(AssertionError) as caught:
            events.one(name, **properties)
        message = str(caught.value)
        assert said in message
        assert "track 'Order completed' of 'u' {'total': 2, 'plan': 'pro'}" in message
        assert "page 'Index' of 'u' {}" in message

    def test_not_one_of_none(self):
        """Or that there was nothing."""
        with pytest.raises(AssertionError, match="there were no events at all"):
            Events().one("Order completed")

    def test_looked_at(self, events):
        """Whatever reads the list has looked at its events, `in` as well."""
        assert len(unseen(events)) > 0
        assert {} not in events
        assert unseen(events) == []

    def test_is_a_list(self, events):
        """It compares as one, `ANY` included."""
        assert events.named("group") == [dict.fromkeys(events[4], ANY)]
        assert events.named("group") != [{**events[4], "groupId": "h"}]
        assert events[:1] == [events[0]]


class TestWhatIsLocal:
    @pytest.mark.parametrize(
        ("host", "proxies", "local"),
        [
            ("http://localhost:8080", None, True),
            ("http://app.localhost", None, True),
            ("http://127.0.0.1:1/x", None, True),
            ("http://127.9.9.9", None, True),
            ("http://[::1]:8080", None, True),
            ("redis://localhost/0?stream=htevents", None, True),
            ("https://us-east-1.hightouch-events.com", None, False),
            ("http://localhost.example.com", None, False),
            ("http://127.0.0.1.example.com", None, False),
            ("http://10.0.0.1", None, False),
            ("http://0.0.0.0", None, False),
            ("rediss://cache.example/0", None, False),
            ("http://localhost", {"http": "http://proxy.example:3128"}, False),
            ("http://localhost", {"http": "http://localhost:3128"}, True),
            ("http://shop.example", {"http": "http://localhost:3128"}, False),
        ],
    )
    def test_table(self, host, proxies, local, monkeypatch):
        """Loopback is local; a server behind a proxy is where the proxy is."""
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        with capture():
            settings = SimpleNamespace(host=host, proxies=proxies, oauth_client_id=None)
            assert capturing.holds(settings) is not local
            monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
            monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
            if host == "http://localhost:8080":
                assert not capturing.holds(settings)
                monkeypatch.setenv("no_proxy", "")
                assert capturing.holds(settings)


class TestSendOff:
    def test_of_a_process(self, collector, monkeypatch):
        """HTEVENTS_SEND=0 stops handlers and clients, whatever their settings say."""
        monkeypatch.setenv("HTEVENTS_SEND", "0")
        client = Client("K", host=collector.url, send=True)
        assert client.track("u", "a")[0]
        assert Client().track("u", "b")[0]
        assert client.flush(HANG)
        assert collector.requests == []


DJANGO = """
    import django
    from django.conf import settings

    settings.configure(DATABASES={}, INSTALLED_APPS=[], SECRET_KEY="x")
    django.setup()

    from django.test.runner import DiscoverRunner

    from htlogging.testing import capture


    class Runner(DiscoverRunner):
        def run_tests(self, *args, **kwargs):
            with capture():
                return super().run_tests(*args, **kwargs)


    import sys
    runner = Runner if sys.argv[1] == "own" else DiscoverRunner
    sys.exit(runner(verbosity=0).run_tests(["shop"]))
"""

SHOP = """
    from django.test import SimpleTestCase
    from htlogging import htevents
    from htlogging.htevents import Client

    client = Client("K", host="https://elsewhere.example", max_retries=0)


    class TestShop(SimpleTestCase):
        def test_order(self):
            client.track("u", "a")
            htevents.track("u", "b")
            assert htevents.flush(30)
            assert client.stats.failed == 0
"""


class TestDjango:
    @pytest.mark.parametrize("runner", ["own", "off"])
    def test_runner(self, tmp_path, runner):
        """With a runner of one's own, or HTEVENTS_SEND=0, nothing is sent."""
        pytest.importorskip("django")
        (tmp_path / "shop").mkdir()
        (tmp_path / "shop" / "__init__.py").touch()
        (tmp_path / "shop" / "tests.py").write_text(textwrap.dedent(SHOP))
        (tmp_path / "run.py").write_text(textwrap.dedent(DJANGO))
        environ = {k: v for k, v in os.environ.items() if k[:9] != "HTEVENTS_"}
        environ["HTEVENTS_WRITE_KEY"] = "K"
        if runner == "off":
            environ["HTEVENTS_SEND"] = "0"
        done = subprocess.run(
            [sys.executable, "run.py", runner],
            check=False,
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=HANG,
        )
        assert done.returncode == 0, done.stderr
        assert "htlogging" not in done.stderr
