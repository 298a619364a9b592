"""The settings: their names, defaults, environment variables and checks."""

import re
import sys
from collections import UserDict
from decimal import Decimal
from pathlib import Path

import pytest

from htlogging._settings import DEFAULTS, TABLE, Settings
from htlogging._settings.checks import DEFAULT_HOST, MAX_KEY
from htlogging.exceptions import InvalidSetting

SECRET = "s3cr3t"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for row in TABLE.values():
        if row.variable:
            monkeypatch.delenv(row.variable, raising=False)


def make(**given):
    """Return settings with a write key."""
    return Settings({"write_key": "KEY", **given})


def refuse(**given):
    """Return the message for settings that are refused."""
    with pytest.raises(InvalidSetting) as caught:
        make(**given)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, AssertionError)
    message = str(caught.value)
    assert SECRET not in message
    assert "KEY" not in message.replace("HTEVENTS_WRITE_KEY", "")
    return message


class TestGiven:
    def test_odd_objects(self):
        """A value is not compared: that of an array is no answer, or an error."""

        class Odd:
            def __eq__(self, other):
                raise LookupError

            __hash__ = None

            def __call__(self, error, events):
                pass

        settings = make(on_error=Odd(), spool=None, host="")
        assert settings.given == {"write_key", "on_error"}


class TestDefaults:
    def test_are_these(self):
        """With a write key alone, all else is as docs/settings.md says."""
        settings = make()
        assert {name: getattr(settings, name) for name in DEFAULTS} == {
            "write_key": "KEY",
            "host": "https://us-east-1.hightouch-events.com",
            "send": True,
            "sync_mode": False,
            "debug": False,
            "on_error": None,
            "on_invalid": "raise",
            "max_queue_size": 10_000,
            "max_queue_bytes": 67_108_864,
            "upload_size": None,
            "upload_interval": 0.5,
            "gzip": True,
            "timeout": 15.0,
            "max_retries": 10,
            "proxies": None,
            "thread": 1,
            "shutdown_timeout": 10.0,
            "overflow": "drop",
            "max_event_size": 32_768,
            "spool": None,
            "spool_sync": "normal",
            "spool_max_bytes": 268_435_456,
            "spool_max_age": None,
            "oauth_client_id": None,
            "oauth_client_key": None,
            "oauth_key_id": None,
            "oauth_auth_server": "https://oauth2.hightouch.io",
            "oauth_scope": "tracking_api:write",
        }

    @pytest.mark.parametrize("name", sorted(DEFAULTS))
    def test_none_is_the_default(self, name):
        """`None` is as if the setting were not given."""
        given = {"write_key": "KEY", "send": False, name: None}
        wanted = Settings({"write_key": "KEY", "send": False})
        if name == "write_key":
            wanted = Settings({"send": False})
        elif name == "send":
            wanted = make()
        assert getattr(Settings(given), name) == getattr(wanted, name)


class TestAccepted:
    @pytest.mark.parametrize(
        ("name", "given", "kept"),
        [
            ("max_queue_size", 1, 1),
            ("upload_size", 1, 1),
            ("upload_size", 2_500, 2_500),
            ("upload_interval", 0, 0.0),
            ("upload_interval", 3600, 3600.0),
            ("timeout", 3, 3.0),
            ("timeout", 0.001, 0.001),
            ("max_retries", 0, 0),
            ("thread", 64, 64),
            ("shutdown_timeout", 0, 0.0),
            ("max_event_size", 256, 256),
            ("max_event_size", 470_000, 470_000),
            ("overflow", "block", "block"),
            ("on_invalid", "report", "report"),
            ("spool_sync", "full", "full"),
            ("spool_max_bytes", 2**20, 2**20),
            ("spool_max_age", 1, 1.0),
            ("spool_max_age", 86_400 * 365, 31_536_000.0),
            ("send", False, False),
            ("sync_mode", True, True),
            ("debug", True, True),
            ("gzip", False, False),
            ("on_error", print, print),
            ("on_error", Path, Path),  # anything callable
        ],
    )
    def test_value(self, name, given, kept):
        """Values within the bounds are kept, seconds as float."""
        value = getattr(make(**{name: given}), name)
        assert value == kept
        assert type(value) is type(kept)


