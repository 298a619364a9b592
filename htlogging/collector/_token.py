"""
The token endpoint of an OAuth server: a signed assertion → an access token.

It accepts what Hightouch's server accepts, and no more: a client's assertion (RFC 7523),
signed with RS256. It can also refuse, be slow and answer nonsense on demand.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qs

from htlogging.collector._messages import Reply, as_reply, merge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from htlogging.collector._messages import Arrival

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

# Answers, problems and tokens that are remembered.
_KEPT = 10_000

# The most seconds for which an assertion may be valid.
_MAX_LIFE = 300


class TokenRefused(Exception):
    """The token endpoint answers with this `error` and gives out no token."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(status, error, description)
        self.status = status
        self.error = error
        self.description = description


class Tokens:
    """
    The endpoint `POST /token` of a collector, and the tokens it has given out.

    With it a collector answers 401 to a batch whose `Bearer` token it did not issue, has
    forgotten, or that has expired. It still accepts batches with `Basic`.

    Args:
        key: PEM text of the client's RSA key, private or public; signatures are checked
            with it, which needs the package `cryptography`. `None`: they are not checked.
        client_id: The only client that is accepted; `None` accepts any.
        key_id: The only `kid` that is accepted; `None` accepts any.
        scope: The only scope that is given.
        life: Seconds that a token is valid: its `expires_in`.

    Attributes:
        life: As above; it may be changed at any time.
        clock: Returns seconds since 1970, for `Date` and for checks; it may be replaced.
    """

    def __init__(
        self,
        key: str | None = None,
        *,
        client_id: str | None = None,
        key_id: str | None = None,
        scope: str = "tracking_api:write",
        life: float = 3600,
    ) -> None:
        self._key = None if key is None else _public_key(key)
        self._client_id = client_id
        self._key_id = key_id
        self._scope = scope
        self.life = life
        self.clock: Callable[[], float] = time.time
        # Guards all below, for the connections' threads and the user's; no I/O while held.
        # A forked child has no collector, and does not use it.
        self._lock = threading.Lock()
        self._expiry: dict[str, float] = {}  # token → when it ends, by the clock
        self._issued = 0
        self._seen: set[str] = set()  # the assertions' `jti`
        self._script: deque[Reply] = deque()
        self._always: Reply | None = None
        self._statuses: deque[int | None] = deque(maxlen=_KEPT)
        self._problems: deque[str] = deque(maxlen=_KEPT)

    @property
    def statuses(self) -> list[int | None]:
        """The answers' statuses so far, one a request; `None`: it had no answer."""
        with self._lock:
            return list(self._statuses)

    @property
    def issued(self) -> int:
        """How many tokens were given out."""
        with self._lock:
            return self._issued

    @property
    def problems(self) -> list[str]:
        """What was wrong with the requests, whatever was answered."""
        with self._lock:
            return list(self._problems)

    def script(self, *replies: Reply | int) -> None:
        """Answer the next requests with these, one each; then answer as usual."""
        with self._lock:
            self._script.extend(as_reply(reply) for reply in replies)

    def always(self, reply: Reply | int | None) -> None:
        """Answer every request with this; `None`: answer as usual again."""
        with self._lock:
            self._always = None if reply is None else as_reply(reply)

    def forget(self) -> None:
        """Forget all tokens: batches that carry one are answered 401 from now on."""
        with self._lock:
            self._expiry.clear()

    def knows(self, authorization: str | None) -> bool:
        """Return whether a batch's Authorization is let in, as far as tokens go."""
        scheme, _, token = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer":
            return True
        with self._lock:
            return self._expiry.get(token.strip(), 0.0) > self.clock()

    def receive(self, arrival: Arrival) -> Reply:
        """Return the answer to a request for a token."""
        with self._lock:
            scripted = self._script.popleft() if self._script else self._always
        status, said, fault = HTTPStatus.OK.value, {}, None
        try:
            self._check(arrival)
        except TokenRefused as exc:
            status, fault = exc.status, exc.description
            said = {"error": exc.error, "error_description": fault}
        headers = {"Allow": "POST"} if status == HTTPStatus.METHOD_NOT_ALLOWED else {}
        natural = Reply(status, body=json.dumps(said).encode(), headers=headers)
        reply = merge(natural, scripted)
        with self._lock:
            if fault is not None:
                self._problems.append(fault)
            elif reply.body is natural.body and reply.drop != "before":
                reply = replace(reply, body=self._issue())
            broken = reply.drop in ("before", "middle", "after")
            self._statuses.append(None if broken else reply.status)
        date = {"Date": formatdate(self.clock(), usegmt=True)}
        return replace(reply, headers={**date, **reply.headers})

    def _issue(self) -> bytes:
        """Give out a token, with the lock held; return the answer's body."""
        self._issued += 1
        now = self.clock()
        if len(self._expiry) >= _KEPT:
            self._expiry = {k: end for k, end in self._expiry.items() if end > now}
        token = secrets.token_urlsafe(32)
        self._expiry[token] = self.clock() + self.life
        said = {"access_token": token, "expires_in": self.life, "token_type": "Bearer"}
        return json.dumps(said).encode()

    def _check(self, arrival: Arrival) -> None:
        if arrival.method != "POST":
            raise TokenRefused(405, "invalid_request", "tokens are asked for by POST")
        kind = (arrival.headers.get("Content-Type") or "").partition(";")[0].strip()
        if kind.lower() != "application/x-www-form-urlencoded":
            raise TokenRefused(415, "invalid_request", "the body is not a form")
        try:
            form = parse_qs(arrival.raw.decode("ascii"), strict_parsing=True)
        except ValueError:
            raise _invalid("the body is not a form") from None
        fields = {name: values[-1] for name, values in form.items()}
        if fields.get("grant_type") != "client_credentials":
            raise TokenRefused(
                400, "unsupported_grant_type", "grant_type is not client_credentials"
            )
        if fields.get("client_assertion_type") != _ASSERTION_TYPE:
            raise _invalid(f"client_assertion_type is not {_ASSERTION_TYPE}")
        if fields.get("scope") != self._scope:
            raise TokenRefused(400, "invalid_scope", f"the scope is not {self._scope}")
        host = arrival.headers.get("Host") or ""
        prefix = arrival.path.partition("?")[0].rstrip("/").removesuffix("/token")
        servers = {f"{scheme}://{host}{prefix}" for scheme in ("http", "https")}
        self._check_assertion(fields.get("client_assertion", ""), servers)

    def _check_assertion(self, assertion: str, servers: set[str]) -> None:
        try:
            head, body, signature = map(_decode, assertion.split("."))
            header, claims = json.loads(head), json.loads(body)
            signed = assertion.rpartition(".")[0].encode()
        except ValueError:
            raise _invalid("client_assertion is not a JWT") from None
        if not (isinstance(header, dict) and isinstance(claims, dict)):
            raise _invalid("client_assertion is not a JWT")
        if header.get("alg") != "RS256" or header.get("typ") != "JWT":
            raise _unknown("the assertion is not signed by RS256")
        kid, client = header.get("kid"), claims.get("iss")
        if not isinstance(kid, str) or self._key_id not in (None, kid):
            raise _unknown("the assertion's key id is not the expected one")
        if self._key is not None and not _is_signed(self._key, signature, signed):
            raise _unknown("the assertion is signed by another key")
        if not isinstance(client, str) or self._client_id not in (None, client):
            raise _unknown("the assertion's client id is not the expected one")
        if claims.get("sub") != client:
            raise _unknown("the assertion's subject is not its issuer")
        if claims.get("aud") not in servers:
            raise _unknown("the assertion is for another server")
        self._check_times(claims)

    def _check_times(self, claims: dict[str, Any]) -> None:
        begin, end, now = claims.get("iat"), claims.get("exp"), self.clock()
        if type(begin) is not int or type(end) is not int:
            raise _invalid("the assertion has no times in whole seconds")
        if begin > now:
            raise _invalid("the assertion is issued in the future")
        if end <= now:
            raise _invalid("the assertion is expired")
        if end - begin > _MAX_LIFE:
            raise _invalid(f"the assertion is valid for more than {_MAX_LIFE} seconds")
        jti = claims.get("jti")
        with self._lock:
            if not isinstance(jti, str) or not jti or jti in self._seen:
                raise _invalid("the assertion's jti is missing, or was used before")
            if len(self._seen) >= _KEPT:
                self._seen.clear()  # for one developer's machine: bounded rather than exact
            self._seen.add(jti)


def _invalid(description: str) -> TokenRefused:
    return TokenRefused(400, "invalid_request", description)


def _unknown(description: str) -> TokenRefused:
    return TokenRefused(401, "invalid_client", description)


def _decode(part: str) -> bytes:
    """Return the bytes of base64url without padding; ValueError: it is none."""
    return base64.b64decode(
        part + "=" * (-len(part) % 4), altchars=b"-_", validate=True
    )


def _public_key(pem: str) -> Any:
    # Late: an extra, needed only to check signatures.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key: Any = None
    # ValueError, TypeError and others; none of them is to quote the key.
    with suppress(Exception):
        if "PRIVATE KEY" in pem:
            key = serialization.load_pem_private_key(pem.encode(), None).public_key()
        else:
            key = serialization.load_pem_public_key(pem.encode())
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("the key is not an RSA key in PEM without a password")  # noqa: TRY004
    return key


def _is_signed(key: Any, signature: bytes, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    try:
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True
