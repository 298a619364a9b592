"""The collector's page: its API, and who may ask it."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress

import pytest
import requests
from script_runner import HANG

from htlogging.collector import Collector
from htlogging.collector._log import MAX_EVENTS, MAX_REQUESTS
from htlogging.collector._schema import Schema, table_of
from htlogging.collector._server import Server

pytestmark = pytest.mark.once

NOW = "2024-03-12T09:30:00.123+00:00"


@pytest.fixture
def collector():
    """Return a collector that listens."""
    with Collector() as collector:
        yield collector


def event(**fields):
    """Return a valid event with these fields."""
    return {
        "type": "track",
        "event": "Order completed",
        "userId": "user123",
        "context": {"library": {"name": "test", "version": "1"}},
        "properties": {},
        "timestamp": NOW,
        "messageId": "m1",
        **fields,
    }


def send(collector, *events, path="/v1/batch", key="KEY", **headers):
    """Send events, and return the answer."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.post(
        collector.url + path,
        data=json.dumps({"batch": list(events), "sentAt": NOW}),
        headers={"Content-Type": "application/json", **names},
        auth=(key, ""),
        timeout=HANG,
    )


def ask(collector, path, **headers):
    """Ask the API, and return what it says."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.get(collector.url + path, headers=names, timeout=HANG)


def tell(collector, path, said=None, **headers):
    """Tell the API something, and return the answer."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.post(
        collector.url + path, json=said or {}, headers=names, timeout=HANG
    )


class TestApi:
    def test_events(self, collector):
        """Events come oldest first, numbered, each with what is wrong with it."""
        send(collector, event(), event(userId=None, messageId="m2"))
        first, second = ask(collector, "/_/events").json()
        assert first["event"] == event()
        assert (first["id"], second["id"]) == (1, 2)
        assert first["problems"] == []
        assert second["problems"] == ["track needs userId or anonymousId"]

    def test_good_and_bad(self, collector):
        """An event is good or bad: bad, if it has a problem or was not taken."""
        send(collector, event(), event(timestamp="yesterday"))
        collector.script(500)
        send(collector, event(messageId="m3"))
        good, bad = ask(collector, "/_/good").json(), ask(collector, "/_/bad").json()
        assert [e["event"]["messageId"] for e in good] == ["m1"]
        assert [(e["taken"], e["status"]) for e in bad] == [(True, 200), (False, 500)]

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("type=page", ["m2"]),
            ("user=user123", ["m1"]),
            ("user=visitor", ["m2"]),
            ("text=ZOË", ["m1"]),
            ("limit=1", ["m2"]),
            ("type=group", []),
        ],
    )
    def test_filters(self, collector, query, found):
        """A query narrows the list down."""
        send(
            collector,
            event(properties={"name": "Zoë"}),
            event(type="page", userId=None, anonymousId="visitor", messageId="m2"),
        )
        shown = ask(collector, f"/_/events?{query}").json()
        assert [e["event"]["messageId"] for e in shown] == found

    def test_numbers_without_end(self, collector):
        """A number of thousands of digits counts as none: there is an answer."""
        send(collector, event())
        digits = "9" * 5_000
        assert len(ask(collector, f"/_/events?limit={digits}").json()) == 1
        assert ask(collector, f"/_/source?id={digits}").status_code == 404

    def test_counts(self, collector):
        """Counts go on when events are no longer kept."""
        send(collector, event(), event(userId=None))
        send(collector, key="")
        counts = ask(collector, "/_/counts").json()
        assert counts == {
            "requests": 2,
            "refused": 1,
            "events": 2,
            "good": 1,
            "bad": 1,
            "kept": 2,
        }

    def test_reset(self, collector):
        """After a reset there is nothing, and numbers begin anew."""
        send(collector, event())
        assert tell(collector, "/_/reset").json()["events"] == 0
        assert ask(collector, "/_/events").json() == []
        send(collector, event())
        assert ask(collector, "/_/events").json()[0]["id"] == 1

    def test_requests(self, collector):
        """A request is shown with status, sizes and encoding."""
        send(collector, event())
        send(collector, event(), key="")
        taken, refused = ask(collector, "/_/requests").json()
        assert (taken["status"], taken["events"], taken["taken"]) == (200, 1, True)
        assert taken["bytes"] == taken["plain_bytes"] > 0
        assert (refused["status"], refused["taken"]) == (401, False)
        assert "write key" in refused["problems"][0]

    def test_source(self, collector):
        """The JSON of an event is as it was sent, to the last digit."""
        body = b'{"batch": [{"type": "track", "big": 12345678901234567890123}]}'
        requests.post(
            collector.url + "/v1/batch",
            data=body,
            headers={"Content-Type": "application/json"},
            auth=("KEY", ""),
            timeout=HANG,
        )
        assert '"big":12345678901234567890123' in ask(collector, "/_/source?id=1").text
        assert ask(collector, "/_/source?id=2").status_code == 404

    def test_export(self, collector, tmp_path):
        """The export is what `send` takes: one event a line, as it was sent."""
        from htlogging._cli.main import main

        send(collector, event(), event(messageId="m2"))
        path = tmp_path / "events.ndjson"
        path.write_bytes(ask(collector, "/_/export").content)
        with Collector() as other:
            assert main(
                ["send", str(path), "--host", other.url, "--write-key", "KEY"]
            ) in (0, None)
            assert [e["messageId"] for e in other.events] == ["m1", "m2"]

    @pytest.mark.parametrize("path", ["/_/", "/_/nothing", "/_/events/1"])
    def test_unknown(self, collector, path):
        """An unknown path is a 404 that is no request of the wire."""
        assert ask(collector, path).status_code == 404
        assert collector.requests == []

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("GET", "/_/reset", "POST"),
            ("PUT", "/_/faults", "GET, HEAD, POST"),
            ("POST", "/_/events", "GET, HEAD"),
            ("DELETE", "/_/nothing", "GET, HEAD"),
        ],
    )
    def test_another_method(self, collector, method, path, allowed):
        """It is a 405 that names the right ones."""
        said = requests.request(method, collector.url + path, timeout=HANG)
        assert (said.status_code, said.headers["Allow"]) == (405, allowed)


