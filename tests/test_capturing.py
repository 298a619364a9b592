"""Tests of what is known to stay on this machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

from htlogging._process.capturing import is_loopback


class TestIsLoopback:
    @pytest.mark.parametrize(
        "url",
        [
            "http://localhost",
            "HTTPS://LocalHost:8080/path?query#part",
            "http://localhost./",
            "http://events.localhost:80",
            "http://127.0.0.1:5000/v1",
            "http://127.255.3.4",
            "http://[::1]:5000",
            "http://[0:0:0:0:0:0:0:1]/",
            "http://user:password@127.0.0.1:3128",
            "localhost:3128",
            "127.0.0.1",
            "user@localhost:3128",
            "redis://localhost/0?stream=events",
        ],
    )
    def test_of_this_machine(self, url):
        """The names and addresses of loopback, with whatever stands around them."""
        assert is_loopback(url)

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "http://",
            "https://us-east-1.hightouch-events.com",
            "http://localhost.example.com",
            "http://notlocalhost",
            "http://example.com/localhost",
            "http://example.com/@localhost",
            "http://example.com?@127.0.0.1",
            "http://example.com#@127.0.0.1",
            "http://localhost@example.com",
            "http://localhost:80@example.com",
            "http://example.com\\@localhost",
            "http://localhost\\@example.com",
            "http://127.0.0.1.example.com",
            "http://127.0.0.300",
            "http://128.0.0.1",
            "http://0.0.0.0",
            "http://[::2]",
            "http://[2001:db8::1]",
            "http://\u0661\u0662\u0667.0.0.1",
            "http://localhost\n.example.com",
        ],
    )
    def test_of_others(self, url):
        """Whatever else, what only looks like loopback too, is another machine."""
        assert not is_loopback(url)

    def test_imports_nothing(self):
        """A signal handler may come at any line: no import of ours is ever half done."""
        script = """
import sys
from htlogging._process.capturing import is_loopback
before = set(sys.modules)
assert is_loopback("http://127.0.0.1:80")
assert not is_loopback("https://[2001:db8::1]")
assert set(sys.modules) == before, set(sys.modules) - before
"""
        subprocess.run([sys.executable, "-S", "-c", script], check=True)