class TestEnvironment:
    @pytest.mark.parametrize("text", ["0", "false", "False", "FALSE", " 0 "])
    def test_send_off(self, text, monkeypatch):
        """HTEVENTS_SEND=0 needs no key, and no code turns sending on again."""
        monkeypatch.setenv("HTEVENTS_SEND", text)
        assert Settings({}).send is False
        assert Settings({"write_key": "KEY", "send": True}).send is False

    @pytest.mark.parametrize("text", ["1", "true", "True"])
    def test_send_on(self, text, monkeypatch):
        """HTEVENTS_SEND=1 is the default; the code's word holds."""
        monkeypatch.setenv("HTEVENTS_SEND", text)
        assert make().send is True
        assert make(send=False).send is False

    @pytest.mark.parametrize(
        ("variable", "text", "name", "values"),
        [
            ("HTEVENTS_DEBUG", "1", "debug", (True, False)),
            ("HTEVENTS_DEBUG", "true", "debug", (True, False)),
            ("HTEVENTS_DEBUG", "0", "debug", (False, True)),
            ("HTEVENTS_ON_INVALID", "report", "on_invalid", ("report", "raise")),
            ("HTEVENTS_SPOOL", "/a/b", "spool", ("/a/b", "/c")),
        ],
    )
    def test_where_the_code_says_nothing(
        self, variable, text, name, values, monkeypatch
    ):
        """A variable holds where the setting is not given or `None`."""
        value, other = values
        monkeypatch.setenv(variable, text)
        assert getattr(make(), name) == value
        assert getattr(make(**{name: None}), name) == value
        assert getattr(make(**{name: other}), name) == other
        monkeypatch.setenv(variable, "")
        assert getattr(make(), name) == DEFAULTS[name]

    @pytest.mark.parametrize("variable", ["HTEVENTS_SEND", "HTEVENTS_DEBUG"])
    @pytest.mark.parametrize("text", ["no", "off", "2", SECRET])
    def test_other_text(self, variable, text, monkeypatch):
        """What a text might mean is not guessed; the message names the variable."""
        monkeypatch.setenv(variable, text)
        assert refuse().startswith(f"the environment variable {variable} must be 0 or")

    def test_other_word(self, monkeypatch):
        """A choice from the environment is checked as one from the code."""
        monkeypatch.setenv("HTEVENTS_ON_INVALID", "ignore")
        assert refuse().startswith("on_invalid must be 'raise' (the facade raises")


class TestSpool:
    @pytest.mark.parametrize("kind", [str, Path])
    def test_path(self, kind, tmp_path, monkeypatch):
        """A path is taken from where the process is now: it may go elsewhere later."""
        monkeypatch.chdir(tmp_path)
        assert make(spool=kind("spool")).spool == str(tmp_path / "spool")


