from __future__ import annotations

import pytest

from htlogging import HtEventsHandler, InvalidSetting
from htlogging._redis_location import Location

pytest.importorskip("redis")


class TestLocation:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("redis://h", "redis://h?stream=htevents"),
            ("redis://h:6380/3?stream=shop", "redis://h:6380/3?stream=shop"),
            ("rediss://u:secret@h/0", "rediss://h/0?stream=htevents"),
            ("REDIS://:secret@[::1]:6379", "redis://[::1]:6379?stream=htevents"),
            ("redis://h?maxbytes=10", "redis://h?stream=htevents&maxbytes=10"),
            ("redis://h?socket_keepalive=1", "redis://h?stream=htevents"),
            (
                "redis://a:26379,b:26379/0?sentinel=mymaster",
                "redis://a:26379,b:26379/0?stream=htevents",
            ),
        ],
    )
    def test_shows_no_secret(self, url, shown):
        """What is shown of a URL has neither user nor password."""
        location = Location(url)
        assert str(location) == shown
        assert "secret" not in repr(location)

    @pytest.mark.parametrize(
        ("url", "why"),
        [
            ("redis://", "name a host"),
            ("redis:///0", "name a host"),
            ("redis://:secret@/0", "name a host"),
            ("redis://h/db", "database must be a number"),
            ("redis://h?stream=", "stream must be a name"),
            ("redis://h?stream=a%20b", "stream must be a name"),
            ("redis://h?maxbytes=1GB", "maxbytes must be a number"),
            ("redis://h?maxbytes=0", "maxbytes must be a number"),
            ("redis://h?cluster=yes", "cluster must be 1 or 0"),
            ("redis://:secret@a,b/0", "sentinel=NAME"),
            ("redis://h?secret", "its query must be"),
            ("rediss://h?ssl_cert_reqs=none", "certificate"),
            ("rediss://h?ssl_check_hostname=false", "certificate"),
        ],
    )
    def test_nonsense(self, url, why):
        """Nonsense is refused at once, with what to write, and no secret."""
        with pytest.raises(InvalidSetting, match=why) as caught:
            Location(url)
        assert "secret" not in str(caught.value)

    def test_is_a_host(self):
        """A handler takes it as its host, without a write key."""
        handler = HtEventsHandler(host="redis://:secret@127.0.0.1:1/0")
        assert handler.host == "redis://127.0.0.1:1/0?stream=htevents"
        assert "secret" not in repr(handler)
        handler.close()

    def test_redis_py_refuses(self):
        """A parameter that redis-py does not know is an error that names it, in time."""
        with pytest.raises(InvalidSetting, match="redis-py says"):
            Location("redis://:secret@h?health_check_interval=often").connect(1)
