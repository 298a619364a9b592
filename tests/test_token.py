"""The collector's token endpoint: what it gives out, and what it refuses."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import uuid

import pytest
import requests
from script_runner import HANG, here

from htlogging.collector import Collector, Reply, Tokens

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEY = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
PUBLIC = KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


@pytest.fixture
def tokens():
    """Return a token endpoint that knows one client."""
    return Tokens(PUBLIC.decode(), client_id="client", key_id="key")


@pytest.fixture
def server(tokens):
    """Return a collector with the endpoint."""
    with Collector(tokens=tokens) as running:
        yield running


def encode(data):
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def assertion(server, *, key=KEY, header=None, **claims):
    """Return a good assertion, but for what is given."""
    now = int(time.time())
    head = {"alg": "RS256", "kid": "key", "typ": "JWT", **(header or {})}
    body = {
        "iss": "client",
        "sub": "client",
        "aud": server.url,
        "iat": now - 5,
        "exp": now + 55,
        "jti": str(uuid.uuid4()),
        **claims,
    }
    signed = b".".join(encode(json.dumps(part).encode()) for part in (head, body))
    signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return (signed + b"." + encode(signature)).decode()


def fetch(server, jwt, **form):
    """Ask for a token."""
    return requests.post(
        server.url + "/token",
        data={
            "grant_type": "client_credentials",
            "client_assertion_type": TYPE,
            "client_assertion": jwt,
            "scope": "tracking_api:write",
            **form,
        },
        timeout=HANG,
    )


def send(server, authorization):
    """Send an empty batch."""
    return requests.post(
        server.url + "/v1/batch",
        json={"batch": [], "writeKey": "KEY"},
        headers={"Authorization": authorization},
        timeout=HANG,
    )


class TestTokens:
    def test_gives_one_out(self, server, tokens):
        """A good assertion is answered with a token, by which batches are let in."""
        said = fetch(server, assertion(server))
        assert said.status_code == 200
        assert said.headers["Date"]
        assert said.json()["expires_in"] == 3600
        assert said.json()["token_type"] == "Bearer"
        token = said.json()["access_token"]
        assert send(server, f"Bearer {token}").status_code == 200
        assert send(server, f"Bearer {token}x").status_code == 401
        assert (tokens.issued, tokens.problems) == (1, [])
        assert len(server.requests) == 2  # tokens are not among them

    def test_forgets(self, server, tokens):
        """A token that was forgotten, or has expired, is let in no more."""
        token = fetch(server, assertion(server)).json()["access_token"]
        tokens.forget()
        assert send(server, f"Bearer {token}").status_code == 401
        token = fetch(server, assertion(server)).json()["access_token"]
        now = time.time()
        tokens.clock = lambda: now + 3601
        assert send(server, f"Bearer {token}").status_code == 401

    @pytest.mark.parametrize(
        ("changed", "status", "error"),
        [
            ({"key": OTHER}, 401, "invalid_client"),
            ({"header": {"alg": "none"}}, 401, "invalid_client"),
            ({"header": {"kid": "another"}}, 401, "invalid_client"),
            ({"iss": "another"}, 401, "invalid_client"),
            ({"sub": "another"}, 401, "invalid_client"),
            ({"aud": "https://a.example"}, 401, "invalid_client"),
            ({"iat": int(time.time()) + 86_400}, 400, "invalid_request"),
            ({"exp": int(time.time()) - 600}, 400, "invalid_request"),
            ({"exp": int(time.time()) + 86_400}, 400, "invalid_request"),
            ({"exp": "soon"}, 400, "invalid_request"),
            ({"jti": None}, 400, "invalid_request"),
        ],
    )
    def test_refuses(self, server, tokens, changed, status, error):
        """An assertion that is wrong in one point gets an error, and no token."""
        said = fetch(server, assertion(server, **changed))
        assert (said.status_code, said.json()["error"]) == (status, error)
        assert tokens.problems == [said.json()["error_description"]]
        assert tokens.issued == 0

    def test_assertion_serves_once(self, server):
        """An assertion that was seen before is refused."""
        jwt = assertion(server)
        assert fetch(server, jwt).status_code == 200
        assert fetch(server, jwt).status_code == 400

    @pytest.mark.parametrize(
        ("form", "error"),
        [
            ({"grant_type": "password"}, "unsupported_grant_type"),
            ({"client_assertion_type": "saml"}, "invalid_request"),
            ({"scope": "everything"}, "invalid_scope"),
            ({"client_assertion": "a.b"}, "invalid_request"),
            ({"client_assertion": "YQ.YQ.YQ"}, "invalid_request"),
        ],
    )
    def test_form(self, server, form, error):
        """A form that is wrong in one point is refused."""
        said = fetch(server, assertion(server), **form)
        assert (said.status_code, said.json()["error"]) == (400, error)

    def test_no_form(self, server):
        """What is no form is refused, as is another method."""
        said = requests.post(server.url + "/token", json={}, timeout=HANG)
        assert said.status_code == 415
        said = requests.get(server.url + "/token", timeout=HANG)
        assert (said.status_code, said.headers["Allow"]) == (405, "POST")

    def test_is_told_to_fail(self, server, tokens):
        """Replies of a script come first, then the constant one."""
        tokens.script(429, Reply(body=b"garbage"))
        tokens.always(503)
        said = [fetch(server, assertion(server)) for _ in range(3)]
        assert [answer.status_code for answer in said] == [429, 200, 503]
        assert said[1].content == b"garbage"
        assert tokens.statuses == [429, 200, 503]
        tokens.always(None)
        assert fetch(server, assertion(server)).json()["access_token"]
        assert tokens.issued == 1

    @pytest.mark.parametrize("key", ["", "x", "-----BEGIN PRIVATE KEY-----\nx\n"])
    def test_key_that_is_none(self, key):
        """What is no RSA key is refused at once."""
        with pytest.raises(ValueError, match="not an RSA key"):
            Tokens(key)

    @pytest.mark.once
    def test_from_the_command_line(self, tmp_path):
        """`collect --oauth-key` gives out tokens that live as long as is said."""
        path = tmp_path / "key.pem"
        path.write_bytes(PUBLIC)
        command = [sys.executable, "-m", "htlogging", "collect", "--port", "0"]
        options = ["--oauth-key", str(path), "--token-life", "7"]
        with subprocess.Popen([*command, *options], stdout=subprocess.PIPE) as process:
            try:
                line = process.stdout.readline().decode()

                class Server:
                    url = line.split("HTEVENTS_HOST=")[1].split()[0]

                said = fetch(Server, assertion(Server))
                assert said.json()["expires_in"] == 7
                token = said.json()["access_token"]
                assert send(Server, f"Bearer {token}").status_code == 200
                assert send(Server, f"Bearer {token}x").status_code == 401
            finally:
                process.kill()

    @pytest.mark.parametrize(
        ("content", "said"),
        [(b"x", "not an RSA key"), (b"\xff", "no PEM"), (None, "No such file")],
    )
    def test_mistakes_on_the_command_line(self, tmp_path, content, said):
        """A file that is none is one line, and exit status 1."""
        path = tmp_path / "key.pem"
        if content is not None:
            path.write_bytes(content)
        ended = here("collect", "--port", "0", "--oauth-key", path)
        assert ended.status == 1
        (line,) = ended.err.splitlines()
        assert said in line

    def test_without_tokens(self, collector):
        """A collector without the endpoint has no such path, and checks no token."""
        assert fetch(collector, "x").status_code == 404
        assert send(collector, "Bearer x").status_code == 200
