"""Events through Redis: applications that append, relays that send, and what can go wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing

import pytest
import script_runner
from redis_server import REDIS, RedisServer
from script_runner import HANG, until

from htlogging import DeliveryError
from htlogging._queue.redis.entry import InvalidEntry, events, fields, lines
from htlogging._queue.redis.relay_queue import GROUP, RelayQueue
from htlogging._settings.redis_location import Location
from htlogging.collector import Collector, Reply
from htlogging.htevents import Client

redis = pytest.importorskip("redis")
pytestmark = pytest.mark.skipif(REDIS is None, reason="no redis-server")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return a Redis server that stays healthy."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def own_server(tmp_path):
    """Return a Redis server that a test may harm."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def store(server):
    """Return a client of an empty database."""
    with redis.Redis.from_url(server.url) as store:
        store.flushall()
        yield store


@pytest.fixture
def url(server, store):  # noqa: ARG001  (it empties the database)
    """Return the URL of an empty database."""
    return server.url


@pytest.fixture
def client(url):
    """Return a client that sends to it."""
    client = Client(None, host=url, upload_interval=0.05)
    yield client
    client.shutdown()


@pytest.fixture
def collector():
    """Return a collector."""
    with Collector() as collector:
        yield collector


class Relay:
    """A relay's process."""

    def __init__(self, url, collector, *options):
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "htlogging", "relay", url),
                *("--host", collector.url, "--take-over", "1", *options),
            ],
            env={**os.environ, "HTEVENTS_WRITE_KEY": "RELAY-KEY"},
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.communicate()

    def end(self):
        """End it by SIGTERM; return what it said and its status."""
        self.process.terminate()
        _, said = self.process.communicate(timeout=HANG)
        return said, self.process.returncode


def command(*arguments, **environ):
    """Run a command of `relay`; return status, stdout and stderr."""
    return script_runner.here("relay", *arguments, **environ)


def relay_queue(url, settled=lambda *_: None):
    """Return the queue of a relay that is not there."""
    location = Location(url)
    return RelayQueue(location, "me", timeout=HANG, take_over=30, settled=settled)


def claimed(store):
    """Return what relays have claimed; nothing before there is a group."""
    try:
        return store.xpending_range("htevents", GROUP, "-", "+", 10)
    except redis.ResponseError:
        return []


def stored(store):
    """Return the events in the stream."""
    found = store.xrange("htevents")
    return [json.loads(event) for _, entry in found for event in events(entry)]


def ids(collector):
    """Return the message ids of what was taken, sorted."""
    return sorted(event["messageId"] for event in collector.events)


class TestEntry:
    @pytest.mark.parametrize("compress", [True, False])
    def test_there_and_back(self, compress):
        """Events come back byte for byte, in order."""
        given = [b'{"a":1}', '{"b":"ü"}'.encode(), b"{}"]
        entry = fields(lines(given), 3, compress=compress)
        found = {k.encode(): v if isinstance(v, bytes) else str(v).encode() for k, v in entry.items()}  # fmt: skip
        assert events(found) == given
        assert int(found[b"size"]) == len(b"\n".join(given)) + 1

    @pytest.mark.parametrize(
        "found",
        [
            {},
            {b"n": b"1"},
            {b"n": b"x", b"events": b"{}\n"},
            {b"n": b"2", b"events": b"{}\n"},
            {b"n": b"0", b"events": b""},
            {b"n": b"1", b"events": b"{}"},
            {b"n": b"1", b"events": b"{}\n", b"enc": b"gzip"},
            {b"n": b"1", b"events": b"{}\n", b"enc": b"zstd"},
            {b"n": b"1", b"events": b"x" * 1_000_001 + b"\n"},
        ],
    )
    def test_damaged(self, found):
        """What this package did not write is told from what it did."""
        with pytest.raises(InvalidEntry):
            events(found)

    def test_bomb(self):
        """An entry does not unfold without end."""
        entry = fields(b"x" * 50_000_000, 1, compress=True)
        found = {b"n": b"1", b"enc": b"gzip", b"events": entry["events"]}
        with pytest.raises(InvalidEntry, match="more than"):
            events(found)


