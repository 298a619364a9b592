"""
A shop in FastAPI whose endpoints log events.

    export HTEVENTS_WRITE_KEY=...
    uvicorn main:app
"""

import logging.config
import os
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, Header

import htlogging
from htlogging.integrations.asgi import HtEventsMiddleware

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "htevents": {
                "()": "htlogging.HtEventsHandler",
                # Without a key, on a developer's machine, nothing is sent.
                "send": "HTEVENTS_WRITE_KEY" in os.environ,
            }
        },
        "loggers": {
            "htevents": {"handlers": ["htevents"], "level": "INFO", "propagate": False}
        },
    }
)
log = logging.getLogger("htevents")

app = FastAPI()
app.add_middleware(HtEventsMiddleware, cookie_service="/ht")


def current_user(authorization: Annotated[str, Header()]) -> str:
    """
    Return who has sent a token, and bind that for the rest of the request.

    FastAPI runs this on a thread. What it binds is seen by the endpoint all the same.
    """
    user = authorization.removeprefix("Bearer ")  # a real shop verifies it
    htlogging.bind(ht_user_id=user)
    return user


User = Annotated[str, Depends(current_user)]


@app.post("/buy")
async def buy(user: User, total: float, tasks: BackgroundTasks) -> dict[str, str]:
    """Take an order, and send the receipt when the answer is sent."""
    log.info("Order completed", extra={"total": total})
    tasks.add_task(mail_receipt)
    return {"thank": user}


def mail_receipt() -> None:
    """Send the receipt: still the same request's scope."""
    log.info("Receipt mailed")
