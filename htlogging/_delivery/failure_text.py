"""What log lines say of a batch that did not get through."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging.exceptions import DeliveryError


def reason(failure: DeliveryError, host: str) -> str:
    """Return the text for logs, without the server's sentence, which may quote an event."""
    status = failure.status
    tries = f"({failure.code}, tries: {failure.tries})"
    if failure.code.startswith("oauth."):
        # The refusing side has seen no event, and its sentence contains no secrets.
        return f"for {host}: {failure.message} {tries}"
    if status is None:
        at = f"{host}: " if failure.code == "network" else f"for {host}: "
        return f"{at}{failure.message} {tries}"
    question = _QUESTIONS.get(status) or _QUESTIONS.get(status // 100, "")
    return f"HTTP {status} from {host}{question} {tries}"


# What to check, by an answer's status or its first digit.
_QUESTIONS = {
    401: ": is the write key right?",
    403: ": is the write key right, and of this workspace?",
    404: ": is the path of host right?",
    407: ": a proxy wants a user and a password; set them in proxies",
    413: ": the event is too large for the server",
    304: ": no answer to a POST; is host right?",
    3: ": a redirect is never followed; set host to where it leads",
    400: ": the server finds the event invalid",
    422: ": the server finds the event invalid",
    4: ": the server refuses such requests; is host right?",
    5: ": the server has a fault",
}


def cause(failure: DeliveryError) -> str:
    """Return the reason in a few words."""
    return failure.message if failure.status is None else f"HTTP {failure.status}"