class TestRefused:
    @pytest.mark.parametrize("value", ["10", b"10", 10.0, Decimal(10), True, [], {}])
    @pytest.mark.parametrize(
        "name",
        ["max_queue_size", "upload_size", "max_retries", "thread", "max_event_size"],
    )
    def test_no_int(self, name, value):
        """Only an int is one: no bool, no float, no text."""
        pattern = rf"{name} must be an int from \d+ to \d+, not {type(value).__name__}"
        assert re.match(pattern, refuse(**{name: value}))

    @pytest.mark.parametrize("value", ["1", b"1", Decimal(1), True, [], {}])
    @pytest.mark.parametrize("name", ["upload_interval", "timeout", "shutdown_timeout"])
    def test_no_seconds(self, name, value):
        """Seconds are an int or a float: no bool, no text."""
        pattern = (
            rf"{name} must be a number of seconds from [\d.]+ to 3600, "
            rf"not {type(value).__name__}"
        )
        assert re.match(pattern, refuse(**{name: value}))

    @pytest.mark.parametrize("value", ["false", "", 0, 1, []])
    @pytest.mark.parametrize("name", ["send", "sync_mode", "debug", "gzip"])
    def test_no_flag(self, name, value):
        """A flag is True or False, and nothing that resembles them."""
        message = refuse(**{name: value})
        start = f"{name} must be True or False, not {type(value).__name__}"
        assert message.startswith(start)

    @pytest.mark.parametrize("name", ["thread", "timeout", "gzip"])
    def test_text_where_none_belongs(self, name):
        """A configuration file's string is not converted, and the message says so."""
        assert refuse(**{name: "1"}).endswith(
            "; strings are not converted: leave out the quotes, or convert it"
        )

    @pytest.mark.parametrize(
        ("name", "value", "told"),
        [
            ("max_queue_size", 0, "1 to 2147483648, not 0"),
            ("upload_size", 0, "1 to 2500, not 0"),
            ("upload_size", 2_501, "1 to 2500, not 2501"),
            ("max_retries", -1, "0 to 2147483648, not -1"),
            ("thread", 0, "1 to 64, not 0"),
            ("thread", 65, "1 to 64, not 65"),
            ("max_event_size", 255, "256 to 470000, not 255"),
            ("max_event_size", 470_001, "256 to 470000, not 470001"),
            ("upload_interval", -0.1, "0 to 3600 seconds, not -0.1"),
            ("timeout", 0, "0.001 to 3600 seconds, not 0"),
            ("timeout", 3601, "0.001 to 3600 seconds, not 3601"),
            ("timeout", float("inf"), "0.001 to 3600 seconds, not inf"),
            ("timeout", float("nan"), "0.001 to 3600 seconds, not nan"),
            ("shutdown_timeout", -1, "0 to 3600 seconds, not -1"),
        ],
    )
    def test_out_of_range(self, name, value, told):
        """A number out of range is told, with the range."""
        assert refuse(**{name: value}) == f"{name} must be {told}"

    @pytest.mark.parametrize("sign", [1, -1])
    @pytest.mark.parametrize("name", ["timeout", "thread", "max_retries"])
    def test_far_out_of_range(self, name, sign):
        """An int that no float holds and `str` refuses is told in words."""
        message = refuse(**{name: sign * 10**5000})
        assert message.endswith(", not an int far outside")

    @pytest.mark.parametrize("value", ["", "DROP", "wait", 1, True, ["drop"]])
    def test_overflow(self, value):
        """There are two ways with a full queue; the message says what they do."""
        message = refuse(overflow=value)
        assert message.startswith("overflow must be 'drop' (a full queue refuses")

    @pytest.mark.parametrize("value", [False, 0, ""])
    def test_no_on_error(self, value):
        """What is falsy is none, as code for events-sdk-python has it."""
        assert Settings({"write_key": "K", "on_error": value}).on_error is None

    @pytest.mark.parametrize("value", ["package.function", 1, {"a": 1}])
    def test_on_error(self, value):
        """`on_error` is callable; the message says how a file names a function."""
        message = refuse(on_error=value)
        assert f"not {type(value).__name__}; in dictConfig write ext://" in message

    @pytest.mark.parametrize("value", [1, b"spool", "", "a\0b", [], True])
    def test_spool(self, value):
        """A path is text, and not empty."""
        assert refuse(spool=value).startswith("spool must be a path of a file")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("spool_sync", "off"),
            ("spool_sync", True),
            ("spool_max_bytes", 2**20 - 1),
            ("spool_max_bytes", "1GB"),
            ("spool_max_age", 0.5),
            ("spool_max_age", True),
        ],
    )
    def test_of_the_spool(self, name, value):
        """What a spool may take is bounded, and its safety one of two words."""
        assert refuse(**{name: value}).startswith(f"{name} must be ")

    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("writekey", "write_key"),
            ("Write_Key", "write_key"),
            ("threads", "thread"),
            ("max_retry", "max_retries"),
            ("sync", "sync_mode"),
            ("flush_interval", "upload_interval"),
        ],
    )
    def test_unknown_name(self, name, near):
        """An unknown name is told, and the one that was meant."""
        assert refuse(**{name: 1}) == f"unknown setting {name!r}; did you mean {near}?"

    def test_name_unlike_any(self):
        """A name unlike all others is told with what there is, and is clipped."""
        message = refuse(**{"q" * 99: 1})
        known = ", ".join(DEFAULTS)
        assert message == f"unknown setting {'q' * 40!r}; known: {known}"


