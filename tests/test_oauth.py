"""OAuth: one token a process, and no event lost to it."""

from __future__ import annotations

import base64
import contextlib
import functools
import gc
import json
import logging
import os
import threading
import time
import urllib.parse

import pytest
from script_runner import HANG, run

from htlogging import HtEventsHandler, InvalidSetting
from htlogging._delivery import oauth
from htlogging._delivery.assertion import Signer
from htlogging._delivery.exchange import Unreachable
from htlogging._delivery.oauth import TokenSource
from htlogging.collector import Collector, Reply, Tokens
from htlogging.htevents import Client

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def pem_of(key, password=None):
    """Return a private key as PEM text."""
    hidden = serialization.NoEncryption()
    if password:
        hidden = serialization.BestAvailableEncryption(password)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden
    ).decode()


KEY = rsa.generate_private_key(65537, 2048)
PEM = pem_of(KEY)
PUBLIC = (
    KEY.public_key()
    .public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    .decode()
)
WRITE_KEY = "S3CR3T-K3Y"


def credentials(**changed):
    """Return a handler's settings of OAuth."""
    return {
        "oauth_client_id": "client",
        "oauth_client_key": PEM,
        "oauth_key_id": "key",
        **changed,
    }


@pytest.fixture
def tokens():
    """Return a token endpoint that checks all that it can."""
    return Tokens(PUBLIC, client_id="client", key_id="key")


@pytest.fixture
def server(tokens):
    """Return a collector with that endpoint."""
    with Collector(tokens=tokens) as running:
        yield running


@pytest.fixture
def given_up():
    """Return a list of what `on_error` was called with."""
    return []


@pytest.fixture
def make(server, given_up):
    """Return a function that makes clients of the collector; they end with the test."""
    clients = []

    def client(**settings):
        made = Client(
            WRITE_KEY,
            host=server.url,
            on_error=lambda error, events: given_up.append((error, len(events))),
            **credentials(oauth_auth_server=server.url, **settings),
        )
        clients.append(made)
        return made

    yield client
    for made in clients:
        made.join()


class Endpoint:
    """An OAuth server without a network: what it answers, and what it was asked."""

    def __init__(self, *answers, **headers):
        self.answers = list(answers)
        self.headers = headers
        self.forms = []

    def __call__(self, url, form, timeout):
        """Answer the next request; the last answer stays."""
        assert url == "https://a.example/token"
        assert timeout > 0
        self.forms.append(dict(urllib.parse.parse_qsl(form.decode())))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, said = answer
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        return status, self.headers, body


@functools.cache
def signer():
    """Return what signs for all sources: reading a key takes the time of ten tests."""
    return Signer("client", "key", PEM.encode())


def make_source():
    """Return a source of tokens that speaks to an `Endpoint`."""
    return TokenSource("https://a.example", "scope", signer())


def token(value="T0K3N", life=3600, **more):
    """Return a good answer of a token endpoint."""
    return 200, {
        "access_token": value,
        "expires_in": life,
        "token_type": "Bearer",
        **more,
    }


def claims_in(form):
    """Return header and claims of a form's assertion."""
    parts = form["client_assertion"].split(".")[:2]
    return [json.loads(base64.urlsafe_b64decode(part + "==")) for part in parts]


