"""
Measure what a middleware costs a request, and real applications with and without.

    pip install '.[bench,servers,fast]'
    python tests/benchmarks/middlewares.py [--seconds N]

The first table is microseconds that each middleware adds to a request: without an event,
and with a first one, which has the request read. The second is requests per second of CPU
time, sending threads included, of a FastAPI and a Django application, called in this
process without a network, that makes five events in each request; PostHog's and Sentry's
middlewares beside ours. Each figure is of processes of their own, with a sink for the
events in another; of three the best.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from wsgiref.util import setup_testing_defaults

HERE = Path(__file__).parent
EVENTS = 5
HEADERS = {
    "host": "shop.example",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0",
    "accept-language": "en-GB,en;q=0.9,de;q=0.8",
    "referer": "https://shop.example/basket",
    "cookie": "sessionid=8f3c; csrftoken=5a1d; "
    "htjs_anonymous_id=3f6d1c1e-6f0e-4b57-9a55-0f5d7b3c0a11; "
    "htjs_sesh=%7B%22id%22%3A1732630000000%2C%22timeout%22%3A1800000%7D",
}


def difference(bare, ours, seconds):
    """Return the microseconds that a call takes more: both by turns, the best of each."""
    least = dict.fromkeys((bare, ours), float("inf"))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for call, known in least.items():
            begun = time.perf_counter()
            for _ in range(50):
                call()
            least[call] = min(known, (time.perf_counter() - begun) / 50)
    return (least[ours] - least[bare]) * 1e6


def environ():
    made = {f"HTTP_{k.upper().replace('-', '_')}": v for k, v in HEADERS.items()}
    made |= {"REMOTE_ADDR": "203.0.113.7", "PATH_INFO": "/buy"}
    setup_testing_defaults(made)
    return made


def scope():
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/buy",
        "raw_path": b"/buy",
        "query_string": b"",
        "root_path": "",
        "client": ("203.0.113.7", 50000),
        "server": ("shop.example", 80),
        "headers": [(k.encode(), v.encode()) for k, v in HEADERS.items()],
    }


def of_wsgi(work):
    from htlogging.integrations.wsgi import HtEventsMiddleware

    def app(_environ, _start_response):
        work()
        return [b"ok"]

    def ask(application):
        given = environ()
        return lambda: application(given, None)

    return ask(app), ask(HtEventsMiddleware(app))


def of_asgi(work):
    from htlogging.integrations.asgi import HtEventsMiddleware

    async def app(_scope, _receive, _send):
        work()

    def ask(application):
        given = scope()

        def call():
            with suppress(StopIteration):
                application(given, None, None).send(None)

        return call

    return ask(app), ask(HtEventsMiddleware(app))


def of_flask(work):
    import flask

    from htlogging.integrations.flask import HtEvents

    def make():
        app = flask.Flask("shop")

        @app.get("/buy")
        def buy():
            work()
            return "ok"

        return app

    def ask(app):
        given = environ()

        def call():
            body = app(given, lambda *_: None)
            b"".join(body)
            body.close()

        return call

    with_it = make()
    HtEvents(with_it)
    return ask(make()), ask(with_it)


def of_django(work):
    from django.conf import settings
    from django.http import HttpResponse

    settings.configure(ALLOWED_HOSTS=["*"], USE_TZ=True)
    from django.core.handlers.wsgi import WSGIRequest

    from htlogging.integrations.django import HtEventsMiddleware

    def app(_request):
        work()
        return response

    response = HttpResponse("ok")
    request = WSGIRequest({**environ(), "wsgi.input": BytesIO()})
    middleware = HtEventsMiddleware(app)
    return lambda: app(request), lambda: middleware(request)


KINDS = {"WSGI": of_wsgi, "ASGI": of_asgi, "Flask": of_flask, "Django": of_django}


def overhead(kind, what, seconds):
    """Return microseconds without an event, or with what the first one has done."""
    from htlogging import get

    bare, ours = KINDS[kind]({"empty": lambda: None, "read": get}[what])
    return {"us": difference(bare, ours, seconds)}


def tracker(which):
    """Return what makes the events of a request, as an application with it would."""
    if which == "posthog":
        import posthog

        posthog.api_key, posthog.host = "KEY", os.environ["SINK"]
        return lambda: posthog.capture("Order completed", properties={"total": 15.3})
    if which in ("bare", "sentry"):
        return lambda: None
    from htlogging import htevents

    htevents.write_key, htevents.host = "KEY", os.environ["SINK"]
    htevents.max_queue_size = 1_000_000
    if which == "htlogging":
        return lambda: htevents.track(
            event="Order completed", properties={"total": 15.3}
        )
    return lambda: htevents.track("user123", "Order completed", {"total": 15.3})


def make_fastapi(which, track):
    from fastapi import FastAPI

    app = FastAPI()
    if which == "htlogging":
        from htlogging.integrations.asgi import HtEventsMiddleware

        app.add_middleware(HtEventsMiddleware)

    @app.get("/buy")
    async def buy():
        for _ in range(EVENTS):
            track()
        return {"ok": True}

    sent = []

    async def send(message):
        sent.append(message["type"])

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def many(seconds):
        begun, count = time.process_time(), 0
        while time.process_time() < begun + seconds:
            for _ in range(20):
                await app(scope(), receive, send)
            count += 20
            sent.clear()
            await asyncio.sleep(0)
        return count / (time.process_time() - begun)

    return lambda seconds: asyncio.run(many(seconds))


def make_django(which, track):
    from django.conf import settings

    own = {
        "htlogging": ["htlogging.integrations.django.HtEventsMiddleware"],
        "posthog": ["posthog.integrations.django.PosthogContextMiddleware"],
    }
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        LOGGING_CONFIG=None,
        MIDDLEWARE=[*own.get(which, []), "django.middleware.common.CommonMiddleware"],
    )
    import django
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.urls import path

    def buy(_request):
        for _ in range(EVENTS):
            track()
        return HttpResponse("ok")

    globals()["urlpatterns"] = [path("buy", buy)]
    django.setup()
    app = get_wsgi_application()

    def many(seconds):
        begun, count = time.process_time(), 0
        while time.process_time() < begun + seconds:
            for _ in range(20):
                body = app(environ(), lambda *_: None)
                b"".join(body)
                body.close()
            count += 20
        return count / (time.process_time() - begun)

    return many


def throughput(framework, which, seconds):
    """Return requests per second."""
    if which == "sentry":
        import sentry_sdk

        # Without a project nothing is sent; its integrations are there all the same.
        sentry_sdk.init("http://key@127.0.0.1:9/1", traces_sample_rate=0.0)
    make = {"FastAPI": make_fastapi, "Django": make_django}[framework]
    many = make(which, tracker(which))
    many(0.3)
    return {"per_second": many(seconds)}


def in_process(*arguments):
    """Run this file for one figure, with a sink; return the best of three."""
    found = []
    for _ in range(3):
        sink = [sys.executable, HERE / "sink.py", "0"]
        with subprocess.Popen(sink, stdout=subprocess.PIPE, text=True) as process:
            try:
                host = f"http://127.0.0.1:{process.stdout.readline().strip()}"
                done = subprocess.run(
                    [sys.executable, __file__, *map(str, arguments)],
                    env={**os.environ, "SINK": host, "HTEVENTS_SEND": "1"},
                    stdout=subprocess.PIPE,
                    check=True,
                    text=True,
                    timeout=120,
                )
            finally:
                process.kill()
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("figure", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.figure:
        what, *rest = given.figure
        call = {"overhead": overhead, "throughput": throughput}[what]
        print(json.dumps(call(*rest, given.seconds)), flush=True)
        os._exit(0)  # what is queued is not what is measured
    print("| middleware | us per request | and the request read |\n|---|---|---|")
    for kind in KINDS:
        cells = []
        for what in ("empty", "read"):
            runs = in_process("overhead", kind, what, "--seconds", given.seconds)
            cells.append(f"{min(run['us'] for run in runs):.1f}")
        print(f"| {kind} | {' | '.join(cells)} |", flush=True)
    print(
        f"\n| requests per second of CPU time, {EVENTS} events each | FastAPI | Django |\n|---|---|---|"
    )
    names = {
        "bare": "no events",
        "facade": "htlogging, no middleware, the user's id in each call",
        "htlogging": "htlogging and its middleware",
        "posthog": "posthog (with its middleware in Django)",
        "sentry": "Sentry's middleware, no events",
    }
    for which, name in names.items():
        cells = []
        for framework in ("FastAPI", "Django"):
            more = ("--seconds", given.seconds)
            runs = in_process("throughput", framework, which, *more)
            cells.append(f"{max(run['per_second'] for run in runs):,.0f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
