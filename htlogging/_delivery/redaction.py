"""Removes secrets from a server's texts, in whatever form the server echoes them."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote, unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# Characters. A shorter piece of base64 may be part of an ordinary word.
_LEAST = 8

STRUCK = "***"


class Redaction:
    """
    Removes secrets from texts.

    Args:
        secrets: Texts of printable ASCII; empty ones are ignored.
    """

    def __init__(self, *secrets: str) -> None:
        self._secrets = [secret for secret in secrets if secret]

    def __repr__(self) -> str:
        return f"<Redaction of {len(self._secrets)} secrets>"

    def __call__(self, text: str) -> str | None:
        """Return the text without secrets; `None` if one may be in it in an unknown form."""
        if not self._secrets:
            return text
        forms = {form for secret in self._secrets for form in _forms(secret)}
        # The longest first: one form may be part of another.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        text = re.sub("|".join(map(re.escape, ordered)), STRUCK, text)
        # Encoded more often than a server has reason to: the text is not shown at all.
        plain = text
        for _ in range(3):
            plain = unquote(plain)
        squeezed = re.sub(r"\s", "", plain)
        for secret in self._secrets:
            if secret in plain or secret in squeezed:
                return None
        return text

    def line(self, value: Any, most: int) -> str:
        """Return a str on one line, clipped, without secrets; empty for anything else."""
        if not isinstance(value, str):
            return ""
        # Before it is clipped: the beginning of a key is no better than all of it.
        value = (self(value) or "")[:most]
        return "".join(c if c.isprintable() else " " for c in value).strip()


def _forms(secret: str) -> Iterator[str]:
    """Yield the forms of an echoed secret: as it is, percent-encoded, in base64."""
    for text in (secret, quote(secret, safe="")):
        yield text
        yield re.sub("%..", lambda found: found[0].lower(), text)
    for plain in (f"{secret}:", secret):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(plain.encode()).decode()
            yield encoded
            yield quote(encoded, safe="")
            if len(encoded.rstrip("=")) >= _LEAST or plain.endswith(":"):
                yield encoded.rstrip("=")
    yield from _within_base64(secret.encode())


def _within_base64(secret: bytes) -> Iterator[str]:
    """Yield the parts of a secret that appear in the base64 of a longer text."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret)
        # The first and the last character contain bits of the neighbours.
        first = -(-before * 8 // 6)
        whole = (before + len(secret)) * 8 // 6
        core = encoded[first:whole].decode()
        if len(core) >= _LEAST:
            yield core
            yield core.replace("+", "-").replace("/", "_")
