"""`python -m htlogging check` as people run it: each mistake is named, with its cure."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from redis_server import REDIS, RedisServer
from script_runner import HANG

from htlogging._cli.check.sources import Sources
from htlogging._settings import DEFAULTS, Settings
from htlogging.collector import Collector, Tokens

pytestmark = pytest.mark.once

CONFIG = """
import logging, logging.config
logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"h": {"()": "htlogging.HtEventsHandler"%s}},
    "loggers": {"htevents": {"handlers": ["h"], "propagate": False%s}},
})
"""
GOOD = CONFIG % ("", ', "level": "INFO"')


@pytest.fixture
def check(tmp_path, collector):
    """Return a function that checks an application: exit status and output."""

    def check(source=None, *arguments, cwd=tmp_path, **environ):
        env = {k: v for k, v in os.environ.items() if not k.startswith("HTEVENTS_")}
        env.update(
            HTEVENTS_HOST=collector.url, HTEVENTS_WRITE_KEY="RIGHT", NO_PROXY="*"
        )
        env.update(environ)
        if source is not None:
            (tmp_path / "shop.py").write_text(source)
            arguments = ("--app", "shop:app", *arguments)
            (tmp_path / "shop.py").write_text(f"{source}\ndef app(): pass\n")
        done = subprocess.run(
            [sys.executable, "-m", "htlogging", "check", *arguments],
            cwd=cwd,
            env={k: v for k, v in env.items() if v},
            capture_output=True,
            text=True,
            timeout=HANG,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    return check


class TestWell:
    def test_environment(self, check, collector):
        """Without an application, the facade by the environment; nothing is sent."""
        status, said = check()
        assert (status, "All well." in said) == (0, True), said
        assert not collector.events
        assert "only the environment is checked: --app or --django" in said

    def test_no_empty_section(self, check):
        """A section without a line has no title."""
        status, said = check(HTEVENTS_WRITE_KEY="")
        assert (status, "no write key" in said) == (1, True), said
        assert "Loggers" not in said

    @pytest.mark.parametrize(
        "source",
        [
            GOOD,
            (
                f"{GOOD}\nlog = logging.getLogger('htevents')\n"
                "def view(): log.info('Order', extra={'ht_user_id': 1, 'other': 2})"
            ),
            (
                "from htlogging.htevents import Client\nclient = Client()\n"
                "client.track('u', 'at import')"
            ),
            "from htlogging import htevents\nhtevents.track('u', 'at import')",
            (
                "import logging, htlogging\n"
                "logging.getLogger().addHandler(htlogging.HtEventsHandler())"
            ),
        ],
        ids=["dictconfig", "calls", "client", "facade", "root"],
    )
    def test_application(self, check, collector, source):
        """None of an application's events leaves, those of its import included."""
        status, said = check(source)
        assert (status, "All well." in said) == (0, True), said
        assert not collector.events

    def test_every_setting(self, check):
        """Each setting is shown with where it is from; never the key."""
        status, said = check(CONFIG % (', "upload_size": 7', ', "level": "INFO"'))
        assert status == 0
        assert all(f"  {name} " in said for name in DEFAULTS)
        lines = {line.split()[0]: line for line in said.splitlines() if line.strip()}
        assert lines["write_key"].endswith("environment HTEVENTS_WRITE_KEY")
        assert lines["upload_size"].split() == ["upload_size", "7", "code"]
        assert lines["gzip"].endswith("default")
        assert "RIGHT" not in said

    def test_send(self, check, collector):
        """`--send` sends one event."""
        status, said = check(None, "--send")
        assert (status, "was accepted" in said) == (0, True), said
        (event,) = collector.events
        assert event["event"] == "htlogging check"


LOG = "\nlog = logging.getLogger({!r})\ndef view(): log.{}('Order', extra={})"


