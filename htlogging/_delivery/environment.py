"""Proxies and TLS from the environment: read once, and checked."""

from __future__ import annotations

import atexit
import os
import sys
from importlib.util import find_spec
from urllib.parse import urlsplit

from htlogging._delivery.exchange import Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import requests

# Schemes of proxies that need the package PySocks.
_SOCKS = ("socks4", "socks4a", "socks5", "socks5h")

# The variables that `requests` reads, in its order.
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

# How many addresses are behind a URL, where a caller's thread has looked. They are tried one
# after the other, each for its share of the time to connect.
addresses: dict[str, int] = {}


def options(
    session: requests.Session, url: str, proxies: Mapping[str, str] | None
) -> dict[str, Any]:
    """
    Return the options for a session that sends to a URL: `proxies`, `verify` and so on.

    Raises:
        Unreachable: These options cannot work. That is tried again all the same: a file
            may come back, or a package may be installed.
    """
    merged = session.merge_environment_settings(
        url,
        proxies=_given(url, proxies),
        stream=True,
        verify=None,
        cert=None,
    )
    found: dict[str, Any] = {**merged}
    check(found, url)
    return found


def names(url: str, proxies: Mapping[str, str] | None) -> list[str]:
    """
    Return the names that are looked up here for a request: the proxy's, or the host's.

    Both with a SOCKS proxy that is given addresses. Empty: a URL has no host.
    """
    from requests.utils import get_environ_proxies, select_proxy

    given = _given(url, proxies)
    merged = {**get_environ_proxies(url, given.get("no_proxy")), **given}
    proxy = select_proxy(url, merged)
    urls = [url]
    if proxy:
        full = proxy if "://" in proxy else f"http://{proxy}"
        by_us = full.partition("://")[0].lower() in ("socks4", "socks5")
        urls = [full, url] if by_us else [full]
    return [name for one in urls if (name := urlsplit(one).hostname)]


def _given(url: str, proxies: Mapping[str, str] | None) -> dict[str, str]:
    """Return the proxies of the settings, as far as they are for this URL."""
    from requests.utils import should_bypass_proxies

    # A copy, because requests adds the environment's proxies to it.
    given = dict(proxies or {})
    exempt = given.get("no_proxy")
    # requests itself exempts a host from the environment's proxies alone, and knows no
    # address with a port.
    if exempt and (
        should_bypass_proxies(url, exempt)
        or urlsplit(url).netloc in exempt.replace(" ", "").split(",")
    ):
        return {"no_proxy": "*"}
    return given


def check(found: Mapping[str, Any], url: str) -> None:
    """
    Check what `options` found.

    Raises:
        Unreachable: TLS would not be verified, the CA bundle is missing, or the proxy
            cannot be used.
    """
    if url.lower().startswith("https:"):
        _check_verify(found["verify"])
    _check_proxy(url, found["proxies"])


def _leave_ca_bundle() -> None:
    """
    Leave the parent's CA bundle to the parent; in a forked child.

    In a zip file certifi's is unpacked for the process, and taken away at exit.
    """
    hook = getattr(sys.modules.get("certifi.core"), "exit_cacert_ctx", None)
    if hook is not None:
        atexit.unregister(hook)


# For each child, also when no sender lives at the fork: certifi's hook does.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_ca_bundle)


def secrets(found: Mapping[str, Any]) -> list[str]:
    """Return the passwords of proxies: as they are, and as they are sent."""
    from requests.utils import get_auth_from_url

    logins = [get_auth_from_url(url) for url in found["proxies"].values()]
    return [
        secret
        for user, password in logins
        if password
        for secret in (f"{user}:{password}", password)
    ]


def _check_verify(verify: Any) -> None:
    if verify is True:
        return
    if not verify:
        raise unverified()
    fault = _fault_of_bundle(os.fspath(verify))
    if fault:
        named = [name for name in _CA_VARIABLES if os.environ.get(name)]
        name = f"{named[0]} names" if named else "is to be used"
        raise _wrong(f"the CA bundle that {name} {fault}")


def _fault_of_bundle(path: str) -> str:
    import ssl

    if not os.path.exists(path):
        return "does not exist"
    if os.path.isdir(path):
        return ""  # OpenSSL looks into it for each certificate
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return "holds no certificate"
    except OSError as exc:
        return f"cannot be read: {exc.strerror}"
    return ""


def _check_proxy(url: str, proxies: Mapping[str, str]) -> None:
    from requests.utils import select_proxy

    proxy = select_proxy(url, dict(proxies))
    if not proxy:
        return
    full = proxy if "://" in proxy else f"http://{proxy}"
    scheme = full.partition("://")[0].lower()
    if scheme not in ("http", "https", *_SOCKS):
        # Only the scheme: a password may be anywhere in the rest.
        known = scheme if scheme.isalnum() and len(scheme) < 12 else "unknown"  # noqa: PLR2004
        raise _wrong(
            f"the proxy's scheme {known}:// cannot be used; say http, https, socks5 "
            "(names are looked up here) or socks5h (by the proxy)"
        )
    if not _has_place(full):
        raise _wrong(
            "the proxy's URL has no host or an invalid port; say http://proxy:3128"
        )
    if scheme in _SOCKS and find_spec("socks") is None:
        raise _wrong(
            "a SOCKS proxy needs the package PySocks: pip install 'requests[socks]'"
        )


def _has_place(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool((parts.hostname or "").strip()) and parts.port != 0
    except ValueError:
        return False


def unverified() -> Unreachable:
    """Return the error for TLS that would not be verified."""
    return _wrong(
        "the environment or a library turns the verification of TLS off, and the write "
        "key would go to any server; to trust a certificate authority of your own, set "
        "REQUESTS_CA_BUNDLE to its file"
    )


def _wrong(reason: str) -> Unreachable:
    return Unreachable(reason, code="configuration")
