"""
The project's settings; the three parts that are about events say so.

    export HTEVENTS_WRITE_KEY=...
    gunicorn shop.wsgi                     # or: uvicorn shop.asgi:application
"""

import os
from pathlib import Path
from typing import Any

SECRET_KEY = os.environ.get("SECRET_KEY", "only for a look at it")
DEBUG = "DEBUG" in os.environ
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
ROOT_URLCONF = "shop.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(__file__).parent.parent / "shop.sqlite3",
    }
}

# Events 1: the middleware, before all others. It binds who and where the visitor is.
MIDDLEWARE = [
    "htlogging.integrations.django.HtEventsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]

# Events 2: how it reads requests. One proxy before this server would be 1.
HTEVENTS_MIDDLEWARE = {"trusted_proxies": 0, "cookie_service": "/ht"}

# Events 3: a handler of the logger `htevents`. Without a key, on a developer's machine or
# in `manage.py check`, nothing is sent.
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        "console": {"class": "logging.StreamHandler"},
        "htevents": {
            "()": "htlogging.HtEventsHandler",
            "send": "HTEVENTS_WRITE_KEY" in os.environ,
        },
    },
    "loggers": {
        "htevents": {"handlers": ["htevents"], "level": "INFO", "propagate": False},
        "htlogging": {"handlers": ["console"], "level": "WARNING"},
    },
}
