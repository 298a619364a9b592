"""The fields that a middleware binds: what a request says about its visitor."""

from __future__ import annotations

import functools
import ipaddress
import logging
import re
import threading

from htlogging._event import bindable
from htlogging._event.bindings import innermost
from htlogging._process.interruption import is_passing
from htlogging.exceptions import InvalidField
from htlogging.integrations import _cookies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from htlogging.integrations._options import Options
    from htlogging.integrations._request import Request

# The most characters that are kept of a text from a client.
MAX_TEXT = 2_048
MAX_LANGUAGES = 256

# The key of an environ or an ASGI scope under which its `Visit` is.
VISIT = "htlogging.visit"

_SCHEMES = ("http", "https")
_HOST = re.compile(r"[\w.:\[\]-]{1,255}", re.ASCII)
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8}){0,4}")
_PORT = re.compile(r"\[(?P<six>[^\]]*)\](?::\d+)?|(?P<four>[^:]*):\d+")

_log = logging.getLogger("htlogging")


class Visit:
    """
    The fields of one request, read when its first event needs them.

    Args:
        request: The request.
        options: The middleware's options.
        given: The argument for `options.user_id`.
    """

    __slots__ = ("_asking", "_fields", "_given", "_options", "_request", "_user")

    def __init__(self, request: Request, options: Options, given: Any) -> None:
        self._request = request
        self._options = options
        self._given = given
        # The options whose `user_id` is asked.
        self._user = options
        self._fields: dict[str, Any] | None = None
        # Threads that are reading the request: what they call may log, and so come here
        # again.
        self._asking: set[int] = set()

    def joined_by(self, options: Options) -> bool:
        """
        Return whether the request has its scope already: a request has one.

        A second middleware around it (that of an application inside another one) adds
        its option `user_id`, if the first has none.
        """
        scope = innermost()
        if scope is None or not scope.uses(self):
            return False
        if self._user.user_id is None:
            self._user = options
        return True

    def __call__(self) -> Mapping[str, Any]:
        """Return the fields; raise nothing."""
        thread = threading.get_ident()
        if thread in self._asking:
            return self._fields or {}
        self._asking.add(thread)
        try:
            return self.find()
        finally:
            self._asking.discard(thread)

    def find(self) -> dict[str, Any]:
        """Find out what is not known yet."""
        fields = self._fields
        if fields is None:
            try:
                fields = read(self._request, self._options)
            except Exception as exc:
                if is_passing(exc):
                    raise
                # Whatever a client may send, the application must be able to log.
                self._report(f"cannot read a request: {type(exc).__name__}")
                fields = {}
            self._fields = fields
        if self._user.user_id is not None and "ht_user_id" not in fields:
            user_id = self._user_id()
            if user_id is not None:
                self._fields = fields = {**fields, "ht_user_id": user_id}
        return fields

    def _user_id(self) -> Any:
        try:
            user_id = self._user.user_id(self._given)  # type: ignore[misc]
            bindable.check({"ht_user_id": user_id})
        except InvalidField as exc:
            self._report(f"the middleware's option user_id returned no id: {exc}")
        except Exception as exc:  # the application's code
            if is_passing(exc):
                raise
            self._report(f"the middleware's option user_id raised {type(exc).__name__}")
        else:
            return user_id
        return None

    def _report(self, text: str) -> None:
        # Once: the next request is likely to have the same fault.
        if text not in self._options.reported:
            self._options.reported.add(text)
            _log.warning("%s", text)


def read(request: Request, options: Options) -> dict[str, Any]:
    """Return the fields that a request has."""
    cookies = _cookies.parse(request.header("cookie"))
    path, referrer = request.path, request.header("referer")
    if not options.query:
        referrer = referrer.partition("?")[0]
    page = {
        "url": _url(request, options, path),
        "path": path,
        "referrer": referrer.partition("#")[0],
    }
    consent = _cookies.consent(cookies)
    context = {
        "ip": _ip(request, options.trusted_proxies),
        "userAgent": _short(request.header("user-agent")),
        "locale": _locale(request.header("accept-language")[:MAX_LANGUAGES]),
        "page": {name: _short(text) for name, text in page.items() if text},
        "sessionId": _cookies.session_id(cookies),
        "consent": {"categoryPreferences": consent} if consent else None,
    }
    found = {name: value for name, value in context.items() if value not in (None, "")}
    fields: dict[str, Any] = {"ht_context": found}
    anonymous_id = _cookies.visitor_id(cookies, _cookies.ANONYMOUS_ID)
    if anonymous_id is not None:
        fields["ht_anonymous_id"] = anonymous_id
    return fields


def origin(request: Request, options: Options) -> tuple[str, str]:
    """Return the scheme, and the host with its port, that the browser asked for."""
    scheme, host = request.scheme, request.header("host")
    if options.trusted_proxies:
        proxies = options.trusted_proxies
        scheme = _forwarded(request.header("x-forwarded-proto"), proxies) or scheme
        host = _forwarded(request.header("x-forwarded-host"), proxies) or host
    if not _HOST.fullmatch(host):
        host = request.server
    scheme = scheme.lower()
    return scheme if scheme in _SCHEMES else request.scheme, host


def _url(request: Request, options: Options, path: str) -> str:
    scheme, host = origin(request, options)
    query = f"?{request.query}" if options.query and request.query else ""
    return f"{scheme}://{host}{path}{query}" if host else ""


def _forwarded(header: str, proxies: int) -> str:
    """Return the value from the outermost trusted proxy; not every proxy adds one."""
    values = [value.strip() for value in header.split(",")]
    return values[-min(proxies, len(values))]


def _ip(request: Request, proxies: int) -> str | None:
    """
    Return the visitor's address.

    Each proxy adds its peer on the right; whatever stands further left than ours have
    added, the visitor may have made up.
    """
    if proxies:
        hops = request.header("x-forwarded-for").split(",")
        if len(hops) >= proxies and hops[-proxies].strip():
            return _address(hops[-proxies].strip())
    return _address(request.peer)


# Cached, as `_locale` is: parsing takes 2 us, and the next request is often of the same
# visitor or proxy.
@functools.lru_cache(maxsize=256)
def _address(text: str) -> str | None:
    """Return an address without its port; `None` if it is none."""
    found = _PORT.fullmatch(text)
    if found:
        text = found["six"] or found["four"]
    try:
        # Less its zone (`%eth0`), which means something on this machine alone.
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # An IPv4 peer of a socket that takes both.
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


@functools.lru_cache(maxsize=256)
def _locale(header: str) -> str | None:
    """Return the preferred language of `Accept-Language`."""
    best, liked = None, 0.0
    for part in header.split(","):
        tag, _, weight = part.partition(";")
        try:
            quality = float(weight.partition("=")[2] or 1)
        except ValueError:
            continue
        if quality > liked and _LANGUAGE.fullmatch(tag.strip()):
            best, liked = tag.strip(), quality
    return best


def _short(text: str) -> str:
    return text[:MAX_TEXT]