class TestBounds:
    def test_memory(self, collector):
        """The oldest requests go; the newest stay."""
        for n in range(3):
            send(collector, *[event(messageId=f"{n}-{m}") for m in range(1800)])
        for n in range(3, 7):
            send(collector, *[event(messageId=f"{n}-{m}") for m in range(1800)])
        kept = ask(collector, "/_/events?limit=100000").json()
        assert len(kept) <= MAX_EVENTS
        assert kept[-1]["event"]["messageId"] == "6-1799"
        assert ask(collector, "/_/counts").json()["events"] == 7 * 1800

    def test_requests(self):
        """Empty requests take room, too."""
        from email.message import Message

        from htlogging.collector import Request
        from htlogging.collector._log import Log

        log = Log()
        for _ in range(MAX_REQUESTS + 10):
            log.add(Request("POST", "/v1/batch", Message(), b"", 0.0, 1))
        assert len(log.entries()) == MAX_REQUESTS


class TestStream:
    def lines(self, answer, count):
        """Return this many fields of a stream."""
        found = []
        for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
            if line and not line.startswith(":"):
                found.append(line)
            if len(found) == count:
                break
        return found

    def test_live(self, collector):
        """A request that comes in is sent to the page that is open."""
        with requests.get(
            collector.url + "/_/stream", stream=True, timeout=HANG
        ) as answer:
            sender = threading.Thread(target=send, args=(collector, event()))
            assert self.lines(answer, 3)[0] == "event: reset"
            sender.start()
            kind, number, data = self.lines(answer, 3)
            sender.join()
        assert kind == "event: request"
        assert number.startswith("id: ")
        assert json.loads(data.removeprefix("data: "))["events"][0]["event"] == event()

    def test_goes_on(self, collector):
        """With the last id, only what came after it is sent."""
        send(collector, event())
        send(collector, event(messageId="m2"))
        with requests.get(
            collector.url + "/_/stream", stream=True, timeout=HANG
        ) as answer:
            number = self.lines(answer, 6)[4].removeprefix("id: ")
        with requests.get(
            collector.url + "/_/stream",
            stream=True,
            timeout=HANG,
            headers={"Last-Event-ID": number},
        ) as answer:
            kind, _, data = self.lines(answer, 3)
        assert kind == "event: request"
        events = json.loads(data.removeprefix("data: "))["events"]
        assert [e["event"]["messageId"] for e in events] == ["m2"]

    def test_ends_with_the_collector(self):
        """A page that is open does not hold up `stop`."""
        collector = Collector().start()
        with requests.get(
            collector.url + "/_/stream", stream=True, timeout=HANG
        ) as answer:
            self.lines(answer, 3)
            collector.stop()
            assert b"event" not in answer.raw.read()  # it ends


