"""Errors of `requests` → `Unreachable`, with the reason in a few words."""

from __future__ import annotations

import os
import re

from htlogging._delivery.exchange import Unreachable


def unreachable(exc: Exception, *, used: bool) -> Unreachable:
    """
    Return the error that is raised instead.

    Args:
        exc: The error that a request raised.
        used: Whether its connection had been used before.
    """
    # A function of its own: an error in a local variable of `post` would make a cycle, and
    # its connection would stay open until the garbage collector runs.
    chain = causes(exc)
    stale = used and isinstance(chain[-1], _disconnects())
    return Unreachable(_reason(chain), stale=stale, cut=_is_cut(chain))


def _is_cut(chain: list[BaseException]) -> bool:
    """Return whether a connection that stood was cut, or had no answer in time."""
    from urllib3.exceptions import ProtocolError, ReadTimeoutError

    return any(isinstance(exc, (ProtocolError, ReadTimeoutError)) for exc in chain)


def _disconnects() -> tuple[type[Exception], ...]:
    """Return the errors of a kept connection that the server has closed."""
    import ssl

    # RemoteDisconnected is a ConnectionResetError. A refused connection is different.
    return (
        ConnectionResetError,
        ConnectionAbortedError,
        BrokenPipeError,
        ssl.SSLEOFError,
    )


def causes(exc: BaseException) -> list[BaseException]:
    """Return an error and its causes, the innermost last."""
    chain = [exc]
    # urllib3 keeps the cause in `reason`, or as the last argument of the error that is the
    # first argument of requests' error.
    for _ in range(8):
        last = chain[-1]
        found = [
            inner
            for inner in (getattr(last, "reason", None), *reversed(last.args))
            if isinstance(inner, BaseException)
        ]
        inner = found[0] if found else last.__cause__
        if inner is None and type(last).__module__.startswith("urllib3."):
            # urllib3 before 2.0 raises without `from`. The context of another error may be
            # the application's.
            inner = last.__context__
        if inner is None:
            break
        chain.append(inner)
    return chain


def _reason(causes: list[BaseException]) -> str:
    """
    Return in a few words why there was no answer.

    Never the whole `str(exc)`: it contains the address, and a proxy's password.
    """
    import socket
    import ssl

    first, last = type(causes[0]).__name__, causes[-1]
    if isinstance(last, ssl.SSLCertVerificationError):
        # The part after the comma names the host.
        return f"{first}: {last.verify_message.partition(',')[0]}"
    if isinstance(last, ssl.SSLError):
        return f"{first}: {last.reason}"
    if isinstance(last, socket.gaierror):
        return f"{first}: the host's name is not known"
    if isinstance(last, OSError) and last.errno:
        return f"{first}: {os.strerror(last.errno)}"
    tunnel = re.match(r"Tunnel connection failed: ([0-9]{3})", str(last))
    if tunnel:
        return f"{first}: the proxy answered {tunnel[1]}"
    name = type(last).__name__
    return first if name == first else f"{first}: {name}"