class TestSettings:
    @pytest.mark.parametrize("missing", ["client_id", "client_key", "key_id"])
    @pytest.mark.parametrize("value", [None, ""])
    def test_a_part_of_them(self, missing, value):
        """Id, key and key id belong together; the message names what is missing."""
        given = credentials(**{f"oauth_{missing}": value})
        with pytest.raises(InvalidSetting, match=f"set oauth_{missing} too"):
            HtEventsHandler(write_key="KEY", **given)

    @pytest.mark.parametrize("name", ["oauth_scope", "oauth_auth_server"])
    def test_without_effect(self, name):
        """A server or a scope alone would do nothing."""
        with pytest.raises(InvalidSetting, match="set oauth_client_id"):
            HtEventsHandler(write_key="KEY", **{name: "https://a.example"})

    @pytest.mark.parametrize(
        ("key", "said"),
        [
            (
                "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----",
                "not a PEM",
            ),
            (PUBLIC, "not a PEM"),
            (pem_of(KEY, b"password"), "without a password"),
            (pem_of(ec.generate_private_key(ec.SECP256R1())), "another kind than RSA"),
            ("/nowhere/key.pem", "No such file"),
            ("no\0path", "it is not a path"),
            pytest.param(PEM.split("\n")[1], "No such file", id="a line of it"),
            (b"bytes", "oauth_client_key must be a str or a Path"),
            (7, "oauth_client_key must be a str or a Path"),
        ],
    )
    def test_key_that_is_none(self, key, said):
        """What is no RSA private key is refused, and not shown."""
        with pytest.raises(InvalidSetting, match=said) as caught:
            HtEventsHandler(write_key="KEY", **credentials(oauth_client_key=key))
        assert PEM[40:60] not in str(caught.value)

    def test_key_in_a_file(self, tmp_path):
        """A key may be a path, or a text whose line breaks are escaped."""
        path = tmp_path / "key.pem"
        path.write_text(PEM)
        for key in (path, str(path), PEM, PEM.replace("\n", "\\n")):
            given = credentials(oauth_client_key=key)
            HtEventsHandler(write_key="KEY", **given).close()

    @pytest.mark.parametrize(
        "url",
        [
            "http://a.example",
            "a.example",
            "ftp://a.example",
            "https://",
            "https://me:secret@a.example",
            "https://a.example/?a",
            "https://a.example:0",
            "http://127.0.0.1.a.example",
        ],
    )
    def test_server(self, url):
        """Tokens are asked for over TLS, at a URL."""
        given = credentials(oauth_auth_server=url)
        with pytest.raises(InvalidSetting, match="oauth_auth_server must"):
            HtEventsHandler(write_key="KEY", **given)

    @pytest.mark.parametrize("url", ["http://localhost:1/", "http://[::1]:1/a/"])
    def test_server_on_this_machine(self, url):
        """This machine alone may be spoken to without; one slash at the end goes."""
        given = credentials(oauth_auth_server=url)
        handler = HtEventsHandler(write_key="KEY", **given)
        assert handler._settings.oauth_auth_server == url[:-1]
        handler.close()

    def test_without_the_extra(self, monkeypatch):
        """The message says what to install."""
        monkeypatch.setitem(
            __import__("sys").modules, "cryptography.hazmat.primitives", None
        )
        given = credentials(oauth_key_id="another")
        with pytest.raises(InvalidSetting, match=r"pip install 'htlogging\[oauth\]'"):
            HtEventsHandler(write_key="KEY", **given)
        HtEventsHandler(send=False, **given).close()  # it asks for nothing

    def test_one_source_for_all(self):
        """Handlers with the same credentials have one token, while one of them lives."""
        one, two = (HtEventsHandler(write_key=k, **credentials()) for k in "ab")
        other = HtEventsHandler(write_key="a", **credentials(oauth_scope="other"))
        assert (
            one._pipeline.tokens is two._pipeline.tokens is not other._pipeline.tokens
        )
        for handler in (one, two, other):
            handler.close()
        del one, two, other, handler
        gc.collect()
        assert not list(oauth._sources)

    def test_nothing_shows_the_key(self):
        """No repr holds a key or an id."""
        handler = HtEventsHandler(write_key="KEY", **credentials())
        shown = f"{handler!r} {handler._settings!r} {handler._pipeline.tokens!r}"
        assert "BEGIN" not in shown
        assert "KEY" not in shown
        handler.close()


