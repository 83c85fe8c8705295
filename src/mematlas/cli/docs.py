"""Show a page of the documentation: in the pager of a terminal, else as Markdown.

TOPIC is a command, such as run, or another page, such as format. Without TOPIC, the pages are listed. With --web the page
opens in the browser, on the site whose address is in MEMATLAS_DOCS_URL.
"""

from __future__ import annotations

import os
import sys
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from mematlas.cli.parser import suggestion
from mematlas.errors import MematlasError, TargetError, UnsupportedError, UsageError

if TYPE_CHECKING:
    import argparse
    from importlib.resources.abc import Traversable

EXAMPLES = ("docs", "docs run")
_TITLED = {"detach": "attach", "docs": "options", "help": "options", "version": "options"}


class Page(NamedTuple):
    """A page of the documentation: its path below the documentation without a suffix, and its Markdown."""

    path: str
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas docs`."""
    parser.add_argument("topic", nargs="?", metavar="TOPIC", help="a command or a page")
    parser.add_argument(
        "--web", action="store_true", help="open the page of the site at MEMATLAS_DOCS_URL"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the list of pages, or one page."""
    pages = _read_pages()
    if arguments.web:
        path = pages[_find(arguments.topic, pages)].path if arguments.topic else "index"
        _open(path)
    elif arguments.topic:
        _show(pages[_find(arguments.topic, pages)].text)
    else:
        width = max(map(len, pages))
        for topic, page in sorted(pages.items()):
            print(f"{topic:<{width}}  {_title(page.text)}")
    return 0


def _open(path: str) -> None:
    """Open a page of the site in the browser."""
    import webbrowser

    site = os.environ.get("MEMATLAS_DOCS_URL", "")
    if not site.startswith(("https://", "http://", "file://")):
        raise UsageError("set MEMATLAS_DOCS_URL to the address of the site, or leave --web out")
    address = f"{site.rstrip('/')}/{path}.html"
    if not webbrowser.open(address):
        raise UnsupportedError(f"no browser was found; open {address} yourself, or set $BROWSER")


def _read_pages() -> dict[str, Page]:
    """Return all pages by topic, the name of the file. MematlasError if there are none."""
    folder = resources.files("mematlas").joinpath("docs")
    pages = {
        path.rpartition("/")[2]: Page(path, each.read_text("utf-8"))
        for path, each in _files_below(folder)
    }
    if not pages:
        raise MematlasError("this installation has no documentation; install mematlas again")
    return pages


def _files_below(folder: Traversable, above: str = "") -> list[tuple[str, Traversable]]:
    """Return the pages of a folder, with their paths without a suffix."""
    if not folder.is_dir():
        return []
    found = []
    for each in folder.iterdir():
        if each.is_dir():
            found += _files_below(each, f"{above}{each.name}/")
        elif each.name.endswith(".md"):
            found.append((above + each.name.removesuffix(".md"), each))
    return found


def _find(asked: str, pages: dict[str, Page]) -> str:
    """Return the topic of a page: by its name, else the page whose title names the command."""
    topic = _TITLED.get(asked, asked)
    if topic in pages:
        return topic
    for each, page in pages.items():
        if f"mematlas {topic} " in f"{_title(page.text)} ":
            return each
    hint = suggestion(topic, pages) or "; `mematlas docs` lists the pages"
    raise TargetError(f"there is no page {asked!r}{hint}")


def _title(text: str) -> str:
    return text.partition("\n")[0].removeprefix("# ").replace("`", "")


def _show(text: str) -> None:
    if not sys.stdout.isatty():
        sys.stdout.write(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    console.print(Markdown(text, hyperlinks=False), width=min(console.width, 100))
