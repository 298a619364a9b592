"""The collector takes, refuses and breaks as it says, through real connections."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import socket
import threading
import time

import pytest
import requests
from script_runner import HANG

from htlogging.collector import Collector, Problem, Reply

NOW = "2024-03-12T09:30:00.123+00:00"
LIBRARY = {"library": {"name": "test", "version": "1"}}


def event(**fields):
    """Return a valid event with these fields."""
    return {
        "type": "track",
        "event": "Order completed",
        "userId": "user123",
        "context": LIBRARY,
        "timestamp": NOW,
        "messageId": "m1",
        **fields,
    }


def batch(*events, **fields):
    """Return a request with these events."""
    return {"batch": list(events), "sentAt": NOW, **fields}


def post(collector, body, path="/v1/batch", key="KEY", session=requests, **headers):
    """Send a body, and return the answer; `_` in a header is a hyphen."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return session.post(
        collector.url + path,
        data=data,
        headers={"Content-Type": "application/json", **names},
        auth=None if key is None else (key, ""),
        timeout=HANG,
        allow_redirects=False,
    )


def sized(size):
    """Return an event of this many bytes as compact JSON."""
    empty = len(json.dumps(event(properties={"x": ""}), separators=(",", ":")))
    return event(properties={"x": "x" * (size - empty)})


def compact(value):
    """Return a value as compact UTF-8 JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def raw_socket(collector):
    """Return a connection to the collector."""
    address = ("127.0.0.1", int(collector.url.rpartition(":")[2]))
    return socket.create_connection(address, timeout=HANG)


class TestTakes:
    def test_a_batch(self, collector):
        """A batch is answered with success, and its events are there in order."""
        sent = [event(messageId=str(n)) for n in range(3)]
        answer = post(collector, batch(*sent, writeKey="KEY"))
        assert (answer.status_code, answer.content) == (200, b'{"success":true}')
        assert answer.headers["Content-Type"] == "application/json"
        assert collector.events == sent
        assert collector.problems == []

    @pytest.mark.parametrize(
        "kind", ["identify", "track", "page", "screen", "group", "alias"]
    )
    def test_a_single_event(self, collector, kind):
        """A type's own endpoint takes one event, envelope inside, type left out."""
        own = event(groupId="g", previousId="p")
        del own["type"]
        answer = post(
            collector, {**own, "sentAt": NOW, "writeKey": "K"}, f"/v1/{kind}", None
        )
        assert answer.status_code == 200
        assert collector.events == [{**own, "type": kind}]
        assert collector.problems == []
        assert collector.requests[0].sent_at == NOW

    @pytest.mark.parametrize(
        "path", ["/v1/batch/", "/some/path/v1/batch", "/v1/batch?x=1"]
    )
    def test_below_a_prefix(self, collector, path):
        """The host may have a path; a trailing slash and a query do not matter."""
        assert post(collector, batch(event()), path).status_code == 200
        assert collector.requests[0].path == path

    def test_gzip(self, collector):
        """A gzipped body is kept as received and decompressed."""
        body = compact(batch(event()))
        packed = gzip.compress(body)
        assert post(collector, packed, Content_Encoding="gzip").status_code == 200
        (request,) = collector.requests
        assert (request.raw, request.body) == (packed, body)
        assert request.events == collector.events == [event()]

    def test_numbers_of_any_size(self, collector):
        """RFC 8259 sets numbers no limits: what no int or float holds is infinite."""
        body = b'{"batch":[{"a":1e999,"b":' + b"9" * 5000 + b',"c":12}]}'
        assert post(collector, body).status_code == 200
        assert collector.events == [{"a": float("inf"), "b": float("inf"), "c": 12}]

    def test_duplicate_names(self, collector):
        """A name given twice is allowed, the last one counts; so for the sizes."""
        body = b'{"batch":[1],"batch":[' + compact(sized(32_768)) + b"]}"
        assert post(collector, body).status_code == 200
        assert collector.events == [sized(32_768)]

    def test_request_attributes(self, collector):
        """A request tells its headers in any case, its key, time and connection."""
        begin = time.monotonic()
        with requests.Session() as session:
            for _ in range(2):
                post(collector, batch(event()), session=session, User_Agent="x/1")
        post(collector, batch(event()))
        first, second, third = collector.requests
        assert (first.method, first.status, first.taken) == ("POST", 200, True)
        assert first.headers.get("user-agent") == first.headers["User-Agent"] == "x/1"
        assert first.write_key == "KEY"
        assert first.connection == second.connection != third.connection
        assert begin <= first.arrived <= second.arrived <= time.monotonic()

    def test_repr_has_no_key(self, collector):
        """The write key and the events are not in a request's repr."""
        post(
            collector,
            batch(event(event="secret name"), writeKey="SECRET"),
            key="SECRET",
        )
        post(collector, batch(event(), writeKey="SECRET"), key="OTHER-SECRET")
        assert "SECRET" not in repr(collector.requests)
        assert "secret name" not in repr(collector.requests)

    def test_largest(self, collector):
        """32,768 bytes of event and 512,000 of request are taken, gzipped too."""
        assert post(collector, compact(batch(sized(32_768)))).status_code == 200
        body = compact(batch(event()))
        body += b" " * (512_000 - len(body))
        assert post(collector, body).status_code == 200
        packed = gzip.compress(body, 0)
        assert post(collector, packed, Content_Encoding="gzip").status_code == 200

    def test_2500_events(self, collector):
        """What is over 2,500 events is lost under a 200, and that is a problem."""
        small = {"type": "x"}
        assert post(collector, batch(*[small] * 2_501)).status_code == 200
        assert len(collector.events) == 2_500
        assert Problem("1 events over 2,500 were lost") in collector.problems


