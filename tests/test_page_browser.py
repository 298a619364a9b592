"""The page in a real Chromium: what a person sees and does."""

from __future__ import annotations

import json
import logging
import shutil
import time
from pathlib import Path

import npm
import pytest
import requests
from script_runner import HANG

from htlogging import HtEventsHandler
from htlogging.collector import Collector

pytest.importorskip("selenium", reason="no selenium")
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium"),
]
NOW = "2024-03-12T09:30:00.123+00:00"
HOSTILE = "<img src=x onerror=alert(1)>\u202e'\"&lt;script>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Return a browser with a profile of its own."""
    options = Options()
    options.binary_location = CHROMIUM
    for flag in (
        "headless no-sandbox disable-gpu disable-quic no-first-run disable-sync "
        "disable-background-networking disable-component-update "
        "disable-dev-shm-usage window-size=1300,850"
    ).split():
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def collector():
    """Return a collector that listens."""
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """Return the program that looks for what a screen reader could not use."""
    folder = npm.installed(tmp_path_factory.mktemp("npm"), "axe-core")
    return (folder / "axe.min.js").read_text("utf-8")


@pytest.fixture
def page(browser, collector):
    """Open the page, and check at the end that it had no error of its own."""
    browser.get(collector.url)
    until(browser, lambda: "live" in browser.find_element(By.ID, "live").text)
    yield browser
    said = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    # It would go on to ask its collector, which ends now.
    browser.get("about:blank")
    assert said == []


def until(browser, true):
    """Wait until it is true; the page may replace an element while it is looked at."""
    ignored = [StaleElementReferenceException]
    waiting = WebDriverWait(browser, HANG, 0.1, ignored_exceptions=ignored)
    return waiting.until(lambda _: true())


def send(collector, *events):
    """Send events in one request."""
    requests.post(
        collector.url + "/v1/batch",
        data=json.dumps({"batch": events, "sentAt": NOW}),
        headers={"Content-Type": "application/json"},
        auth=("KEY", ""),
        timeout=HANG,
    )


def event(library="htlogging", **fields):
    """Return a valid event with these fields."""
    return {
        "type": "track",
        "event": "Order completed",
        "userId": "ada",
        "context": {"library": {"name": library, "version": "1"}},
        "properties": {},
        "timestamp": NOW,
        "messageId": "m",
        **fields,
    }


def rows(page):
    """Return the text of each row that is shown."""
    return [row.text for row in page.find_elements(By.CSS_SELECTOR, "#list .row")]


class TestSoon:
    def test_an_event_of_a_handler(self, page, collector, capsys):
        """
        It appears without a reload, by default settings.

        The figure is printed. Two seconds is what a person is promised; it is not checked,
        because a busy machine must not fail.
        """
        page.execute_script("window.loadedOnce = true")
        logger = logging.getLogger("htevents.soon")
        logger.setLevel("INFO")
        handler = HtEventsHandler(write_key="KEY", host=collector.url)
        logger.addHandler(handler)
        try:
            begun = time.monotonic()
            logger.info("Order completed", extra={"ht_user_id": "ada"})
            until(page, lambda: len(rows(page)) == 1)
            took = time.monotonic() - begun
        finally:
            logger.removeHandler(handler)
            handler.close()
        assert "Order completed" in rows(page)[0]
        assert page.execute_script("return window.loadedOnce") is True
        with capsys.disabled():
            print(f"\nan event is on the page after {took:.2f} s")  # noqa: T201


