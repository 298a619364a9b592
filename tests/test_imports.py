"""The public names, and what importing them costs."""

import ast
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import htlogging

NAMES = [
    "HtEventsHandler",
    "HtEventsFormatter",
    "htevents",
    "bind",
    "bound",
    "unbind",
    "clear",
    "get",
    "InvalidEvent",
    "EventTooLarge",
    "InvalidSetting",
    "DeliveryError",
    "__version__",
]

CALLS = "identify track page screen group alias flush join shutdown".split()

# Slow to import, or needed by some only. The thread that sends imports requests.
HEAVY = {
    "aiohttp",
    "asgiref",
    "asyncio",
    "celery",
    "concurrent.futures",
    "dataclasses",
    "decimal",
    "difflib",
    "django",
    "email",
    "flask",
    "htlogging.integrations",
    "http",
    "inspect",
    "importlib",
    "json",
    "numpy",
    "opcode",
    "orjson",
    "pythonjsonlogger",
    "requests",
    "signal",
    "sqlite3",
    "typing",
    "typing_extensions",
    "urllib3",
    "uuid",
}


def modules_after(statements):
    """Return the modules of a fresh interpreter after these statements."""
    script = f"{statements}\nimport sys, json; print(json.dumps(list(sys.modules)))"
    # Isolated, and without `site`, which may import anything: the paths are ours.
    home = str(Path(htlogging.__file__).parent.parent)
    paths = [home, *filter(None, sys.path)]
    script = f"import sys; sys.path[:0] = {paths!r}\n{script}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", script],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def all_of(tree):
    """Return the source of a module's `__all__`; empty if it has none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.unparse(node.value).replace("'", '"')
    return ""


class TestNames:
    @pytest.mark.parametrize("name", NAMES)
    def test_are_importable(self, name):
        """Every promised name can be had from the package, and is in its list."""
        assert getattr(htlogging, name) is not None
        assert name in htlogging.__all__
        assert getattr(import_module("htlogging"), name) is getattr(htlogging, name)

    def test_of_the_list_are_there(self):
        """`__all__` names nothing that is not there."""
        assert [
            name for name in htlogging.__all__ if not hasattr(htlogging, name)
        ] == []
        assert len(set(htlogging.__all__)) == len(htlogging.__all__)

    @pytest.mark.parametrize(
        "name", ["collector", "htevents", "integrations", "testing", "types"]
    )
    def test_modules(self, name):
        """The public modules are there without an import of their own, and in `dir`."""
        script = f"import htlogging as h; assert {name!r} in dir(h); h.{name}.__name__"
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)

    def test_star_import(self):
        """`from htlogging import *` brings the names of the list."""
        space = {}
        exec("from htlogging import *", space)
        assert set(htlogging.__all__) <= set(space)

    def test_facade(self):
        """The facade is a module, with the calls and the class of clients."""
        from htlogging import htevents
        from htlogging.htevents import Client

        assert htevents is sys.modules["htlogging.htevents"] is htlogging.htevents
        assert htevents.Client is Client
        for name in CALLS:
            assert callable(getattr(htevents, name))
            assert callable(getattr(Client, name))

    def test_of_classes_are_their_public_ones(self):
        """`dictConfig` and pickle find the classes where users do."""
        from logging.config import BaseConfigurator

        resolve = BaseConfigurator({}).resolve
        assert resolve("htlogging.HtEventsHandler") is htlogging.HtEventsHandler
        assert resolve("htlogging.HtEventsFormatter") is htlogging.HtEventsFormatter

    def test_unknown_one(self):
        """A name that there is not is an AttributeError, as of any module."""
        with pytest.raises(AttributeError, match="HtEventHandler"):
            _ = htlogging.HtEventHandler
        with pytest.raises(ImportError):
            exec("from htlogging import HtEventHandler")

    def test_promises_are_in_the_lists(self):
        """A public module defines no public function or class that `__all__` omits."""
        package = Path(htlogging.__file__).parent
        omitted = []
        for path in package.rglob("*.py"):
            where = path.relative_to(package).with_suffix("").parts
            if any(part.startswith("_") and part != "__init__" for part in where):
                continue
            tree = ast.parse(path.read_text("utf-8"))
            promised = re.findall(r'"(\w+)"', all_of(tree))
            omitted += [
                f"{'.'.join(where)}.{node.name}"
                for node in tree.body
                if isinstance(node, (ast.FunctionDef, ast.ClassDef))
                and not node.name.startswith("_")
                and node.name not in promised
            ]
        assert not omitted

    def test_version(self):
        """The version is that of the installed distribution."""
        from importlib.metadata import version

        assert htlogging.__version__ == version("htlogging")


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "bases"),
        [
            ("InvalidEvent", (ValueError, AssertionError)),
            ("EventTooLarge", (htlogging.InvalidEvent, RuntimeError)),
            ("InvalidSetting", (ValueError, AssertionError)),
            ("DeliveryError", (Exception,)),
        ],
    )
    def test_bases(self, name, bases):
        """Each error can be caught by what the contract says it is, too."""
        for base in bases:
            assert issubclass(getattr(htlogging, name), base)


class TestCost:
    @pytest.mark.parametrize(
        "statements",
        [
            "import htlogging",
            "from htlogging import HtEventsHandler",
            "from htlogging import htevents",
            "from htlogging.htevents import Client",
            "import htlogging; htlogging.bind(ht_user_id=1)",
        ],
    )
    def test_of_import(self, statements):
        """Importing brings in nothing heavy beyond what `logging` itself does."""
        baseline = modules_after("import logging.handlers, contextvars, weakref")
        assert (modules_after(statements) - baseline) & HEAVY == set()

    def test_of_what_a_handler_needs(self):
        """What stands behind a handler is imported with the facade or the first handler."""
        parts = ("_delivery", "_queue", "_report", "_stats")
        prefixes = tuple(f"htlogging.{part}" for part in parts)
        after = modules_after("import htlogging")
        assert [name for name in after if name.startswith(prefixes)] == []
        # Each takes 0.3 % of the time of the import.
        assert len([name for name in after if name.startswith("htlogging")]) <= 36

    def test_of_a_handler(self):
        """Making a handler does not either: sending is what needs requests."""
        baseline = modules_after("import logging.handlers, contextvars, weakref")
        after = modules_after(
            "import htlogging; htlogging.HtEventsHandler(write_key='K')"
        )
        assert (after - baseline) & HEAVY == set()

    def test_of_an_event_with_plain_values(self):
        """An event that is not sent needs neither requests nor python-json-logger."""
        after = modules_after(
            "from htlogging import htevents; htevents.send = False\n"
            "assert htevents.track('u', 'e', {'n': 1.5, 'l': [True, None]})[0]"
        )
        assert after & {"requests", "urllib3", "pythonjsonlogger", "asyncio"} == set()

    def test_of_a_process_with_one_event(self, collector):
        """Sending needs no module beyond those of `requests`; ours are few."""
        event = (
            "from htlogging.htevents import Client\n"
            f"client = Client('K', host={collector.url!r})\n"
            "assert client.track('u', 'e')[0] and client.flush(30)"
        )
        after = modules_after(event)
        ours = {name for name in after if name.startswith("htlogging")}
        least = modules_after("import requests, logging.handlers, contextvars, gc")
        assert after - least - ours == set()
        # Each takes 0.1 % of the process's time. Merge some before you raise this.
        assert len(ours) <= 68

    def test_of_a_forked_job(self, collector):
        """What a task queue's worker has imported, its jobs' processes need not."""
        prepare = (
            "from htlogging.integrations._delivery import import_all; import_all()"
        )
        event = (
            "from htlogging.htevents import Client\n"
            f"client = Client('K', host={collector.url!r})\n"
            "assert client.track('u', 'e')[0] and client.flush(30)"
        )
        before, after = modules_after(prepare), modules_after(f"{prepare}\n{event}")
        assert {
            name for name in after - before if name.startswith("htlogging")
        } == set()
