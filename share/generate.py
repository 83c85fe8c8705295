"""Write the manual pages and the shell completions of mematlas, made from its argument parsers.

    python share/generate.py list              the names of the manual pages, for Meson
    python share/generate.py FOLDER            the manual pages, and completions for bash, zsh and fish

The build runs this before the compiled core exists, so its module is replaced by one without functions.
"""

from __future__ import annotations

import argparse
import os
import sys
import types
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

SOURCES = Path(__file__).resolve().parents[1] / "src"

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.cli.parser import Parser

EXIT_STATUS = """\
run and exec return the exit status of the program. The other commands return 0, or 1 if they failed, 2 for an
invalid request, 3 if the process or file does not exist, 4 if the kernel refuses access (the message names what
would allow it), and 5 if this kernel lacks the interface."""
PREAMBLE_OF_BASH = """\
_mematlas_pids() {
  compgen -W "$(cd /proc && echo [0-9]*)" -- "$1"
}
_mematlas_programs() {
  compgen -c -- "$1"
}"""
COMPLETERS: dict[str, dict[str, str]] = {
    "PID": {"bash": "_mematlas_pids", "zsh": "_pids", "fish": "(__fish_complete_pids)"},
    "COMMAND": {
        "bash": "_mematlas_programs",
        "zsh": "_command_names -e",
        "fish": "(__fish_complete_command)",
    },
}
FILES = frozenset(("RECORDING", "BEFORE", "AFTER", "FILE", "PATH"))


class _Absent:
    """Stands for the compiled core while parsers are built: any function returns the ABI version."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments, **_settings: 2


def import_parsers() -> Any:
    """Return the module with the parsers, imported from the sources without the compiled core."""
    if "mematlas" not in sys.modules:
        sys.path.insert(0, str(SOURCES))
        sys.meta_path.insert(0, PathFinder)  # before that of an editable install, which would build
        native: Any = types.ModuleType("mematlas._native")
        native.ffi, native.lib = _Absent(), _Absent()
        sys.modules[native.__name__] = native
    from mematlas.cli import parser

    return parser


def manual_pages() -> Iterator[tuple[str, str]]:
    """Yield the file name and the text of each manual page."""
    parsers = import_parsers()
    commands = parsers.commands.COMMANDS
    names = [f"mematlas-{each.name}" for each in commands]
    yield (
        "mematlas.1",
        _page(parsers.top_parser(), "account for the memory of Linux programs", names),
    )
    for command in commands:
        parser, _ = parsers.command_parser(command)
        parser.prog = f"mematlas-{command.name}"
        yield f"{parser.prog}.1", _page(parser, command.summary, ["mematlas"])


def _page(parser: Parser, summary: str, related: list[str]) -> str:
    from argparse_manpage.manpage import Manpage

    from mematlas._version import __version__

    usage = parser.usage or parser.format_usage().removeprefix("usage: ").strip()
    epilog, parser.epilog = parser.epilog or "", None
    page = Manpage(
        parser,
        {
            "project_name": "mematlas",
            "version": __version__,
            "manual_title": "mematlas",
            "description": summary,
        },
    )
    page.synopsis = usage.replace("mematlas-", "mematlas ").split()
    page.add_section("description", "=", "")
    lists, _, examples = f"\n{epilog}".partition("\nexamples:\n")
    for heading, shown in (("details" if examples else "commands", lists), ("examples", examples)):
        if shown.strip():
            page.add_section(heading, "=", _preformatted(shown.strip("\n")))
    page.add_section("exit status", "=", EXIT_STATUS)
    page.add_section("see also", "=", ", ".join(f"\\fB{each}\\fR(1)" for each in related))
    return str(page)


def _preformatted(text: str) -> str:
    """Return roff that shows lists and examples as they are."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    lines = ("\\&" + line if line.startswith((".", "'")) else line for line in safe.splitlines())
    return "\n".join((".nf", *lines, ".fi"))


def completions() -> Iterator[tuple[str, str]]:
    """Yield the file name and the text of the completions of each shell."""
    import shtab

    parser = import_parsers().whole_parser()
    _name_completers(parser, shtab)
    for shell, name in (("bash", "mematlas.bash"), ("zsh", "_mematlas"), ("fish", "mematlas.fish")):
        text = shtab.complete(parser, shell=shell, preamble={"bash": PREAMBLE_OF_BASH})
        yield name, text
        yield f"completion.{shell}", text


def _name_completers(parser: argparse.ArgumentParser, shtab: Any) -> None:
    """Attach to each argument what completes it: files, folders, processes or programs."""
    for action in parser._actions:  # noqa: SLF001 - has no public name
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for part in action.choices.values():
                _name_completers(part, shtab)
        elif action.metavar == "DIR":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif isinstance(action.metavar, str) and action.metavar in COMPLETERS:
            action.complete = COMPLETERS[action.metavar]  # type: ignore[attr-defined]


def main(target: str) -> None:
    """Print the names of the manual pages, or write all files into a folder."""
    if target == "list":
        commands = import_parsers().commands.COMMANDS
        print("mematlas.1", *(f"mematlas-{each.name}.1" for each in commands), sep="\n")
        return
    for name, text in (*manual_pages(), *completions()):
        (Path(target) / name).write_text(text)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    os.environ["COLUMNS"] = "80"  # else the usage of the terminal that builds
    main(sys.argv[1])