class TestPage:
    def test_empty(self, page, collector):
        """Before the first event the page says how to send one."""
        text = page.find_element(By.ID, "empty").text
        assert "Waiting for the first event" in text
        assert f"HTEVENTS_HOST={collector.url}" in text

    def test_live_and_newest_first(self, page, collector):
        """Events appear by themselves, the newest on top."""
        send(collector, event(event="First"))
        send(collector, event(event="Second"))
        until(page, lambda: len(rows(page)) == 2)
        assert ["Second" in rows(page)[0], "First" in rows(page)[1]] == [True, True]

    def test_hostile_event(self, page, collector):
        """What an event holds stays text: in the list, the detail and a test."""
        send(collector, event(event=HOSTILE, userId=HOSTILE, properties={HOSTILE: 1}))
        until(page, lambda: len(rows(page)) == 1)
        assert "<img src=x onerror=alert(1)>\\u202e" in rows(page)[0]
        page.find_element(By.CSS_SELECTOR, "#list .row").click()
        until(page, lambda: page.find_elements(By.CSS_SELECTOR, "#detail pre"))
        assert page.find_elements(By.CSS_SELECTOR, "main img") == []
        assert "onerror" in page.find_element(By.CSS_SELECTOR, "#detail pre").text

    def test_problems(self, page, collector):
        """One click leads from the count to the failed event and its reason."""
        send(collector, event(), event(userId=None, event="Broken"))
        until(page, lambda: page.find_element(By.ID, "c-problems").text == "1")
        page.find_element(By.CSS_SELECTOR, "[data-view=problems]").click()
        (row,) = rows(page)
        assert "Broken" in row
        assert "track needs userId or anonymousId" in row

    def test_detail(self, page, collector):
        """The JSON is as it was sent, to the last digit; Escape closes it."""
        send(collector, event(properties={"big": 12345678901234567890123}))
        until(page, lambda: len(rows(page)) == 1)
        page.find_element(By.CSS_SELECTOR, "#list .row").click()
        until(page, lambda: page.find_elements(By.CSS_SELECTOR, "#detail pre"))
        text = page.find_element(By.CSS_SELECTOR, "#detail pre").text
        assert '"big": 12345678901234567890123' in text
        page.switch_to.active_element.send_keys(Keys.ESCAPE)
        until(page, lambda: not page.find_element(By.ID, "detail").is_displayed())

    def test_filters(self, page, collector):
        """A type and a word narrow the list down."""
        send(
            collector,
            event(properties={"name": "Zoë"}),
            event(event="Other"),
            event(type="page", event=None, name="Home"),
        )
        until(page, lambda: len(rows(page)) == 3)
        page.find_element(By.CSS_SELECTOR, ".chip.page").click()
        assert [("Home" in row) for row in rows(page)] == [True]
        page.find_element(By.CSS_SELECTOR, ".chip.page").click()
        page.find_element(By.ID, "text").send_keys("zoë")
        until(page, lambda: len(rows(page)) == 1)

    def test_timeline(self, page, collector):
        """One person's events of browser and server are one line of time."""
        early, late = "2024-03-12T09:00:00.000Z", "2024-03-12T09:20:00.000Z"
        send(collector, event(event="Paid", timestamp=NOW))
        web = {"library": "events-sdk-js", "anonymousId": "visitor"}
        send(
            collector,
            event(**web, event="Viewed", userId=None, timestamp=early),
            event(**web, type="identify", event=None, timestamp=late),
            event(event="Of another", userId="bob"),
        )
        until(page, lambda: len(rows(page)) == 4)
        for row in page.find_elements(By.CSS_SELECTOR, "#list .row"):
            if "Paid" in row.text:
                row.click()
        until(page, lambda: page.find_elements(By.CSS_SELECTOR, "#detail pre"))
        page.find_element(By.XPATH, "//button[contains(., 'timeline')]").click()
        shown = rows(page)
        assert [("browser" in row) for row in shown] == [True, True, False]
        assert ["Viewed" in shown[0], "Paid" in shown[2]] == [True, True]
        assert "visitor" in page.find_element(By.ID, "notices").text

    def test_faults(self, page, collector):
        """The page turns a fault on and says so, and one click turns it off."""
        page.find_element(By.ID, "dial").click()
        page.find_element(By.CSS_SELECTOR, "#fault option[value='500']").click()
        page.find_element(By.CSS_SELECTOR, "#faults button").click()
        until(page, lambda: "answered 500" in page.find_element(By.ID, "notices").text)
        send(collector, event())
        until(page, lambda: page.find_element(By.ID, "c-refused").text == "1")
        page.find_element(By.CSS_SELECTOR, "#notices button").click()
        until(page, lambda: not page.find_element(By.ID, "notices").text)
        send(collector, event())
        assert len(collector.events) == 1

    def test_keys(self, page, collector):
        """All of it works without a mouse."""
        send(collector, event(event="First"), event(event="Second"))
        until(page, lambda: len(rows(page)) == 2)
        body = page.find_element(By.TAG_NAME, "body")
        body.send_keys("j")
        page.switch_to.active_element.send_keys("j")
        page.switch_to.active_element.send_keys(Keys.ENTER)
        until(page, lambda: page.find_elements(By.CSS_SELECTOR, "#detail pre"))
        assert page.find_element(By.CSS_SELECTOR, "#detail h2").text == "First"

    def test_comes_back(self, page, collector):
        """After the collector was away, the page goes on by itself, with nothing twice."""
        send(collector, event(event="Before"))
        until(page, lambda: len(rows(page)) == 1)
        collector.stop()
        until(page, lambda: "not connected" in page.find_element(By.ID, "live").text)
        collector.start()
        send(collector, event(event="After"))
        until(page, lambda: len(rows(page)) == 2)
        page.get_log("browser")  # the connection that was refused is no error of ours

    @pytest.fixture
    def narrow(self, page):
        """Make the window as narrow as a phone."""
        size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": False}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        yield page
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    @pytest.mark.parametrize("view", ["events", "problems", "requests", "refused"])
    def test_narrow(self, narrow, collector, view):
        """In a narrow window nothing is cut off at the side."""
        many = [event(event="A long name " * 5, userId=None)] * 20
        send(collector, *many, event(properties={"x": "y" * 200}))
        requests.post(f"{collector.url}/v1/batch", data="no JSON", timeout=HANG)
        until(narrow, lambda: len(rows(narrow)) == 21)
        narrow.find_element(By.CSS_SELECTOR, f"[data-view={view}]").click()
        narrow.find_element(By.ID, "dial").click()
        narrow.find_element(By.CSS_SELECTOR, "#fault option[value='500']").click()
        narrow.find_element(By.CSS_SELECTOR, "#faults button").click()
        until(narrow, lambda: narrow.find_element(By.ID, "notices").text)
        width = narrow.execute_script("return document.documentElement.scrollWidth")
        assert width <= 360

    def test_timeline_narrow(self, narrow, collector):
        """A timeline is not behind the event that it was asked for on."""
        send(collector, event())
        until(narrow, lambda: len(rows(narrow)) == 1)
        narrow.find_element(By.CSS_SELECTOR, "#list .row").click()
        until(narrow, lambda: narrow.find_elements(By.CSS_SELECTOR, "#detail pre"))
        narrow.find_element(By.XPATH, "//button[contains(., 'timeline')]").click()
        (row,) = narrow.find_elements(By.CSS_SELECTOR, "#list .row")
        assert row.is_displayed()