class TestKeys:
    @pytest.mark.parametrize(
        ("header", "inside", "status"),
        [
            ("Basic S0VZOg==", None, 200),  # KEY:
            ("basic S0VZOng=", None, 200),  # KEY:x, the password does not matter
            ("Basic S0VZOg==", "KEY", 200),
            (None, "KEY", 200),
            ("Bearer token", "KEY", 200),
            ("Basic S0VZOg==", "OTHER", 401),
            ("Basic S0VZ", None, 401),  # no colon
            ("Basic S0V", None, 401),  # no base64
            ("Basic /zo=", None, 401),  # no UTF-8
            ("Basic Og==", None, 401),  # an empty key
            ("Basic", "KEY", 401),
            ("Bearer token", None, 401),
            ("Digest x", "KEY", 401),
            (None, None, 401),
            (None, "", 401),
            (None, 5, 401),
        ],
    )
    def test_header_or_body_or_both(self, collector, header, inside, status):
        """The key comes in the header, the body, or both, which agree."""
        body = batch(event()) if inside is None else batch(event(), writeKey=inside)
        headers = {} if header is None else {"Authorization": header}
        assert post(collector, body, key=None, **headers).status_code == status
        assert collector.requests[0].write_key == ("KEY" if status == 200 else None)

    def test_only_its_own(self):
        """A collector with a key refuses others."""
        with Collector(write_key="KEY") as collector:
            assert post(collector, batch(event()), key="OTHER").status_code == 401
            assert post(collector, batch(event()), key="KEY").status_code == 200
        assert collector.events == [event()]


