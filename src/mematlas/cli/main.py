"""Entry point: finds the command, runs it, turns errors into exit codes."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from mematlas import __doc__ as summary
from mematlas._version import __version__
from mematlas.cli import commands
from mematlas.cli.environment import ask_for_one_thread
from mematlas.errors import MematlasError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 128 + signal.SIGINT
PIPE_CLOSED = 128 + signal.SIGPIPE


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints go through the same funnel as every other error."""

    def error(self, message: str) -> NoReturn:
        """Complain about the command line in one line."""
        text = f"{message} (see {self.prog} --help)"
        raise UsageError(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    _open_closed_streams()
    ask_for_one_thread()
    try:
        code = _run(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
        return PIPE_CLOSED
    return code


def _run(argv: list[str]) -> int:
    try:
        return _dispatch(argv)
    except MematlasError as error:
        print(f"mematlas: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        print(f"mematlas: {where}{error.strerror or error}", file=sys.stderr)
        return MematlasError.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as stop:  # argparse, after --help or --version; rich, in a pipe that closed
        if isinstance(stop.__context__, BrokenPipeError):
            raise stop.__context__ from None
        return stop.code if isinstance(stop.code, int) else 0


def _dispatch(argv: list[str]) -> int:
    top = _top_parser()
    if not argv:
        top.print_help()
        return 0
    if argv[0].startswith("-"):
        top.parse_args(argv)  # --help and --version leave here; anything else is an error
    command = _find(argv[0])
    module = import_module(command.module)
    parser = Parser(prog=f"mematlas {command.name}", description=module.__doc__, allow_abbrev=False)
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(argv[1:])))


def _find(name: str) -> commands.Command:
    for command in commands.COMMANDS:
        if command.name == name:
            return command
    known = ", ".join(command.name for command in commands.COMMANDS)
    text = f"there is no command {name!r}; the commands are: {known}"
    raise UsageError(text)


def _top_parser() -> Parser:
    width = max((len(command.name) for command in commands.COMMANDS), default=0)
    lines = [f"  {command.name:<{width}}  {command.summary}" for command in commands.COMMANDS]
    parser = Parser(
        prog="mematlas",
        usage="mematlas [--help] [--version] COMMAND ...",
        description=summary,
        epilog="commands:\n" + "\n".join(lines) + "\n\nmematlas COMMAND --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mematlas {__version__}")
    return parser


def _open_closed_streams() -> None:
    """Let what is printed go nowhere where whoever started us closed stdout or stderr."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123


def _drop_stdout() -> None:
    """Let the interpreter's own flush at exit go nowhere: the reader of our output has left."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
