from __future__ import annotations

import pytest

from htlogging import HtEventsHandler, InvalidSetting
from htlogging._settings.redis_location import Location

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
            ("rediss://h?ssl_cert_reqs=required", "rediss://h?stream=htevents"),
            ("redis://h?", "redis://h?stream=htevents"),
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
        "options",
        [
            "password=secret&socket_timeout=abc",
            "nonsense=secret",
            "db=secret",
            "socket_timeout=secret",
        ],
    )
    def test_refused_without_a_secret(self, options):
        """What redis-py refuses is told, but no value, and not with redis-py's frames."""
        with pytest.raises(InvalidSetting, match="redis-py says") as caught:
            Location(f"redis://:secret@h/0?{options}").check_options()
        assert "secret" not in str(caught.value)
        assert caught.value.__context__ is None

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
            ("rediss://h?ssl_cert_reqs=optional", "certificate"),
            ("rediss://h?ssl_check_hostname=false", "certificate"),
            ("rediss://h?ssl_check_hostname=F", "certificate"),
            ("rediss://h?ssl_check_hostname=n", "certificate"),
            ("rediss://h?ssl_check_hostname=", "certificate"),
            ("redis://[::1/0", "name a host"),
            ("redis://:secret[@h/0", "percent-encode the password"),
        ],
    )
    def test_nonsense(self, url, why):
        """Nonsense is refused at once, with what to write, and no secret."""
        with pytest.raises(InvalidSetting, match=why) as caught:
            Location(url)
        assert "secret" not in str(caught.value)

    def test_host_names_are_checked(self):
        """Host names are checked with every version of redis-py, the Sentinels' too."""
        client = Location("rediss://h/0").connect(1)
        assert client.connection_pool.connection_kwargs["ssl_check_hostname"] is True
        client = Location("rediss://a/0?sentinel=m&ssl_ca_certs=ca.pem").connect(1)
        (sentinel,) = client.connection_pool.sentinel_manager.sentinels
        for pool in (client.connection_pool, sentinel.connection_pool):
            given = pool.connection_kwargs
            assert given["ssl_check_hostname"] is True
            assert given["ssl_ca_certs"] == "ca.pem"

    def test_sentinels(self):
        """Each Sentinel has its own port, or the usual one, also behind an IPv6 address."""
        client = Location("redis://a,b:1,[::1],[::2]:3/0?sentinel=m").connect(1)
        each = client.connection_pool.sentinel_manager.sentinels
        given = [one.connection_pool.connection_kwargs for one in each]
        places = [(one["host"], one["port"]) for one in given]
        assert places == [("a", 26379), ("b", 1), ("::1", 26379), ("::2", 3)]

    def test_stays_bytes(self):
        """What is stored is bytes, whatever the URL says."""
        client = Location("redis://h/0?decode_responses=true").connect(1)
        assert not client.connection_pool.connection_kwargs.get("decode_responses")

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

    @pytest.mark.parametrize("more", ["", "&sentinel=mymaster"])
    @pytest.mark.parametrize(
        "option", ["sockt_timeout=1", "health_check_interval=often", "ssl_cert=a"]
    )
    def test_refused_at_once(self, option, more):
        """A handler with it is not made; the line has no password."""
        with pytest.raises(InvalidSetting, match="redis-py says") as caught:
            HtEventsHandler(host=f"redis://:secret@127.0.0.1:1/0?{option}{more}")
        assert "secret" not in str(caught.value)

    def test_taken_at_once(self):
        """What redis-py knows is taken, without a connection."""
        url = "rediss://127.0.0.1:1/0?health_check_interval=5&ssl_ca_certs=/ca.pem"
        HtEventsHandler(host=url).close()