class TestApplication:
    def test_one_entry_a_batch(self, client, store):
        """A batch is one entry: compressed, with count and size, without a key."""
        for n in range(300):
            client.track("user123", "Order completed", {"n": n})
        assert client.flush(HANG)
        found = [entry for _, entry in store.xrange("htevents")]
        assert sum(int(entry[b"n"]) for entry in found) == 300
        assert len(found) <= 10
        assert [e["properties"]["n"] for e in stored(store)] == [*range(300)]
        assert all(entry[b"enc"] == b"gzip" for entry in found)
        assert client.stats.delivered == 300

    def test_sync_mode(self, url, store):
        """With sync_mode the caller knows that Redis has it."""
        client = Client(None, host=url, sync_mode=True)
        client.track("user123", "Order completed")
        assert store.xlen("htevents") == 1

    def test_away(self, tmp_path):
        """A Redis that is away is an outage: events wait, then go."""
        with RedisServer(tmp_path / "redis") as server:
            client = Client(None, host=server.url)
            client.track("user123", "Before")
            assert client.flush(HANG)
            server.end(signal.SIGKILL)
            client.track("user123", "During")
            assert not client.flush(0.2)
            server.start()
            assert client.flush(HANG)
            with redis.Redis.from_url(server.url) as store:
                assert store.xlen("htevents") == 2
            client.shutdown()

    def test_hangs(self, own_server):
        """A Redis that hangs costs `flush` its time, and the caller nothing."""
        client = Client(None, host=own_server.url, timeout=2, max_retries=100)
        own_server.freeze()
        for n in range(100):
            client.track("user123", "Order completed", {"n": n})
        assert not client.flush(0.3)
        own_server.thaw()
        assert client.flush(HANG)
        client.shutdown()

    def test_out_of_memory(self, own_server, caplog):
        """A Redis over its maxmemory is an outage that says so; nothing is trimmed."""
        with redis.Redis.from_url(own_server.url) as store:
            store.config_set("maxmemory", 1)
            client = Client(None, host=own_server.url, max_retries=0)
            client.track("user123", "Order completed")
            assert client.flush(HANG)
            assert client.stats.failed == 1
            assert "OOM" in caplog.text
            store.config_set("maxmemory", 0)
            client.track("user123", "Order completed")
            assert client.flush(HANG)
            assert client.stats.delivered == 1
            client.shutdown()

    def test_max_bytes(self, url, store, caplog):
        """A stream at `maxbytes` refuses, as an outage does, until there is room."""
        client = Client(None, host=f"{url}?maxbytes=20000", gzip=False, max_retries=0)
        for n in range(60):
            client.track("user123", "Order completed", {"n": n, "x": "x" * 900})
            client.flush(HANG)
        assert client.stats.failed > 0
        assert client.stats.delivered == store.xlen("htevents") > 0
        assert store.memory_usage("htevents") < 40_000
        assert "maxbytes is 20,000" in caplog.text
        store.delete("htevents")
        client.track("user123", "Order completed")
        client.flush(HANG)
        assert store.xlen("htevents") == 1
        client.shutdown()

    def test_max_bytes_cannot_be_asked(self, own_server, caplog):
        """A user who may append and not ask for the size appends nothing twice."""
        with redis.Redis.from_url(own_server.url) as store:
            store.acl_setuser(
                "shop",
                enabled=True,
                passwords=["+s3cret"],
                keys=["*"],
                categories=["+@connection"],
                commands=["+xadd"],
            )
            host = own_server.url.replace("//", "//shop:s3cret@")
            client = Client(None, host=f"{host}?maxbytes=20000", max_retries=0)
            client.track("user123", "Order completed")
            assert client.flush(HANG)
            assert client.stats.delivered == store.xlen("htevents") == 1
            client.track("user123", "Order completed")
            client.flush(HANG)
            assert client.stats.failed == store.xlen("htevents") == 1
            assert "NOPERM: the user may not do this" in caplog.text
            client.shutdown()

    def test_wrong_kind_of_key(self, url, store, caplog):
        """A key that is no stream is said to be none."""
        store.set("htevents", "x")
        client = Client(None, host=url, max_retries=0)
        client.track("user123", "Order completed")
        client.flush(HANG)
        assert "the key is no stream" in caplog.text
        client.shutdown()

    def test_url_that_redis_refuses(self, server, caplog):
        """The line says what is wrong with it."""
        host = server.url.removesuffix("/0") + "/99"
        client = Client(host=host, max_retries=0, timeout=5)
        client.track("u", "e")
        client.flush(HANG)
        client.shutdown()
        assert "Redis has no database of that number" in caplog.text

    def test_user_without_xadd(self, server, caplog):
        """The line says that the user may not do it, without the user's name."""
        with redis.Redis.from_url(server.url) as admin:
            admin.acl_setuser(
                "writer", enabled=True, nopass=True, keys="*", commands=["-xadd"]
            )
        url = server.url.replace("redis://", "redis://writer:x@")
        client = Client(host=url, max_retries=0, timeout=5)
        client.track("u", "e")
        client.flush(HANG)
        client.shutdown()
        assert "NOPERM: the user may not do this; see its ACL" in caplog.text
        assert "writer" not in caplog.text

    def test_password(self, own_server, caplog):
        """A wrong password is in no line, and neither is the right one."""
        with redis.Redis.from_url(own_server.url) as store:
            store.config_set("requirepass", "s3cret")
            host = own_server.url.replace("//", "//:wr0ng@")
            client = Client(None, host=host, max_retries=0)
            client.track("user123", "Order completed")
            client.flush(HANG)
            assert client.stats.failed == 1
            assert "wr0ng" not in caplog.text
            good = Client(None, host=own_server.url.replace("//", "//:s3cret@"))
            good.track("user123", "Order completed")
            assert good.flush(HANG)
            assert good.stats.delivered == 1
            assert "s3cret" not in caplog.text + repr(good)
            client.shutdown()
            good.shutdown()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
    def test_fork(self, client, store):
        """A forked child has a connection of its own."""
        client.track("user123", "Parent")
        client.flush(HANG)
        pid = os.fork()
        if pid == 0:
            client.track("user123", "Child")
            os._exit(0 if client.flush(HANG) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        client.track("user123", "Parent again")
        assert client.flush(HANG)
        names = [event["event"] for event in stored(store)]
        assert sorted(names) == ["Child", "Parent", "Parent again"]

    def test_script_that_ends_at_once(self, url, store, tmp_path):
        """A script may end right after its first event: redis is imported at the end."""
        script = """
            from htlogging import htevents
            htevents.track("user123", "Order completed")
        """
        ended = script_runner.run(tmp_path, script, HTEVENTS_HOST=url)
        assert ended == (0, "", "")
        assert [event["event"] for event in stored(store)] == ["Order completed"]

    def test_spool(self, own_server, tmp_path):
        """With a spool, what Redis could not take is there after the process."""
        path = tmp_path / "events.spool"
        script = f"""
            from htlogging import htevents
            htevents.host = {own_server.url!r}
            htevents.spool = {str(path)!r}
            htevents.shutdown_timeout = 0.2
            htevents.track("user123", "Order completed", message_id="m1")
        """
        own_server.end()
        code = "\n".join(line.strip() for line in script.splitlines())
        subprocess.run([sys.executable, "-c", code], check=True, timeout=HANG)
        own_server.start()
        client = Client(None, host=own_server.url, spool=path)
        client.track("user123", "Another")
        with redis.Redis.from_url(own_server.url) as store:
            assert client.flush(HANG)
            until(lambda: len(stored(store)) == 2)
        client.shutdown()


@pytest.mark.once
class TestRelay:
    def test_sends_and_deletes(self, client, url, store, collector):
        """What is in the stream arrives under the relay's key, and is gone from it."""
        sent = [client.track("user123", "Order completed")[1] for _ in range(500)]
        client.flush(HANG)
        with Relay(url, collector) as relay:
            assert collector.wait_for(500, HANG)
            until(lambda: store.xlen("htevents") == 0)
            said, status = relay.end()
        assert status == 0
        assert ids(collector) == sorted(event["messageId"] for event in sent)
        assert {r.write_key for r in collector.requests} == {"RELAY-KEY"}
        assert not collector.problems
        assert store.xinfo_consumers("htevents", GROUP) == []
        assert "500 events delivered" in said

    def test_bad_event(self, client, url, store, collector):
        """A bad event is bisected out to the dead letters; the others arrive."""
        sent = [client.track("u", "Order completed", {"n": n})[1] for n in range(50)]
        client.flush(HANG)
        bad = sent[17]["messageId"]
        collector.always(
            lambda r: 400 if bad in {e["messageId"] for e in r.events} else None
        )
        with Relay(url, collector):
            assert collector.wait_for(49, HANG)
            ((_, letter),) = until(lambda: store.xrange("htevents:dead"))
            until(lambda: store.xlen("htevents") == 0)
        assert json.loads(letter[b"event"])["messageId"] == bad
        assert letter[b"status"] == b"400"
        assert letter[b"message"]
        assert float(letter[b"at"]) > 0

    def test_retries(self, client, url, collector):
        """A receiver that fails is waited for; `sentAt` is that of the try."""
        collector.script(503, 429, Reply(drop="before"))
        client.track("user123", "Order completed")
        client.flush(HANG)
        with Relay(url, collector):
            assert collector.wait_for(1, HANG)
        sent = [r.sent_at for r in collector.requests if r.sent_at]
        assert len(set(sent)) == len(sent) > 1

    def test_takes_over(self, client, url, store, collector):
        """A relay that is killed has its entries sent by another, which was alive."""
        hold = threading.Event()
        collector.always(lambda _: None if hold.wait(HANG) else 500)
        client.track("user123", "Order completed")
        client.flush(HANG)
        with Relay(url, collector) as first:
            until(lambda: len(claimed(store)) == 1)
            first.process.kill()
            first.process.wait(HANG)
            hold.set()
            with Relay(url, collector):
                until(lambda: store.xlen("htevents") == 0)
        assert len(set(ids(collector))) == 1

    def test_slow_one_keeps_its_claim(self, client, url, store, collector):
        """A relay that is slow, but alive, is not robbed."""
        hold = threading.Event()
        collector.always(lambda _: None if hold.wait(HANG) else 500)
        client.track("user123", "Order completed")
        client.flush(HANG)
        with Relay(url, collector), Relay(url, collector) as other:
            (before,) = until(lambda: claimed(store))
            assert "relaying" in other.process.stderr.readline()
            began = time.monotonic()
            while time.monotonic() - began < 2.5:  # take-over is after one second
                (now,) = store.xpending_range("htevents", GROUP, "-", "+", 1)
                assert now["consumer"] == before["consumer"]
                time.sleep(0.05)
            hold.set()
            until(lambda: store.xlen("htevents") == 0)
        assert len(collector.events) == 1

    def test_sigterm_gives_back(self, client, url, store, collector):
        """A relay that stops amid an outage leaves its claims to others, at once."""
        collector.always(500)
        client.track("user123", "Order completed")
        client.flush(HANG)
        with Relay(url, collector, "--take-over", "3600") as first:
            until(lambda: collector.requests)
            assert first.end()[1] == 0
        assert store.xlen("htevents") == 1
        collector.always(None)
        with Relay(url, collector, "--take-over", "3600"):
            assert collector.wait_for(1, HANG)

    def test_redis_restarts(self, own_server, collector):
        """Redis is killed and comes back: the relay goes on, nothing is lost."""
        client = Client(None, host=own_server.url)
        with Relay(own_server.url, collector):
            client.track("user123", "Before")
            assert collector.wait_for(1, HANG)
            own_server.end(signal.SIGKILL)
            client.track("user123", "During")
            own_server.start()
            client.track("user123", "After")
            until(lambda: len({*ids(collector)}) == 3)
        client.shutdown()

    def test_stream_is_deleted(self, client, url, store, collector):
        """A stream that was deleted is made again."""
        with Relay(url, collector):
            client.track("user123", "Before")
            assert collector.wait_for(1, HANG)
            store.delete("htevents")
            client.track("user123", "After")
            assert collector.wait_for(2, HANG)

    def test_foreign_entry(self, client, url, store, collector):
        """An entry that is none of ours is set aside, and stops no other."""
        store.xadd("htevents", {"hello": "world"})
        client.track("user123", "Order completed")
        client.flush(HANG)
        with Relay(url, collector):
            assert collector.wait_for(1, HANG)
            until(lambda: store.xlen("htevents") == 0)
        ((_, letter),) = store.xrange("htevents:dead")
        assert b"no field" in letter[b"message"]

    def test_health(self, client, url, collector):
        """Health and figures are had over HTTP."""
        with Relay(url, collector, "--listen", "127.0.0.1:0") as relay:
            line = relay.process.stderr.readline()
            port = re.search(r"port (\d+)", line)[1]
            client.track("user123", "Order completed")
            client.flush(HANG)
            assert collector.wait_for(1, HANG)

            def get(path):
                where = f"http://127.0.0.1:{port}{path}"
                with urllib.request.urlopen(where, timeout=HANG) as answer:
                    return answer.status, answer.read().decode()

            assert json.loads(get("/health")[1]) == {"status": "ok", "reason": ""}
            name = 'htlogging_relay_events_total{outcome="delivered"}'
            until(lambda: f"{name} 1\n" in get("/metrics")[1])
            assert get("/metrics")[1].endswith("# EOF\n")


class TestQueue:
    @pytest.fixture
    def queue(self, url):
        """Return the queue of a relay that is not there."""
        with closing(relay_queue(url)) as queue:
            yield queue

    def test_an_entry_in_parts(self, queue, client, store):
        """An entry is acknowledged when all of its parts are settled."""
        for n in range(5):
            client.track("user123", "Order completed", {"n": n})
        client.flush(HANG)
        parts = []
        while batch := queue.claim(2, 10**6):
            parts.append(batch)
        assert [len(part) for part in parts] in ([2, 2, 1], [1, 2, 2], [1, 1, 1, 1, 1])
        *most, last = parts
        for part in most:
            queue.ack(part)
        assert store.xlen("htevents") == 1
        failure = DeliveryError(400, "invalid", "no", 1)
        assert queue.bury(last, failure)
        assert store.xlen("htevents") == 0
        assert store.xlen("htevents:dead") == len(last)

    def test_released(self, queue, client):
        """What is released is claimed again, as it was."""
        client.track("user123", "Order completed")
        client.flush(HANG)
        batch = queue.claim(10, 10**6)
        queue.release(batch)
        assert queue.claim(10, 10**6) is batch

    def test_dead_names_go(self, queue, client, store):
        """Names of relays that are gone are removed; those with claims are not."""
        client.track("user123", "Order completed")
        client.flush(HANG)
        queue.ensure_group()
        store.xreadgroup(GROUP, "busy", {"htevents": ">"}, count=1)
        store.xgroup_createconsumer("htevents", GROUP, "gone")
        names = lambda: {c["name"] for c in store.xinfo_consumers("htevents", GROUP)}  # noqa: E731
        queue.remove_dead_consumers(3600)
        assert names() == {b"busy", b"gone"}
        queue.remove_dead_consumers(-1)
        assert names() == {b"busy"}

    def test_buried_while_redis_is_away(self, own_server):
        """What was given up is not sent again: it is buried when Redis is back."""
        counts = []
        queue = relay_queue(own_server.url, lambda *count: counts.append(count))
        client = Client(None, host=own_server.url)
        client.track("user123", "Order completed")
        client.shutdown()
        batch = queue.claim(10, 10**6)
        own_server.end()
        assert queue.bury(batch, DeliveryError(400, "invalid", "no", 1))
        with pytest.raises(redis.ConnectionError):
            queue.claim(10, 10**6)
        assert counts == []
        own_server.start()
        assert queue.claim(10, 10**6) is None
        assert counts == [(0, 1)]
        with redis.Redis.from_url(own_server.url) as store:
            assert store.xlen("htevents") == 0
            assert store.xlen("htevents:dead") == 1
        queue.close()


@pytest.mark.once
class TestCommands:
    @pytest.fixture
    def dead(self, client, url, store):
        """Return a stream's URL with two dead letters: of ada and of bob."""
        client.track("ada", "Order completed", message_id="m1")
        client.track("bob", "Order completed", anonymous_id="b", message_id="m2")
        client.flush(HANG)
        with closing(relay_queue(url)) as queue:
            while batch := queue.claim(10, 10**6):
                assert queue.bury(batch, DeliveryError(401, "401", "Unauthorized", 1))
        assert (store.xlen("htevents:dead"), store.xlen("htevents")) == (2, 0)
        return url

    def test_status(self, client, url):
        """`status` shows what is there."""
        client.track("user123", "Order completed")
        client.flush(HANG)
        found = json.loads(command("status", url, "--json")[1])
        assert (found["entries"], found["lag"], found["dead"]) == (1, 1, 0)
        assert found["oldest_seconds"] >= 0
        status, out, err = command("status", url)
        assert (status, err) == (0, "")
        assert out.startswith("htevents: 1 entry in ")

    def test_status_of_nothing(self, url):
        """An empty database has an empty stream."""
        assert json.loads(command("status", url, "--json")[1])["entries"] == 0

    def test_replay(self, dead, store, collector):
        """Dead letters are sent again under their ids, and are gone then."""
        target = ("--host", collector.url, "--write-key", "K")
        assert command("replay", dead, "--only-status", "400", *target)[0] == 0
        assert collector.events == []
        assert command("replay", dead, *target)[:2] == (0, "2 of 2 events delivered\n")
        assert ids(collector) == ["m1", "m2"]
        assert store.xlen("htevents:dead") == 0

    def test_replay_beside_letters_of_other_programs(self, dead, store, collector):
        """What is no letter stays where it is, and costs the others nothing."""
        store.xadd("htevents:dead", {"junk": b"\xff"})
        target = ("--host", collector.url, "--write-key", "K")
        assert command("replay", dead, *target)[:2] == (0, "2 of 2 events delivered\n")
        assert store.xlen("htevents:dead") == 1

    def test_replay_refused(self, dead, store, collector):
        """Those refused again stay; after a wrong key nothing more is tried."""
        collector.always(401)
        target = ("--host", collector.url, "--write-key", "K")
        status, out, err = command("replay", dead, *target)
        assert (status, out) == (1, "0 of 2 events delivered\n")
        assert "401" in err
        assert store.xlen("htevents:dead") == 2

    def test_drop(self, dead, store):
        """Nothing is dropped without --yes."""
        assert command("drop", dead)[0] == 2
        assert store.xlen("htevents:dead") == 2
        one = store.xrange("htevents:dead")[0][0].decode()
        command("drop", dead, "--id", one, "--yes")
        assert store.xlen("htevents:dead") == 1
        assert command("drop", dead, "--yes")[1] == "1 dead letter dropped\n"
        assert store.xlen("htevents:dead") == 0

    def test_forget(self, dead, client, store):
        """A person's events go, waiting and dead; those of others stay, in order."""
        for user in ("ada", "bob", "ada"):
            client.track(user, "Order completed")
        client.flush(HANG)
        dry = command("forget", dead, "--user", "ada", "--dry-run")
        assert dry[1] == "2 waiting events and 1 dead letter would be removed\n"
        status, out, _ = command("forget", dead, "--user", "ada", "--anonymous", "x")
        assert (status, out.splitlines()[0]) == (
            0,
            "2 waiting events and 1 dead letter removed",
        )
        left = [event["userId"] for event in stored(store)]
        assert left == ["bob"]
        ((_, letter),) = store.xrange("htevents:dead")
        assert json.loads(letter[b"event"])["userId"] == "bob"

    @pytest.mark.parametrize(
        ("arguments", "status", "said"),
        [
            (["http://localhost"], 2, "must begin with redis://"),
            (["status", "redis://h?maxbytes=x"], 1, "maxbytes"),
            (["status", "redis://127.0.0.1:1"], 1, "no connection to Redis"),
            (["forget", "redis://127.0.0.1:1"], 2, "whom to forget"),
            (["forget", "redis://127.0.0.1:1", "--user", ""], 2, "whom to forget"),
            (
                ["redis://127.0.0.1:1", "--take-over", "0"],
                2,
                "must be a number of seconds",
            ),
            (["redis://127.0.0.1:1", "--listen", "x"], 2, "HOST:PORT"),
        ],
    )
    def test_mistakes(self, arguments, status, said):
        """A mistake is one line and a status."""
        found, _, err = command(*arguments, HTEVENTS_WRITE_KEY="K")
        assert (found, said in err) == (status, True)
        assert "Traceback" not in err

    def test_no_key(self):
        """A relay without a key does not start."""
        status, _, err = command("redis://127.0.0.1:1", HTEVENTS_WRITE_KEY="")
        assert status == 1
        assert "no write key" in err
