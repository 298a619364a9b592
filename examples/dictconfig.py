"""
Log events by plain logging: to Hightouch, and to the console as well.

In one terminal::

    python -m htlogging collect

and in another::

    export HTEVENTS_HOST=http://127.0.0.1:8765 HTEVENTS_WRITE_KEY=anything
    python examples/dictconfig.py

Without HTEVENTS_HOST, and with a key of yours, the events go to Hightouch.
"""

from __future__ import annotations

import logging.config

import htlogging

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(levelname)s %(name)s: %(message)s"},
        "event": {"()": "htlogging.HtEventsFormatter"},
    },
    "handlers": {
        # Key and host come from the environment; you can give both here instead.
        "htevents": {"()": "htlogging.HtEventsHandler", "upload_interval": 0.2},
        # The same events as JSON on stdout, for example for a log shipper.
        "events": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stdout",
            "formatter": "event",
        },
        "console": {"class": "logging.StreamHandler", "formatter": "line"},
    },
    "loggers": {
        # A logger of its own: each of its records is an event.
        "htevents": {
            "handlers": ["htevents", "events"],
            "level": "INFO",
            "propagate": False,
        },
    },
    # All other records come here: those with an `ht_` field are events, too.
    "root": {"handlers": ["htevents", "console"], "level": "INFO"},
}

events = logging.getLogger("htevents")
log = logging.getLogger("shop")


def checkout(user_id: str, order_id: int, total: float) -> None:
    """Handle a request: bind the user once, then log."""
    with htlogging.bound(ht_user_id=user_id, order_id=order_id):
        events.info("Checkout Started", extra={"total": total})
        log.info("paid %.2f", total)  # no event
        # The message without its arguments names the event; `ht_event` gives another name.
        events.info("Order Completed", extra={"total": total, "currency": "GBP"})
        log.info("mailing %s", user_id, extra={"ht_event": "Receipt Mailed"})


def sign_up(user_id: str) -> None:
    """Log the other types of events; `extra` refuses `name`, `ht_traits` accepts it."""
    events.info(
        "signed up",
        extra={
            "ht_type": "identify",
            "ht_user_id": user_id,
            "ht_traits": {"name": "Zoë", "plan": "pro"},
        },
    )
    events.info(
        "welcome page",
        extra={"ht_type": "page", "ht_user_id": user_id, "ht_name": "Welcome"},
    )


if __name__ == "__main__":
    logging.config.dictConfig(LOGGING)
    sign_up("user123")
    checkout("user123", 536365, 15.3)
    # No flush: queued events are delivered at exit.
