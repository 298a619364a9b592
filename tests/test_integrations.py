"""The middlewares' common part: what a request tells, over WSGI and ASGI alike."""

from __future__ import annotations

import asyncio
import contextvars
import signal

import pytest

import htlogging
from htlogging import htevents
from htlogging.integrations import asgi, wsgi

VISITOR = "3f6d1c1e-6f0e-4b57-9a55-0f5d7b3c0a11"
ORIGIN = "http://shop.example"


class Wsgi:
    """A request to a WSGI application."""

    def __init__(self, app, **options):
        self.middleware = wsgi.HtEventsMiddleware(self.application, **options)
        self.app = app

    def application(self, _environ, start_response):
        """Do what the test wants, and answer."""
        self.app()
        start_response("200 OK", [])
        return [b"application"]

    def ask(self, method="GET", path="/", query="", peer="203.0.113.7", **headers):
        """Send a request; return the status, the headers and the body."""
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path.encode().decode("latin-1"),
            "QUERY_STRING": query,
            "REMOTE_ADDR": peer,
            "SERVER_NAME": "server.example",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": headers.pop("scheme", "http"),
            "HTTP_HOST": "shop.example",
        }
        for name, value in headers.items():
            environ[f"HTTP_{name.upper()}"] = value
        answer = []
        body = self.middleware(environ, lambda *given: answer.append(given))
        text = b"".join(body)
        status, received = answer[0]
        return int(status.split()[0]), received, text


class Asgi:
    """The same to an ASGI application."""

    def __init__(self, app, **options):
        self.middleware = asgi.HtEventsMiddleware(self.application, **options)
        self.app = app

    async def application(self, _scope, _receive, send):
        """Do what the test wants, and answer."""
        self.app()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"application"})

    def ask(self, method="GET", path="/", query="", peer="203.0.113.7", **headers):
        """Send a request; return the status, the headers and the body."""
        scope = {
            "type": "http",
            "method": method,
            "scheme": headers.pop("scheme", "http"),
            "path": path,
            "query_string": query.encode(),
            "client": (peer, 50000) if peer else None,
            "server": ("server.example", 80),
            "headers": [
                (name.lower().replace("_", "-").encode(), value.encode("latin-1"))
                for name, value in {"host": "shop.example", **headers}.items()
            ],
        }
        sent = []

        async def send(message):
            sent.append(message)

        asyncio.run(self.middleware(scope, None, send))
        start, body = sent
        received = [
            (n.decode().title(), v.decode("latin-1")) for n, v in start["headers"]
        ]
        return start["status"], received, body["body"]


@pytest.fixture(params=[Wsgi, Asgi])
def kind(request):
    """Return each kind of server."""
    return request.param


@pytest.fixture
def event(kind, ht_events):
    """Return what sends a request, in which one event is made; it returns that."""

    def ask(options=None, **request):
        def app():
            # Late enough for an id that is bound in place of the visitor's.
            htevents.track(
                event="Order completed", anonymous_id=request.pop("id", None)
            )

        if "cookie" not in request and not (options or {}).get("user_id"):
            request["cookie"] = f"htjs_anonymous_id={VISITOR}"
        kind(app, **(options or {})).ask(**request)
        return ht_events[-1]

    return ask


