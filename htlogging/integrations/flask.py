"""
Flask.

::

    from htlogging.integrations.flask import HtEvents

    HtEvents(app)
"""

from __future__ import annotations

from htlogging.integrations._options import Options
from htlogging.integrations.wsgi import HtEventsMiddleware

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flask import Flask
    from typing_extensions import Unpack

    from htlogging.integrations._options import MiddlewareOptions

__all__ = ["HtEvents"]

_NAME = "htevents"


class HtEvents:
    """
    Open a scope for each request of a Flask application, and bind its visitor.

    The extension is the WSGI middleware, put around `app.wsgi_app`.

    Args:
        app: The application; without it, call `init_app` later.
        options: As for `htlogging.integrations.wsgi`.

    Raises:
        InvalidSetting: An option has the wrong type.
    """

    def __init__(
        self, app: Flask | None = None, **options: Unpack[MiddlewareOptions]
    ) -> None:
        Options(**options)  # so that a mistake shows here, also without an application
        self._given = options
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Install it in an application; a second time does nothing."""
        if _NAME not in app.extensions:
            app.extensions[_NAME] = self
            middleware = HtEventsMiddleware(app.wsgi_app, **self._given)
            app.wsgi_app = middleware
