"""Output in a terminal: the pager by git's rules, and the progress line."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from traced_runs import MEMATLAS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import Build, Run

LIMIT_S = 60
SLOW = """
import sys, time
from mematlas.present.progress import progress_line, step
with progress_line("reading"):
    step("summing\\x1b[31m stacks")
    time.sleep(float(sys.argv[1]))
    print("a note", file=sys.stderr)
print("the result")
"""


def in_terminal(command: Sequence[str | os.PathLike[str]], **environment: str) -> tuple[int, str]:
    """Return the status of a command and what it prints in a terminal, on both streams."""
    ours, its = pty.openpty()
    known = {name: value for name, value in os.environ.items() if not name.endswith("PAGER")}
    process = subprocess.Popen(
        command,
        stdin=its,
        stdout=its,
        stderr=its,
        env={**known, "TERM": "xterm-256color", "NO_COLOR": "1", **environment},
        start_new_session=True,
    )
    os.close(its)
    text = b""
    try:
        while piece := os.read(ours, 1 << 16):
            text += piece
    except OSError:  # EIO: the other side is closed
        pass
    os.close(ours)
    return process.wait(LIMIT_S), text.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("variables", "mark"),
    [
        ({"MEMATLAS_PAGER": "sed s/^/mine:/", "PAGER": "sed s/^/any:/"}, "mine:"),
        ({"PAGER": "sed s/^/any:/"}, "any:"),
        ({"MEMATLAS_PAGER": "", "PAGER": "sed s/^/any:/"}, ""),
        ({"MEMATLAS_PAGER": "cat"}, ""),
        ({"PAGER": "no-such-pager"}, ""),
        ({"PAGER": "sed s/^/any:/", "TERM": "dumb"}, ""),
    ],
)
def test_the_pager_is_chosen_as_by_git(variables: dict[str, str], mark: str) -> None:
    """$MEMATLAS_PAGER before $PAGER; none for an empty one, cat, one that is missing, a dumb terminal."""
    status, text = in_terminal([*MEMATLAS, "help", "leaks"], **variables)
    assert status == 0
    assert text.startswith(f"{mark}usage: mematlas leaks")
    assert all(line.startswith(mark) for line in text.splitlines())


@pytest.mark.parametrize("words", [["--no-pager", "ps", "--top", "1"], ["ps", "--no-pager"]])
def test_no_pager(words: list[str]) -> None:
    """--no-pager before or after the command prints the text itself."""
    status, text = in_terminal([*MEMATLAS, *words], PAGER="sed s/^/paged:/")
    assert status == 0
    assert "paged:" not in text
    assert "PSS" in text


def test_a_pipe_has_no_pager() -> None:
    """What is piped goes nowhere else."""
    text = subprocess.check_output(
        [*MEMATLAS, "help", "leaks"],
        text=True,
        env={**os.environ, "PAGER": "sed s/^/paged:/"},
        timeout=LIMIT_S,
    )
    assert "paged:" not in text


def test_less_has_its_options() -> None:
    """The pager finds LESS=FRX, or what the user has set."""
    show = 'cat > /dev/null; echo "LESS is $LESS"'
    assert "LESS is FRX" in in_terminal([*MEMATLAS, "help"], PAGER=show)[1]
    assert "LESS is mine" in in_terminal([*MEMATLAS, "help"], PAGER=show, LESS="mine")[1]


def test_leaving_the_pager_keeps_the_exit_code(build: Build, traced: Run) -> None:
    """A user who leaves the pager at once gets no message, and the command ends with its own code."""
    recording = traced(build("small_blocks")).file
    words = ["leaks", str(recording), "--fail-over", "1"]
    expected = subprocess.run(
        [*MEMATLAS, *words], capture_output=True, check=False, timeout=LIMIT_S
    ).returncode
    for command in (words, ["report", str(recording), "--json"]):
        status, text = in_terminal([*MEMATLAS, *command], PAGER="true")
        assert status == (expected if command is words else 0), text
        assert "Traceback" not in text
        assert "roken" not in text


def test_the_progress_line_comes_and_goes() -> None:
    """A slow step is named on the terminal, without its control characters, and is gone at the end."""
    status, text = in_terminal([sys.executable, "-c", SLOW, "2"])
    assert status == 0
    assert "summing\\x1b[31m stacks" in text
    shown, _, rest = text.rpartition("a note\n")
    assert "summing" in shown
    assert rest.endswith("the result\n")
    assert "\x1b[2K" in rest  # the line is erased


def test_no_progress_line() -> None:
    """There is none for what is quick, and none on a pipe."""
    # On a busy machine a quick step may take a second.
    tries = (in_terminal([sys.executable, "-c", SLOW, "0"])[1] for _ in range(5))
    assert any("summing" not in text for text in tries)
    done = subprocess.run(
        [sys.executable, "-c", SLOW, "1.5"],
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT_S,
    )
    assert (done.stdout, done.stderr) == ("the result\n", "a note\n")
