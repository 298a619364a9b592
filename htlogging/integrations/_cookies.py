"""
The browser SDK's cookies. They are checked, because the visitor can edit them.

Values are percent-encoded once; older versions wrote them in JSON's quotes. A value that is
refused appears in no log.
"""

from __future__ import annotations

import json
import re
from urllib.parse import unquote_to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ANONYMOUS_ID = "htjs_anonymous_id"
USER_ID = "htjs_user_id"
# The end of the name of a cookie that the site's server set, out of reach of scripts.
SERVER = "_srvr"
_SESSION = "htjs_sesh"
_CONSENT = "ht-cm-preferences"

# The most characters of an id.
MAX_ID = 255

# Control characters, those of C1 too: an id is shown in logs and terminals.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# The most characters of a cookie as sent; browsers keep no longer ones.
_MAX_COOKIE = 4_096

# Categories of consent that are passed on.
_MAX_CATEGORIES = 100


def parse(header: str) -> dict[str, str]:
    """
    Return the cookies of a `Cookie` header by name, as they were sent.

    If a name appears twice, the first counts: browsers send the more specific path first.
    """
    cookies: dict[str, str] = {}
    for part in header.split(";"):
        name, sign, value = part.partition("=")
        if sign:
            cookies.setdefault(name.strip(), value.strip())
    return cookies


def decoded(cookies: dict[str, str], name: str) -> str | None:
    """Return a cookie's value, percent-decoded once; `None` if it is not UTF-8."""
    value = cookies.get(name)
    if not value or len(value) > _MAX_COOKIE:
        return None
    if "%" not in value and value.isascii():
        return value
    try:
        # Headers are bytes; frameworks pass them on as Latin-1.
        return unquote_to_bytes(value.encode("latin-1")).decode()
    except UnicodeError:
        return None


def visitor_id(cookies: dict[str, str], name: str) -> str | None:
    """Return the id from the browser's cookie of this name, else from the server's."""
    for each in (name, name + SERVER):
        found = _id(decoded(cookies, each))
        if found is not None:
            return found
    return None


def session_id(cookies: dict[str, str]) -> int | str | None:
    """Return the id of the browser SDK's session."""
    found = _json(decoded(cookies, _SESSION))
    value = found.get("id") if isinstance(found, dict) else None
    if type(value) is str:
        return _id(value)
    # Milliseconds since the epoch; a number of another length is refused.
    return value if type(value) is int and 0 <= value < 2**53 else None


def consent(cookies: dict[str, str]) -> dict[str, bool]:
    """Return the categories of the consent manager, and whether each is agreed to."""
    found = _json(decoded(cookies, _CONSENT))
    categories = found.get("custom") if isinstance(found, dict) else None
    if not isinstance(categories, dict) or len(categories) > _MAX_CATEGORIES:
        return {}
    return {name: answer for name, answer in categories.items() if type(answer) is bool}


def _id(value: str | None) -> str | None:
    """Return the value if it can be an id; else `None`."""
    if value and value[0] == value[-1] == '"':
        value = _json(value)
    if type(value) is not str or not 0 < len(value) <= MAX_ID:
        return None
    if _CONTROL.search(value):
        return None
    try:
        value.encode()
    except UnicodeError:  # a lone surrogate, by an escape of JSON's
        return None
    return value


def _json(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