class TestWriteKey:
    def test_environment(self, monkeypatch):
        """HTEVENTS_WRITE_KEY is the key where none is given."""
        monkeypatch.setenv("HTEVENTS_WRITE_KEY", "ENV")
        assert Settings({}).write_key == "ENV"
        assert Settings({"write_key": ""}).write_key == "ENV"
        assert Settings({"write_key": "KEY"}).write_key == "KEY"

    @pytest.mark.parametrize("key", [None, ""])
    def test_none_anywhere(self, key, monkeypatch):
        """Without a key the message says where to set one."""
        monkeypatch.setenv("HTEVENTS_WRITE_KEY", "")
        message = refuse(write_key=key)
        assert message.startswith("no write key; set write_key, or the environment")

    @pytest.mark.parametrize(
        ("version", "told"),
        [((3, 11, 9), False), ((3, 12, 3), True), ((3, 12, 4), False)],
    )
    def test_settings_lost_by_dict_config(self, version, told, monkeypatch):
        """Where dictConfig drops all settings, the message names the cure."""
        monkeypatch.setattr(sys, "version_info", version)
        with pytest.raises(InvalidSetting) as caught:
            Settings({})
        assert ('write "()" instead of "class"' in str(caught.value)) is told
        assert '"()"' not in refuse(write_key="")

    def test_not_needed_to_send_nothing(self):
        """With `send=False` there may be no key."""
        assert Settings({"send": False}).write_key == ""

    @pytest.mark.parametrize("send", [True, False])
    @pytest.mark.parametrize(
        "key",
        [f"{SECRET}\n", f" {SECRET}", f"{SECRET}:", f"{SECRET}é", f"{SECRET}\x00"],
    )
    def test_what_was_copied_with_it(self, key, send):
        """A key that no header could hold is refused, and not shown."""
        assert "copied with it" in refuse(write_key=key, send=send)

    def test_in_the_environment_too(self, monkeypatch):
        """The environment's key is checked in the same way."""
        monkeypatch.setenv("HTEVENTS_WRITE_KEY", f"{SECRET}\n")
        assert "copied with it" in refuse(write_key=None)

    def test_length(self):
        """A key has a greatest length, for a request has one."""
        assert make(write_key="k" * MAX_KEY).write_key == "k" * MAX_KEY
        assert "at most 1000 characters" in refuse(write_key="k" * (MAX_KEY + 1))

    @pytest.mark.parametrize("key", [b"KEY", 7, ["KEY"]])
    def test_no_text(self, key):
        """A key is a str; the message does not show what it was."""
        message = refuse(write_key=key)
        assert message.startswith(f"write_key must be a str, not {type(key).__name__}")

    def test_not_in_repr(self):
        """`repr` shows the host, no key."""
        assert repr(make(write_key=SECRET)) == f"<Settings for {DEFAULT_HOST}>"