class TestContext:
    def test_all_of_it(self, event):
        """What a browser's request tells, under the names that the receiver knows."""
        made = event(
            path="/orders/Zoë",
            query="token=secret",
            user_agent="Mozilla/5.0",
            accept_language="en;q=0.5, de-AT, de;q=0.9",
            referer="https://search.example/find?q=secret#there",
            cookie=f"htjs_anonymous_id={VISITOR}; "
            "htjs_sesh=%7B%22id%22%3A1732630000000%2C%22timeout%22%3A1800000%7D; "
            "ht-cm-preferences=%7B%22version%22%3A1%2C%22destination%22%3A%7B%7D%2C"
            "%22custom%22%3A%7B%22advertising%22%3Afalse%2C%22functional%22%3Atrue%7D%7D",
        )
        context = made["context"]
        del context["library"]
        assert made["anonymousId"] == VISITOR
        assert made["userId"] is None
        assert context == {
            "ip": "203.0.113.7",
            "userAgent": "Mozilla/5.0",
            "locale": "de-AT",
            "page": {
                "url": "http://shop.example/orders/Zo%C3%AB",
                "path": "/orders/Zo%C3%AB",
                "referrer": "https://search.example/find",
            },
            "sessionId": 1732630000000,
            "consent": {
                "categoryPreferences": {"advertising": False, "functional": True}
            },
        }

    def test_query_strings_when_asked_for(self, event):
        """With `query=True` the URL and the referrer keep theirs."""
        page = event({"query": True}, query="a=1", referer="https://a.example/?b=2#c")
        assert page["context"]["page"] == {
            "url": "http://shop.example/?a=1",
            "path": "/",
            "referrer": "https://a.example/?b=2",
        }

    def test_what_there_is_not(self, event):
        """Nothing is made up, and no key is empty."""
        context = event(peer="")["context"]
        assert context.keys() == {"page", "library"}

    @pytest.mark.parametrize(
        ("proxies", "forwarded", "ip"),
        [
            (0, "198.51.100.1", "203.0.113.7"),
            (1, "198.51.100.1", "198.51.100.1"),
            (1, "6.6.6.6, 198.51.100.1", "198.51.100.1"),
            (2, "6.6.6.6, 198.51.100.1, 10.0.0.1", "198.51.100.1"),
            (2, "198.51.100.1", "203.0.113.7"),
            (1, "", "203.0.113.7"),
            (1, "[2001:db8::1]:4711", "2001:db8::1"),
            (1, "198.51.100.1:4711", "198.51.100.1"),
            (1, "2001:db8::1", "2001:db8::1"),
            (1, "::ffff:198.51.100.1", "198.51.100.1"),
            (1, "fe80::1%eth0", "fe80::1"),
            (1, "::1%<script>", "::1"),
            (1, "unknown", None),
            (1, "<script>", None),
        ],
    )
    def test_ip(self, event, proxies, forwarded, ip):
        """Counted from the right: what stands left of our proxies anyone may write."""
        made = event({"trusted_proxies": proxies}, x_forwarded_for=forwarded)
        assert made["context"].get("ip") == ip

    def test_url_behind_a_proxy(self, event):
        """Scheme and host are the proxy's word, where one is trusted."""
        forwarded = {
            "x_forwarded_proto": "https",
            "x_forwarded_host": "evil.example, www.shop.example",
        }
        assert event(**forwarded)["context"]["page"]["url"] == "http://shop.example/"
        made = event({"trusted_proxies": 1}, **forwarded)
        assert made["context"]["page"]["url"] == "https://www.shop.example/"

    def test_url_of_a_scheme_that_a_proxy_made_up(self, event):
        """A scheme that is none of HTTP's is not put into the URL."""
        made = event({"trusted_proxies": 1}, x_forwarded_proto="javascript")
        assert made["context"]["page"]["url"] == "http://shop.example/"

    def test_what_is_endless_is_cut(self, event):
        """A client cannot make an event too large to be sent."""
        made = event(user_agent="x" * 100_000, referer="http://a/" + "y" * 100_000)
        assert len(made["context"]["userAgent"]) == 2_048
        assert len(made["context"]["page"]["referrer"]) == 2_048

    @pytest.mark.parametrize(
        "headers",
        [
            {"host": "a b<script>"},
            {"accept_language": "*"},
            {"accept_language": "a" * 9 + ", ;q=, de;q=x"},
            {"cookie": "=;;; a; htjs_sesh=[1]; ht-cm-preferences=%7B; x=\xff"},
            {"cookie": "htjs_sesh=" + "%5B" * 1300},
            {"cookie": "htjs_sesh=%7B%22id%22%3Atrue%7D; ht-cm-preferences=null"},
            {"cookie": "ht-cm-preferences=%7B%22custom%22%3A%5B1%5D%7D"},
        ],
        ids=repr,
    )
    def test_of_odd_headers(self, event, headers):
        """Whatever a client sends, the application's event is made."""
        context = event(id="a", **headers)["context"]
        assert "locale" not in context
        assert "sessionId" not in context
        assert "consent" not in context
        assert context["page"]["path"] == "/"
        assert "<" not in context["page"]["url"]