class TestMistakes:
    @pytest.mark.parametrize(
        ("source", "words"),
        [
            (
                GOOD + LOG.format("htevents", "info", {"ht_userid": 1, "ht_name": 2}),
                ["no such field: ht_userid, at shop.py:", "write ht_user_id"],
            ),
            (
                GOOD + "\nimport htlogging\ndef f(): htlogging.bind(ht_usr=1)",
                ["no such field: ht_usr, at shop.py:"],
            ),
            (
                GOOD + LOG.format("htevent", "info", {"ht_user_id": 1}),
                ["wrong logger: shop.py:", "'htevent'"],
            ),
            (
                f"{GOOD}\nlog = logging.getLogger('ht_events')",
                ["wrong logger? 'ht_events'", "logging.getLogger('htevents')"],
            ),
            (
                CONFIG % ("", ""),
                ["'htevents' has the level WARNING", "it has no level"],
            ),
            (
                CONFIG % (', "level": "ERROR"', ', "level": "INFO"'),
                ["has the level ERROR", "set the handler's level to INFO"],
            ),
            (
                CONFIG % ("", ', "level": "DEBUG"'),
                ["'htevents' is at level DEBUG"],
            ),
            (
                GOOD + LOG.format("htevents", "debug", {"ht_user_id": 1}),
                ["logs an event at DEBUG", "it is dropped"],
            ),
            (f"{GOOD}\nlogging.disable()", ["logging.disable(CRITICAL) is in force"]),
            (
                f"{GOOD}\nfrom htlogging import htevents\nhtevents.upload_size = 7",
                ["no effect: htevents.upload_size"],
            ),
            (
                (
                    "from htlogging import htevents\nhtevents.track('u', 'e')\n"
                    "htevents.gzip = False\nhtevents.track('u', 'e')"
                ),
                ["no effect: htevents.gzip was set after the first call"],
            ),
            (
                "from htlogging import htevents\nhtevents.uploadsize = 7",
                ["unknown setting 'uploadsize'; did you mean upload_size?"],
            ),
            (
                (
                    f"{GOOD}\nfrom htlogging import HtEventsHandler\n"
                    "logging.getLogger('htevents').addHandler(HtEventsHandler())"
                ),
                ["two handlers: records of the logger 'htevents'", "sent twice"],
            ),
            (
                (
                    "import logging, queue\nfrom logging.handlers import *\n"
                    "from htlogging import HtEventsHandler\nq = queue.Queue()\n"
                    "listener = QueueListener(q, HtEventsHandler())\n"
                    "log = logging.getLogger('htevents')\nlog.addHandler(QueueHandler(q))"
                ),
                ["a handler behind a queue", "is not started", "listener.start()"],
            ),
            (
                (
                    "import logging, queue\nfrom logging.handlers import *\n"
                    "from htlogging import HtEventsHandler\nq = queue.Queue()\n"
                    "listener = QueueListener(q, HtEventsHandler())\nlistener.start()\n"
                    "log = logging.getLogger('htevents')\nlog.addHandler(QueueHandler(q))"
                ),
                ["a handler behind a queue", "put the handler on the logger itself"],
            ),
            (
                "from htlogging import HtEventsHandler\nhandler = HtEventsHandler()",
                ["is on no logger"],
            ),
            (
                CONFIG % (', "send": False', ', "level": "INFO"'),
                ["send is False (code): nothing is sent"],
            ),
            (
                "import logging\nlogging.getLogger('shop')\n"
                + (CONFIG % ("", ', "level": "INFO"')).replace("False", "True", 1)
                + "logging.root.addHandler(logging.getLogger('htevents').handlers[0])"
                + LOG.format("shop", "warning", {"ht_user_id": 1}),
                ["logs an event on 'shop', which is disabled"],
            ),
            ("1 / 0", ["cannot be imported: ZeroDivisionError"]),
        ],
    )
    def test_is_named(self, check, collector, source, words):
        """The exit status is 1, and the line says what is wrong and what to do."""
        status, said = check(source)
        assert status == 1, said
        for word in words:
            assert word in said
        assert not collector.events

    @pytest.mark.parametrize(
        ("options", "status", "words"),
        [
            ("", 1, "a handler of ours is a loguru sink: an event's name is the whole"),
            (
                ", format='{message}'",
                0,
                "a loguru sink: records with a bound ht_ field",
            ),
        ],
    )
    def test_loguru_sink(self, check, options, status, words):
        """Loguru's line would be the event's name."""
        pytest.importorskip("loguru")
        found, said = check(
            "from loguru import logger\nimport htlogging\n"
            f"logger.add(htlogging.HtEventsHandler(){options})"
        )
        assert (found, words in said) == (status, True), said

    @pytest.mark.parametrize(
        ("configure", "status", "words"),
        [
            ("", 1, "does not log through logging (PrintLoggerFactory)"),
            (
                (
                    "structlog.configure(logger_factory=structlog.stdlib.LoggerFactory(), "
                    "processors=[structlog.processors.JSONRenderer()])"
                ),
                1,
                "renders fields into the text (JSONRenderer)",
            ),
            (
                (
                    "structlog.configure(logger_factory=structlog.stdlib.LoggerFactory(), "
                    "processors=[structlog.stdlib.render_to_log_kwargs])"
                ),
                0,
                "structlog passes fields on",
            ),
        ],
    )
    def test_structlog(self, check, configure, status, words):
        """Fields reach a handler of logging only with the right processor."""
        pytest.importorskip("structlog")
        found, said = check(
            f"{GOOD}\nimport structlog\n{configure}\nlog = structlog.get_logger()\n"
            "def view(): log.info('Order', ht_user_id='u')\n"
            "def bound(): log.bind(ht_user_id='u').info('Order')"
        )
        assert (found, words in said) == (status, True), said

    def test_environment_variable(self, check):
        """One that is misspelt has no effect, and gives no other sign."""
        status, said = check(None, HTEVENTS_WRITEKEY="K", HTEVENT_DEBUG="1")
        assert status == 1
        assert "HTEVENTS_WRITEKEY has no effect" in said
        assert "write HTEVENTS_WRITE_KEY" in said
        assert "write HTEVENTS_DEBUG" in said

    def test_lazy_objects_stay_lazy(self, check):
        """Looking for objects evaluates none: frameworks have proxies of what is not yet."""
        status, said = check(
            f"{GOOD}\nclass Lazy:\n    @property\n"
            "    def __class__(self): raise RuntimeError('outside of a request')\n"
            "lazy = Lazy()"
        )
        assert status == 0, said

    def test_no_key(self, check):
        """It says what to set, once."""
        status, said = check(None, HTEVENTS_WRITE_KEY="")
        assert status == 1
        assert "no write key; set write_key" in said
        status, said = check(
            "from htlogging.htevents import Client\nClient()", HTEVENTS_WRITE_KEY=""
        )
        assert (status, "1 problem:" in said) == (1, True), said

    def test_sending_turned_off(self, check):
        """The environment that turns sending off is named."""
        status, said = check(None, HTEVENTS_SEND="0")
        assert status == 1
        assert "remove HTEVENTS_SEND" in said


