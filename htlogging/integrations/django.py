"""
Django, sync and async, under WSGI and ASGI.

::

    MIDDLEWARE = ["htlogging.integrations.django.HtEventsMiddleware", ...]
    HTEVENTS_MIDDLEWARE = {"trusted_proxies": 1}    # options, if you need any
"""

from __future__ import annotations

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpResponse
from django.utils.functional import LazyObject, empty

from htlogging._event import bindable
from htlogging._event.bindings import ScopeBlock
from htlogging.exceptions import InvalidField
from htlogging.integrations import _cookie_service
from htlogging.integrations._body import AsyncScopedBody, ScopedBody
from htlogging.integrations._options import Options
from htlogging.integrations._request import WsgiRequest, encoded
from htlogging.integrations._visit import Visit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from django.http import HttpRequest
    from typing_extensions import Unpack

    from htlogging.integrations._options import MiddlewareOptions

__all__ = ["HtEventsMiddleware"]


class HtEventsMiddleware:
    """
    Open a scope for each request, until the end of its response, and bind its visitor.

    It binds what `htlogging.integrations.wsgi` binds. It binds the primary key of the
    authenticated user as `ht_user_id`, once the application has read `request.user` or
    awaited `request.auser()`. The middleware never does that itself: it would read the
    session, query the database and add `Vary: Cookie`. The option `user_id`, a function of
    the request, may do it.

    Put it first in `MIDDLEWARE`. Its options are in the setting `HTEVENTS_MIDDLEWARE`.

    Args:
        get_response: The rest of the application.
        options: Used instead of those in the settings.

    Raises:
        InvalidSetting: An option has the wrong type.
    """

    sync_capable = True
    async_capable = True

    def __init__(
        self, get_response: Callable[..., Any], **options: Unpack[MiddlewareOptions]
    ) -> None:
        self.get_response = get_response
        given = getattr(settings, "HTEVENTS_MIDDLEWARE", None) or {}
        self._options = Options(**{**given, **options})
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Answer in a scope of its own; under ASGI this returns a coroutine."""
        if self._is_async:
            return self._answer_async(request)
        answer = self._cookies(request)
        if answer is not None:
            return answer
        block = self._block(request)
        response = None
        try:
            block.resume()
            response = self.get_response(request)
        finally:
            block.pause()
            _end_with(response, block)
        return response

    async def _answer_async(self, request: HttpRequest) -> Any:
        answer = self._cookies(request)
        if answer is not None:
            return answer
        block = self._block(request)
        response = None
        try:
            block.resume()
            response = await self.get_response(request)
        finally:
            block.pause()
            _end_with(response, block)
        return response

    def _block(self, request: HttpRequest) -> ScopeBlock:
        visit = _DjangoVisit(_DjangoRequest(request), self._options, request)
        return ScopeBlock({}, visit)

    def _cookies(self, request: HttpRequest) -> HttpResponse | None:
        """Answer a request to the cookie service."""
        if self._options.cookie_service is None:
            return None
        answer = _cookie_service.answer(
            _DjangoRequest(request),
            self._options,
            request.path_info,
            request.method or "",
        )
        if answer is None:
            return None
        response = HttpResponse(status=answer.status)
        for name, value in answer.headers:
            if name == "Set-Cookie":
                response.cookies.load(value)
            else:
                response[name] = value
        return response


class _DjangoRequest(WsgiRequest):
    """A request, read from its `META`, which is an environ under ASGI too."""

    __slots__ = ("_request",)

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request.META)
        self._request = request

    @property
    def scheme(self) -> str:
        """`http` or `https`; `SECURE_PROXY_SSL_HEADER` counts."""
        return str(self._request.scheme)

    @property
    def path(self) -> str:
        """The path with the application's own prefix."""
        return encoded(self._request.path)


class _DjangoVisit(Visit):
    """A request's fields, and the user that Django has authenticated so far."""

    __slots__ = ()

    def find(self) -> dict[str, Any]:
        """Find out what is not known yet, and who it is now."""
        fields = super().find()
        if "ht_user_id" in fields:
            return fields
        # Read again for each event: the request may log its user in or out.
        user_id = _loaded_user_id(self._given)
        return fields if user_id is None else {**fields, "ht_user_id": user_id}


def _loaded_user_id(request: HttpRequest) -> Any:
    """Return the id of the user that the application has loaded; else `None`."""
    attributes = request.__dict__
    user = attributes.get("user")
    if isinstance(user, LazyObject):
        user = user._wrapped  # noqa: SLF001
        if user is empty:  # not read yet, or only by `auser()`
            user = attributes.get("_acached_user")
    try:
        if user is None or not user.is_authenticated:
            return None
        bindable.check({"ht_user_id": user.pk})
    except (AttributeError, InvalidField):  # a user model of the application's own
        return None
    return user.pk


def _end_with(response: Any, block: ScopeBlock) -> None:
    """End the scope when the response is sent; a complete one counts as sent."""
    if not getattr(response, "streaming", False) or (
        # The server sends a file by itself.
        getattr(response, "file_to_stream", None) is not None
    ):
        block.end()
        return
    # Code that runs when the response is closed, such as a generator's `finally`, belongs
    # to it.
    closers = response._resource_closers  # noqa: SLF001
    closers[:] = [_within(block, close) for close in closers]
    if response.is_async:
        # Not `streaming_content`: that is a generator around it which does not close it.
        parts = response._iterator  # noqa: SLF001
        response.streaming_content = AsyncScopedBody(parts, block)
    else:
        response.streaming_content = ScopedBody(response.streaming_content, block)


def _within(block: ScopeBlock, function: Callable[[], object]) -> Callable[[], None]:
    def call() -> None:
        try:
            block.resume()
            function()
        finally:
            block.pause()

    return call
