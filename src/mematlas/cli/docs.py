"""Show a page of the documentation: in the pager of a terminal, else as Markdown.

TOPIC is a command, such as run, or another page, such as format. Without TOPIC, the pages are listed.
"""

from __future__ import annotations

import sys
from importlib import resources
from typing import TYPE_CHECKING

from mematlas.cli.parser import suggestion
from mematlas.errors import MematlasError, TargetError

if TYPE_CHECKING:
    import argparse
    from importlib.resources.abc import Traversable

EXAMPLES = ("docs", "docs run")
_TITLED = {"detach": "attach", "docs": "options", "help": "options", "version": "options"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas docs`."""
    parser.add_argument("topic", nargs="?", metavar="TOPIC", help="a command or a page")


def run(arguments: argparse.Namespace) -> int:
    """Print the list of pages, or one page."""
    pages = _read_pages()
    if arguments.topic is None:
        width = max(map(len, pages))
        for topic, text in sorted(pages.items()):
            print(f"{topic:<{width}}  {_title(text)}")
        return 0
    _show(pages[_find(arguments.topic, pages)])
    return 0


def _read_pages() -> dict[str, str]:
    """Return the Markdown of all pages by topic, the name of the file. MematlasError if there are none."""
    folder = resources.files("mematlas").joinpath("docs")
    pages = {
        each.name.removesuffix(".md"): each.read_text("utf-8") for each in _files_below(folder)
    }
    if not pages:
        raise MematlasError("this installation has no documentation; install mematlas again")
    return pages


def _files_below(folder: Traversable) -> list[Traversable]:
    if not folder.is_dir():
        return []
    found = []
    for each in folder.iterdir():
        if each.is_dir():
            found += _files_below(each)
        elif each.name.endswith(".md"):
            found.append(each)
    return found


def _find(asked: str, pages: dict[str, str]) -> str:
    """Return the topic of a page: by its name, else the page whose title names the command."""
    topic = _TITLED.get(asked, asked)
    if topic in pages:
        return topic
    for each, text in pages.items():
        if f"mematlas {topic} " in f"{_title(text)} ":
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
    with console.pager(styles=True):
        console.print(Markdown(text, hyperlinks=False), width=min(console.width, 100))
