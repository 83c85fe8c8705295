"""Entry point: finds the command, runs it, and turns errors into exit codes."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

from mematlas.cli.blas_threads import limit_blas_threads
from mematlas.cli.commands import READERS
from mematlas.cli.missing_packages import describe
from mematlas.cli.parser import command_parser, find_command, top_parser
from mematlas.errors import AccessError, MematlasError
from mematlas.present.printable import clean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from mematlas.cli.parser import Parser

INTERRUPTED = 128 + signal.SIGINT
PIPE_CLOSED = 128 + signal.SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    if argv is not None:
        return _main(list(argv))
    _stop_tracemalloc()
    code = _main(sys.argv[1:])
    gc.freeze()  # the interpreter collects three times as it ends, which took a tenth of a short run
    return code


def _main(argv: list[str]) -> int:
    _open_closed_streams()
    limit_blas_threads()
    try:
        code = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
        return PIPE_CLOSED
    return code


def _run(argv: list[str]) -> int:
    try:
        return _dispatch(argv)
    except MematlasError as error:
        print_error(str(error))
        return error.exit_code
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        print_error(f"{where}{error.strerror or error}")
        return _exit_code(error)
    except MemoryError as error:
        print_error(
            f"not enough memory{f': {error}' if str(error) else ''}; raise `ulimit -v`, or free some"
        )
        return MematlasError.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as stop:  # argparse, after --help or --version; rich, on a closed pipe
        if isinstance(stop.__context__, BrokenPipeError):
            raise stop.__context__ from None
        return stop.code if isinstance(stop.code, int) else 0


def print_error(message: str) -> None:
    """Print a message on standard error. Names in it may be a stranger's: controls are escaped."""
    print(f"mematlas: {clean(message)}", file=sys.stderr)


def _exit_code(error: OSError) -> int:
    if isinstance(error, PermissionError):
        return AccessError.exit_code
    return MematlasError.exit_code


def _dispatch(argv: list[str]) -> int:
    try:
        return _call(argv)
    except ModuleNotFoundError as error:
        missing = describe(error)
        if missing:
            raise MematlasError(missing) from None
        raise


def _call(argv: list[str]) -> int:
    paged = argv[:1] != ["--no-pager"]
    if not paged:
        argv = argv[1:]
    if not argv:
        top_parser().print_help()
        return 0
    if argv[0].startswith("-"):
        top_parser().parse_args(argv)  # exits after --help and --version, raises for the rest
    from mematlas.cli.defaults import apply_defaults

    command = find_command(argv[0])
    parser, module = command_parser(command)
    apply_defaults(command.name, parser)
    if command.name not in READERS:
        return int(module.run(parser.parse_args(argv[1:])))
    return _read_and_print(parser, module, argv[1:], paged=paged)


def _read_and_print(parser: Parser, module: ModuleType, argv: list[str], *, paged: bool) -> int:
    from mematlas.cli.terminal_output import terminal_output
    from mematlas.present.progress import progress_line

    with terminal_output(paged=paged and "--no-pager" not in argv):
        arguments = parser.parse_args(argv)
        with progress_line(parser.prog):
            return int(module.run(arguments))


def _stop_tracemalloc() -> None:
    """Stop what PYTHONTRACEMALLOC started. The variable is meant for the program that is run."""
    if os.environ.get("PYTHONTRACEMALLOC"):
        import tracemalloc

        tracemalloc.stop()


def _open_closed_streams() -> None:
    """Open /dev/null in place of a standard stream that the parent process closed."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123


def _discard_stdout() -> None:
    """Redirect stdout to /dev/null: the interpreter flushes it at exit, and its reader has left."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