class TestRefuses:
    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            (b"", 400, "invalid_json"),
            (b"{", 400, "invalid_json"),
            (b'{"batch":[{"a":NaN}]}', 400, "invalid_json"),
            (b'{"batch":[{"a":-Infinity}]}', 400, "invalid_json"),
            (b'{"batch":[{"a":"\xff"}]}', 400, "invalid_json"),
            (b'{"batch":[{"a":"\xed\xa0\x80"}]}', 400, "invalid_json"),  # surrogate
            (b'{"batch":[{"a":"\\ud800"}]}', 400, "invalid_json"),
            (b'{"batch":[{"a":"\\uDE00\\uD83D"}]}', 400, "invalid_json"),
            (b'\xef\xbb\xbf{"batch":[]}', 400, "invalid_json"),  # a byte order mark
            (b'{"batch":[{"a":"\n"}]}', 400, "invalid_json"),  # a raw control
            (b"[" * 100_000, 400, "invalid_json"),
            (b"[]", 400, "invalid_request"),
            (b"{}", 400, "invalid_request"),
            (b'{"batch":{}}', 400, "invalid_request"),
            (b'{"batch":[{},1]}', 400, "invalid_event"),
            (compact(batch(sized(32_769))), 400, "event_too_large"),
            (compact(batch(event(), sized(40_000))), 400, "event_too_large"),
            # Bytes, not characters.
            (compact(batch(event(event="é" * 16_400))), 400, "event_too_large"),
            (b" " * 512_001, 413, "request_too_large"),
            (b" " * 2_000_000, 413, "request_too_large"),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_what_the_receiver_refuses(self, collector, body, status, code):
        """It answers with code and message, takes nothing, and goes on."""
        with requests.Session() as session:
            answer = post(collector, body, session=session)
            assert (answer.status_code, answer.json()["code"]) == (status, code)
            assert answer.json()["message"]
            assert post(collector, batch(event()), session=session).status_code == 200
        first, second = collector.requests
        assert first.connection == second.connection
        assert (first.status, first.taken, first.events) == (status, False, [])
        assert [p.event for p in first.problems] == [None]
        assert collector.events == [event()]

    def test_a_pair_of_surrogates_is_a_character(self, collector):
        """An escaped pair is valid."""
        body = b'{"batch":[{"event":"\\ud83d\\ude00"}]}'
        assert post(collector, body).status_code == 200
        assert collector.events == [{"event": "\U0001f600"}]

    def test_a_large_single_event(self, collector):
        """The size of a single event is without its envelope."""
        body = {**sized(32_768), "sentAt": NOW, "writeKey": "KEY"}
        assert post(collector, compact(body), "/v1/track").status_code == 200
        body = {**sized(32_769), "sentAt": NOW, "writeKey": "KEY"}
        assert post(collector, compact(body), "/v1/track").status_code == 400

    @pytest.mark.parametrize(
        ("body", "encoding", "status"),
        [
            (b"no gzip", "gzip", 400),
            (gzip.compress(b"{}")[:-9], "gzip", 400),
            (gzip.compress(b"{}") + b"more", "gzip", 400),
            (gzip.compress(b" " * 10_000_000, 9), "gzip", 413),  # a bomb
            (b"{}", "br", 415),
        ],
        ids=["none", "cut", "more", "bomb", "br"],
    )
    def test_encodings(self, collector, body, encoding, status):
        """Broken gzip is a 400, one that unfolds too far a 413, another kind a 415."""
        answer = post(collector, body, Content_Encoding=encoding)
        assert answer.status_code == status
        assert collector.requests[0].body == b""

    def test_other_paths_and_methods(self, collector):
        """Another path is a 404, another method a 405 that names the right one."""
        assert post(collector, batch(event()), "/v1/import").status_code == 404
        assert requests.get(collector.url + "/nope", timeout=HANG).status_code == 404
        answer = requests.put(collector.url + "/v1/batch", data=b"x", timeout=HANG)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
        answer = requests.head(collector.url + "/v1/batch", timeout=HANG)
        assert (answer.status_code, answer.content) == (405, b"")
        assert [r.method for r in collector.requests] == ["POST", "GET", "PUT", "HEAD"]

    @pytest.mark.parametrize(
        "header",
        [
            "Transfer-Encoding: chunked",
            "Content-Length: x",
            "Content-Length: -1",
            "Content-Length: " + "9" * 5_000,
        ],
    )
    def test_no_length(self, collector, header):
        """A body of unknown length is a 411, and ends the connection."""
        with raw_socket(collector) as client:
            client.sendall(f"POST /v1/batch HTTP/1.1\r\n{header}\r\n\r\n".encode())
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 411 Length Required\r\n")
        assert b"\r\nConnection: close\r\n" in answer

    def test_cut_body(self, collector):
        """A client that goes in the middle of its body is remembered, nothing taken."""
        with raw_socket(collector) as client:
            head = b"POST /v1/batch HTTP/1.1\r\nContent-Length: 100\r\n\r\n"
            client.sendall(head + b'{"batch"')
        assert collector.wait_for_requests(1)
        (request,) = collector.requests
        assert (request.raw, request.taken) == (b'{"batch"', False)

    def test_no_http(self, collector, capfd):
        """What is not HTTP disturbs no other client and prints nothing."""
        with raw_socket(collector) as client:
            client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
            assert client.recv(4096)
        assert post(collector, batch(event())).status_code == 200
        assert capfd.readouterr() == ("", "")