class TestFaults:
    @pytest.mark.parametrize(("fault", "status"), [("429", 429), ("500", 500)])
    def test_status(self, collector, fault, status):
        """A fault is the answer to each request until it is turned off."""
        said = tell(collector, "/_/faults", {"fault": fault, "seconds": 7}).json()
        assert said == {"fault": fault, "seconds": 7.0, "every": 1}
        answer = send(collector, event())
        assert answer.status_code == status
        assert answer.headers.get("Retry-After") == ("7" if fault == "429" else None)
        tell(collector, "/_/faults", {"fault": None})
        assert send(collector, event()).status_code == 200

    @pytest.mark.parametrize(("fault", "taken"), [("cut", 1), ("lost", 1)])
    def test_broken(self, collector, fault, taken):
        """A connection that breaks: the events were taken all the same."""
        tell(collector, "/_/faults", {"fault": fault})
        with pytest.raises(requests.RequestException):
            send(collector, event())
        assert len(collector.events) == taken

    def test_every(self, collector):
        """Every Nth request fails."""
        tell(collector, "/_/faults", {"fault": "500", "every": 3})
        found = [send(collector, event()).status_code for _ in range(6)]
        assert found == [200, 200, 500, 200, 200, 500]

    @pytest.mark.parametrize(
        "said",
        [
            {"fault": "fire"},
            {"fault": ["500"]},
            {"fault": {"500": 1}},
            {"fault": "slow", "seconds": -1},
            {"fault": "slow", "seconds": "2"},
            {"fault": "slow", "seconds": True},
            {"fault": "500", "every": 0},
            {"fault": "500", "every": 1.5},
            [],
        ],
    )
    def test_nonsense(self, collector, said):
        """Nonsense is a 400 that says what would make sense; the fault stays."""
        answer = requests.post(
            collector.url + "/_/faults", data=json.dumps(said), timeout=HANG,
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        assert answer.status_code == 400
        assert "must" in answer.json()["error"] or "fault" in answer.json()["error"]
        assert ask(collector, "/_/faults").json()["fault"] is None

    def test_a_test_comes_first(self, collector):
        """What a test scripted is not undone by a fault of the page."""
        tell(collector, "/_/faults", {"fault": "500"})
        collector.script(200)
        assert send(collector, event()).status_code == 200


class TestWhoMayAsk:
    @pytest.mark.parametrize("path", ["/", "/_/events", "/_/stream", "/_/export"])
    @pytest.mark.parametrize(
        "headers",
        [
            {"Host": "attacker.example"},
            {"Host": "localhost.attacker.example"},
            {"Host": "127.0.0.1.attacker.example"},
            {"Origin": "https://attacker.example"},
            {"Origin": "http://localhost:9"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ],
    )
    def test_others_read_nothing(self, collector, path, headers):
        """Another page, or a name made to look like this machine, gets a 403."""
        send(collector, event())
        answer = ask(collector, path, **headers)
        assert answer.status_code == 403
        assert "user123" not in answer.text
        assert "Access-Control-Allow-Origin" not in answer.headers

    @pytest.mark.parametrize("first", ["Host: localhost", "Origin: http://localhost"])
    def test_a_header_twice(self, collector, first):
        """A second value that is not local counts as well as the first."""
        second = first.replace("localhost", "attacker.example")
        head = f"POST /v1/batch HTTP/1.1\r\n{first}\r\n{second}\r\n"
        port = int(collector.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), HANG) as client:
            client.sendall(f"{head}Content-Length: 0\r\n\r\n".encode())
            assert client.recv(100).startswith(b"HTTP/1.1 403 ")

    @pytest.mark.parametrize("path", ["/_/reset", "/_/faults"])
    def test_others_change_nothing(self, collector, path):
        """Nor does it clear the list or change the fault."""
        send(collector, event())
        for headers in (
            {"Origin": "https://attacker.example"},
            {"Origin": collector.url, "Content-Type": "text/plain"},
            {"Content-Type": "text/plain"},
        ):
            answer = requests.post(
                collector.url + path,
                data='{"fault": "500"}',
                headers=headers,
                timeout=HANG,
            )
            assert answer.status_code == 403
        assert len(ask(collector, "/_/events").json()) == 1
        assert ask(collector, "/_/faults").json()["fault"] is None

    def test_the_page_itself_may(self, collector):
        """Its own page asks and tells, under either name of this machine."""
        for host in (collector.url, collector.url.replace("127.0.0.1", "localhost")):
            name = host.removeprefix("http://")
            headers = {"Host": name, "Origin": host, "Sec-Fetch-Site": "same-origin"}
            assert ask(collector, "/_/events", **headers).status_code == 200
            assert tell(collector, "/_/reset", **headers).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://attacker.example"},
            {"Origin": "http://localhost:5000", "Content-Type": "text/plain"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Host": "attacker.example"},
        ],
    )
    def test_others_put_no_events_in(self, collector, headers):
        """A cross-site post, also one without a preflight, is refused and shown."""
        body = json.dumps({"batch": [event()], "sentAt": NOW, "writeKey": "K"})
        answer = requests.post(
            collector.url + "/v1/batch",
            data=body,
            headers={"Content-Type": "application/json", **headers},
            timeout=HANG,
        )
        assert answer.status_code == 403
        assert collector.events == []
        assert ask(collector, "/_/requests").json()[0]["status"] == 403


