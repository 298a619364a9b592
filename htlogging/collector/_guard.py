"""
Which requests from a browser are accepted.

Any web page that is open in the browser can send requests to this machine. It must not read
the events: DNS rebinding gives it a host name for 127.0.0.1, which `Host` shows. It must not
send events: `Origin` and `Sec-Fetch-Site` show that. Pages of this machine may send events,
as the browser SDK in an application under development does.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from email.message import Message

_LOCAL = re.compile(
    r"(?:localhost|[\w-]+(?:\.[\w-]+)*\.localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?",
    re.IGNORECASE,
)
_HEADERS = "Content-Type, Content-Encoding, Authorization"


def is_local(authority: str) -> bool:
    """Return whether `HOST` or `HOST:PORT` names this machine, in any way but an alias."""
    return _LOCAL.fullmatch(authority) is not None


def why_refused(headers: Message, *, same_origin: bool) -> str | None:
    """
    Return why a request is refused; `None` if it is accepted.

    Args:
        headers: The request's headers.
        same_origin: Whether a browser must be on the collector's own page. If not, any
            page of this machine may send, on any port.
    """
    host, origin = headers.get("Host"), headers.get("Origin")
    for name in headers.get_all("Host", []):
        if not is_local(name):
            return f"Host is {name[:100]!r}; the collector answers to localhost alone"
    for origin in headers.get_all("Origin", []):
        scheme, _, authority = origin.partition("://")
        if scheme not in ("http", "https") or not is_local(authority):
            return f"Origin is {origin[:100]!r}; only pages of this machine may send"
        if same_origin and authority != host:
            return f"Origin is {origin[:100]!r}; only the collector's own page may ask"
    site = headers.get("Sec-Fetch-Site")
    if same_origin and site not in (None, "same-origin", "none"):
        return "another site asks; only the collector's own page may"
    if origin is None and site == "cross-site":
        return "another site sends; only pages of this machine may"
    return None


def is_simple(headers: Message) -> bool:
    """Return whether a page sends what browsers send anywhere without asking first."""
    return headers.get("Origin") is not None and not is_json(headers)


def is_json(headers: Message) -> bool:
    """Return whether a request says that its body is JSON."""
    kind = (headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    return kind == "application/json"


def cors(headers: Message, *, preflight: bool = False) -> dict[str, str]:
    """Return the headers that let the sending page read an answer (Fetch, CORS)."""
    origin = headers.get("Origin")
    if origin is None:
        return {}
    allowed = {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
    if headers.get("Access-Control-Request-Private-Network") == "true":
        allowed["Access-Control-Allow-Private-Network"] = "true"
    if preflight:
        allowed["Access-Control-Allow-Methods"] = "POST"
        allowed["Access-Control-Allow-Headers"] = _HEADERS
        allowed["Access-Control-Max-Age"] = "600"
    else:
        # The browser SDK sends its cookies if it is configured to.
        allowed["Access-Control-Allow-Credentials"] = "true"
    return allowed