class TestAccessibility:
    """What axe-core finds wrong, in each state of the page."""

    @pytest.fixture(params=["light", "dark"])
    def check(self, page, axe, request):
        """Return a function that asks it."""
        scheme = [{"name": "prefers-color-scheme", "value": request.param}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        page.execute_script(axe)

        def check():
            found = page.execute_async_script(
                "axe.run().then(r => arguments[0](r.violations.map(v => "
                "[v.id, v.nodes.map(n => n.html)])))"
            )
            assert found == []

        yield check
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    def test_of_each_view(self, page, collector, check):
        """Empty, busy, one event, a timeline, problems, requests, a fault."""
        check()
        send(collector, event(), event(event=None), event(type="page", name="Home"))
        requests.post(f"{collector.url}/v1/batch", data="no JSON", timeout=HANG)
        until(page, lambda: len(rows(page)) == 3)
        check()
        page.find_element(By.CSS_SELECTOR, "#list .row").click()
        until(page, lambda: page.find_elements(By.CSS_SELECTOR, "#detail pre"))
        check()
        page.find_element(By.XPATH, "//button[contains(., 'timeline')]").click()
        check()
        for view in ("problems", "requests", "refused"):
            page.find_element(By.CSS_SELECTOR, f"[data-view={view}]").click()
            check()
        page.find_element(By.ID, "dial").click()
        page.find_element(By.CSS_SELECTOR, "#fault option[value='429']").click()
        page.find_element(By.CSS_SELECTOR, "#faults button").click()
        until(page, lambda: page.find_element(By.ID, "notices").text)
        check()


class TestAnotherSite:
    def test_reads_nothing(self, browser, collector, tmp_path):
        """A page from elsewhere can neither read the events nor put one in."""
        send(collector, event())
        path = Path(tmp_path / "evil.html")
        path.write_text("<!doctype html><title>evil</title>")
        browser.get(path.as_uri())  # its origin is "null"
        script = """
            const [url, body, done] = arguments;
            const tries = [
              fetch(url + "/_/events").then(a => a.text()),
              fetch(url + "/v1/batch", {method: "POST", body, mode: "no-cors"}),
            ];
            Promise.allSettled(tries).then(r => done(r.map(x => String(x.value))));
        """
        body = json.dumps({"batch": [event(event="Evil")], "writeKey": "K"})
        read, _ = browser.execute_async_script(script, collector.url, body)
        assert read == "undefined"
        assert [e["event"] for e in collector.events] == ["Order completed"]