class TestBrowsers:
    def preflight(self, collector, origin, path="/v1/t"):
        """Ask as a browser does before it sends JSON elsewhere."""
        return requests.options(
            collector.url + path,
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type",
            },
            timeout=HANG,
        )

    def test_may_send(self, collector):
        """A page of an application under development sends, and reads the answer."""
        origin = "http://shop.localhost:5000"
        answer = self.preflight(collector, origin, "/v1/track")
        assert answer.status_code == 204
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert "Content-Type" in answer.headers["Access-Control-Allow-Headers"]
        said = {**event(), "writeKey": "KEY", "sentAt": NOW}
        answer = requests.post(
            collector.url + "/v1/track",
            json=said,
            headers={"Origin": origin},
            timeout=HANG,
        )
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert collector.events[0]["userId"] == "user123"
        assert len(collector.requests) == 1  # a preflight is none of the SDK's

    def test_may_read_a_fault(self, collector):
        """A scripted answer can be read by the page as well."""
        collector.script(503)
        answer = requests.post(
            collector.url + "/v1/track",
            json={**event(), "writeKey": "KEY"},
            headers={"Origin": "http://localhost:5000"},
            timeout=HANG,
        )
        assert answer.status_code == 503
        assert "Access-Control-Allow-Origin" in answer.headers

    def test_others_may_not(self, collector):
        """A page from elsewhere gets no leave to send."""
        answer = self.preflight(collector, "https://attacker.example", "/v1/track")
        assert answer.status_code == 403
        assert "Access-Control-Allow-Origin" not in answer.headers


