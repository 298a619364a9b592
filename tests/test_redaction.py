"""No form in which a server echoes a secret passes."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote

import pytest

from htlogging._delivery.redaction import Redaction


def b64(text):
    """Return a text in base64."""
    return base64.b64encode(text.encode()).decode()


FORMS = {
    "bare": lambda key: key,
    "percent": lambda key: quote(key, safe=""),
    "percent, small": lambda key: quote(key, safe="").lower(),
    "percent, all of it": lambda key: "".join(f"%{ord(c):02X}" for c in key),
    "percent, twice": lambda key: quote(quote(key, safe=""), safe=""),
    "header": lambda key: b64(f"{key}:"),
    "header, unpadded": lambda key: b64(f"{key}:").rstrip("="),
    "header, percent": lambda key: quote(b64(f"{key}:"), safe=""),
    "base64": b64,
    "base64, unpadded": lambda key: b64(key).rstrip("="),
    "base64, of URLs": lambda key: b64(key).replace("+", "-").replace("/", "_"),
    "within base64": lambda key: b64(f'{{"writeKey":"{key}"}}'),
    "one further": lambda key: b64(f'{{"aWriteKey":"{key}"}}'),
    "two further": lambda key: b64(f'{{"anWriteKey":"{key}"}}'),
    "in two lines": lambda key: key[:5] + "\n" + key[5:],
    "spelt": ".".join,
    "zero width": "\u200b".join,
    "quoted in parts": lambda key: f"{key[:5]}' + '{key[5:]}",
    "another case": str.swapcase,
    "another width": lambda key: "".join(
        chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in key
    ),
    "a mark": lambda key: f"{key[:5]}\u0301{key[5:]}",
    "hex": lambda key: key.encode().hex(),
    "hex, capitals": lambda key: key.encode().hex().upper(),
    "hex, spaced": lambda key: key.encode().hex(" "),
    "numbers": lambda key: str(list(key.encode())),
    "characters": lambda key: str(list(key)),
    "JSON": json.dumps,
    "JSON, twice": lambda key: json.dumps(json.dumps(key)),
    "JSON, slashes": lambda key: json.dumps(key).replace("/", "\\/"),
    "JSON, escapes": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "Python": lambda key: "".join(f"\\x{ord(c):02x}" for c in key),
    "URL, escapes": lambda key: "".join(f"%u{ord(c):04X}" for c in key),
    "HTML": html.escape,
    "HTML, numbers": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "HTML, hex": lambda key: "".join(f"&#x{ord(c):x};" for c in key),
    "header in two lines": lambda key: b64(f"{key}:")[:6] + "\n" + b64(f"{key}:")[6:],
    "header in base64": lambda key: b64(b64(f"{key}:")),
}
KEYS = [
    "s3cr3t-k3y",
    "a+b/c=d%e&f??>>~~",
    "0123456789abcdef0123456789abcdef",
    'wk"q\\u/<&>k3y=x',
]


class TestRedaction:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("key", KEYS)
    def test_forms(self, form, key):
        """Each is struck out, or the text is not told at all."""
        if form == "percent, small" and key != quote(key, safe="").lower():
            key = key.lower()
        echoed = FORMS[form](key)
        said = Redaction("another-secret", key)(f"the key {echoed} is wrong")
        if said is not None:
            assert said.startswith("the key ")
            assert said.endswith(" is wrong")
            middle = said[len("the key ") : -len(" is wrong")].strip('"\\')
            assert "***" in middle
            # Of base64 the ends may stay: they hold bits of what is around the key.
            assert len(middle) < 3 + len(echoed) - len(key) or middle == "***"

    @pytest.mark.parametrize("text", ["", "No.", "100% of S0VZ", "a%zz"])
    def test_innocent(self, text):
        """What holds no secret stays as it is."""
        assert Redaction("s3cr3t-k3y", "")(text) == text

    @pytest.mark.parametrize("part", [slice(20), slice(12, None), slice(5, 25)])
    def test_part(self, part):
        """Nor does half of one or more, as servers show its beginning; less may pass."""
        key = KEYS[2]
        said = Redaction(key)(f"no such key: {key[part]}... (of {key[:4]}...)")
        assert said == f"no such key: ***... (of {key[:4]}...)"

    def test_no_secret(self):
        """Without a secret nothing is struck out."""
        assert Redaction("")("*** KEY") == "*** KEY"

    def test_repr(self):
        """It does not show what it strikes out."""
        assert repr(Redaction("s3cr3t")) == "<Redaction of 1 secrets>"