class TestVisitor:
    @pytest.mark.parametrize(
        ("cookie", "visitor"),
        [
            (f"htjs_anonymous_id={VISITOR}", VISITOR),
            (f"a=b; htjs_anonymous_id={VISITOR}; c", VISITOR),
            (f"htjs_anonymous_id_srvr={VISITOR}", VISITOR),
            ("htjs_anonymous_id=own; htjs_anonymous_id_srvr=server", "own"),
            ("htjs_anonymous_id=; htjs_anonymous_id_srvr=server", "server"),
            ("htjs_anonymous_id=a%00; htjs_anonymous_id_srvr=server", "server"),
            ("htjs_anonymous_id=Zo%C3%AB%201", "Zoë 1"),
            ("htjs_anonymous_id=Zo\xc3\xab", "Zoë"),
            ("htjs_anonymous_id=%22quoted%22", "quoted"),
            ('htjs_anonymous_id="quoted"', "quoted"),
            ("htjs_anonymous_id=once%2525", "once%25"),
            ("htjs_anonymous_id=" + "x" * 255, "x" * 255),
            ("htjs_anonymous_id=" + "%C3%AB" * 255, "ë" * 255),
            ("htjs_anonymous_id=first; htjs_anonymous_id=second", "first"),
            ("htjs_anonymous_id=a=b", "a=b"),
        ],
    )
    def test_id(self, event, cookie, visitor):
        """The browser's, else the server's; decoded once, without JSON's quotes."""
        assert event(cookie=cookie)["anonymousId"] == visitor

    @pytest.mark.parametrize(
        "value",
        [
            *["", "%22%22", "x" * 256, "a%0Ab", "a%1b%5b31m", "%7F", "%C2%85"],
            *["%FF", "%22a", '"', "%22%5Cud800%22", "%22a%22%22", "%00"],
        ],
    )
    def test_refused(self, event, caplog, value):
        """Empty, too long, with control characters, no text: none, and in no log."""
        made = event(cookie=f"htjs_anonymous_id={value}", id="own")
        assert made["anonymousId"] == "own"
        context = event(cookie=f"htjs_anonymous_id={value}", id="own")["context"]
        assert value not in caplog.text or not value
        assert context["ip"]

    def test_user_is_in_no_cookie(self, event):
        """The visitor can edit them: `htjs_user_id` is not who has logged in."""
        made = event(cookie="htjs_user_id=admin; htjs_user_id_srvr=admin", id="a")
        assert made["userId"] is None


