"""`python -m htlogging check`: settings, loggers and the route, in plain words."""

from __future__ import annotations

import argparse
import os
import sys
import threading

from htlogging._cli.terminal import console

TYPE_CHECKING = False
if TYPE_CHECKING:
    from htlogging._cli.check.findings import Findings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--app",
        metavar="MODULE:NAME",
        help="import this application first, as a server does",
    )
    which.add_argument(
        "--django",
        metavar="SETTINGS",
        help="set up Django with this settings module first",
    )
    parser.add_argument(
        "--send",
        action="store_true",
        help="send one test event, to see whether the write key is right",
    )
    console.add_example(
        parser,
        "python -m htlogging check",
        "python -m htlogging check --app shop.main:app --send",
        "python -m htlogging check --django shop.settings",
    )


def run(arguments: argparse.Namespace) -> int:
    """Check; return 0 if all is well, 1 if there is a problem."""
    from htlogging._cli.check.findings import Findings

    findings = Findings()
    _check(arguments, findings)
    status = findings.end()
    main = threading.main_thread()
    if any(t is not main and not t.daemon for t in threading.enumerate()):
        # The application has started threads that would keep this process running.
        sys.stdout.flush()
        os._exit(status)
    return status


def _check(arguments: argparse.Namespace, findings: Findings) -> None:
    from htlogging._cli.check import application, configuration, logs, route, sources
    from htlogging._handler import pipeline_of
    from htlogging._process import capturing, deferred
    from htlogging._process.capturing import is_loopback
    from htlogging._version import __version__

    # Before our own rule: whether a test has started this process.
    testing = capturing.is_in_force()
    python = ".".join(map(str, sys.version_info[:3]))
    console.out(f"htlogging {__version__}, Python {python}")
    with application.held_back() as lines:
        findings.section("Application")
        files = application.load(arguments.app, arguments.django, findings)
        read = sources.Sources(files)
        handlers = configuration.handlers(findings, facade=read.uses_facade)
        configuration.check_environment(findings)
        sources.check_fields(read, findings)
        for handler in handlers:
            configuration.check_settings(handler, findings)
        logs.check(handlers, read, findings)
        deferred.finish()
        findings.section("The log htlogging, meanwhile")
        for line in dict.fromkeys(lines):
            if not findings.covers(line):
                findings.problem(line, "the log htlogging says this at run time, too")
        routes = {
            (settings.host, settings.write_key): settings
            for settings in (pipeline_of(handler).settings for handler in handlers)
            if settings.send
        }
        for settings in routes.values():
            held = testing and not is_loopback(settings.host)
            if held and arguments.send:
                findings.note("a test is running: no test event leaves the machine")
            route.check(settings, findings, send=arguments.send and not held)