class TestHost:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("https://a.example", "https://a.example"),
            ("https://a.example/", "https://a.example"),
            ("https://a.example//", "https://a.example"),
            ("https://a.example/x/y/", "https://a.example/x/y"),
            ("https://a.example/x/@y:1", "https://a.example/x/@y:1"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://localhost:8080/x", "http://localhost:8080/x"),
            ("HTTP://LOCALHOST", "HTTP://LOCALHOST"),
            ("http://a_b.example.", "http://a_b.example."),
            ("http://bücher.example", "http://bücher.example"),
            ("http://127.0.0.1:65535", "http://127.0.0.1:65535"),
            ("http://[::1]:8080/x", "http://[::1]:8080/x"),
            ("", DEFAULT_HOST),
        ],
    )
    def test_accepted(self, given, kept):
        """A host may have a port and a path; slashes at its end are left out."""
        assert make(host=given).host == kept

    def test_environment(self, monkeypatch):
        """HTEVENTS_HOST is the host where none is given."""
        monkeypatch.setenv("HTEVENTS_HOST", "http://a.example/")
        assert make().host == "http://a.example"
        assert make(host="http://b.example").host == "http://b.example"
        monkeypatch.setenv("HTEVENTS_HOST", "")
        assert make().host == DEFAULT_HOST

    @pytest.mark.parametrize(
        ("host", "told"),
        [
            ("a.example", "begins with https:// or http://"),
            ("localhost:8080", "begins with https:// or http://"),
            ("//a.example", "begins with https:// or http://"),
            ("ftp://a.example", "begins with https:// or http://"),
            ("https:a.example", "begins with https:// or http://"),
            ("https:/a.example", "begins with https:// or http://"),
            ("https://", "must have a name"),
            ("https:///x", "must have a name"),
            ("https://:80", "must have a name"),
            ("https://.example", "must have a name"),
            ("https://a..example", "must have a name"),
            ("https://*.example", "must have a name"),
            ("https://[::1", "must have a name"),
            ("https://a\\b", "must have a name"),
            ("https://a.example/x\\y", "must have a name"),
            ("https://a.example:", "its port must be"),
            ("https://a.example:0", "its port must be"),
            ("https://a.example:65536", "its port must be"),
            ("https://a.example:x", "its port must be"),
            (" https://a.example", "no spaces or line breaks"),
            ("https://a.example\n", "no spaces or line breaks"),
            ("https://a.example/x?y", "no ? and no #"),
            ("https://a.example#y", "no ? and no #"),
            (f"https://user:{SECRET}@a.example", "no user and password"),
            (f"https://{SECRET}@a.example/x", "no user and password"),
            (f"https://@{SECRET}", "no user and password"),
        ],
    )
    def test_refused(self, host, told, monkeypatch):
        """What could not be sent to is refused at once, wherever it was set."""
        message = refuse(host=host)
        assert message.startswith("host must ")
        assert told in message
        assert "HTEVENTS_HOST" in message
        monkeypatch.setenv("HTEVENTS_HOST", host)
        assert refuse() == message

    def test_no_text(self):
        """A host is a str."""
        assert refuse(host=b"https://a").startswith("host must be a str, not bytes;")


class TestProxies:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("http://p:1", {"http": "http://p:1", "https": "http://p:1"}),
            ("p:1", {"http": "http://p:1", "https": "http://p:1"}),
            ("", {}),
            ({}, {}),
            ({"https": "p:1"}, {"https": "http://p:1"}),
            ({"all": "HTTPS://p:1/"}, {"all": "HTTPS://p:1/"}),
            ({"https://a.b": "socks5h://p"}, {"https://a.b": "socks5h://p"}),
            ({"no_proxy": "a.b, c.d"}, {"no_proxy": "a.b, c.d"}),
            (UserDict(http="http://u:p@p:1"), {"http": "http://u:p@p:1"}),
        ],
    )
    def test_accepted(self, given, kept):
        """A URL is for all requests, a dict as `requests` has it; http:// is added."""
        assert make(proxies=given).proxies == kept

    def test_is_a_copy(self):
        """What the caller changes afterwards changes nothing."""
        given = {"https": "http://p:1"}
        settings = make(proxies=given)
        given.clear()
        assert settings.proxies == {"https": "http://p:1"}

    @pytest.mark.parametrize(
        ("proxies", "told"),
        [
            (7, "proxies must be a URL, or a dict such as"),
            (b"http://p:1", "proxies must be a URL, or a dict such as"),
            ([("https", SECRET)], "proxies must be a URL, or a dict such as"),
            ({"HTTPS": SECRET}, "small letters included"),
            ({"ftp": SECRET}, "proxies must have the keys"),
            ({f"http://u:{SECRET}@p": "http://p"}, "proxies must have the keys"),
            ({1: SECRET}, "proxies must have the keys"),
            ({"https": None}, "proxies['https'] must be a str, not NoneType"),
            ({"https": b"p"}, "proxies['https'] must be a str, not bytes"),
            ({"https": ""}, "proxies['https'] must be a URL"),
            (f"ftp://u:{SECRET}@p", "proxies['http'] must be a URL"),
            (f"http://u:{SECRET} @p", "proxies['http'] must be a URL"),
            (f"http://u:a/{SECRET}@p", "percent-encode"),
            (f"http://u:a#{SECRET}@p", "percent-encode"),
            ("http://", "proxies['http'] must be a URL"),
        ],
    )
    def test_refused(self, proxies, told):
        """What `requests` would refuse or never use is refused, and not shown."""
        assert told in refuse(proxies=proxies)