class TestProblems:
    @pytest.mark.parametrize(
        ("fields", "text"),
        [
            ({"type": None}, "type must be"),
            ({"type": "event"}, "type must be"),
            ({"messageId": None}, "messageId must be"),
            ({"messageId": ""}, "messageId must be"),
            ({"messageId": 5}, "messageId must be"),
            ({"messageId": "x" * 100}, "messageId has more than 99"),
            ({"userId": 5}, "userId must be"),
            ({"anonymousId": ""}, "anonymousId must be"),
            ({"userId": None}, "track needs userId or anonymousId"),
            ({"event": ""}, "event must be"),
            ({"event": None}, "track needs event"),
            ({"type": "group"}, "group needs groupId"),
            ({"type": "group", "groupId": 7}, "groupId must be"),
            ({"type": "alias"}, "alias needs previousId"),
            ({"type": "page", "name": 5}, "name must be"),
            ({"type": "screen", "category": []}, "category must be"),
            ({"properties": []}, "properties must be"),
            ({"type": "identify", "traits": None}, "traits must be"),
            ({"integrations": "All"}, "integrations must be"),
            ({"context": []}, "context must be"),
            ({"context": {}}, "context.library must"),
            ({"context": {"library": {"name": "x"}}}, "context.library must"),
            ({"timestamp": None}, "timestamp must be"),
            ({"timestamp": "2024-03-12T09:30:00"}, "timestamp must be"),  # no offset
            ({"timestamp": "2024-02-30T09:30:00Z"}, "timestamp must be"),
            ({"timestamp": 1710235800}, "timestamp must be"),
        ],
    )
    def test_an_event_that_a_200_does_not_prove_valid(self, collector, fields, text):
        """It is taken with a 200, and marked."""
        wrong = event(**fields)
        assert post(collector, batch(event(), wrong)).status_code == 200
        assert collector.events == [event(), wrong]
        assert collector.problems
        assert any(p.text.startswith(text) for p in collector.problems)
        assert all(p.event == wrong for p in collector.problems)

    @pytest.mark.parametrize(
        "fields",
        [
            {"userId": None, "anonymousId": "a"},
            {"type": "identify", "traits": {"a": 1}},
            {"type": "page", "name": None, "category": "Docs"},
            {"type": "group", "groupId": "g"},
            {"type": "alias", "previousId": "p"},
            {"messageId": "x" * 99},
            {"timestamp": "2024-03-12T09:30:00Z"},
            {"timestamp": "2024-03-12T09:30:00.123456789+05:30"},
        ],
    )
    def test_valid_ones(self, collector, fields):
        """A valid event has no problem."""
        post(collector, batch(event(**fields)))
        assert collector.problems == []

    def test_of_the_request(self, collector):
        """A request's own problems belong to no event."""
        post(collector, {"batch": [], "sentAt": 5}, Content_Type="text/plain")
        assert [(p.text.split()[0], p.event) for p in collector.problems] == [
            ("the", None),
            ("sentAt", None),
            ("Content-Type", None),
        ]

    def test_the_wrong_endpoint(self, collector):
        """An event of one type sent to the endpoint of another is marked."""
        post(collector, {**event(), "sentAt": NOW}, "/v1/identify")
        (problem,) = collector.problems
        assert problem.text == "a track event came to /v1/identify"