class TestRoute:
    def test_wrong_key(self, check):
        """Only the server knows, and only `--send` asks it."""
        with Collector(write_key="OTHER") as other:
            status, said = check(None, "--send", HTEVENTS_HOST=other.url)
            assert (status, "wrong key: " in said) == (1, True), said
            assert "correct write_key or HTEVENTS_WRITE_KEY" in said
            assert "RIGHT" not in said
            status, said = check(None, HTEVENTS_HOST=other.url)
            assert (status, "--send" in said) == (0, True), said

    def test_send_in_a_test(self, check):
        """While a test runs, no test event leaves the machine; the route is looked at."""
        with server() as url:
            host = "http://shop.example"
            _, said = check(
                *(None, "--send"),
                HTEVENTS_HOST=host,
                HTEVENTS_LOOPBACK_ONLY="1",
                HTTP_PROXY=url,
                NO_PROXY="",
            )
        assert "no test event leaves the machine" in said
        assert "an answer after" in said
        assert "the test event" not in said

    def test_wrong_region(self, check):
        """A host name that is not known."""
        host = "https://eu-moon-9.hightouch-events.com.invalid"
        status, said = check(None, HTEVENTS_HOST=host)
        assert status == 1
        assert "the host name eu-moon-9.hightouch-events.com.invalid is not" in said
        assert "your workspace's region" in said

    def test_blocked(self, check, free_port):
        """No answer."""
        host = f"http://127.0.0.1:{free_port}"
        status, said = check(None, "--send", HTEVENTS_HOST=host)
        assert status == 1
        assert f"blocked network: no answer from {host}" in said
        assert "Connection refused" in said

    def test_proxy(self, check, free_port):
        """The proxy on the way is shown without its password, and is named as the cause."""
        proxy = f"http://joe:PASSWORD@127.0.0.1:{free_port}"
        status, said = check(
            None, HTEVENTS_HOST="http://a.example", HTTP_PROXY=proxy, NO_PROXY=""
        )
        assert status == 1
        assert f"through the proxy http://127.0.0.1:{free_port}" in said
        assert "PASSWORD" not in said

    @pytest.mark.parametrize(
        ("off", "words"),
        [(3_600, "60 minutes behind"), (-3_600, "60 minutes ahead of"), (9, "clock: ")],
    )
    def test_clock(self, check, off, words):
        """A clock that is off is seen by the server's `Date`, without an event."""
        with server(date=formatdate(time.time() + off, usegmt=True)) as url:
            status, said = check(None, HTEVENTS_HOST=url)
        assert (status, words in said) == (int(off != 9), True), said

    def test_authorization_is_not_sent(self, check):
        """Looking at the route gives no key away."""
        with server() as url:
            check(None, HTEVENTS_HOST=url)
            assert server.heads
            assert not any("Authorization" in head for head in server.heads)


