"""The entry point: commands found, errors turned into one line and an exit code."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from mematlas import errors
from mematlas.cli import commands, main
from mematlas.cli.commands import COMMANDS, Command
from mematlas.errors import AccessError, MematlasError, TargetError, UnsupportedError, UsageError

if TYPE_CHECKING:
    import argparse


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `probe` the only command; its argument names the error to raise."""
    module = ModuleType("probe_command", "Raise the error that the test names.")

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("what")
        parser.add_argument("--count", type=int, default=0)

    def run(arguments: argparse.Namespace) -> int:
        if arguments.what == "missing":
            open("/nonexistent/file")  # noqa: PTH123
        if arguments.what == "interrupt":
            raise KeyboardInterrupt
        if arguments.what == "code":
            return int(arguments.count)
        raise getattr(errors, arguments.what)("this is what to do")

    module.add_arguments = add_arguments  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(commands, "COMMANDS", (Command("probe", module.__name__, "Probe."),))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MematlasError, 1),
        (UsageError, 2),
        (TargetError, 3),
        (AccessError, 4),
        (UnsupportedError, 5),
    ],
)
@pytest.mark.usefixtures("probe")
def test_errors_become_one_line_and_their_code(
    capsys: pytest.CaptureFixture[str], error: type[MematlasError], code: int
) -> None:
    """Each error class is one line on stderr and its own exit code."""
    assert main(["probe", error.__name__]) == code
    assert capsys.readouterr() == ("", "mematlas: this is what to do\n")


@pytest.mark.usefixtures("probe")
def test_errors_of_the_system_name_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    """An unforeseen OSError is one line that names the file."""
    assert main(["probe", "missing"]) == 1
    line = "mematlas: /nonexistent/file: No such file or directory\n"
    assert capsys.readouterr().err == line


@pytest.mark.usefixtures("probe")
def test_the_command_gives_the_exit_code() -> None:
    """The exit code is the result of run()."""
    assert main(["probe", "code", "--count", "42"]) == 42


@pytest.mark.usefixtures("probe")
def test_an_interrupt_gives_130() -> None:
    """KeyboardInterrupt becomes the exit code of a shell for SIGINT."""
    assert main(["probe", "interrupt"]) == 130


@pytest.mark.usefixtures("probe")
def test_a_wrong_argument_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    """Argument errors are formatted like all other errors."""
    assert main(["probe", "code", "--count", "many"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mematlas: argument --count: invalid int value: 'many' (see")
    assert error.count("\n") == 1


def test_an_unknown_command_is_answered_with_the_known(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that is not there is a usage error that lists those that are."""
    table = (Command("show", "no.such.module", "Show."), Command("run", "neither", "Run."))
    monkeypatch.setattr(commands, "COMMANDS", table)
    assert main(["shwo"]) == 2
    assert capsys.readouterr().err == (
        "mematlas: there is no command 'shwo'; the commands are: show, run\n"
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_tells_its_arguments(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each row of the table names a module that works and explains itself."""
    assert main([command.name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: mematlas {command.name}")


def test_the_table_has_no_doubles() -> None:
    """Each command is in the table once."""
    names = [command.name for command in commands.COMMANDS]
    assert len(names) == len(set(names))
