"""The README and the manual are true: their code is run, their tables compared."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from script_runner import HANG, python

from htlogging import _settings
from htlogging._delivery.retry import Verdict, judge
from htlogging._event import builder
from htlogging._version import __version__

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DOCS = ROOT / "htlogging" / "docs"
PAGES = {path.stem: path.read_text("utf-8") for path in sorted(DOCS.glob("*.md"))}

# What stands right before a block says what it does; readers do not see it.
_BLOCK = re.compile(
    r"(?:^<!-- (?P<does>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)

LANGUAGES = {"python", "json", "sh", "console", "ini", "text", "diff"}


class Block(NamedTuple):
    """A code block, and where it begins."""

    page: str
    line: int
    does: str
    language: str
    code: str

    def __repr__(self) -> str:
        return f"{self.page}-{self.line}"


BLOCKS = [
    Block(
        page,
        text.count("\n", 0, found.start("code")),
        found["does"] or "",
        found["language"],
        found["code"],
    )
    for page, text in {"README": README, **PAGES}.items()
    for found in _BLOCK.finditer(text)
]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def that(verb):
    """Return the Python blocks that are marked so."""
    return [block for block in PYTHON if block.does.partition(":")[0] == verb]


def run(*arguments, cwd, **environ):
    """Run Python to its end, warnings being errors; return what it printed."""
    environ = {"PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "error", **environ}
    done = python(*arguments, cwd=cwd, **environ)
    assert done.status == 0, done.out + done.err
    assert done.err == ""
    return done.out


def run_block(block, collector, tmp_path):
    """Run a block as a file, with a collector to send to; return what it printed."""
    path = tmp_path / "block.py"
    path.write_text(block.code, "utf-8")
    return run(
        path,
        cwd=tmp_path,
        HTEVENTS_HOST=collector.url,
        HTEVENTS_WRITE_KEY="WRITE_KEY",
    )


def name_of(event):
    """Return what a page calls an event by: its name, or its type."""
    return event.get("event", event["type"])


def lasting(event):
    """Return an event without what differs from run to run."""
    return {k: v for k, v in event.items() if k not in ("timestamp", "messageId")}


def without_moments(text):
    """Return what was printed, without what differs from run to run."""
    text = re.sub(r"after [0-9.]+ s", "after … s", text)
    text = re.sub(r"127\.0\.0\.1:[0-9]+", "127.0.0.1:…", text)
    text = re.sub(r'"timestamp":"[^"]+"', '"timestamp":"…"', text)
    return re.sub(r'"messageId":"[^"]+"', '"messageId":"…"', text)


def after(block):
    """Return the block that stands next on the page."""
    return BLOCKS[BLOCKS.index(block) + 1]


def table(page, title):
    """Return the rows of the first table after a heading, each a list of cells."""
    section = PAGES[page].partition(f"# {title}\n")[2]
    lines = section[section.index("\n|") :].lstrip("\n").partition("\n\n")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines.splitlines()
    ]
    assert len({len(row) for row in rows}) == 1, "a cell holds a |"
    return rows[2:]


def code_in(cell):
    """Return what a cell shows as code, the first of it."""
    found = re.search(r"`([^`]+)`", cell)
    assert found is not None, cell
    return found[1]


def is_refused(name):
    """Return whether `extra=` refuses a name."""
    logger = logging.Logger("test")  # noqa: LOG001  (not kept)
    logger.addHandler(logging.NullHandler())
    try:
        logger.info("message", extra={name: 1})
    except KeyError:
        return True
    return False


class TestCode:
    def test_every_block_has_its_kind(self):
        """Each block has a language, and each Python block says what it does."""
        assert {block.language for block in BLOCKS} == LANGUAGES
        marked = [*that("sends"), *that("prints"), *that("pytest"), *that("as")]
        assert sorted(marked) == sorted(PYTHON)

    @pytest.mark.parametrize("block", that("sends"), ids=repr)
    @pytest.mark.once
    def test_sends(self, block, collector, tmp_path):
        """The events that the page promises arrive, in order, each once."""
        assert run_block(block, collector, tmp_path) == ""
        promised = block.does.partition(": ")[2].split(", ")
        assert [name_of(event) for event in collector.events] == promised
        assert collector.problems == []
        assert {r.write_key for r in collector.requests} == {"WRITE_KEY"}

    @pytest.mark.parametrize("block", that("prints"), ids=repr)
    @pytest.mark.once
    def test_prints(self, block, collector, tmp_path):
        """What the page shows after the code is what it prints; nothing else is sent."""
        printed = run_block(block, collector, tmp_path)
        shown = after(block)
        assert shown.language == "text"
        assert without_moments(printed) == without_moments(shown.code)
        assert collector.requests == []

    @pytest.mark.parametrize("block", that("pytest"), ids=repr)
    @pytest.mark.once
    def test_tests(self, block, tmp_path):
        """Tests on the page pass, all of them."""
        path = tmp_path / "test_block.py"
        path.write_text(block.code, "utf-8")
        options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull]
        printed = run("-m", "pytest", *options, path, cwd=tmp_path)
        count = len(re.findall(r"def test_", block.code))
        assert f"{count} passed" in printed

    @pytest.mark.parametrize("block", that("as"), ids=repr)
    def test_is_tested(self, block):
        """What needs a server or another library is, line by line, what its test runs."""
        tested = (ROOT / block.does.partition(": ")[2]).read_text("utf-8")
        lines = [line.partition("  # noqa")[0].strip() for line in tested.splitlines()]
        for line in block.code.splitlines():
            assert line.strip() in ("", "...", *lines)

    @pytest.mark.once
    def test_three_ways_send_one_event(self, collector, tmp_path):
        """The three ways of the quickstart send the event that it shows."""
        for block in [b for b in that("sends") if b.page == "quickstart"][:3]:
            run_block(block, collector, tmp_path)
        (shown,) = (json.loads(b.code) for b in BLOCKS if b.language == "json")
        assert [lasting(event) for event in collector.events] == [lasting(shown)] * 3
        assert shown.keys() == collector.events[0].keys()
        assert shown["context"]["library"]["version"] == __version__

    @pytest.mark.once
    def test_formatter_of_the_shop(self, collector, tmp_path):
        """The subclass on the page changes what the handler sends."""
        (block,) = (b for b in that("sends") if "process_log_record" in b.code)
        run_block(block, collector, tmp_path)
        (event,) = collector.events
        assert event["context"]["app"] == {"name": "shop"}


@pytest.mark.skipif(os.name != "posix", reason="signals and file locks are POSIX")
@pytest.mark.once
class TestLosses:
    """What the page says is lost; tests/test_lives.py has what arrives."""

    SCRIPT = """