class TestObject:
    def test_start_and_stop(self):
        """It can be stopped and started again on its port; both may be repeated."""
        collector = Collector()
        with pytest.raises(RuntimeError, match="no port"):
            _ = collector.url
        collector.stop()
        url = collector.start().url
        assert collector.start().url == url
        assert post(collector, batch(event())).status_code == 200
        collector.stop()
        collector.stop()
        with pytest.raises(requests.ConnectionError):
            post(collector, batch(event()))
        with collector:
            assert collector.url == url
            assert post(collector, batch(event())).status_code == 200
        assert len(collector.events) == 2

    def test_no_thread(self, monkeypatch):
        """It does not listen then, and may be started again."""

        def refuse(_):
            raise RuntimeError("can't start new thread")

        collector = Collector()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="thread"):
                collector.start()
        with collector:
            assert post(collector, batch(event())).status_code == 200

    def test_port_in_use(self, collector):
        """A port that another has is an `OSError`."""
        other = Collector(port=int(collector.url.rpartition(":")[2]))
        with pytest.raises(OSError, match=r"in use|10048"):
            other.start()

    def test_wait_for(self, collector):
        """It waits for this many events, and says if they do not come."""
        assert collector.wait_for(0)
        assert not collector.wait_for(1, timeout=0)
        sender = threading.Thread(
            target=post, args=(collector, batch(event(), event()))
        )
        sender.start()
        assert collector.wait_for(2, timeout=HANG)
        assert len(collector.events) == 2
        sender.join(HANG)

    def test_clear(self, collector):
        """Clearing forgets what came in, and leaves the script."""
        post(collector, batch(event()))
        collector.script(503)
        collector.clear()
        assert (collector.events, collector.requests) == ([], [])
        assert not collector.wait_for(1, timeout=0)
        assert post(collector, batch(event())).status_code == 503

    def test_keep(self):
        """With `keep` older requests are forgotten, but counted."""
        with Collector(keep=1) as collector:
            for n in range(3):
                post(collector, batch(event(messageId=str(n))))
            assert [e["messageId"] for e in collector.events] == ["2"]
            assert collector.wait_for(3, timeout=0)

    def test_summary(self, collector):
        """`/_/counts` tells the counts."""
        post(collector, batch(event(), event(userId=None)))
        counts = requests.get(collector.url + "/_/counts", timeout=HANG).json()
        assert (counts["requests"], counts["events"], counts["bad"]) == (1, 2, 1)

    def test_on_request(self):
        """The callback has seen a request before its client has the answer."""
        seen = []
        with Collector(on_request=seen.append) as collector:
            post(collector, batch(event()))
            assert seen == collector.requests

    def test_many_clients(self, collector):
        """Events of clients at the same time are all there, each client's in order."""

        def send(user):
            with requests.Session() as session:
                for n in range(20):
                    sent = event(userId=user, messageId=str(n))
                    post(collector, batch(sent), session=session)

        threads = [threading.Thread(target=send, args=(str(n),)) for n in range(8)]
        for thread in threads:
            thread.start()
        assert collector.wait_for(160, timeout=HANG)
        for thread in threads:
            thread.join(HANG)
        for user in map(str, range(8)):
            ids = [e["messageId"] for e in collector.events if e["userId"] == user]
            assert ids == [str(n) for n in range(20)]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
    def test_forked_child(self, collector):
        """A forked child sends to its parent's collector, and has none of its own."""
        with raw_socket(collector):
            post(collector, batch(event()))
            child = os.fork()
            if not child:  # pragma: no cover  (in the child)
                code = 1
                try:
                    collector.stop()
                    code = post(collector, batch(event())).status_code != 200
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
            assert len(collector.events) == 2


