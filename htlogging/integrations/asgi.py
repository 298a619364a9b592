"""
Any ASGI application: FastAPI, Starlette, Litestar, Quart, Django.

::

    from htlogging.integrations.asgi import HtEventsMiddleware

    app = HtEventsMiddleware(app)                  # around any application
    app.add_middleware(HtEventsMiddleware)         # FastAPI, Starlette
"""

from __future__ import annotations

from htlogging._event.bindings import ScopeBlock
from htlogging.integrations import _cookie_service
from htlogging.integrations._delivery import deliver_async
from htlogging.integrations._options import Options
from htlogging.integrations._request import AsgiRequest
from htlogging.integrations._visit import VISIT, Visit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from typing import Any

    from typing_extensions import Unpack

    from htlogging.integrations._options import MiddlewareOptions
    from htlogging.integrations._request import Scope

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["HtEventsMiddleware"]


class HtEventsMiddleware:
    """
    Open a scope for each request and websocket, and bind its visitor.

    It binds what `htlogging.integrations.wsgi` binds. When the server stops, at the end of
    the lifespan, it delivers all events while the event loop keeps running. That works for
    an application without a lifespan, too.

    Args:
        app: The application.
        options: As for WSGI; `user_id` gets the scope.

    Raises:
        InvalidSetting: An option has the wrong type.
    """

    def __init__(self, app: Application, **options: Unpack[MiddlewareOptions]) -> None:
        self.app = app
        self._options = Options(**options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application in a scope of its own."""
        kind = scope["type"]
        if kind == "lifespan":
            await _Lifespan(self.app, receive, send).run(scope)
            return
        if kind not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        options, request = self._options, AsgiRequest(scope)
        if options.cookie_service is not None and kind == "http":
            path, method = _below(scope), scope["method"]
            answer = _cookie_service.answer(request, options, path, method)
            if answer is not None:
                await _send(send, answer)
                return
        known = scope.get(VISIT)
        if known is not None and known.joined_by(options):
            await self.app(scope, receive, send)
            return
        # In place: middlewares outside of this one read what routers put into the scope.
        visit = scope[VISIT] = Visit(request, options, scope)
        with ScopeBlock({}, visit):
            await self.app(scope, receive, send)


def _below(scope: Scope) -> str:
    """Return the path below where the application is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if path.startswith(f"{root}/") else path


async def _send(send: Send, answer: _cookie_service.Answer) -> None:
    headers = [(n.lower().encode(), v.encode("latin-1")) for n, v in answer.headers]
    await send(
        {"type": "http.response.start", "status": answer.status, "headers": headers}
    )
    await send({"type": "http.response.body", "body": b""})


class _Lifespan:
    """A server's lifespan; it ends when all events are delivered."""

    def __init__(self, app: Application, receive: Receive, send: Send) -> None:
        self._app = app
        self._receive = receive
        self._send = send
        self._begun = False

    async def run(self, scope: Scope) -> None:
        """Pass it to the application; answer for an application that has none."""
        try:
            await self._app(scope, self._receive_for, self._send_for)
        except Exception:
            # If it had begun, this is a real error. Django, for example, refuses at once.
            if self._begun:
                raise
        if not self._begun:
            await self._stand_in()

    async def _receive_for(self) -> Message:
        self._begun = True
        return await self._receive()

    async def _send_for(self, message: Message) -> None:
        self._begun = True
        if message["type"].startswith("lifespan.shutdown."):
            await deliver_async()
        await self._send(message)

    async def _stand_in(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "lifespan.shutdown":
                await deliver_async()
            await self._send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
