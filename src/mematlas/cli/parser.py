"""Argument parsers of the command line: help with examples, and errors that suggest a word."""

from __future__ import annotations

import argparse
import os
import textwrap
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from mematlas._version import __version__
from mematlas.cli import commands
from mematlas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType

SUMMARY = (
    "mematlas accounts for every resident byte of a Linux program and names the line that owns it."
)


class HelpFormatter(argparse.HelpFormatter):
    """Wraps paragraphs, and keeps those that are lists: lines that begin with two spaces."""

    def __init__(self, prog: str, **options: Any) -> None:
        """Use the width of the terminal: argparse makes a formatter for each option, and imports shutil to ask."""
        super().__init__(prog, **{"width": _columns() - 2, **options})

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = textwrap.dedent(text).strip().split("\n\n")
        return "\n\n".join(
            textwrap.indent(each, indent)
            if "\n  " in each
            else textwrap.fill(each, width, initial_indent=indent, subsequent_indent=indent)
            for each in paragraphs
        )


@cache
def _columns() -> int:
    """Return the columns of the terminal, as shutil.get_terminal_size does: COLUMNS, or the terminal's own."""
    asked = os.environ.get("COLUMNS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


class Parser(argparse.ArgumentParser):
    """A parser whose errors are UsageErrors of one line, with the word that was probably meant."""

    def __init__(self, **settings: Any) -> None:
        """Accept whole option names only: an abbreviation breaks when an option is added."""
        super().__init__(formatter_class=HelpFormatter, allow_abbrev=False, **settings)
        self._words: Sequence[str] = ()

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse the words after the command's name."""
        self._words = args or ()
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self._refuse(unknown[0])
        return found

    def error(self, message: str) -> NoReturn:
        """Raise a UsageError. A missing argument is reported after a misspelt option."""
        if message.startswith("the following arguments are required"):
            for word in self._words:
                if word.startswith("--") and self._option(word) not in self._known():
                    self._refuse(word)
        raise UsageError(f"{message} (see {self.prog} --help)")

    def _refuse(self, word: str) -> NoReturn:
        if not word.startswith("-"):
            raise UsageError(f"unexpected argument {word!r} (see {self.prog} --help)")
        option = self._option(word)
        hint = suggestion(option, self._known())
        raise UsageError(f"unknown option {option!r}{hint or f' (see {self.prog} --help)'}")

    def _known(self) -> set[str]:
        """Return all option names, those of subcommands included."""
        found = set(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - has no public name
                for part in action.choices.values():
                    found.update(part._option_string_actions)  # noqa: SLF001
        return found

    @staticmethod
    def _option(word: str) -> str:
        return word.partition("=")[0]


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean ...?" for a word that is close to a known one, else ""."""
    from difflib import get_close_matches  # needed for errors only

    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def find_command(name: str) -> commands.Command:
    """Return a command by name; UsageError suggests the command that was probably meant."""
    for command in commands.COMMANDS:
        if command.name == name:
            return command
    hint = suggestion(name, (command.name for command in commands.COMMANDS))
    raise UsageError(f"unknown command {name!r}{hint or '; see mematlas help'}")


def command_parser(command: commands.Command) -> tuple[Parser, ModuleType]:
    """Return the parser of a command, and its module."""
    module = import_module(command.module)
    parser = Parser(prog=f"mematlas {command.name}", description=module.__doc__)
    _declare(parser, module, command.name)
    return parser, module


def whole_parser() -> Parser:
    """Return one parser with the commands as subparsers, which completions and manual pages are made from."""
    parser = top_parser()
    parts = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in commands.COMMANDS:
        module = import_module(command.module)
        part = parts.add_parser(command.name, help=command.summary, description=module.__doc__)
        _declare(part, module, command.name)
    return parser


def _declare(parser: Parser, module: ModuleType, name: str) -> None:
    module.add_arguments(parser)
    if name in commands.READERS:
        parser.add_argument(
            "--no-pager", action="store_true", help="print long output to the terminal as a whole"
        )
    examples = "\n".join(f"  mematlas {each}" for each in module.EXAMPLES)
    lists = f"{parser.epilog}\n\n" if parser.epilog else ""
    parser.epilog = f"{lists}examples:\n{examples}"


def top_parser() -> Parser:
    """Return the parser of `mematlas` without a command."""
    parser = Parser(
        prog="mematlas",
        usage="mematlas [-h] [-V] [--no-pager] COMMAND ...",
        description=SUMMARY,
        epilog="\n\n".join([*_command_lists(), "`mematlas help COMMAND` describes a command."]),
    )
    version = f"mematlas {__version__}"
    parser.add_argument(
        "-V", "--version", action="version", version=version, help="print the version and exit"
    )
    parser.add_argument(
        "--no-pager", action="store_true", help="print long output to the terminal as a whole"
    )
    return parser


def _command_lists() -> list[str]:
    width = max(len(command.name) for command in commands.COMMANDS)
    found: dict[str, list[str]] = {}
    for command in commands.COMMANDS:
        lines = found.setdefault(command.heading, [f"{command.heading}:"])
        lines.append(f"  {command.name:<{width}}  {command.summary}")
    return ["\n".join(lines) for lines in found.values()]