class TestUser:
    def test_is_asked_for_late(self, kind, ht_events):
        """At the first event, and until there is an id; without an event never."""
        known, asked = [], []

        def user_id(request):
            asked.append(request)
            return known[0] if known else None

        def app():
            if events:
                htevents.track(event="Before", anonymous_id="a")
                known.append("user123")
                htevents.track(event="After")
                known[0] = "another"
                htevents.track(event="Again")

        server = kind(app, user_id=user_id)
        events = False
        server.ask()
        assert asked == []
        events = True
        server.ask()
        assert [e["userId"] for e in ht_events] == [None, "user123", "user123"]
        assert asked[0]["wsgi.url_scheme" if kind is Wsgi else "scheme"] == "http"

    @pytest.mark.parametrize("wrong", [True, "", [], LookupError("secret")], ids=repr)
    def test_a_wrong_one_is_reported(self, event, caplog, wrong):
        """An error of the function, or no id, is a line in the log; the event is made."""

        def user_id(_):
            if isinstance(wrong, Exception):
                raise wrong
            return wrong

        with caplog.at_level("WARNING", "htlogging"):
            made = event({"user_id": user_id}, id="a")
        assert made["userId"] is None
        assert "user_id" in caplog.text
        assert "secret" not in caplog.text

    def test_a_time_limit(self, kind, ht_events):
        """What a signal handler raises amid the function goes to the application."""
        caught = []

        def limit(*_):
            raise TimeoutError("the application's")

        def app():
            try:
                htevents.track(event="Order completed")
            except TimeoutError as exc:
                caught.append(exc)

        before = signal.signal(signal.SIGINT, limit)
        try:
            kind(app, user_id=lambda _: signal.raise_signal(signal.SIGINT)).ask()
        finally:
            signal.signal(signal.SIGINT, before)
        assert [str(exc) for exc in caught] == ["the application's"]
        assert ht_events == []

    def test_a_function_that_logs_an_event(self, kind, ht_events):
        """Its own event has what is known until then; there is no circle."""

        def user_id(_):
            htevents.track(event="Asked", anonymous_id="a")
            return "user123"

        kind(lambda: htevents.track(event="Order completed"), user_id=user_id).ask()
        assert ht_events.one("Asked")["userId"] is None
        assert ht_events.one("Order completed")["userId"] == "user123"

    def test_reports_once(self, kind, caplog):
        """What is wrong with each request is said for the first alone."""

        def user_id(_):
            raise LookupError

        server = kind(lambda: htlogging.get() and None, user_id=user_id)
        with caplog.at_level("WARNING", "htlogging"):
            server.ask()
            server.ask()
        assert caplog.text.count("raised LookupError") == 1

    def test_bound_ones_win(self, kind, ht_events):
        """What the application binds lies above what the request tells."""

        def app():
            htlogging.bind(ht_user_id="bound", ht_context={"ip": "::1"})
            htevents.track(event="Order completed", properties={"a": 1})

        kind(app, user_id=lambda _: "asked").ask(user_agent="x")
        (made,) = ht_events
        assert made["userId"] == "bound"
        assert made["context"]["ip"] == "::1"
        assert made["context"]["userAgent"] == "x"
        assert made["properties"] == {"a": 1}


class TestScope:
    def test_is_the_requests_own(self, kind):
        """What one binds, the next does not see; nothing stays on the thread."""
        seen = []

        def app():
            seen.append({k: v for k, v in htlogging.get().items() if k == "n"})
            htlogging.bind(n=len(seen), ht_user_id="u")

        server = kind(app)
        htlogging.clear()
        server.ask()
        server.ask()
        assert seen == [{}, {}]
        assert htlogging.get() == {}

    def test_ends_with_the_request(self, kind):
        """A thread that kept its context reads nothing."""
        kept = []

        def app():
            htlogging.bind(a=1)
            kept.append(contextvars.copy_context())

        kind(app).ask()
        assert kept[0].run(htlogging.get) == {}

    def test_a_middleware_inside_another(self, kind, ht_events):
        """A request has one scope, whatever is mounted; a user is asked for in either."""

        def app():
            htevents.track(event="Inside")

        inside = kind(app, trusted_proxies=1, user_id=lambda _: "u")
        inside.middleware = type(inside.middleware)(inside.middleware)
        inside.ask(x_forwarded_for="198.51.100.1")
        assert htlogging.get() == {}
        (event,) = ht_events
        assert (event["userId"], event["context"]["ip"]) == ("u", "203.0.113.7")

    def test_what_is_bound_around_a_mounted_one(self, kind, ht_events):
        """It is seen inside, and what is bound inside is seen around it."""

        def inner():
            assert htlogging.get()["shop"] == 1
            htlogging.bind(plan="pro")

        inside = kind(inner).middleware

        class Around(kind):
            def application(self, environ, start_response):
                htlogging.bind(shop=1)
                body = inside(environ, start_response)
                htevents.track("u", "After it")
                return body

        class AroundAsync(kind):
            async def application(self, scope, receive, send):
                htlogging.bind(shop=1)
                await inside(scope, receive, send)
                htevents.track("u", "After it")

        (Around if kind is Wsgi else AroundAsync)(None).ask()
        assert ht_events.one("After it")["properties"] == {"shop": 1, "plan": "pro"}

    def test_an_error_of_the_application(self, kind):
        """It goes through, and the scope has ended."""

        def app():
            htlogging.bind(a=1)
            raise LookupError

        htlogging.clear()
        with pytest.raises(LookupError):
            kind(app).ask()
        assert htlogging.get() == {}