class TestPage:
    def test_is_one_file(self, collector):
        """The page loads nothing from anywhere, and runs nothing but itself."""
        answer = ask(collector, "/")
        policy = answer.headers["Content-Security-Policy"]
        assert answer.headers["Content-Type"].startswith("text/html")
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for word in (
            "src=",
            "innerHTML",
            "https://",
            "document.write",
            "NONCE",
            "style=",
        ):
            assert word not in answer.text

    def test_nonce_is_fresh(self, collector):
        """No two answers share a nonce."""
        policies = {
            ask(collector, "/").headers["Content-Security-Policy"] for _ in range(3)
        }
        assert len(policies) == 3


class TestConnections:
    @pytest.fixture
    def connect(self):
        """Return a function that starts a server and returns what connects to it."""
        servers = []

        def start(**limits):
            # No request comes, so nothing is asked for an answer.
            server = Server(0, None, None, None, **limits)
            servers.append(server)
            threading.Thread(target=server.serve).start()
            return lambda: socket.create_connection(server.server_address, HANG)

        yield start
        for server in servers:
            server.stop(HANG)

    def test_one_too_many(self, connect):
        """Connections are bounded; one more is told so and closed."""
        one = connect(most=3)
        # The server accepts them in their order.
        with one(), one(), one(), one() as more:
            assert more.recv(100).startswith(b"HTTP/1.1 503 ")

    def test_slow(self, connect):
        """A request that comes byte by byte is closed, though it is never silent."""
        with connect(idle=0.2)() as slow:
            slow.settimeout(0.02)
            slow.sendall(b"POST /v1/batch HTTP/1.1\r\nX: ")
            with suppress(ConnectionError):
                while True:
                    with suppress(TimeoutError):
                        assert slow.recv(1) == b""
                        break
                    slow.sendall(b"x")

    def test_silent(self, connect):
        """A connection that says nothing is closed after a while."""
        with connect(idle=0.05)() as silent:
            assert silent.recv(1) == b""


class TestVocabulary:
    @pytest.mark.parametrize(
        ("name", "table"),
        [
            ("Order Completed", "order_completed"),
            ("order_completed", "order_completed"),
            ("OrderCompleted", "order_completed"),
            ("order-completed", "order_completed"),
            ("HTTPError seen", "http_error_seen"),
            ("注文", "注文"),
            ("!!", "!!"),
        ],
    )
    def test_table(self, name, table):
        """Names that differ in case and punctuation make one table."""
        assert table_of(name) == table

    def test_two_names(self):
        """The second name of a table is doubtful, the first one is not."""
        words = Schema()
        assert words.doubts(event(event="Order Completed")) == []
        (doubt,) = words.doubts(event(event="order_completed"))
        assert "one table, order_completed" in doubt
        assert words.doubts(event(event="Order Completed")) == []

    @pytest.mark.parametrize(
        "name",
        [
            "Order 5 completed",
            "Order 5014",
            "User ada@example.com signed up",
            "Order {id} completed",
            "Paid %s",
            "Job 0f8fad5b-d9cb-469f-a165-70867728950e done",
        ],
    )
    def test_made(self, name):
        """A name with a value in it is doubtful."""
        assert "looks like a message" in Schema().doubts(event(event=name))[0]

    @pytest.mark.parametrize(
        "name", ["Order Completed", "Step2 Done", "GA4 Export", "Zahlung: fällig"]
    )
    def test_plain(self, name):
        """An ordinary name is not."""
        assert Schema().doubts(event(event=name)) == []

    def test_type_changes(self):
        """A property that changes its type is doubtful; a null has none."""
        words = Schema()
        assert words.doubts(event(properties={"price": 1, "on": True})) == []
        assert words.doubts(event(properties={"price": None, "on": False})) == []
        assert words.doubts(event(properties={"price": 2.5})) == []
        assert words.doubts(event(event="Other", properties={"price": "1"})) == []
        (doubt,) = words.doubts(event(properties={"price": "1"}))
        assert doubt.startswith("'price' is text here and was a number before")
