"""
OAuth: one access token for a process, shared by its sending threads.

A sending thread asks for the token, inside its own deadline. At half the token's life the
next sending thread renews it; there is no timer thread. While one thread renews it, the
others use the old one. A forked child starts without a token. docs/oauth.md.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
import weakref
from urllib.parse import urlencode

from htlogging._delivery.assertion import EARLIER, Signer, read_pem
from htlogging._delivery.exchange import Unreachable
from htlogging._delivery.headers import moment, retry_after, seconds
from htlogging._delivery.redaction import MAX_TEXT, Redaction
from htlogging._delivery.retry import is_success, may_pass
from htlogging._process import fork, locks
from htlogging._process.clock import clock
from htlogging._process.locks import do_within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from htlogging._settings import Settings

    # URL, form and seconds → status, headers and body; or `Unreachable`.
    Post = Callable[[str, bytes, float], tuple[int, Mapping[str, str], bytes]]

# Seconds. The shortest and the longest life of a token, whatever `expires_in` says, and the
# life if it says nothing useful.
LIFE_LEAST = 1.0
LIFE_MOST = 86_400.0
LIFE_UNSAID = 60.0

# Seconds between two tries to renew a token that is still valid.
_RENEW_AGAIN = 30.0

# Characters. Many servers refuse a longer header.
_MAX_TOKEN = 8_192

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

# Credentials → their token source, one for all handlers of a process, as long as one uses it.
# Changed with the lock for late imports.
_sources: weakref.WeakValueDictionary[tuple[str, ...], TokenSource]
_sources = weakref.WeakValueDictionary()


class Token:
    """
    An access token.

    Args:
        value: The text for the header.
        life: Seconds from now on that it is valid.
    """

    __slots__ = ("ends", "fetched", "renew", "value")

    def __init__(self, value: str, life: float) -> None:
        self.value = value
        self.fetched = clock.monotonic()
        self.renew = self.fetched + life / 2
        self.ends = self.fetched + life


class TokenSource:
    """
    Gives the sending threads their token.

    Args:
        server: The OAuth server's URL, without a slash at its end.
        scope: The scope to ask for.
        signer: Signs the request.
    """

    def __init__(self, server: str, scope: str, signer: Signer) -> None:
        self._server = server
        self._scope = scope
        self._signer = signer
        # Seconds by which the server's clock is ahead of ours.
        self._ahead = 0.0
        self._begin()
        fork.register(self)

    def __repr__(self) -> str:
        return f"<TokenSource of {self._server}>"

    def _begin(self) -> None:
        # Held by the thread that asks for a token; others wait for it until their deadline.
        # Re-entrant: a signal handler may send while its thread is asking. A forked child
        # has its own.
        self._lock = locks.rlock()
        self._token: Token | None = None
        # The last failure, so that threads that waited do not ask again. Guarded by _lock.
        self._failed = -math.inf
        self._failure: Unreachable | None = None

    def after_fork_in_child(self) -> None:
        """Forget the parent's token, in a forked child."""
        self._begin()

    def life(self) -> float | None:
        """Return the seconds that the token is still valid; `None` if there is none."""
        token = self._token
        return None if token is None else max(token.ends - clock.monotonic(), 0.0)

    def get(self, post: Post, timeout: float) -> Token:
        """
        Return a token, from the server if necessary.

        Args:
            post: Sends the request on the caller's connection.
            timeout: Seconds to wait, for the server and for other threads together.

        Raises:
            Unreachable: There is no token; `final` says whether a later try is useless.
        """
        began = clock.monotonic()
        token = self._token
        if token is not None and began < token.renew:
            return token
        lives = token is not None and began < token.ends
        found = do_within(
            self._lock,
            0 if lives else max(timeout, 0),
            lambda: self._get(post, began, timeout),
        )
        if found is None and lives:
            found = token
        if found is None:
            raise Unreachable("the OAuth token did not come in time", code="oauth")
        return found

    def _get(self, post: Post, began: float, timeout: float) -> Token:
        """Return the token that another thread has fetched since, or fetch one."""
        token = self._token
        now = clock.monotonic()
        if token is not None and now < token.renew:
            return token
        if self._failure is not None and self._failed > began:
            raise self._failure.again()
        return self._renew(token, post, began + timeout)

    def drop(self, token: Token) -> None:
        """Forget this token, unless there is a newer one already."""
        with self._lock:
            if self._token is token:
                self._token = None

    def _renew(self, token: Token | None, post: Post, deadline: float) -> Token:
        try:
            fresh = self._fetch(post, deadline)
        except Unreachable as exc:
            now = clock.monotonic()
            if token is not None and now < token.ends:
                # The token is still valid; it is renewed a little later.
                token.renew = min(now + _RENEW_AGAIN, token.ends)
                return token
            self._failed, self._failure = now, exc.again()
            raise
        self._token, self._failure = fresh, None
        return fresh

    def _fetch(self, post: Post, deadline: float) -> Token:
        """Ask once, and once more if the answer shows that our clock is wrong."""
        for again in (False, True):
            left = deadline - clock.monotonic()
            if left <= 0:
                raise Unreachable("the OAuth token did not come in time", code="oauth")
            ahead = self._ahead
            assertion = self._signer.assertion(self._server, time.time() + ahead)
            form = {
                "grant_type": "client_credentials",
                "client_assertion_type": _ASSERTION_TYPE,
                "client_assertion": assertion,
                "scope": self._scope,
            }
            url = f"{self._server}/token"
            status, headers, body = post(url, urlencode(form).encode(), left)
            date = moment(headers.get("Date"))
            if date is not None:
                self._ahead = date - time.time()
            if is_success(status):
                return _token(status, body)
            if may_pass(status):
                raise self._later(status, headers)
            # By the server's clock an assertion may be too early or expired; that is a 4xx.
            if again or abs(self._ahead - ahead) < EARLIER - 1:
                break
        raise _refused(status, body, Redaction(assertion, *assertion.split(".")))

    def _later(self, status: int, headers: Mapping[str, str]) -> Unreachable:
        asked = retry_after(headers.get("Retry-After"))
        reset = seconds(
            headers.get("X-RateLimit-Reset")
        )  # milliseconds, by the server's clock
        if status == 429 and reset is not None:  # noqa: PLR2004
            asked = max(asked or 0.0, reset / 1000 - (time.time() + self._ahead))
        return Unreachable(
            f"the OAuth server answered {status}", code="oauth", retry_after=asked
        )


