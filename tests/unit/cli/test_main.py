"""The entry point: commands found, errors turned into one line and an exit code."""

from __future__ import annotations

import shlex
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mematlas import __version__, errors
from mematlas.cli import commands, main
from mematlas.cli.commands import COMMANDS, Command
from mematlas.cli.parser import command_parser
from mematlas.errors import AccessError, MematlasError, TargetError, UnsupportedError, UsageError

if TYPE_CHECKING:
    import argparse


METAVARS = {
    "--at": "MOMENT",
    "--idle": "TIME",
    "--count": "N",
    "--duration": "TIME",
    "--interval": "TIME",
    "--output": "FILE",
    "--pid": "PID",
    "--root": "DIR",
    "--since": "TIME",
    "--size": "SIZE",
    "--top": "N",
    "--until": "TIME",
}
RETIRED = (
    "--cold",
    "--during",
    "--fail-if-slower",
    "--from",
    "--html",
    "--live",
    "--time",
)


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
        if arguments.what == "memory":
            np.empty(1 << 62, np.uint8)
        if arguments.what == "interrupt":
            raise KeyboardInterrupt
        if arguments.what == "code":
            return int(arguments.count)
        raise getattr(errors, arguments.what)("this is what to do")

    module.add_arguments = add_arguments  # type: ignore[attr-defined]
    module.EXAMPLES = ("probe code", "probe code --count 3")  # type: ignore[attr-defined]
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
def test_too_little_memory_is_one_line_and_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be allocated is named where the allocator names it."""
    assert main(["probe", "memory"]) == 1
    found = capsys.readouterr().err
    assert found.startswith("mematlas: not enough memory: Unable to allocate")
    assert found.endswith("; raise `ulimit -v`, or free some\n")
    assert found.count("\n") == 1


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shwo"], "unknown command 'shwo'; did you mean 'show'?"),
        (["xyzzy"], "unknown command 'xyzzy'; see mematlas help"),
        (["help", "reprot"], "unknown command 'reprot'; did you mean 'report'?"),
        (["wss", "--duraton", "5s", "1"], "unknown option '--duraton'; did you mean '--duration'?"),
        (["wss", "--duraton=5s", "1"], "unknown option '--duraton'; did you mean '--duration'?"),
        (["report", "--toop"], "unknown option '--toop'; did you mean '--top'?"),
        (["tune", "apply", "--yess"], "unknown option '--yess'; did you mean '--yes'?"),
        (["show", "1", "2"], "unexpected argument '2' (see mematlas show --help)"),
        (["--versoin"], "unknown option '--versoin'; did you mean '--version'?"),
        (["ps", "--xyzzy"], "unknown option '--xyzzy' (see mematlas ps --help)"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_right_one(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown command or option is a usage error that suggests the closest known one."""
    assert main(words) == 2
    assert capsys.readouterr().err == f"mematlas: {message}\n"


@pytest.mark.parametrize("words", [["--version"], ["-V"], ["version"]])
def test_each_way_to_the_version(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`--version`, `-V` and `version` print the same line."""
    assert main(words) == 0
    assert capsys.readouterr().out == f"mematlas {__version__}\n"


def test_help_is_the_help_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`mematlas help COMMAND` prints what `mematlas COMMAND --help` does; alone, the list of commands."""
    for command in COMMANDS:
        assert main(["help", command.name]) == 0
        by_help = capsys.readouterr().out
        assert main([command.name, "--help"]) == 0
        assert by_help == capsys.readouterr().out
    assert main(["help"]) == 0
    listed = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert listed == capsys.readouterr().out
    assert all(f"  {command.name} " in listed for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_help_ends_with_two_examples_that_parse(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """The parser of the command accepts each example, and the help ends with them."""
    parser, module = command_parser(command)
    assert len(module.EXAMPLES) == 2
    for example in module.EXAMPLES:
        name, *words = shlex.split(example)
        assert name == command.name
        parser.parse_args(words)
    assert main([command.name, "--help"]) == 0
    lines = [f"  mematlas {example}" for example in module.EXAMPLES]
    assert capsys.readouterr().out.endswith("\n".join(["examples:", *lines, ""]))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_options_have_one_word_and_one_metavar(command: Command) -> None:
    """An option means the same in all commands, and its argument has the same name."""
    parser, _ = command_parser(command)
    for action in parser._actions:
        for option in action.option_strings:
            assert option not in RETIRED
            if option in METAVARS:
                assert action.metavar == METAVARS[option]


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


def test_no_control_character_reaches_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A message may quote a name that a stranger chose."""
    assert main(["report", "no\x1b[31mfile"]) == TargetError.exit_code
    assert main(["no\x1b[31mcommand"]) == UsageError.exit_code
    assert "\x1b" not in capsys.readouterr().err


def test_the_status_of_a_refusal_by_the_kernel(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """EACCES and EPERM have the status of AccessError, wherever they come from."""

    def refuse(_: list[str]) -> int:
        raise PermissionError(13, "Permission denied", "/etc/a.atlas")

    monkeypatch.setattr(import_module("mematlas.cli.main"), "_dispatch", refuse)
    assert main(["run"]) == AccessError.exit_code
    assert capsys.readouterr().err == "mematlas: /etc/a.atlas: Permission denied\n"
