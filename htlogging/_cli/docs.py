"""`python -m htlogging docs`: the manual, as it is installed with the package."""

from __future__ import annotations

from importlib.resources import files

from htlogging._cli.errors import Failed
from htlogging._cli.terminal.console import add_example, out, row, terminal_width

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

# Columns of the longest page's name.
_NAME = 17


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "what",
        nargs="*",
        metavar="PAGE",
        help="a page to show, or words to search for; without it, list the pages",
    )
    parser.add_argument(
        "--search",
        action="store_true",
        help="search for the words even if a page has that name",
    )
    add_example(
        parser,
        "python -m htlogging docs",
        "python -m htlogging docs delivery",
        "python -m htlogging docs Retry-After",
    )


def run(arguments: argparse.Namespace) -> int:
    """List the pages, show one, or search all."""
    pages = _pages()
    text = " ".join(arguments.what)
    name = text.lower().removesuffix(".md")
    if not text:
        for page in pages:
            cells = [(page, _NAME), (_task(pages[page]), 0)]
            out(row(cells, terminal_width()))
    elif name in pages and not arguments.search:
        for line in pages[name].splitlines():
            out(line)
    else:
        _search(text, pages)
    return 0


def _pages() -> dict[str, str]:
    """Return the text of each page by its name, in alphabetical order."""
    folder = files("htlogging") / "docs"
    return {
        file.name.removesuffix(".md"): file.read_text("utf-8")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".md")
    }


def _task(page: str) -> str:
    """Return the paragraph after the title, which is one sentence."""
    return " ".join(page.split("\n\n")[1].split())


def _search(text: str, pages: dict[str, str]) -> None:
    """Print each line that has the text, with its page; case makes no difference."""
    found = False
    for page, content in pages.items():
        for number, line in enumerate(content.splitlines(), 1):
            if text.lower() in line.lower():
                found = True
                out(f"{page}:{number}: {line.strip()}")
    if not found:
        raise Failed(
            f"no page has {text!r}; `python -m htlogging docs` lists the pages"
        )
