"""A real browser with the real browser SDK, and a server with the middleware."""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager

import npm
import pytest
from script_runner import until
from test_servers import environ, serve

__all__ = ["environ", "serve"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PACKAGE = "@ht-sdks/events-sdk-js-browser"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage"
).split()

SHOPS = {
    "browser_flask": ("gunicorn", "--bind", "fd://{fd}", "--no-control-socket",
                      "--worker-class", "gthread", "--threads", "4"),
    "browser_fastapi": ("uvicorn", "--fd", "{fd}"),
}  # fmt: skip


@pytest.fixture(scope="session")
def sdk(tmp_path_factory):
    """Return the browser SDK's file, as npm installs it."""
    folder = npm.installed(tmp_path_factory.mktemp("npm"), PACKAGE)
    return folder / "dist" / "umd" / "events.min.js"


@pytest.fixture
def browser(tmp_path):
    """Return a Chromium with an empty profile."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(driver)
    running = webdriver.Chrome(options=options, service=service)
    yield running
    running.quit()


@contextmanager
def shop(serve, sdk, name):
    """Run a shop; give its address."""
    module = SHOPS[name][0]
    pytest.importorskip(module)
    pytest.importorskip(name.removeprefix("browser_"))
    command = [sys.executable, "-m", *SHOPS[name], f"{name}:application"]
    with serve(*command, BROWSER_SDK=str(sdk)) as server:
        yield f"http://127.0.0.1:{server.port}"
        server.stop()


class TestVisitor:
    @pytest.mark.parametrize("name", SHOPS)
    def test_is_one_in_browser_and_server(self, serve, sdk, browser, collector, name):
        """
        What the browser tracks and what the server logs has one anonymous id.

        It outlives the browser's own cookie: the cookie service has it.
        """

        def named(event):
            return [e for e in collector.events if e.get("event") == event]

        def cookie(key):
            return (browser.get_cookie(key) or {}).get("value")

        with shop(serve, sdk, name) as address:
            browser.get(address)
            browser.execute_script("htevents.track('Product viewed', {n: 1})")
            (viewed,) = until(lambda: named("Product viewed"))
            visitor = viewed["anonymousId"]
            until(lambda: cookie("htjs_anonymous_id_srvr"))

            browser.find_element("tag name", "button").click()
            (bought,) = until(lambda: named("Order completed"))
            assert bought["anonymousId"] == visitor
            assert bought["properties"] == {"total": 15.3}
            context = viewed["context"]
            assert bought["context"]["userAgent"] == context["userAgent"]
            assert bought["context"]["locale"] == context["locale"]
            assert bought["context"]["sessionId"] == context["sessionId"]
            assert bought["context"]["page"]["referrer"] == context["page"]["url"]
            assert bought["context"]["ip"] == "127.0.0.1"

            # All that a script could keep is gone, as after a week in Safari.
            browser.execute_script("localStorage.clear()")
            for each in browser.get_cookies():
                if not each["httpOnly"]:
                    browser.delete_cookie(each["name"])
            assert cookie("htjs_anonymous_id") is None
            browser.get(address)
            browser.execute_script("htevents.track('Back again')")
            (back,) = until(lambda: named("Back again"))
            assert back["anonymousId"] == visitor
            assert cookie("htjs_anonymous_id") == visitor
            browser.find_element("tag name", "button").click()
            until(lambda: len(named("Order completed")) == 2)
            assert named("Order completed")[1]["anonymousId"] == visitor
        assert collector.problems == []