class TestScript:
    def test_one_each_then_well(self, collector):
        """Each POST takes one reply, whatever its path; then all is well."""
        collector.script(500, Reply(429, retry_after=1))
        collector.script(202)
        requests.get(collector.url, timeout=HANG)
        answers = [post(collector, batch(event(messageId=str(n)))) for n in range(4)]
        assert [a.status_code for a in answers] == [500, 429, 202, 200]
        assert answers[0].json() == {"code": "500", "message": "Internal Server Error"}
        assert answers[1].headers["Retry-After"] == "1"
        assert answers[2].json() == {"success": True}
        assert [e["messageId"] for e in collector.events] == ["2", "3"]
        assert [r.status for r in collector.requests[1:]] == [500, 429, 202, 200]

    def test_every_field(self, collector):
        """Status, headers, body and location are sent as given."""
        headers = {"X-A": "b", "Content-Type": "text/html"}
        reply = Reply(302, headers=headers, location="/v1/track", body=b"<p>")
        collector.script(reply)
        answer = post(collector, batch(event()))
        assert (answer.status_code, answer.content) == (302, b"<p>")
        assert answer.headers["Location"] == "/v1/track"
        assert (answer.headers["X-A"], answer.headers["Content-Type"]) == (
            "b",
            "text/html",
        )
        assert collector.events == []

    @pytest.mark.parametrize("status", [204, 304, 599])
    def test_odd_statuses(self, collector, status):
        """Statuses without a body, and without a name, keep the connection."""
        collector.script(status)
        with requests.Session() as session:
            answer = post(collector, batch(event()), session=session)
            assert answer.status_code == status
            assert post(collector, batch(event()), session=session).status_code == 200
        assert len({r.connection for r in collector.requests}) == 1

    def test_a_2xx_does_not_make_a_refused_request_right(self, collector):
        """What cannot be read is not taken in, though the answer says so."""
        collector.script(200)
        assert post(collector, b"{").status_code == 200
        (request,) = collector.requests
        assert (request.status, request.taken) == (200, False)
        assert len(request.problems) == 1

    def test_unknown_drop(self):
        """A misspelt `drop` is refused at once."""
        with pytest.raises(ValueError, match="drop cannot be 'middel'"):
            Reply(drop="middel")

    @pytest.mark.parametrize(
        ("drop", "error", "taken"),
        [
            ("before", ConnectionResetError, 0),
            ("after", http.client.RemoteDisconnected, 1),
        ],
    )
    def test_no_answer(self, collector, drop, error, taken):
        """`before` is reset and takes nothing; `after` takes, and closes silently."""
        collector.script(Reply(drop=drop))
        address = collector.url.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=HANG)
        body = compact(batch(event(), writeKey="K"))
        with pytest.raises(ConnectionError) as info:  # noqa: PT012  (either breaks)
            connection.request("POST", "/v1/batch", body)
            connection.getresponse()
        connection.close()
        assert isinstance(info.value, error) or drop == "before"
        (request,) = collector.requests
        assert (request.status, len(collector.events)) == (None, taken)

    def test_middle(self, collector):
        """`middle` breaks within the body, after the status; the events are taken."""
        collector.script(Reply(drop="middle"))
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            post(collector, batch(event()))
        assert collector.requests[0].status is None
        assert collector.events == [event()]

    def test_stale(self, collector):
        """`stale` answers well, does not announce the end, and closes."""
        collector.script(Reply(drop="stale"))
        body = compact(batch(event(), writeKey="KEY"))
        with raw_socket(collector) as client:
            head = f"POST /v1/batch HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection" not in answer
        assert collector.events == [event()]

    def test_drip(self, collector):
        """A dripping answer comes whole, byte by byte, and the connection is kept."""
        collector.script(Reply(drip=0.0001))
        with requests.Session() as session:
            for _ in range(2):
                answer = post(collector, batch(event()), session=session)
                assert answer.json() == {"success": True}
        assert len({r.connection for r in collector.requests}) == 1

    def test_delay(self, collector):
        """A delayed answer comes; the events are taken in before."""
        collector.script(Reply(delay=0.05))
        begin = time.monotonic()
        assert post(collector, batch(event())).status_code == 200
        assert time.monotonic() - begin >= 0.05

    def test_endless(self, collector):
        """An endless answer goes on until the client goes."""
        collector.script(Reply(503, endless=True))
        with requests.Session() as session:
            answer = session.post(
                collector.url + "/v1/batch", data=b"{}", stream=True, timeout=HANG
            )
            assert answer.status_code == 503
            assert len(answer.raw.read(50_000)) == 50_000
            answer.close()
        assert post(collector, batch(event())).status_code == 200

    @pytest.mark.parametrize(
        "reply",
        [Reply(delay=3600), Reply(drip=3600), Reply(endless=True)],
        ids=["delay", "drip", "endless"],
    )
    def test_stop_ends_what_hangs(self, reply):
        """`stop` wakes every kind of slow answer; its client's connection ends."""
        collector = Collector().start()
        collector.script(reply)
        body = compact(batch(event(), writeKey="KEY"))
        with raw_socket(collector) as client, raw_socket(collector):
            head = f"POST /v1/batch HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            assert collector.wait_for(1, timeout=HANG)
            collector.stop()
            while client.recv(65_536):
                pass
        assert not [t for t in threading.enumerate() if "collector" in t.name]


class TestAlways:
    def test_a_reply(self, collector):
        """It answers everything the script leaves, until it is taken back."""
        collector.always(503)
        collector.script(500)
        answers = [post(collector, batch(event())).status_code for _ in range(3)]
        collector.always(Reply(502))
        answers.append(post(collector, batch(event())).status_code)
        collector.always(None)
        answers.append(post(collector, batch(event())).status_code)
        assert answers == [500, 503, 503, 502, 200]

    def test_a_function(self, collector):
        """A function sees the request and decides; `None` is the usual answer."""

        def decide(request):
            assert request.status in (200, 400)
            if len(request.events) > 2:
                return 413
            if any(e.get("event") == "poison" for e in request.events):
                return Reply(400, body=b"poison")
            return None

        collector.always(decide)
        assert post(collector, batch(*[event()] * 3)).status_code == 413
        assert post(collector, batch(event(event="poison"))).content == b"poison"
        assert post(collector, batch(event())).status_code == 200
        assert post(collector, b"[]").status_code == 400
        assert collector.events == [event()]

    def test_a_function_may_reset(self, collector):
        """`before` from a function takes nothing in either."""
        collector.always(lambda _: Reply(drop="before"))
        with pytest.raises(requests.ConnectionError):
            post(collector, batch(event()))
        assert collector.requests[0].events == [event()]
        assert (collector.events, collector.requests[0].status) == ([], None)

    def test_a_function_that_raises(self, collector):
        """Its error is a problem to be seen, and a 500."""

        def decide(request):
            raise KeyError(request.path)

        collector.always(decide)
        assert post(collector, batch(event())).status_code == 500
        (problem,) = collector.problems
        assert problem.text == "always() raised KeyError('/v1/batch')"