def source(settings: Settings) -> TokenSource | None:
    """
    Return the token source for these settings; `None` without OAuth settings.

    Raises:
        InvalidSetting: The key is invalid, or `cryptography` is not installed.
    """
    if settings.oauth_client_id is None or not settings.send:
        return None
    client_id, key_id = settings.oauth_client_id, settings.oauth_key_id or ""
    server, scope = settings.oauth_auth_server, settings.oauth_scope
    pem = read_pem(settings.oauth_client_key or "")
    parts = (server, client_id, key_id, hashlib.sha256(pem).hexdigest(), scope)

    def find() -> TokenSource:
        known = _sources.get(parts)
        if known is None:
            # This imports `cryptography`.
            fresh = TokenSource(server, scope, Signer(client_id, key_id, pem))
            known = _sources.setdefault(parts, fresh)
        return known

    return fork.do_whole(find)


def _token(status: int, body: bytes) -> Token:
    said = _parse(body)
    value, kind = said.get("access_token"), said.get("token_type", "Bearer")
    usable = (
        isinstance(value, str)
        and len(value) <= _MAX_TOKEN
        and re.fullmatch("[\x21-\x7e]+", value)
        and isinstance(kind, str)
        and kind.lower() == "bearer"
    )
    if not usable or not isinstance(value, str):
        raise Unreachable(
            "the OAuth server's answer holds no usable token",
            code="oauth.no_token",
            status=status,
            final=True,
        )
    return Token(value, _life(said.get("expires_in")))


def _life(said: Any) -> float:
    """Return how many seconds a token counts as valid."""
    if isinstance(said, str) and re.fullmatch("[0-9]{1,9}", said):
        said = int(said)
    if isinstance(said, bool) or not isinstance(said, (int, float)):
        return LIFE_UNSAID
    if said != said:  # noqa: PLR0124  (NaN)
        return LIFE_UNSAID
    return float(min(max(said, LIFE_LEAST), LIFE_MOST))


def _refused(status: int, body: bytes, redact: Redaction) -> Unreachable:
    said = _parse(body)
    word, text = said.get("error"), said.get("error_description")
    code = str(status)
    if isinstance(word, str) and re.fullmatch(r"[\w.-]{1,64}", word, re.ASCII):
        code = redact(word) or code
    told = redact.line(text, MAX_TEXT)
    return Unreachable(
        f"the OAuth server refused{': ' if told else ''}{told}",
        code=f"oauth.{code}",
        status=status,
        final=True,
    )


def _parse(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