class TestRequest:
    def test_form_and_claims(self):
        """The form, the assertion's header and its claims are the vendor's."""
        endpoint = Endpoint(token())
        before = int(time.time())
        assert make_source().get(endpoint, HANG).value == "T0K3N"
        (form,) = endpoint.forms
        assert form.keys() == {
            "grant_type",
            "client_assertion_type",
            "client_assertion",
            "scope",
        }
        assert form["grant_type"] == "client_credentials"
        assert form["scope"] == "scope"
        header, claims = claims_in(form)
        assert header == {"alg": "RS256", "kid": "key", "typ": "JWT"}
        assert claims["iss"] == claims["sub"] == "client"
        assert claims["aud"] == "https://a.example"
        assert before - 5 <= claims["iat"] <= time.time() - 5
        assert claims["exp"] - claims["iat"] == 60
        assert len(claims["jti"]) == 36

    def test_batch(self, server, make):
        """Batches carry the token; the write key is in the body, a .netrc is not read."""
        client = make()
        client.track("user123", "e")
        assert client.flush(HANG)
        (request,) = server.requests
        assert request.headers["Authorization"].startswith("Bearer ")
        assert json.loads(request.body)["writeKey"] == WRITE_KEY
        assert not server.problems

    def test_netrc(self, server, make, tmp_path, monkeypatch, tokens):
        """A .netrc authorizes neither."""
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login other password secret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        client = make()
        client.track("user123", "e")
        assert client.flush(HANG)
        assert server.requests[0].headers["Authorization"].startswith("Bearer ")
        assert tokens.problems == []

    def test_clock(self):
        """The clock is the server's, by the Date of its last answer."""
        source = make_source()
        endpoint = Endpoint(token(life=1), Date="Tue, 12 Mar 2024 09:30:00 GMT")
        source.drop(source.get(endpoint, HANG))
        source.get(endpoint, HANG)
        assert abs(claims_in(endpoint.forms[1])[1]["iat"] - (1710235800 - 5)) < HANG

    @pytest.mark.parametrize("ahead", [-7200, 7200])
    def test_wrong_clock_costs_nothing(self, make, tokens, given_up, ahead):
        """An assertion that is early or late by the server's clock is made again."""
        tokens.clock = lambda: time.time() + ahead
        client = make()
        client.track("user123", "e")
        assert client.flush(HANG)
        assert tokens.statuses == [400, 200]
        assert (client.stats.delivered, given_up) == (1, [])