class TestOAuth:
    @pytest.mark.parametrize(
        ("key", "status", "words"),
        [
            ("mine", 0, "OAuth: a token, valid for 600 s"),
            ("other", 1, "no OAuth token from http://127.0.0.1:"),
        ],
    )
    def test_token(self, check, tmp_path, key, status, words):
        """A token is fetched, and its life is told; never the key or the token."""
        pytest.importorskip("cryptography")
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric import rsa

        keys = {name: rsa.generate_private_key(65537, 2048) for name in ("mine", key)}
        pem = keys[key].private_bytes(
            form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
        )
        (tmp_path / "key.pem").write_bytes(pem)
        public = keys["mine"].public_key()
        shown = public.public_bytes(
            form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
        )
        tokens = Tokens(shown.decode(), client_id="client", key_id="key", life=600)
        with Collector(tokens=tokens) as server:
            found, said = check(
                "from htlogging.htevents import Client\n"
                "client = Client(oauth_client_id='client', oauth_key_id='key', "
                f"oauth_client_key='key.pem', oauth_auth_server={server.url!r})",
                "--send",
                HTEVENTS_HOST=server.url,
            )
            assert (found, words in said) == (status, True), said
            assert len(server.events) == 1 - status
            assert "key.pem" not in said


class TestRedis:
    def test_away(self, check, free_port):
        """A Redis that does not answer is named without its password."""
        pytest.importorskip("redis")
        host = f"redis://user:PASSWORD@127.0.0.1:{free_port}/0"
        status, said = check(None, HTEVENTS_HOST=host, HTEVENTS_WRITE_KEY="")
        assert status == 1
        assert f"no connection to Redis at redis://127.0.0.1:{free_port}" in said
        assert "PASSWORD" not in said

    @pytest.mark.skipif(REDIS is None, reason="needs redis-server")
    def test_answers(self, check, tmp_path):
        """A Redis that answers is well; no write key is needed."""
        pytest.importorskip("redis")
        with RedisServer(tmp_path / "redis") as server:
            host = f"redis://127.0.0.1:{server.port}/0"
            status, said = check(None, HTEVENTS_HOST=host, HTEVENTS_WRITE_KEY="")
        assert (status, "Redis answers" in said) == (0, True), said


