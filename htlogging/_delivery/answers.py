"""What the body of an answer says. It decides nothing: only the status does."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress

from htlogging._delivery.redaction import MAX_TEXT
from htlogging._delivery.retry import is_success
from htlogging._process.lines import doubtful

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from htlogging._delivery.redaction import Redaction

# The form of a real `code` in an answer.
_WORD = r"[\w.*-]+"

# How the names of Hightouch's hosts end.
_VENDOR = ".hightouch-events.com"

# The process whose first answer has been checked.
_checked = 0


def check_first(host: str, status: int, text: bytes) -> None:
    """
    Warn about the first 2xx of a process if it is text but not JSON, from Hightouch's host.

    It counts as delivered all the same, because answers are undocumented. But the network
    of a hotel answers every request like this, with its login page.
    """
    global _checked  # noqa: PLW0603
    if _checked == os.getpid() or not is_success(status):
        return
    _checked = os.getpid()
    if f".{_name_of(host)}".endswith(_VENDOR) and text:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            doubtful(host)


def _name_of(host: str) -> str:
    """Return the name in a host, in small letters."""
    rest = host.lower().partition("://")[2]
    return rest.partition("/")[0].partition(":")[0].rstrip(".")


def explain(status: int, text: bytes, redact: Redaction) -> tuple[str, str]:
    """Return the code and the sentence of an answer, whose form is undocumented."""
    said: Any = None
    code, message = str(status), f"the server refused with status {status}"
    with suppress(ValueError, RecursionError):
        said = json.loads(text)
    if isinstance(said, dict):
        word = redact.line(said.get("code"), MAX_TEXT)
        # A word goes to the log, too; a sentence might quote an event.
        # Words that begin like this are our own, for answers of an OAuth server.
        if re.fullmatch(_WORD, word, re.ASCII) and not word.startswith("oauth."):
            code = word
        message = (
            redact.line(said.get("message"), MAX_TEXT)
            or redact.line(said.get("error"), MAX_TEXT)
            or message
        )
    return code, message
