"""Memory in CI: Markdown, the summary of a job, and the composite action."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ACTION = Path(__file__).parents[3] / "examples/github-action/action.yml"
PROGRAM = """
import sys, time
kept = []
for _ in range(30):
    kept.append(bytearray(b"x") * (int(sys.argv[1]) << 10))
    time.sleep(0.02)
"""


def script() -> str:
    """Return the shell script of the action."""
    text = ACTION.read_text()
    return textwrap.dedent(text.partition("run: |\n")[2])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a program, and a recording of it."""
    folder = tmp_path_factory.mktemp("ci")
    (folder / "grow.py").write_text(PROGRAM)
    done = act(folder, "100", RECORDING="before.atlas")
    assert done.returncode == 0, done.stderr
    return folder


def act(folder: Path, size: str, **values: str) -> subprocess.CompletedProcess[str]:
    """Run the script of the action as a job does, with GitHub's options of bash."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "COMMAND": f"{sys.executable} grow.py {size}",
        "RECORDING": "after.atlas",
        "BEFORE": "",
        "LIMIT": "",
        **values,
    }
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script()],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_the_action_writes_a_summary_and_fails_beyond_the_limit(folder: Path) -> None:
    """Report, leaks and comparison are in the summary, and growth beyond the limit fails the job."""
    (folder / "summary.md").unlink()
    done = act(folder, "900", BEFORE="before.atlas", LIMIT="8M")
    summary = (folder / "summary.md").read_text()
    assert done.returncode == 1, done.stderr + summary
    assert summary.count("### ") == 3
    assert "| --- |" in summary
    assert "grow.py" in summary
    assert "live at the end" in done.stdout  # the text stays


def test_the_status_of_the_command_is_that_of_the_action(folder: Path) -> None:
    """A command that fails fails the job, and is reported too."""
    assert act(folder, "1", COMMAND="exit 7").returncode == 7


def test_markdown_has_no_json_beside_it(folder: Path) -> None:
    """Two formats for one output are refused, and a summary needs a job."""
    for words, problem in (
        (["report", "before.atlas", "--markdown", "--json"], "choose --markdown or --json"),
        (["report", "before.atlas", "--markdown", "--tree"], "neither --tree"),
        (["leaks", "before.atlas", "--step-summary"], "GITHUB_STEP_SUMMARY"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "mematlas", *words],
            cwd=folder,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        assert problem in done.stderr
