"""
Any WSGI application.

::

    from htlogging.integrations.wsgi import HtEventsMiddleware

    application = HtEventsMiddleware(application)
"""

from __future__ import annotations

from htlogging._event.bindings import ScopeBlock
from htlogging.integrations import _cookie_service
from htlogging.integrations._body import ScopedBody
from htlogging.integrations._options import Options
from htlogging.integrations._request import WsgiRequest
from htlogging.integrations._visit import VISIT, Visit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from typing_extensions import Unpack

    from htlogging.integrations._options import MiddlewareOptions
    from htlogging.integrations._request import Environ

    StartResponse = Callable[..., Any]
    Application = Callable[[Environ, StartResponse], Iterable[bytes]]

__all__ = ["HtEventsMiddleware"]


class HtEventsMiddleware:
    """
    Open a scope for each request, until the end of its response, and bind its visitor.

    It binds `ht_context` (`ip`, `userAgent`, `locale`, `page`, `sessionId`, `consent`),
    `ht_anonymous_id` from the browser SDK's cookie, and `ht_user_id` if the option
    `user_id` returns one. They are read when the first event needs them.

    Args:
        app: The application.
        options: `trusted_proxies`, `query`, `user_id`, `cookie_service` and
            `cookie_domain`: see docs/servers.md. `user_id` gets the environ.

    Raises:
        InvalidSetting: An option has the wrong type.
    """

    def __init__(self, app: Application, **options: Unpack[MiddlewareOptions]) -> None:
        self.app = app
        self._options = Options(**options)

    def __call__(
        self, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Run the application in a scope of its own."""
        options, request = self._options, WsgiRequest(environ)
        if options.cookie_service is not None:
            path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
            answer = _cookie_service.answer(request, options, path, method)
            if answer is not None:
                start_response(f"{answer.status} {answer.reason}", answer.headers)
                return []
        known = environ.get(VISIT)
        if known is not None and known.joined_by(options):
            return self.app(environ, start_response)
        visit = environ[VISIT] = Visit(request, options, environ)
        block = ScopeBlock({}, visit)
        try:
            block.resume()
            body = self.app(environ, start_response)
        except BaseException:
            block.pause()
            block.end()
            raise
        block.pause()
        # Complete, or a file that the server sends itself: servers check its type.
        if type(body) in (list, tuple, environ.get("wsgi.file_wrapper")):
            block.end()
            return body
        return ScopedBody(body, block)