import multiprocessing, os, signal, sys
from htlogging import htevents

def log(name):
    htevents.spool = os.environ.get("SPOOL")
    htevents.upload_interval = 60
    htevents.track("user123", "flushed")
    assert htevents.flush()
    htevents.track("user123", name)

def child(ready):
    log("queued")
    ready.set()
    signal.pause()

if __name__ == "__main__":
"""
    TERMINATE = """
    multiprocessing.set_start_method("spawn")
    ready = multiprocessing.Event()
    process = multiprocessing.Process(target=child, args=(ready,))
    process.start()
    ready.wait()
    process.terminate()
    process.join()
"""

    ENDS = pytest.mark.parametrize(
        "end",
        [
            '    log("queued"); os.kill(os.getpid(), signal.SIGTERM)',
            '    log("queued"); os.kill(os.getpid(), signal.SIGKILL)',
            '    log("queued"); os._exit(0)',
            '    log("queued"); os.execv(sys.executable, [sys.executable, "-c", ""])',
            TERMINATE,
        ],
    )

    def run(self, script, collector, tmp_path, **environ):
        """Run a script to whatever end it has; return the names of all events."""
        path = tmp_path / "script.py"
        path.write_text(script, "utf-8")
        environ |= {"HTEVENTS_HOST": collector.url, "HTEVENTS_WRITE_KEY": "WRITE_KEY"}
        subprocess.run(
            [sys.executable, path],
            env={**os.environ, **environ},
            timeout=HANG,
            check=False,
        )
        return [name_of(event) for event in collector.events]

    @ENDS
    def test_memory(self, end, collector, tmp_path):
        """What was flushed has arrived; what was queued at such an end has not."""
        assert self.run(self.SCRIPT + end, collector, tmp_path) == ["flushed"]

    @ENDS
    def test_spool(self, end, collector, tmp_path):
        """With a spool the next process delivers it."""
        spool = str(tmp_path / "spool")
        names = self.run(self.SCRIPT + end, collector, tmp_path, SPOOL=spool)
        assert names == ["flushed"]
        names = self.run(
            self.SCRIPT + '    log("next"); htevents.flush()',
            collector,
            tmp_path,
            SPOOL=spool,
        )
        assert sorted(names) == ["flushed", "flushed", "next", "queued"]


class TestPages:
    def test_readme_is_short(self):
        """The README is at most 8,000 bytes; all else is in the manual."""
        assert len(README.encode()) <= 8_000

    def test_readme_lists_every_page(self):
        """The README's list of pages is the manual's."""
        linked = re.findall(r"\(htlogging/docs/([a-z-]+)\.md\) \|", README)
        assert sorted(linked) == sorted(PAGES)

    @pytest.mark.parametrize("page", PAGES)
    def test_has_one_title(self, page):
        """A page begins with its title, and has only one."""
        text = _BLOCK.sub("", PAGES[page])
        assert text.startswith("# ")
        assert len(re.findall(r"(?m)^# ", text)) == 1

    @pytest.mark.parametrize("page", PAGES)
    def test_begins_with_the_task(self, page):
        """The first paragraph is one line that says what the page is for."""
        begin = PAGES[page].split("\n\n")[1]
        assert re.fullmatch(r"[A-Z].{20,98}\.", begin), begin

    @pytest.mark.parametrize(
        "path", [ROOT / "README.md", ROOT / "examples/README.md", *DOCS.glob("*.md")]
    )
    def test_links(self, path):
        """Each link leads to a file, and to a heading in it where it names one."""
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", path.read_text("utf-8")):
            name, _, anchor = target.partition("#")
            file = path.parent / name if name else path
            assert file.exists(), target
            headings = re.findall(r"(?m)^#+ (.*)$", file.read_text("utf-8"))
            slugs = [
                re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings
            ]
            assert not anchor or anchor in slugs, target

    def test_examples_are_listed(self):
        """The list of examples has every file and every folder."""
        listed = (ROOT / "examples" / "README.md").read_text("utf-8")
        for path in (ROOT / "examples").iterdir():
            if path.name not in ("README.md", "__pycache__"):
                begin = f"({path.name}/" if path.is_dir() else f"({path.name})"
                assert begin in listed, path


class TestCommands:
    @pytest.mark.parametrize("ending", ["htlogging demo", "pytest"])
    def test_set_up(self, ending):
        """The two commands stand alone on a line, for people and for `.ci/run`."""
        found = re.findall(rf"(?m)^python3 -m venv .* -m {ending}( -n auto)?$", README)
        assert len(found) == 1

    @pytest.mark.once
    def test_collect(self, tmp_path):
        """The page names the options of `collect` and `run`, all of them and no others."""
        commands = ("collect", "run")
        shown = "".join(
            run("-m", "htlogging", name, "--help", cwd=tmp_path) for name in commands
        )
        options = set(re.findall(r"`(--[a-z-]+)`", PAGES["collector"]))
        assert options == set(re.findall(r"--[a-z-]+", shown)) - {"--help"}


class TestFields:
    def test_keys(self):
        """The table of extras has every `ht_` field, and no other."""
        keys = [code_in(row[0]) for row in table("record-fields", "Record fields")]
        assert len(keys) == len(set(keys))
        assert set(keys) == builder.FIELDS

    def test_refused_names(self):
        """The names on the page are those that this Python refuses."""
        section = PAGES["record-fields"].partition("## Names that `extra=` refuses\n")[
            2
        ]
        listed = re.findall(r"`(\w+)`", section.split("\n\n")[1])
        assert len(listed) == len(set(listed))
        tried = {*vars(logging.makeLogRecord({})), "message", "asctime", *listed}
        refused = {name for name in tried if is_refused(name)}
        since_3_12 = {"taskName"} if sys.version_info < (3, 12) else set()
        assert set(listed) - since_3_12 == refused


class TestSettings:
    ROWS = table("settings", "Settings")

    def test_names_and_defaults(self):
        """The table has every setting, in the order of the code, with its default."""
        shown = {code_in(r[0]): ast.literal_eval(code_in(r[1])) for r in self.ROWS}
        assert list(shown.items()) == list(_settings.DEFAULTS.items())

    @pytest.mark.parametrize(
        ("name", "bounds"),
        [
            (name, row.check.bounds)
            for name, row in _settings.TABLE.items()
            if hasattr(row.check, "bounds")
        ],
    )
    def test_ranges(self, name, bounds):
        """The range of a number is the one that is checked."""
        (cell,) = (r[3] for r in self.ROWS if code_in(r[0]) == name)
        found = re.search(r"([0-9.]+) to ([0-9.]+)$", cell)
        assert found is not None, cell
        assert (float(found[1]), float(found[2])) == bounds

    def test_environment(self):
        """The variables stand beside the settings that they set."""
        shown = {code_in(r[0]): code_in(r[2]) for r in self.ROWS if r[2]}
        assert shown == {
            name: row.variable for name, row in _settings.TABLE.items() if row.variable
        }


@pytest.mark.once
class TestSymptoms:
    SCRIPT = """