class TestToken:
    @pytest.mark.parametrize(
        ("said", "life"),
        [
            (3600, 3600),
            (7.5, 7.5),
            ("120", 120),
            (0, oauth.LIFE_LEAST),
            (-5, oauth.LIFE_LEAST),
            (10**400, oauth.LIFE_MOST),
            (float("inf"), oauth.LIFE_MOST),
            (float("-inf"), oauth.LIFE_LEAST),
            (float("nan"), oauth.LIFE_UNSAID),
            ("soon", oauth.LIFE_UNSAID),
            (True, oauth.LIFE_UNSAID),
            (None, oauth.LIFE_UNSAID),
            ([], oauth.LIFE_UNSAID),
        ],
    )
    def test_life(self, said, life):
        """Whatever `expires_in` is, a token lives for a time with both bounds."""
        fetched = make_source().get(Endpoint(token(life=said)), HANG)
        assert fetched.ends - fetched.fetched == pytest.approx(life)
        assert fetched.renew - fetched.fetched == pytest.approx(life / 2)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b"[]",
            b"null",
            b"\xff",
            b"[" * 60_000,
            {},
            {"access_token": ""},
            {"access_token": None},
            {"access_token": 7},
            {"access_token": "a b"},
            {"access_token": "a\r\nX-Evil: 1"},
            {"access_token": "ü"},
            {"access_token": "a" * 9_000},
            {"access_token": "a", "token_type": "mac"},
            {"access_token": "a", "token_type": 7},
        ],
    )
    def test_none_that_can_be_used(self, body):
        """A 200 without a usable token is final, and has a name."""
        with pytest.raises(Unreachable) as caught:
            make_source().get(Endpoint((200, body)), HANG)
        error = caught.value
        assert (error.status, error.code, error.final) == (200, "oauth.no_token", True)

    @pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 415, 422])
    @pytest.mark.parametrize(
        ("body", "code", "reason"),
        [
            (b"", "", "the OAuth server refused"),
            (b"\xff", "", "the OAuth server refused"),
            ({"error": "invalid_client"}, "invalid_client", "the OAuth server refused"),
            (
                {"error": "x y", "error_description": "No.\nNot you."},
                "",
                "the OAuth server refused: No. Not you.",
            ),
            ({"error": 7, "error_description": []}, "", "the OAuth server refused"),
        ],
    )
    def test_refusal_is_final(self, status, body, code, reason):
        """3xx and 4xx are final, whatever their body is, and asked for once."""
        endpoint = Endpoint((status, body))
        with pytest.raises(Unreachable) as caught:
            make_source().get(endpoint, HANG)
        error = caught.value
        assert (error.status, error.final) == (status, True)
        assert error.code == f"oauth.{code or status}"
        assert error.reason == reason
        assert len(endpoint.forms) == 1

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 599])
    def test_fault_is_not(self, status):
        """408, 429 and 5xx are tried again, after what they ask for."""
        endpoint = Endpoint((status, b""), **{"Retry-After": "7"})
        with pytest.raises(Unreachable) as caught:
            make_source().get(endpoint, HANG)
        error = caught.value
        assert (error.status, error.final, error.retry_after) == (None, False, 7)
        assert error.reason == f"the OAuth server answered {status}"

    @pytest.mark.parametrize(
        ("reset", "asked"),
        [("1710235860000", 60), ("1710235740000", 7), ("soon", 7), ("9" * 99, 1e9)],
    )
    def test_rate_limit(self, reset, asked):
        """X-RateLimit-Reset is a moment in milliseconds, by the server's clock."""
        headers = {
            "Date": "Tue, 12 Mar 2024 09:30:00 GMT",
            "Retry-After": "7",
            "X-RateLimit-Reset": reset,
        }
        with pytest.raises(Unreachable) as caught:
            make_source().get(Endpoint((429, b""), **headers), HANG)
        if asked < 1e9:
            assert caught.value.retry_after == pytest.approx(asked, abs=2)
        else:
            assert caught.value.retry_after > asked

    def test_is_kept(self):
        """One serves until half its life is over."""
        source, endpoint = make_source(), Endpoint(token())
        first = source.get(endpoint, HANG)
        assert source.get(endpoint, HANG) is first
        first.renew = time.monotonic()
        assert source.get(endpoint, HANG) is not first
        assert len(endpoint.forms) == 2

    def test_goes_on_when_it_cannot_be_renewed(self):
        """A token that lives still serves; its renewal is not tried at every batch."""
        source = make_source()
        endpoint = Endpoint(token(), Unreachable("away"), token("another"))
        first = source.get(endpoint, HANG)
        first.renew = time.monotonic()
        for _ in range(3):
            assert source.get(endpoint, HANG) is first
        assert len(endpoint.forms) == 2
        first.renew = first.ends = time.monotonic()
        assert source.get(endpoint, HANG).value == "another"

    def test_drop_that_one(self):
        """A token that was refused is forgotten, not one that came since."""
        source, endpoint = make_source(), Endpoint(token())
        first = source.get(endpoint, HANG)
        source.drop(first)
        second = source.get(endpoint, HANG)
        source.drop(first)
        assert source.get(endpoint, HANG) is second
        assert source.life() == pytest.approx(3600, abs=HANG)
        source.drop(second)
        assert source.life() is None

    def test_a_thread_waits_by_its_own_deadline(self):
        """While one thread asks, another waits no longer than it may."""
        source = make_source()
        asked, gate = threading.Event(), threading.Event()

        def slow(*_):
            asked.set()
            gate.wait(HANG)
            raise Unreachable("away")

        def first():
            with contextlib.suppress(Unreachable):
                source.get(slow, HANG)

        thread = threading.Thread(target=first)
        thread.start()
        assert asked.wait(HANG)
        with pytest.raises(Unreachable, match="did not come in time"):
            source.get(Endpoint(token()), 0.01)
        gate.set()
        thread.join(HANG)

    def test_a_failure_is_shared(self):
        """Threads that waited while one asked in vain do not ask, too."""
        source = make_source()
        asked, gate, calls, errors = threading.Event(), threading.Event(), [], []

        def away(*_):
            calls.append(1)
            asked.set()
            gate.wait(HANG)
            raise Unreachable("away", retry_after=3)

        def ask():
            with pytest.raises(Unreachable) as caught:
                source.get(away, HANG)
            errors.append((caught.value.reason, caught.value.retry_after))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        threads[0].start()
        assert asked.wait(HANG)
        for thread in threads[1:]:
            thread.start()
        gate.set()
        for thread in threads:
            thread.join(HANG)
        assert errors == [("away", 3)] * 4
        assert len(calls) <= 4

    def test_secrets(self):
        """An assertion that a server echoes is in no error."""
        source, seen = make_source(), []

        def echo(_url, form, _timeout):
            said = urllib.parse.parse_qs(form.decode())["client_assertion"][0]
            seen.extend([said, *said.split(".")])
            body = {"error": said[:50], "error_description": f"no {said} {seen[-1]}"}
            return 401, {}, json.dumps(body).encode()

        with pytest.raises(Unreachable) as caught:
            source.get(echo, HANG)
        shown = f"{caught.value} {caught.value.__dict__}"
        assert not [part for part in seen if part in shown]


