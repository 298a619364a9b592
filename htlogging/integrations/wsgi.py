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
from htlogging.integrations._request import VISIT, Visit, encoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from typing_extensions import Unpack

    from htlogging.integrations._options import MiddlewareOptions

    Environ = dict[str, Any]
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


class WsgiRequest:
    """A request, read from its environ."""

    __slots__ = ("_environ",)

    def __init__(self, environ: Environ) -> None:
        self._environ = environ

    def header(self, name: str) -> str:
        """Return a header, its lines joined by the server."""
        key = "HTTP_" + name.upper().replace("-", "_")
        return str(self._environ.get(key, ""))

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return str(self._environ.get("wsgi.url_scheme", "http"))

    @property
    def peer(self) -> str:
        """The peer's address."""
        return str(self._environ.get("REMOTE_ADDR") or "")

    @property
    def path(self) -> str:
        """The path with the application's own prefix."""
        environ = self._environ
        path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
        if path.isascii():
            return encoded(path)
        return encoded(path.encode("latin-1", "replace"))

    @property
    def query(self) -> str:
        """The query string."""
        return str(self._environ.get("QUERY_STRING", ""))

    @property
    def server(self) -> str:
        """The server's name and port."""
        environ = self._environ
        name, port = environ.get("SERVER_NAME", ""), environ.get("SERVER_PORT", "")
        return f"{name}:{port}" if port not in ("80", "443") else name