class TestMisuse:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("--app", "shop.py"),
            ("--app", "os:nothing"),
            ("--app", "os:path", "--django", "x"),
            ("--nothing",),
        ],
    )
    def test_status(self, check, arguments):
        """A command line that makes no sense: exit status 2."""
        assert check(None, *arguments)[0] == 2


class TestDjango:
    def test_settings_and_views(self, check, tmp_path):
        """Views are imported, and their calls are looked at."""
        pytest.importorskip("django")
        (tmp_path / "conf.py").write_text(
            "SECRET_KEY = 'x'\nROOT_URLCONF = 'urls'\nLOGGING = {'version': 1,"
            "'handlers': {'h': {'()': 'htlogging.HtEventsHandler'}},"
            "'loggers': {'htevents': {'handlers': ['h'], 'level': 'INFO'}}}\n"
        )
        (tmp_path / "urls.py").write_text(
            "import logging\nlog = logging.getLogger('htevents')\nurlpatterns = []\n"
            "def view(): log.info('Order', extra={'ht_user_ids': 1})\n"
        )
        status, said = check(None, "--django", "conf")
        assert status == 1
        assert "no such field: ht_user_ids, at urls.py:4" in said
        assert "1 problem:" in said


class TestOrigin:
    def test_of_a_setting(self, monkeypatch):
        """The code is stronger than the environment, but for HTEVENTS_SEND=0."""
        monkeypatch.setenv("HTEVENTS_HOST", "http://localhost")
        monkeypatch.setenv("HTEVENTS_SEND", "0")
        settings = Settings({"write_key": "K", "send": True, "host": None})
        assert settings.origin("write_key") == "code"
        assert settings.origin("host") == "environment HTEVENTS_HOST"
        assert settings.origin("send") == "environment HTEVENTS_SEND"
        assert settings.origin("gzip") == "default"


class TestSources:
    @pytest.mark.parametrize(
        ("source", "strays"),
        [
            ("log.info('e', extra={'ht_user_id': 1, 'other': 2})", []),
            ("log.info('e', extra={'ht_user': 1})", ["ht_user"]),
            ("log.info('e', extra={'HT_USER_ID': 1})", ["HT_USER_ID"]),
            ("log.info('e', extra={'ht-user-id': 1})", ["ht-user-id"]),
            ("log.info('e', extra={'htUserId': 1, 'html_id': 2, 'https': 3})", []),
            ("log.info('e', extra=dict(ht_evnt=1))", ["ht_evnt"]),
            ("htlogging.bind(ht_uid=1, plan='x')", ["ht_uid"]),
            ("with scope(ht_uid=1): pass", ["ht_uid"]),
            ("sensor(ht_celsius=1)", []),
            ("broken(", []),
        ],
    )
    def test_strays(self, tmp_path, source, strays):
        """Names like ours, where fields are given; nowhere else."""
        (tmp_path / "a.py").write_text(source)
        found = Sources({str(tmp_path / "a.py"): {}, str(tmp_path / "none.py"): {}})
        assert [name for name, _ in found.strays] == strays


