"""The way to the server: names, proxy, TLS, clock; and the key, if it may send an event."""

from __future__ import annotations

import re
import socket
import time
from contextlib import closing
from urllib.parse import urlsplit

from htlogging._delivery import oauth
from htlogging._delivery.exchange import Unreachable
from htlogging._delivery.headers import moment
from htlogging._delivery.outcomes import reason
from htlogging._delivery.retry import is_success
from htlogging._delivery.sender import MAX_SKEW
from htlogging._event import builder
from htlogging._event.encoder import encode
from htlogging._settings.checks import DEFAULT_HOST
from htlogging.exceptions import DeliveryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from htlogging._cli.check.findings import Findings
    from htlogging._delivery.transport import HttpTransport
    from htlogging._settings import Settings

# Seconds for each request of a check.
TIMEOUT = 5.0

_VENDOR = re.compile(r"(?:[^./]+\.)*hightouch[\w.-]*", re.IGNORECASE)

# What a test event is called, and its user.
EVENT = "htlogging check"
USER = "htlogging-check"


def check(settings: Settings, findings: Findings, *, send: bool) -> None:
    """Try the way to the server of a handler."""
    findings.section(f"Route to {settings.host}")
    if settings.redis_url is not None:
        _check_redis(settings, findings, send=send)
        return
    from htlogging._delivery.transport import HttpTransport

    tokens = oauth.source(settings)
    with closing(HttpTransport(settings, tokens)) as transport:
        try:
            session = transport.session()
        except Unreachable as exc:
            findings.problem(
                exc.reason, "correct this in the environment or in proxies"
            )
            return
        proxy = _proxy(settings.host, transport.options)
        if proxy:
            findings.fact("proxy", proxy)
        elif not _knows_name(settings.host, findings):
            return
        if not _answers(settings, transport, session, findings, proxy=proxy):
            return
        if tokens is not None:
            _check_token(tokens, transport, settings, findings)
        if send:
            _send(settings, transport, findings)
        else:
            findings.note("the write key was not tried: --send sends one test event")


def _proxy(host: str, options: Any) -> str:
    """Return the proxy on the way, without user and password; or nothing."""
    from requests.utils import select_proxy

    proxy = select_proxy(host, options["proxies"])
    if not proxy:
        return ""
    full = proxy if "://" in proxy else f"http://{proxy}"
    parts = urlsplit(full)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _knows_name(host: str, findings: Findings) -> bool:
    name = urlsplit(host).hostname or ""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no name"
        cure = "correct host or HTEVENTS_HOST, or the DNS of this machine"
        if _VENDOR.fullmatch(name):
            cure = f"use the host of your workspace's region, such as {DEFAULT_HOST}"
        findings.problem(f"the host name {name} is not known: {why}", cure)
        return False
    region = name.partition(".")[0]
    if _VENDOR.fullmatch(name):
        findings.note(
            f"the region is {region}: another region than your workspace's accepts events, "
            "too, and they are lost"
        )
    addresses = sorted({str(each[4][0]) for each in found})
    findings.ok(f"DNS: {name} is {', '.join(addresses[:4])}")
    return True


def _answers(
    settings: Settings,
    transport: HttpTransport,
    session: Any,
    findings: Findings,
    *,
    proxy: str,
) -> bool:
    """Ask for any answer, without the key; compare its clock with ours."""
    began = time.monotonic()
    try:
        response = _ask(settings.host, transport, session)
    except Unreachable as exc:
        through = f" through the proxy {proxy}" if proxy else ""
        findings.problem(
            f"blocked network: no answer from {settings.host}{through}: {exc.reason}",
            _cure(exc.reason, proxy),
        )
        return False
    seconds = time.monotonic() - began
    if proxy and response.status_code == 407:  # noqa: PLR2004
        findings.problem(
            f"the proxy {proxy} wants a user and a password (407)",
            "give them in its URL: http://user:password@proxy:3128",
        )
        return False
    tls = ", TLS verified" if settings.host[:6].lower() == "https:" else ""
    findings.ok(f"an answer after {seconds:.2f} s (HTTP {response.status_code}{tls})")
    _check_clock(moment(response.headers.get("Date")), settings.host, findings)
    return True


