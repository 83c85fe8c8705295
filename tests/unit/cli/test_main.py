"""The entry point: commands found, errors turned into one line and an exit code."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from mematlas import __version__
from mematlas.cli import commands, main
from mematlas.cli.commands import COMMANDS, Command
from mematlas.cli.parser import command_parser
from mematlas.errors import AccessError, MematlasError, TargetError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

PROBE = '''"""Raise what the test asks for."""
import sys
from mematlas import errors

EXAMPLES = ("probe code", "probe code --count 3")

def add_arguments(parser):
    parser.add_argument("what")
    parser.add_argument("--count", type=int, default=0)

def run(arguments):
    if arguments.what == "hang":
        print("ready", flush=True)
        import time
        time.sleep(60)
    if arguments.what == "flood":
        while True:
            print("x" * 1000)
    if arguments.what == "missing":
        open("/nonexistent/file")
    if arguments.what == "code":
        return arguments.count
    raise getattr(errors, arguments.what)("this is what to do")
'''
METAVARS = {
    "--at": "TIME",
    "--cold": "TIME",
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
RETIRED = ("--during", "--fail-if-slower", "--fail-on", "--from", "--html", "--live", "--time")
DRIVER = """
import sys
from mematlas.cli import commands, main
commands.COMMANDS = (commands.Command("probe", "probe_command", "Probe."),)
sys.exit(main())
"""


@pytest.fixture
def probe(tmp_path: Path) -> list[str]:
    """Give the start of a command line on which `probe` is the only command."""
    (tmp_path / "probe_command.py").write_text(PROBE)
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    return [sys.executable, str(driver), "probe"]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


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
def test_errors_become_one_line_and_their_code(
    probe: list[str], error: type[MematlasError], code: int
) -> None:
    """Each error class is one line on stderr and its own exit code."""
    done = run(*probe, error.__name__)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == "mematlas: this is what to do\n"


def test_errors_of_the_system_name_the_file(probe: list[str]) -> None:
    """An OSError nobody foresaw is still one line that names the file."""
    done = run(*probe, "missing")
    assert done.returncode == 1
    assert done.stderr == "mematlas: /nonexistent/file: No such file or directory\n"


def test_the_command_gives_the_exit_code(probe: list[str]) -> None:
    """What run() returns is the exit code."""
    assert run(*probe, "code", "--count", "42").returncode == 42


def test_a_wrong_argument_is_one_line_and_code_2(probe: list[str]) -> None:
    """Argument errors go through the same funnel."""
    done = run(*probe, "code", "--count", "many")
    assert done.returncode == 2
    assert done.stderr.startswith("mematlas: argument --count: invalid int value: 'many' (see")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_is_no_error(probe: list[str]) -> None:
    """A closed pipe ends the command quietly, as a signal would."""
    with subprocess.Popen(
        [*probe, "flood"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 128 + signal.SIGPIPE


def test_control_c_gives_130(probe: list[str]) -> None:
    """An interrupt ends the command with 130 and no traceback."""
    with subprocess.Popen(
        [*probe, "hang"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == b""


def test_python_dash_m_works() -> None:
    """`python -m mematlas` is the same program."""
    done = run(sys.executable, "-m", "mematlas", "--version")
    assert (done.returncode, done.stdout) == (0, f"mematlas {__version__}\n")


def test_start_up_loads_nothing_heavy() -> None:
    """Neither --version nor --help loads NumPy, rich or symbolic."""
    code = (
        "import sys; from mematlas.cli.main import main; main(['--help']); "
        "sys.exit(' '.join({'numpy', 'rich', 'symbolic', 'cffi'} & set(sys.modules)) or 0)"
    )
    done = run(sys.executable, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")


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