class TestReceivers:
    """Which logger a call is of."""

    BEFORE = """
import logging
from logging import getLogger
NAME = "named"
log = logging.getLogger("shop")
own = logging.getLogger(__name__)
adapter = logging.LoggerAdapter(log, {"ht_user_id": "u"})
fields = {"ht_user_id": "u"}
class Base:
    logger = logging.getLogger("base")
class View(Base):
    def __init__(self):
        self.own = getLogger("view")
    def get(self, log, **given):
        mine = log
        %s
def view(other):
    local: logging.Logger = log.getChild("local")
    fields = {"ht_user_id": "u", "ht_usr": "u"}
    if other:
        inner = getLogger(name=NAME)
    %s
%s
"""

    @pytest.mark.parametrize("is_imported", [True, False])
    @pytest.mark.parametrize(
        ("call", "logger"),
        [
            ("log.info('e', extra={'ht_user_id': 'u'})", "shop"),
            ("log.info('e', extra=fields)", "shop"),
            ("log.info('e', extra={**fields, 'total': 1})", "shop"),
            ("log.info('e', extra=fields | {'total': 1})", "shop"),
            ("log.info('e', extra=dict(ht_user_id='u'))", "shop"),
            ("log.info({'ht_user_id': 'u', 'event': 'e'})", "shop"),
            ("log.log(logging.INFO, 'e', extra=fields)", "shop"),
            ("log.log(20, {'ht_user_id': 'u', 'event': 'e'})", "shop"),
            ("log.getChild('kid').info('e', extra=fields)", "shop.kid"),
            ("logging.info('e', extra=fields)", ""),
            ("logging.getLogger().info('e', extra=fields)", ""),
            ("getLogger('x').info('e', extra=fields)", "x"),
            ("getLogger(NAME).info('e', extra=fields)", "named"),
            ("getLogger(f'{NAME}').info('e', extra=fields)", None),
            ("adapter.info('e')", "shop"),
            ("logging.LoggerAdapter(log, fields).info('e')", "shop"),
            ("View.logger.info('e', extra=fields)", "base"),
            ("unknown().info('e', extra=fields)", None),
        ],
    )
    def test_in_a_module(self, tmp_path, call, logger, is_imported):
        """By what the module's names are, or by what it assigns to them."""
        if not is_imported and call.startswith("View"):
            return  # its base class may be anywhere
        source = self.BEFORE % ("pass", "pass", call)
        namespace = {"__name__": "shop.views"}
        if is_imported:
            exec(source.replace(call, ""), namespace)
        assert self.loggers(tmp_path, source, namespace) == [logger]

    @pytest.mark.parametrize(
        ("in_method", "in_function", "logger"),
        [
            ("self.logger.info('e', extra=fields)", "", "base"),
            ("self.own.info('e', extra=fields)", "", "view"),
            ("self.other.info('e', extra=fields)", "", None),
            ("log.info('e', extra=fields)", "", None),
            ("mine.info('e', extra=fields)", "", None),
            ("own.info('e', extra=fields)", "", "shop.views"),
            ("own.info('e', extra=given)", "", "nothing"),
            ("", "local.info('e', extra=fields)", "shop.local"),
            ("", "inner.info('e', extra=fields)", "named"),
            ("", "other.info('e', extra=fields)", None),
            ("", "log.info('e', extra=fields)", "shop"),
        ],
    )
    def test_in_a_function(self, tmp_path, in_method, in_function, logger):
        """By what it assigns, by its object's class, or else as in the module."""
        before = self.BEFORE % ("pass", "pass", "")
        source = self.BEFORE % (in_method or "pass", in_function or "pass", "")
        namespace = {"__name__": "shop.views"}
        exec(before, namespace)
        found = self.loggers(tmp_path, source, namespace)
        assert found == ([] if logger == "nothing" else [logger])

    def test_names_of_a_function(self, tmp_path):
        """A misspelt field in a dict that a function makes is found where it is given."""
        source = self.BEFORE % ("pass", "log.info('e', extra=fields)", "")
        path = tmp_path / "a.py"
        path.write_text(source)
        (stray,) = Sources({str(path): {}}).strays
        assert stray[0] == "ht_usr"

    def test_what_refers_to_itself(self, tmp_path):
        """Its value cannot be seen, and the reading ends."""
        source = (
            "fields = {**fields}\nlog = log.getChild('x')\nlog.info('e', extra=fields)"
        )
        assert self.loggers(tmp_path, source, {}) == []

    def loggers(self, folder, source, namespace):
        """Return the loggers of a module's events."""
        path = folder / "a.py"
        path.write_text(source)
        return [call.logger for call in Sources({str(path): namespace}).calls]


@pytest.fixture
def free_port():
    """Return a port where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class server:  # noqa: N801
    """A server that answers GET, with a `Date` of the test's."""

    heads: list

    def __init__(self, date=""):
        heads = type(self).heads = []

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                heads.append(dict(self.headers))
                self.send_response_only(404)
                if date:
                    self.send_header("Date", date)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.http = HTTPServer(("127.0.0.1", 0), Answer)

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.http.server_port}"

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()
