"""The assertion that asks for an OAuth token, signed by the client's key (RFC 7523)."""

from __future__ import annotations

import base64
import json
import uuid
from contextlib import suppress

from htlogging.exceptions import InvalidSetting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Seconds. An assertion begins this long before now, and ends this long after now, as in the
# vendor's SDK.
EARLIER = 5
VALID = 55

# The most bytes that are read of a key's file.
_MAX_PEM = 65_536


class Signer:
    """
    A client and its key.

    Args:
        client_id: The client's id.
        key_id: The `kid` of its key.
        pem: The key.

    Raises:
        InvalidSetting: The key is invalid, or `cryptography` is not installed.
    """

    def __init__(self, client_id: str, key_id: str, pem: bytes) -> None:
        self._client_id = client_id
        self._key_id = key_id
        self._key = _private_key(pem)

    def assertion(self, server: str, now: float) -> str:
        """
        Return an assertion that is valid for a minute.

        Args:
            server: The URL of the server that it is for.
            now: Seconds since 1970 by the server's clock.
        """
        header = {"alg": "RS256", "kid": self._key_id, "typ": "JWT"}
        claims = {
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": server,
            "iat": int(now) - EARLIER,
            "exp": int(now) + VALID,
            "jti": str(uuid.uuid4()),
        }
        parts = [_base64(json.dumps(part).encode()) for part in (header, claims)]
        signed = ".".join(parts)
        return f"{signed}.{_base64(self._sign(signed.encode()))}"

    def _sign(self, data: bytes) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        return bytes(self._key.sign(data, padding.PKCS1v15(), hashes.SHA256()))


def read_pem(key: str) -> bytes:
    """
    Return the PEM of a key that is given as a text or as a path.

    Raises:
        InvalidSetting: It is a path, and the file cannot be read.
    """
    if "-----BEGIN" in key:
        # In an environment variable line breaks may be escaped.
        return key.replace("\\n", "\n").encode()
    try:
        with open(key, "rb") as file:
            return file.read(_MAX_PEM)
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not a path"
    # Not in the except block: the error there contains the text, which may be a key.
    raise InvalidSetting(
        "oauth_client_key must be a PEM text (-----BEGIN PRIVATE KEY-----) or the path "
        f"of a file with one; no such file can be read: {why}"
    )


def _private_key(pem: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa
    except ImportError:
        raise InvalidSetting(
            "OAuth needs the package cryptography: pip install 'htlogging[oauth]'"
        ) from None
    key: Any = None
    # ValueError, TypeError, UnsupportedAlgorithm and others; their text may quote the key.
    with suppress(Exception):
        key = serialization.load_pem_private_key(pem, None)
    if isinstance(key, rsa.RSAPrivateKey):
        return key
    why = "is not a PEM private key without a password"
    if key is not None:
        why = "is a key of another kind than RSA"
    raise InvalidSetting(
        f"oauth_client_key {why}; give the RSA private key that belongs to oauth_key_id, "
        "as PEM text or as the path of its file"
    )


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