import logging, sys
from htlogging import HtEventsHandler, htevents
from htlogging._process import deferred
from htlogging.collector import Collector, Reply
from htlogging.htevents import Client

logging.basicConfig(stream=sys.stdout, format="%(message)s")
logging.getLogger("htevents").propagate = False

with Collector() as collector:
    for status in (401, 404, 301, 400):
        collector.script(status)
        client = Client("K", host=collector.url)
        client.track("u", "e")
        client.join()
    collector.always(Reply(delay=0.5))
    client = Client("K", host=collector.url, max_queue_size=1)
    client.track("u", "e")
    client.track("u", "e")
    client.join()
    handler = HtEventsHandler(write_key="K", host=collector.url)
    log = logging.getLogger("htevents.orders")
    log.addHandler(handler)
    log.warning("e")
    log.warning("e", extra={"ht_user_id": "u", "ht_usr_id": "u"})
    shop = logging.getLogger("htevents.orders.shop")
    shop.addHandler(HtEventsHandler(write_key="K", host=collector.url))
    shop.warning("e", extra={"ht_user_id": "u"})
    other = HtEventsHandler(write_key="K", host=collector.url)
    logging.root.addHandler(other)
    logging.getLogger("x").warning("e", extra={"fields": {"ht_user_id": "u"}})
    logging.getLogger("basket").info("e", extra={"ht_user_id": "u"})
    deferred.finish()
    logging.root.removeHandler(other)
    logging.getLogger("shop").warning("e", extra={"ht_user_id": "u"})
    htevents.flush()
    shop.handlers.clear()
    old = {"Date": "Mon, 01 Jan 2024 00:00:00 GMT"}
    collector.script(Reply(200, body=b"<html>", headers=old))
    client = Client("K", host=collector.url)
    client.track("u", "e")
    client.join()
    collector.always(None)
    htevents.write_key, htevents.host = "K", collector.url
    htevents.track("u", "e")
    htevents.timeout = 3
    htevents.track("u", "e")
    htevents.default_client = None
    logging.getLogger("htevents").handlers[:] = [handler]
    htevents.track("u", "e")
    htevents.join()
