"""
The browser SDK's cookie service: it keeps ids that browsers delete from scripts' cookies.

`POST PREFIX/renew` sets both ids again for a year, from the browser's cookie or else from the
server's. `POST PREFIX/clear` expires the server's. Only the page's own origin may ask.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, urlsplit

from htlogging.integrations import _cookies
from htlogging.integrations._visit import origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging.integrations._options import Options
    from htlogging.integrations._request import Request

# Seconds that a cookie lives.
YEAR = 31_536_000

# Characters that a cookie holds as they are; the browser SDK decodes the others.
_SAFE = "!'()*-._~"

# Scheme → its default port, as it stands in a host.
_PORTS = {"http": ":80", "https": ":443"}


class Answer(NamedTuple):
    """An answer of the service, without a body."""

    status: int
    reason: str
    headers: list[tuple[str, str]]


def answer(request: Request, options: Options, path: str, method: str) -> Answer | None:
    """
    Return the answer to a request to the service; `None` for other requests.

    Args:
        request: The request.
        options: The middleware's options.
        path: Its path, decoded.
        method: Its method.
    """
    prefix = options.cookie_service
    if prefix is None or not path.startswith(prefix):
        return None
    action = {"/renew": _renew, "/clear": _clear}.get(path[len(prefix) :])
    if action is None:
        return None
    common = [("Cache-Control", "no-store"), ("Content-Length", "0")]
    if method != "POST":
        return Answer(405, "Method Not Allowed", [("Allow", "POST"), *common])
    secure = _is_secure(request, options)
    if secure is None:
        return Answer(403, "Forbidden", common)
    attributes = "; Path=/; SameSite=Lax"
    if options.cookie_domain is not None:
        attributes += f"; Domain={options.cookie_domain}"
    if secure:
        attributes += "; Secure"
    cookies = _cookies.parse(request.header("cookie"))
    headers = [("Set-Cookie", cookie + attributes) for cookie in action(cookies)]
    # Not 204, which must have no length: some servers add one all the same.
    return Answer(200, "OK", [*headers, *common])


def _renew(cookies: dict[str, str]) -> list[str]:
    """Return both cookies for each id that was sent."""
    found = []
    for name in (_cookies.ANONYMOUS_ID, _cookies.USER_ID):
        value = _cookies.visitor_id(cookies, name)
        if value is not None:
            text = quote(value, safe=_SAFE)
            found += [
                f"{name}={text}; Max-Age={YEAR}",
                f"{name}{_cookies.SERVER}={text}; Max-Age={YEAR}; HttpOnly",
            ]
    return found


def _clear(_: dict[str, str]) -> list[str]:
    """Return cookies that expire the server's."""
    names = (_cookies.ANONYMOUS_ID, _cookies.USER_ID)
    return [f"{name}{_cookies.SERVER}=; Max-Age=0; HttpOnly" for name in names]


def _is_secure(request: Request, options: Options) -> bool | None:
    """
    Return whether the page came by https; `None` if it is of another origin.

    A browser sends `Origin` with every POST of a script, and `Sec-Fetch-Site` if the page
    is secure. A proxy that ends TLS may have changed the scheme, so an https page of this
    host counts as the same site.
    """
    fetch_site = request.header("sec-fetch-site")
    if fetch_site not in ("", "same-origin"):
        return None
    scheme, host = origin(request, options)
    claimed = request.header("origin")
    if not claimed:
        return scheme == "https"
    try:
        theirs = urlsplit(claimed)
    except ValueError:
        return None
    if theirs.scheme not in (scheme, "https") or not theirs.netloc:
        return None
    if _without_port(theirs.scheme, theirs.netloc) not in (
        _without_port(scheme, host),
        _without_port(theirs.scheme, host),
    ):
        return None
    return theirs.scheme == "https"


def _without_port(scheme: str, host: str) -> str:
    """Return a host without the default port of its scheme."""
    return host.lower().removesuffix(_PORTS.get(scheme, ":"))