class TestBody:
    """A WSGI response that is made part by part."""

    def run(self, body):
        """Return the middleware's body, and the context that the application had."""
        kept = []

        def app(_environ, _start_response):
            htlogging.bind(a=1)
            kept.append(contextvars.copy_context())
            return body

        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
        return wsgi.HtEventsMiddleware(app)(environ, None), kept[0]

    def test_a_list_stays_one(self):
        """Servers look at its length; the scope has ended."""
        body, kept = self.run([b"a"])
        assert body == [b"a"]
        assert kept.run(htlogging.get) == {}

    @pytest.mark.parametrize("make", [iter, lambda parts: (part for part in parts)])
    def test_whoever_does_not_close(self, make):
        """The last part ends the scope where there is nothing to close."""
        body, kept = self.run(make([b"a", b"b"]))
        assert next(body) == b"a"
        assert kept.run(htlogging.get)["a"] == 1
        assert list(body) == [b"b"]
        assert kept.run(htlogging.get) == {}
        body.close()

    def test_close_is_of_the_request(self):
        """What is to be closed has its last part in the scope, and is closed."""

        class Body:
            seen = None

            def __iter__(self):
                return iter([b"a"])

            def close(self):
                self.seen = htlogging.get()["a"]

        given = Body()
        body, kept = self.run(given)
        assert list(body) == [b"a"]
        body.close()
        assert given.seen == 1
        assert kept.run(htlogging.get) == {}


class TestOptions:
    @pytest.mark.parametrize(
        "option",
        [
            *[{"trusted_proxies": n} for n in (-1, True, "1", None)],
            *[{"query": n} for n in (1, "yes", None)],
            *[{"user_id": n} for n in ("user_id", 1)],
            *[
                {"cookie_service": n}
                for n in ("ht", "/", "", "/a?b", "/a\x00", "/ä", "//", 1)
            ],
            *[
                {"cookie_domain": n}
                for n in ("", ".", "a;b", "a\nb", "a\x00b", "ä.example", "http://a", 1)
            ],
        ],
        ids=repr,
    )
    def test_wrong_ones(self, kind, option):
        """A wrong type or value is InvalidSetting at once, and named."""
        (name,) = option
        with pytest.raises(htlogging.InvalidSetting, match=name):
            kind(None, **option)

    def test_a_coroutine_cannot_tell_the_user(self, kind):
        """Where events are made nothing can be awaited: that is said at once."""

        async def user_id(_):
            return "u"

        with pytest.raises(htlogging.InvalidSetting, match="awaited"):
            kind(None, user_id=user_id)

    def test_unknown_one(self, kind):
        """A misspelt name is a TypeError."""
        with pytest.raises(TypeError):
            kind(None, trusted_proxy=1)


