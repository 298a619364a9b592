"""`python -m htlogging track` as a shell or cron runs it; `--version`, and no command."""

from __future__ import annotations

import os

import pytest
import script_runner

import htlogging

pytestmark = pytest.mark.once


def run(*arguments, by=script_runner.here, **environ):
    """Return a command's exit status, stdout and stderr."""
    unset = {name: None for name in os.environ if name.startswith("HTEVENTS_")}
    ended = by(*arguments, **{**unset, **environ})
    assert "Traceback" not in ended.err, ended.err
    return ended


class TestTrack:
    def test_event(self, collector):
        """One event, with its properties; 0 means that the server has it."""
        status, said, errors = run(
            *("track", "user123", "Order completed", "-p", "revenue=29.95"),
            *("-p", "gift=true", "-p", "note=a=b c", "--message-id", "m1"),
            by=script_runner.command,
            HTEVENTS_HOST=collector.url,
            HTEVENTS_WRITE_KEY="KEY",
        )
        assert (status, said, errors) == (0, "", "")
        (event,) = collector.events
        assert event["userId"] == "user123"
        assert event["event"] == "Order completed"
        assert event["messageId"] == "m1"
        assert event["properties"] == {"revenue": 29.95, "gift": True, "note": "a=b c"}

    def test_anonymous(self, collector):
        """The id may be an anonymous one; key and host may be options."""
        where = ("--write-key", "KEY", "--host", collector.url)
        assert run("track", "a1", "e", "--anonymous", *where)[0] == 0
        (event,) = collector.events
        assert (event["anonymousId"], event["userId"]) == ("a1", None)

    def test_retries(self, collector):
        """It tries again, within its time."""
        collector.script(503)
        where = ("--write-key", "KEY", "--host", collector.url)
        assert run("track", "u", "e", *where)[0] == 0
        assert len(collector.events) == 1

    def test_refused(self, collector):
        """1: it was not delivered; the reason is on stderr, without the key."""
        collector.always(401)
        where = ("--write-key", "SECRETKEY", "--host", collector.url)
        status, said, errors = run("track", "u", "e", *where)
        assert (status, said) == (1, "")
        assert "HTTP 401" in errors
        assert "SECRETKEY" not in errors

    def test_no_answer(self):
        """1: there was no answer in time."""
        where = ("--write-key", "K", "--host", "http://127.0.0.1:9")
        status, _, errors = run("track", "u", "e", "--timeout", "0.5", *where)
        assert status == 1
        assert "error: the event was not delivered within 0.5 s" in errors

    def test_sending_turned_off(self, collector):
        """The environment decides, and is named."""
        status, _, errors = run(
            *("track", "u", "e", "--host", collector.url), HTEVENTS_SEND="0"
        )
        assert status == 0
        assert errors.startswith("not sent: HTEVENTS_SEND")
        assert not collector.events

    @pytest.mark.parametrize(
        "arguments",
        [
            ("u",),
            ("u", ""),
            ("", "e"),
            ("u", "e", "-p", "novalue"),
            ("u", "e", "--timeout", "nan"),
            ("u", "e", "--host", "no-scheme"),
        ],
    )
    def test_misuse(self, arguments):
        """2: the command line makes no sense."""
        status, said, errors = run("track", *arguments, HTEVENTS_WRITE_KEY="K")
        assert (status, said) == (2, "")
        assert errors

    def test_no_key(self):
        """2, with what to set."""
        status, _, errors = run("track", "u", "e")
        assert status == 2
        assert "HTEVENTS_WRITE_KEY" in errors


class TestMain:
    def test_version(self):
        """`--version` prints the version alone."""
        assert run("--version") == (0, f"{htlogging.__version__}\n", "")

    def test_no_command(self):
        """Without a command there is help, with all of them."""
        status, said, errors = run()
        assert (status, errors) == (0, "")
        for name in "check collect demo docs relay run send spool track".split():
            assert f"    {name} " in said
