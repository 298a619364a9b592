"""Removes secrets from a server's texts, in whatever form the server echoes them."""

from __future__ import annotations

import base64
import re
import unicodedata
from itertools import groupby
from urllib.parse import quote, unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# Characters. A shorter piece of base64, or a secret without its punctuation, may be part of
# ordinary words.
_LEAST, _LEAST_PLAIN = 8, 6

# A character by its number: JSON's, JavaScript's for URLs, Python's. A pattern, compiled
# when it is used.
_ESCAPE = r"(?:\\u|%u)([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})"

STRUCK = "***"

# The most characters of a server's text that are passed on.
MAX_TEXT = 200


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
        # Encoded or split in a way that a server has no reason for: not shown at all.
        cores = {core for secret in self._secrets for core in _cores(secret)}
        plain = text
        for _ in range(3):
            letters = _letters(plain)
            if any(core in letters for core in cores):
                return None
            plain = _decoded(plain)
            squeezed = "".join(c for c in plain if c.isprintable() and c != " ")
            for secret in self._secrets:
                if secret in plain or secret in squeezed:
                    return None
        for secret in self._secrets:
            text = _without_parts(text, secret)
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


def _without_parts(text: str, secret: str) -> str:
    """Strike what a server shows of half a secret or more, such as its beginning."""
    least = max(_LEAST, len(secret) // 2)
    parts = {secret[at : at + least] for at in range(len(secret) - least + 1)}
    hidden = [False] * len(text)
    for at in range(len(text) - least + 1):
        if text[at : at + least] in parts:
            hidden[at : at + least] = [True] * least
    if not any(hidden):
        return text
    shown = groupby(zip(text, hidden, strict=True), key=lambda pair: pair[1])
    return "".join(
        STRUCK if is_hidden else "".join(c for c, _ in pairs)
        for is_hidden, pairs in shown
    )


def _decoded(text: str) -> str:
    """Return a text without one layer of escapes: of URLs, HTML, JSON and Python."""
    import html  # late: it is large, and few answers are refusals

    text = unquote(html.unescape(text))
    text = re.sub(_ESCAPE, lambda found: chr(int(found[1] or found[2], 16)), text)
    text = re.sub(r"\\([\"'\\/])", r"\1", text)
    # Letters of other widths and with marks.
    return unicodedata.normalize("NFKD", text)


def _letters(text: str) -> str:
    """Return the ASCII letters and digits of a text, in small letters."""
    return re.sub("[^a-z0-9]", "", text.lower())


def _cores(secret: str) -> Iterator[str]:
    """Yield what `_letters` leaves of a secret in the forms that it may have."""
    encoded = secret.encode()
    twice = base64.b64encode(f"{secret}:".encode())
    forms = [encoded.hex(), "".join(map(str, encoded))]
    forms += [*_within_base64(encoded), *_within_base64(twice.rstrip(b"="))]
    for form, least in ((secret, _LEAST_PLAIN), *((form, _LEAST) for form in forms)):
        core = _letters(form)
        if len(core) >= least:
            yield core


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
