"""Defaults of options by the project's file and the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from mematlas.cli.defaults import OPTIONS, apply_defaults, find_file
from mematlas.cli.markdown import settle_markdown
from mematlas.cli.parser import command_parser, find_command
from mematlas.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def parsed(command: str, *words: str) -> Any:
    """Parse words of a command as `mematlas` does."""
    parser, _ = command_parser(find_command(command))
    apply_defaults(command, parser)
    return parser.parse_args(words)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of a project."""
    folder = tmp_path / "src/deep"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return tmp_path


def test_the_file_is_found_above_and_outweighed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line outweighs the environment, which outweighs the nearest file that has defaults."""
    (project / "pyproject.toml").write_text(
        "[tool.mematlas.run]\nexact = true\nsample-bytes = '64K'\ninterval = 0.5\nfaults = 'off'\n"
        "[tool.mematlas.leaks]\nfail-over = '1M'\nskip = ['^a$', '^b$']\n"
    )
    (project / "src/pyproject.toml").write_text("[tool.other]\nx = 1\n")
    found = parsed("run", "--", "true")
    assert (found.exact, found.sample_bytes, found.interval, found.faults) == (True, 65536, 0.5, 0)
    leaks = parsed("leaks", "a.atlas", "--skip", "^c$")
    assert leaks.fail_over == 1 << 20
    assert set(leaks.skip) == {"^a$", "^b$", "^c$"}
    monkeypatch.setenv("MEMATLAS_RUN_EXACT", "0")
    monkeypatch.setenv("MEMATLAS_RUN_SAMPLE_BYTES", "32K")
    found = parsed("run", "--interval", "2s", "--", "true")
    assert (found.exact, found.sample_bytes, found.interval) == (False, 32768, 2.0)
    assert parsed("run", "--sample-bytes", "8K", "--", "true").sample_bytes == 8192


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[tool.mematlas.run]\noutput = '/etc/passwd'\n",
            r"\[tool.mematlas.run\] output can have no",
        ),
        ("[tool.mematlas.run]\nsample-bytes = 'much'\n", "sample-bytes: 'much' is not a size"),
        ("[tool.mematlas.run]\nexact = 'perhaps'\n", "'perhaps' is neither true nor false"),
        ("[tool.mematlas.run]\nseed = [1]\n", r"\[1\] is not one value"),
        ("[tool.mematlas]\nrun = 1\n", r"\[tool.mematlas\] has no 'run'"),
        ("[tool.mematlas.runs]\nx = 1\n", r"\[tool.mematlas\] has no 'runs'"),
        ("[tool.mematlas.run\n", "pyproject.toml"),
        ("# tool.mematlas\ntool = 3\n", "tool is no table"),
        ("[tool]\nmematlas = 5 # tool.mematlas\n", "mematlas is no table"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(project: Path, text: str, problem: str) -> None:
    """An error names the file and the option."""
    (project / "pyproject.toml").write_text(text)
    with pytest.raises(UsageError, match=problem):
        parsed("run", "--", "true")


def test_choices_hold_for_defaults(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric that does not exist is an error, wherever it stands."""
    monkeypatch.setenv("MEMATLAS_REPORT_BY", "weight")
    with pytest.raises(UsageError, match="MEMATLAS_REPORT_BY: 'weight' is none of resident"):
        parsed("report", "a.atlas")


def test_all_options_with_defaults_exist() -> None:
    """The table names options that their commands have, and none that writes a file."""
    for command, names in OPTIONS.items():
        parser, _ = command_parser(find_command(command))
        assert {f"--{name}" for name in names} <= set(parser._option_string_actions), command
        assert not {"output", "editor", "root", "to"} & set(names)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty expression would match every function; an empty word turns a switch off."""
    for name in ("TOP", "SKIP", "MARKDOWN"):
        monkeypatch.setenv(f"MEMATLAS_REPORT_{name}", "")
    found = parsed("report", "a.atlas")
    assert (found.top, list(found.skip), found.markdown) == (None, [], False)


def test_markdown_by_default_gives_way(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file serves in a job and on a desk; what the command line asks for outweighs it."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    (project / "pyproject.toml").write_text(
        "[tool.mematlas.report]\nmarkdown = true\nstep-summary = true\n"
    )

    def settled(*words: str, has_none: bool = False) -> tuple[bool, bool]:
        found = parsed("report", "a.atlas", *words)
        settle_markdown(found, has_none=has_none)
        return bool(found.markdown), bool(found.step_summary)

    assert settled() == (True, False)
    assert settled("--json") == (False, False)
    assert settled("--tree", has_none=True) == (False, False)
    assert settled("--step-summary") == (True, True)  # which then needs a job
    with pytest.raises(UsageError, match="choose --markdown or --json"):
        settled("--json", "--markdown")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    assert settled() == (True, True)
    assert settled("--json") == (False, True)


def test_a_pipe_or_a_huge_file_is_no_project(project: Path) -> None:
    """A name that leads to a pipe does not stop a command, and a file has a bound."""
    text = "[tool.mematlas.run]\nexact = true\n"
    (project / "pyproject.toml").write_text(text)
    os.mkfifo(project / "src" / "pyproject.toml")
    (project / "src/deep/pyproject.toml").write_text(text + "#" * (1 << 20))
    found = find_file(project / "src/deep")
    assert found
    assert found[0] == project / "pyproject.toml"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user, which needs root")
def test_a_file_of_a_stranger_in_a_common_folder_is_no_project(project: Path) -> None:
    """What anybody may put into /tmp does not change what is shown below it."""
    path = project / "src" / "pyproject.toml"
    path.write_text("[tool.mematlas.leaks]\nskip = ['.*']\n")
    os.chown(path, 65534, 65534)
    found = find_file(project / "src/deep")
    assert found
    assert found[0] == path  # in a checkout of another user, as in a container
    (project / "src").chmod(0o1777)
    outer = find_file(project / "src/deep")
    assert outer is None or outer[0] != path
