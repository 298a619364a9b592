"""Tools that work on log records, beside us: the real ones, each in its own process."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest
from script_runner import run

# The same event in three ways, and once more by a logger that is not the facade's.
CALLS = """
import copy, json, logging, sys
import htlogging
from htlogging import HtEventsHandler, htevents
from htlogging.htevents import Client

fields = {"product_id": "123", "task_id": "T-1", "color": "red"}
log = logging.getLogger("htevents")
log.setLevel("INFO")
log.addHandler(HtEventsHandler())
shop = logging.getLogger("shop")
shop.setLevel("INFO")
client = Client()

def calls():
    with htlogging.bound(plan="pro"):
        log.info("Order completed", extra={"ht_user_id": "u", **fields})
        htevents.track("u", "Order completed", fields)
        client.track("u", "Order completed", fields)
        shop.info("Order completed", extra={"ht_user_id": "u", **fields})
        for about in (log, shop):
            about.info("identify", extra={
                "ht_type": "identify", "ht_user_id": "u", "email": "a@b",
            })
        htevents.identify("u", {"email": "a@b"})
        client.identify("u", {"email": "a@b"})

calls()
assert htevents.flush()
"""

# What is installed, before or after our import, and what it is.
ROOT = "logging.getLogger().addHandler(htlogging.HtEventsHandler())\n"
TOOLS = {
    "nothing": "",
    "opentelemetry": """
        from opentelemetry.instrumentation.logging import LoggingInstrumentor
        LoggingInstrumentor().instrument(set_logging_format=False)
        LoggingInstrumentor().uninstrument()
        LoggingInstrumentor().instrument(
            set_logging_format=True,
            log_hook=lambda span, record: setattr(record, "hooked", 1),
        )
    """,
    "ddtrace": """
        import os
        os.environ.update(DD_TRACE_ENABLED="false", DD_INSTRUMENTATION_TELEMETRY_ENABLED="0")
        from ddtrace.contrib.internal.logging.patch import patch
        patch()
        import logging
        assert "Proxy" in type(logging.Logger.makeRecord).__name__ or (
            "Wrapper" in type(logging.Logger.makeRecord).__name__
        )
    """,
    "elastic": """
        import logging
        import elasticapm
        from elasticapm.handlers.logging import LoggingFilter, log_record_factory
        logging.setLogRecordFactory(log_record_factory(logging.getLogRecordFactory()))
        import ecs_logging
        handler = logging.StreamHandler(open("/dev/null", "w"))
        handler.setFormatter(ecs_logging.StdlibFormatter())
        logging.getLogger("htevents").addHandler(handler)
        logging.getLogger("shop").addHandler(handler)
    """,
    "newrelic": """
        import logging
        from newrelic.hooks.logger_logging import instrument_logging
        instrument_logging(logging)
    """,
    "sentry": """
        import sentry_sdk
        sentry_sdk.init(dsn="http://k@127.0.0.1:9/1", enable_logs=True)
    """,
    "celery": """
        import logging
        from celery import Celery
        from celery.app.log import TaskFormatter
        handler = logging.StreamHandler(open("/dev/null", "w"))
        handler.setFormatter(TaskFormatter("%(task_id)s %(task_name)s %(message)s"))
        logging.getLogger("htevents").addHandler(handler)
        logging.getLogger("shop").addHandler(handler)
    """,
    "structlog": """
        import logging, structlog
        structlog.configure(
            processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
            logger_factory=structlog.stdlib.LoggerFactory(),
        )
        handler = logging.StreamHandler(open("/dev/null", "w"))
        handler.setFormatter(structlog.stdlib.ProcessorFormatter(
            processor=structlog.dev.ConsoleRenderer()
        ))
        logging.getLogger("htevents").addHandler(handler)
        logging.getLogger("shop").addHandler(handler)
    """,
    "tornado": """
        import logging
        from tornado.log import LogFormatter
        handler = logging.StreamHandler(open("/dev/null", "w"))
        handler.setFormatter(LogFormatter(color=True))
        logging.getLogger("htevents").addHandler(handler)
        logging.getLogger("shop").addHandler(handler)
    """,
    "django": """
        import logging
        from django.utils.log import ServerFormatter
        handler = logging.StreamHandler(open("/dev/null", "w"))
        handler.setFormatter(ServerFormatter("[{server_time}] {message}", style="{"))
        logging.getLogger("htevents").addHandler(handler)
        logging.getLogger("shop").addHandler(handler)
    """,
    "colorlog": """
        import logging, colorlog
        handler = colorlog.StreamHandler(open("/dev/null", "w"))
        handler.setFormatter(colorlog.ColoredFormatter("%(log_color)s%(message)s"))
        logging.getLogger("htevents").addHandler(handler)
        logging.getLogger("shop").addHandler(handler)
    """,
    "pythonjsonlogger": """
        import logging
        from pythonjsonlogger.json import JsonFormatter
        handler = logging.StreamHandler(open("/dev/null", "w"))
        handler.setFormatter(JsonFormatter("%(asctime)s %(message)s"))
        logging.getLogger("htevents").addHandler(handler)
        logging.getLogger("shop").addHandler(handler)
    """,
    "strict": """
        # As AWS's runtime client does: whatever is on a record is printed.
        import json, logging
        class Strict(logging.Formatter):
            def format(self, record):
                return json.dumps(record.__dict__)
        handler = logging.StreamHandler(open("/dev/null", "w"))
        handler.setFormatter(Strict())
        logging.getLogger("htevents").addHandler(handler)
        logging.getLogger("shop").addHandler(handler)
    """,
    "factory": """
        import logging
        before = logging.getLogRecordFactory()
        def factory(*args, **kwargs):
            record = before(*args, **kwargs)
            record.request_id = "R-1"
            record.ht_anonymous_id = "nobody"
            record.plan = "factory"
            return record
        logging.setLogRecordFactory(factory)
    """,
    "filter": """
        import logging
        class Filter(logging.Filter):
            def filter(self, record):
                record.request_id = "R-1"
                record.color = "none"
                return True
        handler = logging.StreamHandler(open("/dev/null", "w"))
        handler.addFilter(Filter())
        logging.getLogger("htevents").addHandler(handler)
        logging.getLogger("shop").addHandler(handler)
    """,
    "logger class": """
        import logging
        class Logger(logging.Logger):
            def makeRecord(self, *args, **kwargs):
                record = super().makeRecord(*args, **kwargs)
                record.request_id = "R-1"
                return record
        logging.setLoggerClass(Logger)
    """,
}
PACKAGES = {
    "opentelemetry": "opentelemetry.instrumentation.logging",
    "elastic": "ecs_logging",
    "sentry": "sentry_sdk",
}
OWN = {"nothing", "strict", "factory", "filter", "logger class"}


@pytest.fixture(
    params=[
        pytest.param(name, marks=() if name in OWN else pytest.mark.once)
        for name in TOOLS
    ]
)
def tool(request):
    """Return the lines that install a tool."""
    if request.param not in OWN:
        pytest.importorskip(PACKAGES.get(request.param, request.param))
    return dedent(TOOLS[request.param])


@pytest.mark.parametrize("first", [True, False], ids=["before us", "after us"])
class TestThreeWaysAgree:
    def test_whatever_is_installed(self, tool, first, collector, tmp_path):
        """The events are what the calls gave, and what is bound; marks are not."""
        parts = [tool, CALLS] if first else [f"import htlogging\n{tool}", CALLS]
        text = "\n".join([*parts[:1], "import htlogging, logging", ROOT, *parts[1:]])
        ended = run(
            tmp_path,
            text,
            HTEVENTS_HOST=collector.url,
            HTEVENTS_WRITE_KEY="KEY",
            PYTHONWARNINGS="ignore",
        )
        assert ended.status == 0, ended.err
        assert "Logging error" not in ended.err, ended.err
        events = collector.events
        # The handler on the root takes what reaches it too, under the same id.
        ids = {event["messageId"] for event in events}
        assert len(ids) == 8
        tracked = [event for event in events if event["type"] == "track"]
        identified = [event for event in events if event["type"] == "identify"]
        assert len({event["messageId"] for event in tracked}) == 4
        for event in tracked:
            assert event["event"] == "Order completed"
            assert event["properties"] == {
                "product_id": "123",
                "task_id": "T-1",
                "color": "red",
                "plan": "pro",
            }, json.dumps(event)
            assert event["anonymousId"] is None
        for event in identified:
            assert event["traits"] == {"email": "a@b", "plan": "pro"}


class TestCeleryWorker:
    @pytest.mark.parametrize("how", ["handler", "install"])
    def test_handler_on_the_root_stays(self, collector, tmp_path, how):
        """A worker removes all handlers of the root logger; ours is put back."""
        pytest.importorskip("celery")
        first, second = "from celery import Celery", "import htlogging"
        if how == "install":
            first, second = second, first
        text = f"""
            import logging
            {first}
            {second}
            logging.getLogger().addHandler(htlogging.HtEventsHandler())
            app = Celery("shop", broker="memory://")
            if {how == "install"}:
                from htlogging.integrations.celery import install
                install(app)
            app.Worker(pool="solo", loglevel="WARNING")
            log = logging.getLogger("shop")
            log.setLevel("INFO")
            log.info("Order completed", extra={{"ht_user_id": "u"}})
            assert htlogging.htevents.flush()
        """
        ended = run(
            tmp_path,
            text,
            HTEVENTS_HOST=collector.url,
            HTEVENTS_WRITE_KEY="KEY",
            PYTHONWARNINGS="ignore",
        )
        assert ended.status == 0, ended.err
        assert [event["event"] for event in collector.events] == ["Order completed"]
