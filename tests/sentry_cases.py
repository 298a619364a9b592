"""Sentry's SDK beside us; run by `test_surroundings.py`, in a process of its own."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
import sentry_sdk
from script_runner import HANG
from sentry_sdk.transport import Transport

from htlogging import InvalidEvent
from htlogging.htevents import Client


@pytest.fixture
def client(collector):
    """Return a client of the collector."""
    client = Client("KEY", host=collector.url, upload_interval=0.01, shutdown_timeout=5)
    yield client
    client.join()


class Envelopes(Transport):
    """Keeps what would be sent to Sentry."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def capture_envelope(self, envelope):
        """Keep an envelope as text."""
        self.texts.append(envelope.serialize().decode())


@pytest.fixture
def sentry():
    """Return the texts of what Sentry's SDK sends; it is off again after the test."""
    transport = Envelopes()
    original = logging.Logger.callHandlers
    sentry_sdk.init(
        dsn="https://key@sentry.invalid/1",
        transport=transport,
        auto_enabling_integrations=False,
        enable_logs=True,
    )
    yield transport.texts
    sentry_sdk.get_client().close()
    sentry_sdk.init()
    logging.Logger.callHandlers = original


class TestSentry:
    """docs/servers.md, Sentry: one line keeps its breadcrumbs free of what we log."""

    @pytest.fixture
    def crash(self, client, sentry):
        """Return what tracks in three ways and then sends an error to Sentry."""
        log = logging.getLogger("htevents")

        def track_and_crash():
            with sentry_sdk.isolation_scope():
                client.track("secret-user", "Seen", {"email": "secret-mail"})
                record = log.makeRecord(
                    "htevents",
                    20,
                    "",
                    0,
                    "Seen",
                    (),
                    None,
                    extra={"ht_user_id": "secret-user"},
                )
                log.handle(record)
                sentry_sdk.capture_message("crash")
                sentry_sdk.flush()
            assert any("crash" in text for text in sentry)
            return "".join(sentry)

        return track_and_crash

    def test_without_the_line(self, crash):
        """Without it, users' ids reach Sentry: the test below can fail."""
        assert "secret-user" in crash()

    def test_with_the_line(self, crash):
        """With it, no id and no property does, by clients neither."""
        sentry_sdk.integrations.logging.ignore_logger("htevents*")
        sentry_sdk.integrations.logging.ignore_logger_for_sentry_logs("htevents*")
        try:
            sent = crash()  # sys.argv is in there, too
            assert "secret-user" not in sent
            assert "secret-mail" not in sent
        finally:
            sentry_sdk.integrations.logging.unignore_logger("htevents*")
            sentry_sdk.integrations.logging.unignore_logger_for_sentry_logs("htevents*")

    def test_delivery(self, client, collector, sentry):
        """Sentry's SDK costs no event."""
        for n in range(100):
            assert client.track("user", f"e{n}")[0]
        with pytest.raises(InvalidEvent):
            client.track(None, "none")
        assert client.flush(HANG)
        assert Counter(e["event"] for e in collector.events) == {
            f"e{n}": 1 for n in range(100)
        }
        assert not any("urllib3" in text for text in sentry)