def _ask(host: str, transport: HttpTransport, session: Any) -> Any:
    """Return the answer to a request without the key; raise `Unreachable`."""
    response = transport.exchange(
        lambda _: session.request(
            "GET",
            f"{host}/",
            timeout=TIMEOUT,
            allow_redirects=False,
            auth=lambda request: request,
            **transport.options,
        ),
        TIMEOUT,
        used=False,
    )
    transport.read(response)
    return response


def _cure(reason: str, proxy: str) -> str:
    if "certificate" in reason.lower() or "SSL" in reason:
        return "set REQUESTS_CA_BUNDLE to the certificate authority of your proxy"
    if proxy:
        return "correct HTTPS_PROXY or proxies, or exempt the host by NO_PROXY"
    return "let this machine reach the host, or set HTTPS_PROXY or proxies"


def _check_clock(date: float | None, host: str, findings: Findings) -> None:
    if date is None:
        return
    off = time.time() - date
    if abs(off) > MAX_SKEW:
        side = "ahead of" if off > 0 else "behind"
        findings.problem(
            f"the clock of this machine is {abs(off) / 60:.0f} minutes {side} that of "
            f"{host}: events get wrong times",
            "set the clock (NTP)",
        )
    else:
        findings.ok(f"clock: within {max(abs(off), 1):.0f} s of the server's")


def _check_token(
    tokens: oauth.TokenSource,
    transport: HttpTransport,
    settings: Settings,
    findings: Findings,
) -> None:
    try:
        tokens.get(transport.fetch, TIMEOUT)
    except Unreachable as exc:
        findings.problem(
            f"no OAuth token from {settings.oauth_auth_server}: {exc.reason}",
            "correct oauth_client_id, oauth_client_key, oauth_key_id or oauth_scope",
        )
    else:
        life = tokens.life() or 0.0
        findings.ok(f"OAuth: a token, valid for {life:.0f} s")


def _send(settings: Settings, transport: HttpTransport, findings: Findings) -> None:
    """Send one test event, once; say what the server answers."""
    fields = {"ht_user_id": USER, "ht_event": EVENT, "ht_type": "track"}
    event = encode(
        builder.build(fields, {}, None, time.time()),
        settings.max_event_size,
        built=True,
    )
    try:
        answer = transport.post(
            transport.body([event]), compress=settings.gzip, timeout=settings.timeout
        )
    except Unreachable as exc:
        failure = DeliveryError(exc.status, exc.code, exc.reason, 1)
        findings.problem(
            f"the test event was not delivered: {reason(failure, settings.host)}",
            "see above",
        )
        return
    if answer.date is not None:
        _check_clock(answer.date, settings.host, findings)
    if is_success(answer.status):
        findings.ok(f"key: the test event {EVENT!r} of user {USER!r} was accepted")
        findings.note(
            "a wrong region's host may accept events, too: look for this one in Hightouch"
        )
        return
    failure = DeliveryError(answer.status, answer.code, answer.message, 1)
    wrong = answer.status in (401, 403)
    findings.problem(
        f"{'wrong key: ' if wrong else ''}the test event was refused: "
        f"{reason(failure, settings.host)}",
        "correct write_key or HTEVENTS_WRITE_KEY"
        if wrong
        else "correct host or HTEVENTS_HOST",
    )


def _check_redis(settings: Settings, findings: Findings, *, send: bool) -> None:
    from htlogging._settings.redis_location import Location

    try:
        with closing(Location(settings.redis_url or "").connect(TIMEOUT)) as client:
            client.ping()
    except Exception as exc:  # noqa: BLE001
        # Whatever redis-py raises; its text might quote the URL.
        findings.problem(
            f"no connection to Redis at {settings.host}: {type(exc).__name__}",
            "start Redis, or correct host or HTEVENTS_HOST",
        )
        return
    findings.ok("Redis answers")
    findings.note(
        f"a relay sends from there: python -m htlogging relay status {settings.host}"
        + ("; --send sends nothing by Redis" if send else "")
    )
