"""A FastAPI application whose endpoints make events in all the ways there are."""

import asyncio
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, Header, WebSocket
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware

from htlogging import bind, htevents
from htlogging.integrations.asgi import HtEventsMiddleware

User = Annotated[str, Header(alias="X-User")]

app = FastAPI()


async def afterwards(request, call_next):
    """Make an event when the endpoint is done, with what it bound."""
    response = await call_next(request)
    if request.headers.get("X-After"):
        of = request.headers.get("X-User")
        htevents.track(event="after", properties={"of": of})
    return response


app.add_middleware(BaseHTTPMiddleware, dispatch=afterwards)
app.add_middleware(HtEventsMiddleware, cookie_service="/ht")


def track(name, user):
    """Make an event that says whose it should be."""
    htevents.track(event=name, properties={"of": user})


def known(user: User):
    """Bind the user, on a thread."""
    bind(ht_user_id=user)
    return user


def known_for_a_while(user: User):
    """Bind the user, on a thread; at the end make an event on another."""
    bind(ht_user_id=user)
    yield user
    track("dependency end", user)


@app.get("/sync")
def sync(user: User):
    """Make an event on a thread."""
    bind(ht_user_id=user)
    track("sync", user)


@app.get("/coroutine")
async def coroutine(user: User):
    """Make an event in the event loop, and one in a task and on a thread."""
    await asyncio.sleep(0)
    bind(ht_user_id=user)
    await asyncio.sleep(0)
    track("coroutine", user)
    await asyncio.create_task(asyncio.to_thread(track, "thread", user))


@app.get("/dependency")
async def dependency(user: Annotated[str, Depends(known)]):
    """Make an event of whom a dependency bound on a thread."""
    track("dependency", user)


@app.get("/sync_dependency")
def sync_dependency(user: Annotated[str, Depends(known)]):
    """Do the same on a thread."""
    track("sync dependency", user)


@app.get("/yields")
async def yields(user: Annotated[str, Depends(known_for_a_while)]):
    """Do the same where the dependency has a `yield`."""
    track("yields", user)


@app.get("/stream")
async def stream(user: User):
    """Make an event between the parts of a response."""

    async def parts():
        yield "a"
        bind(ht_user_id=user)
        await asyncio.sleep(0)
        track("stream", user)
        yield "b"

    return StreamingResponse(parts())


@app.get("/sync_stream")
def sync_stream(user: User):
    """Do the same on threads."""
    bind(ht_user_id=user)

    def parts():
        yield "a"
        track("sync stream", user)
        yield "b"

    return StreamingResponse(parts())


@app.get("/background")
def background(user: User, tasks: BackgroundTasks):
    """Make events when the response has been sent."""

    async def later():
        track("background", user)

    bind(ht_user_id=user)
    tasks.add_task(track, "sync background", user)
    tasks.add_task(later)


@app.get("/executor")
async def executor():
    """Return what an executor's thread sees: asyncio does not take the context there."""
    from htlogging import get

    bind(a=1)
    loop = asyncio.get_running_loop()
    return [(await loop.run_in_executor(None, get)).get("a"), get()["a"]]


@app.websocket("/talk")
async def talk(websocket: WebSocket):
    """Make an event for each message."""
    await websocket.accept()
    user = websocket.headers["X-User"]
    bind(ht_user_id=user)
    async for text in websocket.iter_text():
        htevents.track(event="said", properties={"of": user, "text": text})
        await websocket.send_text(text)