class TestCookieService:
    @pytest.fixture
    def ask(self, kind):
        """Return what sends a request to an application with the service."""

        def send(path="/ht/renew", method="POST", options=None, **headers):
            server = kind(lambda: None, cookie_service="/ht", **(options or {}))
            headers.setdefault("origin", ORIGIN)
            return server.ask(method, path, **headers)

        return send

    @staticmethod
    def cookies(headers):
        """Return name → value and attributes of the cookies set."""
        found = {}
        for name, value in headers:
            if name == "Set-Cookie":
                key, _, rest = value.partition("=")
                content, *attributes = rest.split("; ")
                found[key] = (content, set(attributes))
        return found

    PLAIN = {"Path=/", "SameSite=Lax", "Max-Age=31536000"}  # noqa: RUF012

    def test_renew(self, ask):
        """Both ids, each in both cookies, for a year; the server's are HttpOnly."""
        status, headers, body = ask(
            cookie="htjs_anonymous_id=Zo%C3%AB%201; htjs_user_id_srvr=user123"
        )
        assert (status, body) == (200, b"")
        assert self.cookies(headers) == {
            "htjs_anonymous_id": ("Zo%C3%AB%201", self.PLAIN),
            "htjs_anonymous_id_srvr": ("Zo%C3%AB%201", {*self.PLAIN, "HttpOnly"}),
            "htjs_user_id": ("user123", self.PLAIN),
            "htjs_user_id_srvr": ("user123", {*self.PLAIN, "HttpOnly"}),
        }

    def test_renew_of_what_is_no_id(self, ask):
        """A value that is refused is not set again; one cannot inject an attribute."""
        _, headers, _ = ask(
            cookie="htjs_anonymous_id=a%0D%0ASet-Cookie; htjs_user_id=a%3B%20Domain%3Db"
        )
        values = {name: value for name, (value, _) in self.cookies(headers).items()}
        assert values == {
            "htjs_user_id": "a%3B%20Domain%3Db",
            "htjs_user_id_srvr": "a%3B%20Domain%3Db",
        }

    def test_clear(self, ask):
        """The server's two expire; the browser's are the browser's."""
        status, headers, _ = ask("/ht/clear", cookie=f"htjs_anonymous_id={VISITOR}")
        assert status == 200
        gone = {"Path=/", "SameSite=Lax", "Max-Age=0", "HttpOnly"}
        assert self.cookies(headers) == {
            "htjs_anonymous_id_srvr": ("", gone),
            "htjs_user_id_srvr": ("", gone),
        }

    def test_secure_and_domain(self, ask):
        """`Secure` on https, also where a proxy ends it; a domain by setting alone."""
        cookie = f"htjs_anonymous_id={VISITOR}"
        for more in (
            {"scheme": "https", "origin": "https://shop.example"},
            {"origin": "https://shop.example"},
        ):
            _, headers, _ = ask(cookie=cookie, **more)
            for _, attributes in self.cookies(headers).values():
                assert "Secure" in attributes
                assert not any(a.startswith("Domain") for a in attributes)
        _, headers, _ = ask(
            cookie=cookie,
            options={"cookie_domain": "example"},
            x_forwarded_for="evil.example",
        )
        for _, attributes in self.cookies(headers).values():
            assert "Domain=example" in attributes
            assert "Secure" not in attributes

    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "http://evil.example"},
            {"origin": "http://shop.example.evil.example"},
            {"origin": "http://shop.example:8080"},
            {"origin": "null"},
            {"origin": "http://[::1"},
            {"origin": "ftp://shop.example"},
            {"sec_fetch_site": "cross-site"},
            {"sec_fetch_site": "same-site"},
            {"sec_fetch_site": "none"},
            {"scheme": "https"},
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("path", ["/ht/renew", "/ht/clear"])
    def test_of_another_origin(self, ask, path, headers):
        """403, and no cookie."""
        status, received, _ = ask(path, cookie="htjs_anonymous_id=a", **headers)
        assert status == 403
        assert self.cookies(received) == {}

    def test_of_the_same_origin(self, ask):
        """As browsers write it, the scheme's own port or not."""
        for headers in (
            {"sec_fetch_site": "same-origin"},
            {"sec_fetch_site": "same-origin", "origin": ""},
            {"origin": ""},
            {"host": "shop.example:80"},
            {"host": "shop.example:8080", "origin": "http://shop.example:8080"},
            {"host": "SHOP.example"},
        ):
            assert ask(**headers)[0] == 200

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT"])
    def test_post_only(self, ask, method):
        """Every other method is 405, and says which is meant."""
        status, headers, _ = ask(method=method, cookie="htjs_anonymous_id=a")
        assert status == 405
        assert ("Allow", "POST") in headers
        assert self.cookies(headers) == {}

    @pytest.mark.parametrize("path", ["/ht", "/ht/", "/ht/other", "/htrenew", "/"])
    def test_other_paths(self, ask, path):
        """They are the application's."""
        assert ask(path)[2] == b"application"

    def test_is_off_by_itself(self, kind):
        """Without the option those paths are the application's too."""
        server = kind(lambda: None)
        assert server.ask("POST", "/ht/renew", origin=ORIGIN)[2] == b"application"
