"""
For `uvicorn shop.asgi:application`.

Django has no part in a server's end. The middleware has, and delivers what waits.
"""

import os

from django.core.asgi import get_asgi_application

from htlogging.integrations.asgi import HtEventsMiddleware

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = HtEventsMiddleware(get_asgi_application())