class TestDefectsOfTheVendor:
    def test_batch_answered_401(self, server, make, tokens, given_up):
        """A 401 costs a token, and no batch."""
        server.script(401)
        client = make(upload_size=1)
        for n in range(3):
            client.track("user123", f"e{n}")
        assert client.flush(HANG)
        assert [e["event"] for e in server.events] == ["e0", "e1", "e2"]
        assert (tokens.issued, given_up) == (2, [])

    def test_batch_answered_403(self, server, make, tokens, given_up):
        """Nor does a 403; the second one in a row is the contract's."""
        server.script(403, 200, 403, 403)
        client = make(upload_size=1)
        client.track("user123", "first")
        assert client.flush(HANG)
        assert (tokens.issued, given_up) == (2, [])
        client.track("user123", "second")
        assert client.flush(HANG)
        assert [(error.status, count) for error, count in given_up] == [(403, 1)]
        assert tokens.issued == 3
        assert [e["event"] for e in server.events] == ["first"]

    @pytest.mark.parametrize("body", [b'{"error":"invalid_client"}', b"", b"no"])
    def test_refusal_without_a_description(self, make, tokens, given_up, body):
        """Whatever the token endpoint's 400 says, `flush` returns and all is counted."""
        tokens.always(Reply(400, body=body))
        client = make()
        client.track("user123", "e")
        assert client.flush(HANG)
        ((error, count),) = given_up
        assert (error.status, count) == (400, 1)
        assert error.code.startswith("oauth.")
        assert client.stats.failed == 1
        assert tokens.statuses == [400]

    def test_200_without_a_token(self, make, tokens, given_up):
        """That is an error with a name; the next batch asks again."""
        tokens.script(Reply(200, body=b'{"token_type":"Bearer"}'))
        client = make()
        client.track("user123", "e")
        assert client.flush(HANG)
        assert [error.code for error, _ in given_up] == ["oauth.no_token"]
        client.track("user123", "e")
        assert client.flush(HANG)
        assert client.stats.delivered == 1

    @needs_fork
    def test_fork_while_a_token_is_held(self, server, tokens, tmp_path):
        """A child starts without one, and gets its own."""
        script = """
            import os, sys, time
            from htlogging.htevents import Client
            from pathlib import Path
            url, pem = sys.argv[1:]
            client = Client("KEY", host=url, oauth_auth_server=url,
                            oauth_client_id="client", oauth_client_key=pem,
                            oauth_key_id="key")
            client.track("user123", "parent")
            assert client.flush(30)
            pids = []
            for n in range(4):
                pid = os.fork()
                if not pid:
                    for m in range(10):
                        client.track("user123", f"child {n}")
                        assert client.flush(30)
                    sys.exit()
                pids.append(pid)
            assert not [s for p in pids if (s := os.waitpid(p, 0)[1])]
            client.track("user123", "parent")
        """
        path = tmp_path / "key.pem"
        path.write_text(PEM)
        ended = run(tmp_path, script, server.url, str(path), PYTHONWARNINGS="default")
        assert ended.status == 0, ended.err
        assert len(server.events) == 42
        assert tokens.issued == 5
        assert tokens.problems == []


