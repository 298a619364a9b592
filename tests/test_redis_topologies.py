"""Redis as Sentinels and Clusters have it, TLS, and a replica that takes over: real ones."""

from __future__ import annotations

import subprocess

import pytest
from redis_server import REDIS, RedisServer
from script_runner import HANG, until

from htlogging.htevents import Client

redis = pytest.importorskip("redis")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(REDIS is None, reason="no redis-server"),
]


def lengths(*servers):
    """Return the length of the stream on each server."""
    found = []
    for server in servers:
        with redis.Redis.from_url(server.url) as store:
            found.append(store.xlen("htevents"))
    return found


@pytest.fixture
def pair(tmp_path):
    """Return a master and its replica."""
    with (
        RedisServer(tmp_path / "one") as one,
        RedisServer(tmp_path / "two", "--replicaof", f"127.0.0.1 {one.port}") as two,
    ):
        with redis.Redis.from_url(two.url) as store:
            until(lambda: store.info("replication")["master_link_status"] == "up")
        yield one, two


class TestReplica:
    def test_read_only(self, pair, caplog):
        """A replica is an outage that says so, until it becomes the master."""
        _, two = pair
        client = Client(None, host=two.url, max_retries=100)
        client.track("user123", "Order completed")
        until(lambda: "READONLY" in caplog.text)
        with redis.Redis.from_url(two.url) as store:
            store.replicaof("NO", "ONE")
        assert client.flush(HANG)
        assert lengths(two) == [1]
        client.shutdown()


class TestSentinel:
    @pytest.fixture
    def sentinel(self, tmp_path, pair):
        """Return the port of a Sentinel that watches the pair."""
        one, _ = pair
        folder = tmp_path / "sentinel"
        folder.mkdir()
        config = folder / "sentinel.conf"
        with RedisServer(folder / "probe") as probe:
            port = probe.port
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor mymaster 127.0.0.1 {one.port} 1\n"
            "sentinel down-after-milliseconds mymaster 500\n"
            "sentinel failover-timeout mymaster 2000\n"
        )
        process = subprocess.Popen(
            [REDIS, str(config), "--sentinel"], stdout=subprocess.DEVNULL
        )
        with redis.Redis(port=port) as store:
            until(lambda: _knows_replica(store))
        yield port
        process.kill()
        process.wait()

    def test_failover(self, pair, sentinel):
        """The master dies, the Sentinel promotes the replica, and events go there."""
        one, two = pair
        host = f"redis://127.0.0.1:{sentinel}/0?sentinel=mymaster"
        client = Client(None, host=host, max_retries=100, timeout=2)
        client.track("user123", "Before")
        assert client.flush(HANG)
        until(lambda: lengths(two) == [1])
        one.end(9)
        client.track("user123", "After")
        assert client.flush(2 * HANG)
        assert lengths(two) == [2]
        client.shutdown()


def _knows_replica(store):
    try:
        return store.execute_command("SENTINEL", "REPLICAS", "mymaster")
    except redis.RedisError:
        return False


class TestCluster:
    def test_one_node(self, tmp_path):
        """A cluster takes batches, and a relay's commands stay on one slot."""
        with RedisServer(tmp_path, "--cluster-enabled", "yes") as server:
            with redis.Redis.from_url(server.url) as store:
                store.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                until(lambda: b"cluster_state:ok" in _info(store))
            client = Client(None, host=f"{server.url}?cluster=1")
            client.track("user123", "Order completed")
            assert client.flush(HANG)
            client.shutdown()
            assert lengths(server) == [1]


def _info(store):
    said = store.execute_command("CLUSTER", "INFO")
    return said if isinstance(said, bytes) else str(said).replace("': '", ":").encode()


class TestTls:
    def test_own_authority(self, tmp_path):
        """TLS with an authority of one's own; without it the server is not trusted."""
        trustme = pytest.importorskip("trustme")
        authority = trustme.CA()
        pair = authority.issue_cert("127.0.0.1")
        key, cert, ca = tmp_path / "key", tmp_path / "cert", tmp_path / "ca"
        pair.private_key_pem.write_to_path(key)
        pair.cert_chain_pems[0].write_to_path(cert)
        authority.cert_pem.write_to_path(ca)
        options = ("--tls-cert-file", str(cert), "--tls-key-file", str(key))
        with RedisServer(tmp_path / "plain") as probe:
            port = probe.port
        more = ("--tls-port", str(port), "--tls-auth-clients", "no")
        try:
            server = RedisServer(
                tmp_path / "redis", *options, *more, "--tls-ca-cert-file", str(ca)
            )
            server.start()
        except AssertionError:
            pytest.skip("this redis-server has no TLS")
        try:
            url = f"rediss://127.0.0.1:{port}/0"
            good = Client(None, host=f"{url}?ssl_ca_certs={ca}")
            good.track("user123", "Order completed")
            assert good.flush(HANG)
            assert good.stats.delivered == 1
            bad = Client(None, host=url, max_retries=0)
            bad.track("user123", "Order completed")
            assert bad.flush(HANG)
            assert bad.stats.failed == 1
            good.shutdown()
            bad.shutdown()
        finally:
            server.end()
