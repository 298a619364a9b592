"""`python -m htlogging docs`, and what every command's `--help` has."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from htlogging._cli.main import _COMMANDS, main

pytestmark = pytest.mark.once

PACKAGE = Path(__file__).parent.parent / "htlogging"
PAGES = {path.stem: path.read_text("utf-8") for path in (PACKAGE / "docs").glob("*.md")}


def subparsers_of(parser):
    """Yield a parser's subcommands, each with its name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def commands():
    """Yield the words of every command and subcommand, and its parser."""
    for name, (_, add_arguments, _) in _COMMANDS.items():
        parser = argparse.ArgumentParser(prog=f"python -m htlogging {name}")
        add_arguments(parser)
        yield name, parser
        for sub_name, sub in subparsers_of(parser):
            yield f"{name} {sub_name}", sub


COMMANDS = list(commands())


class TestDocs:
    def test_list(self, capsys):
        """Without a page it lists all, each with what it is about."""
        assert main(["docs"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == sorted(PAGES)
        assert all(len(line.split()) > 3 for line in lines)

    @pytest.mark.parametrize("page", PAGES)
    def test_page(self, page, capsys):
        """A page is shown as it is."""
        assert main(["docs", page]) == 0
        assert capsys.readouterr().out == PAGES[page]

    @pytest.mark.parametrize("name", ["Spool", "spool.md"])
    def test_page_by_a_similar_name(self, name, capsys):
        """Capital letters and the file's ending make no difference."""
        assert main(["docs", name]) == 0
        assert capsys.readouterr().out == PAGES["spool"]

    def test_search(self, capsys):
        """Anything else is searched for, and found with its page and line."""
        assert main(["docs", "retry-after"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert any(line.startswith("delivery:") for line in lines)
        for line in lines:
            page, number, text = line.split(":", 2)
            assert PAGES[page].splitlines()[int(number) - 1].strip() == text.strip()
            assert "retry-after" in text.lower()

    def test_search_for_several_words(self, capsys):
        """Words without quotes are one text."""
        assert main(["docs", "dead", "letter"]) == 0
        assert "dead letter" in capsys.readouterr().out.lower()

    def test_search_for_a_page_name(self, capsys):
        """`--search` searches where a page has that name."""
        assert main(["docs", "--search", "spool"]) == 0
        assert "settings:" in capsys.readouterr().out

    def test_nothing_found(self, capsys):
        """A text that is nowhere is an error that says how to go on."""
        assert main(["docs", "no such words"]) == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err == (
            "error: no page has 'no such words'; "
            "`python -m htlogging docs` lists the pages\n"
        )


class TestEnglish:
    # Words for which the house style has a plainer one.
    BANNED = re.compile(
        r"(?i)\b(?:shall|nobody|somebody|anybody|so many|mend|mended|tell whether"
        r"|for want of|to be had)\b"
    )

    @pytest.mark.parametrize("page", PAGES)
    def test_page(self, page):
        """No page of the manual has a word that must be read twice."""
        assert not self.BANNED.findall(PAGES[page])

    def test_source(self):
        """Nor has a docstring, a comment or a message."""
        found = {
            path.name: self.BANNED.findall(path.read_text("utf-8"))
            for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.html")]
        }
        assert not {name: words for name, words in found.items() if words}

    @pytest.mark.parametrize(("words", "parser"), COMMANDS)
    def test_help(self, words, parser):
        """No help of a command has one either."""
        del words
        assert not self.BANNED.findall(parser.format_help())


class TestHelp:
    @pytest.mark.parametrize(("words", "parser"), COMMANDS)
    def test_example(self, words, parser):
        """Every command's help has an example that the command can read."""
        shown = parser.format_help()
        examples = re.findall(r"(?m)^  python -m htlogging (.*)$", shown)
        assert examples
        assert any(line.startswith(words) for line in examples)

    @pytest.mark.parametrize(("words", "parser"), COMMANDS)
    def test_options_are_explained(self, words, parser):
        """Every option and argument has a sentence."""
        del words
        for action in parser._actions:
            if not isinstance(action, argparse._SubParsersAction):
                assert action.help, action