class TestFaults:
    def test_one_token_for_eight_threads(self, server, make, tokens):
        """As many as ask at once get one token, and one each half life."""
        clients = [make(thread=4, upload_size=1) for _ in range(2)]
        for _ in range(50):
            for client in clients:
                client.track("user123", "e")
        assert all(client.flush(HANG) for client in clients)
        assert len(server.events) == 100
        assert tokens.issued == 1

    def test_half_a_life(self, server, make, tokens):
        """Threads that send all the time renew it once each half life."""
        tokens.life = 1
        client = make(thread=8, upload_size=1)
        began = time.monotonic()
        # On a busy machine the first event may take longer than that.
        while time.monotonic() - began < 1.6 or tokens.issued < 2:
            assert time.monotonic() - began < HANG
            client.track("user123", "e")
            client.flush(HANG)
        assert client.flush(HANG)
        # A token that ends on a busy machine's way to the server is one more.
        late = [r for r in server.requests if r.status == 401]
        most = (time.monotonic() - began) / 0.5 + 1 + len(late)
        assert tokens.issued <= most
        assert client.stats.delivered == client.stats.accepted == len(server.events)

    @pytest.mark.slow
    def test_a_server_that_forgets(self, server, make, tokens, given_up):
        """All tokens are forgotten again and again, and no event is lost."""
        client, over = make(thread=4, upload_size=2), threading.Event()

        def forget():
            while not over.wait(1):
                tokens.forget()

        thread = threading.Thread(target=forget)
        thread.start()
        began = time.monotonic()
        while time.monotonic() - began < 5:
            client.track("user123", "e")
            over.wait(0.005)
        over.set()
        thread.join()
        assert client.flush(HANG)
        assert given_up == []
        assert client.stats.delivered == client.stats.accepted == len(server.events)

    def test_a_server_that_forgets_at_once(self, server, make, given_up):
        """A token that another thread had fetched before is not the fresh one."""
        client = make(upload_size=1)
        client.track("user123", "warm up")
        assert client.flush(HANG)
        source = client.logger.handlers[0]._pipeline.tokens
        stale = source._token

        def forgotten(request):
            # Between the first answer and the second try another thread's is forgotten.
            if request.headers["Authorization"] == f"Bearer {stale.value}":
                source._token = oauth.Token("another thread's", 3600)
                return 401
            return None

        server.always(forgotten)
        client.track("user123", "e")
        assert client.flush(HANG)
        assert given_up == []
        assert server.events[-1]["event"] == "e"

    @pytest.mark.parametrize(
        "fault",
        [503, 429, 408, Reply(drop="before"), Reply(drop="after")],
        ids=str,
    )
    def test_fault_is_tried_again(self, server, make, tokens, given_up, fault):
        """Faults of the token endpoint cost time, and no event."""
        tokens.script(fault)
        client = make()
        client.track("user123", "e")
        assert client.flush(HANG)
        assert (len(server.events), given_up) == (1, [])
        assert client.stats.retries == 1

    def test_fault_is_given_up_as_a_batch(self, make, tokens, given_up):
        """As many tries as a batch has; then it is given up."""
        tokens.always(503)
        client = make(max_retries=1)
        client.track("user123", "e")
        assert client.flush(HANG)
        ((error, _),) = given_up
        assert (error.status, error.code, error.tries) == (None, "oauth", 2)
        assert tokens.statuses == [503, 503]

    def test_away(self, caplog, given_up, server):
        """A token endpoint that cannot be reached is told from Hightouch's host."""
        with Collector() as gone:
            url = gone.url
        client = Client(
            WRITE_KEY,
            host=server.url,
            max_retries=0,
            on_error=lambda error, events: given_up.append((error, len(events))),
            **credentials(oauth_auth_server=url),
        )
        client.track("user123", "e")
        assert client.flush(HANG)
        client.join()
        ((error, _),) = given_up
        assert error.message.startswith(
            "the OAuth server cannot be reached: Connection"
        )
        assert error.code == "oauth"
        assert server.requests == []
        assert any("OAuth server cannot be reached" in m for m in caplog.messages)

    def test_ends_keep_their_time(self, make, tokens, given_up):
        """A token endpoint that does not answer holds up neither `flush` nor `join`."""
        tokens.always(Reply(delay=HANG))
        client = make(shutdown_timeout=0.2)
        client.track("user123", "e")
        began = time.monotonic()
        assert not client.flush(0.1)
        client.join()
        assert time.monotonic() - began < HANG / 2
        assert [error.code for error, _ in given_up] == ["shutdown"]

    def test_sync_mode(self, server, make, tokens):
        """On the caller's thread it is the same."""
        client = make(sync_mode=True)
        client.track("user123", "e")
        server.script(401)
        client.track("user123", "e")
        assert len(server.events) == 2
        tokens.forget()
        client.track("user123", "e")
        assert tokens.issued == 3

    def test_spool(self, make, tokens, server, tmp_path):
        """With a spool, what the endpoint refuses stays; no secret is in the file."""
        echo = json.dumps({"error": "no", "error_description": WRITE_KEY}).encode()
        tokens.script(Reply(401, body=echo))
        path = tmp_path / "spool"
        client = make(spool=path)
        client.track("user123", "refused")
        assert client.flush(HANG)
        client.track("user123", "delivered")
        assert client.flush(HANG)
        client.join()
        assert [e["event"] for e in server.events] == ["delivered"]
        kept = b"".join(p.read_bytes() for p in tmp_path.iterdir())
        assert b"refused" in kept
        bearer = server.requests[0].headers["Authorization"].partition(" ")[2]
        for secret in (WRITE_KEY, bearer, "eyJ", "BEGIN"):
            assert secret.encode() not in kept

    def test_nothing_is_logged(self, server, make, tokens, caplog, given_up):
        """No line of any library, and no error, holds a secret."""
        caplog.set_level(logging.DEBUG)
        echo = json.dumps({"error": "no", "error_description": WRITE_KEY}).encode()
        client = make(debug=True, upload_size=1)
        client.track("user123", "e")
        assert client.flush(HANG)
        bearer = server.requests[0].headers["Authorization"].partition(" ")[2]
        body = json.dumps({"code": bearer, "message": f"no {bearer}"}).encode()
        server.always(Reply(401, body=body))
        client.track("user123", "e")
        assert client.flush(HANG)
        tokens.always(Reply(401, body=echo))
        tokens.forget()
        client.track("user123", "e")
        assert client.flush(HANG)
        lines = "\n".join(
            r.getMessage() for r in caplog.records if not r.name.startswith("htevents")
        )
        shown = lines + "".join(f"{e!r} {e} {e.__dict__}" for e, _ in given_up)
        for secret in (WRITE_KEY, bearer, "eyJ", "BEGIN"):
            assert secret not in shown