for settings in ({}, {"spool": "spool"} if sys.platform != "win32" else {}):
    client = Client("K", host="http://127.0.0.1:9", shutdown_timeout=0.1, **settings)
    client.track("u", "e")
    client.flush(1)
    client.join()
    if settings:
        with open("spool", "r+b") as file:
            file.write(b"x" * 100)
        client = Client("K", host="http://127.0.0.1:9", **settings, shutdown_timeout=0.1)
        client.track("u", "e")
        client.join()
"""

    def test_lines(self, tmp_path):
        """The lines of the log that the page names are those that there are."""
        path = tmp_path / "script.py"
        path.write_text(self.SCRIPT, "utf-8")
        printed = run(path, cwd=tmp_path).splitlines()
        quoted = re.findall(r"(?m)^\| `([^`]*…[^`]*)`", PAGES["nothing-arrives"])
        # Not a call, nor a line that only the vendor's own hosts cause.
        other = ("log.", "the first answer from")
        lines = [text for text in quoted if not text.startswith(other)]
        assert len(lines) > 9
        for text in lines:
            pattern = ".*".join(re.escape(part) for part in text.split("…"))
            plural = pattern.replace("events", "events?").replace("stay", "stays?")
            assert [line for line in printed if re.search(plural, line)], text


class TestAnswers:
    OUTCOMES = (
        ("delivered", Verdict.DELIVERED),
        ("sent again uncompressed", Verdict.UNCOMPRESSED),
        ("sent again", Verdict.RETRY),
        ("halved", Verdict.SPLIT),
        ("given up", Verdict.GIVE_UP),
    )

    @pytest.mark.parametrize("row", table("delivery", "What an answer does"), ids=repr)
    def test_table(self, row):
        """A row of the table says what the policy does with each of its statuses."""
        answer, text = row
        (verdict, *_) = [v for begin, v in self.OUTCOMES if text.startswith(begin)]
        events = 2 if "more than one" in answer else 1
        for status in re.findall(r"\b[1-5](?:xx|\d\d)\b", answer):
            hundreds = int(status[0]) * 100
            some = (0, 2, 9) if status.endswith("xx") else (int(status[1:]),)
            compressed = "gzipped" in answer
            assert {
                judge(hundreds + rest, events, compressed=compressed) for rest in some
            } == {verdict}
