"""A request → its events, their problems, and the usual answer."""

from __future__ import annotations

from http import HTTPStatus

from htlogging._event import validation
from htlogging._settings import MAX_BODY_EVENTS
from htlogging.collector import _guard, _protocol
from htlogging.collector._messages import Problem, Reply, Request, answer_body

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging.collector._messages import Arrival
    from htlogging.collector._token import Tokens


def request_of(arrival: Arrival) -> Request:
    """Return a request as it came in; `evaluate` fills in the rest."""
    return Request(
        arrival.method,
        arrival.path,
        arrival.headers,
        arrival.raw,
        arrival.arrived,
        arrival.connection,
    )


def evaluate(
    request: Request, write_key: str | None, tokens: Tokens | None, *, complete: bool
) -> Reply:
    """
    Fill in the request's fields, and return its usual answer.

    Args:
        request: As it came in.
        write_key: The only key that is accepted; `None` accepts any.
        tokens: Knows the valid tokens, where OAuth is asked for.
        complete: Whether the body came to the end that its head promised.
    """
    try:
        try:
            if _is_preflight(request):
                headers = _guard.cors(request.headers, preflight=True)
                return Reply(204, headers=headers)
            _read(request, write_key, tokens, complete=complete)
        except RecursionError:
            message = "the body is nested too deeply"
            raise _protocol.Refused(400, "invalid_json", message) from None
    except _protocol.Refused as exc:
        request.problems.append(Problem(f"{exc.code}: {exc.message}"))
        body = answer_body(exc.status, exc.code, exc.message)
        headers = (
            {"Allow": "POST"} if exc.status == HTTPStatus.METHOD_NOT_ALLOWED else {}
        )
        return Reply(exc.status, body=body, headers=headers)
    return Reply(200, body=answer_body(200))


def _is_preflight(request: Request) -> bool:
    """Return whether a browser asks if it may send; refuse who must not."""
    why = _guard.why_refused(request.headers, same_origin=False)
    if why is not None:
        raise _protocol.Refused(403, "forbidden", why)
    return (
        request.method == "OPTIONS"
        and request.headers.get("Access-Control-Request-Method") == "POST"
        and _protocol.endpoint(request.path) is not None
    )


def _read(
    request: Request, write_key: str | None, tokens: Tokens | None, *, complete: bool
) -> None:
    kind = _protocol.endpoint(request.path)
    if kind is None:
        raise _protocol.Refused(404, "not_found", "the path is unknown")
    if request.method != "POST":
        raise _protocol.Refused(405, "method_not_allowed", "send events with POST")
    if not complete:
        raise _protocol.Refused(
            411,
            "length_required",
            "the request needs a length, and that many bytes",
        )
    headers = request.headers
    if _guard.is_simple(headers):
        why = "a page must send application/json, which browsers ask for first"
        raise _protocol.Refused(403, "forbidden", why)
    request.body = _protocol.decompress(request.raw, headers.get("Content-Encoding"))
    said = _protocol.parse(request.body)
    request.write_key = _protocol.write_key(headers.get("Authorization"), said)
    if write_key not in (None, request.write_key):
        raise _protocol.Refused(401, "unauthorized", "the write key is wrong")
    if tokens and not tokens.knows(headers.get("Authorization")):
        raise _protocol.Refused(401, "unauthorized", "the token is not valid")
    events = _protocol.events(kind, said, request.body)
    request.events = events[:MAX_BODY_EVENTS]
    sent_at = said.get("sentAt")
    request.sent_at = sent_at if isinstance(sent_at, str) else None
    texts = validation.request_problems(
        len(events), sent_at, headers.get("Content-Type")
    )
    request.problems += [Problem(text) for text in texts]
    for event in request.events:
        texts = validation.problems(event, kind)
        request.problems += [Problem(text, event) for text in texts]
