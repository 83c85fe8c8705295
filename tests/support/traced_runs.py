"""Runs of programs with and without `mematlas run`, and figures of functions from the report."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fork_server import ForkServer
from mematlas.cli import main
from mematlas.errors import MematlasError
from mematlas.recording import read
from report_data import leaks_data, report_data
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mematlas.recording.model import Snapshot

PROGRAMS = Path(__file__).parents[1] / "programs"
MEMATLAS = (sys.executable, "-m", "mematlas")
TIMEOUT_S = 180
ALL = 1_000_000  # stacks in a report


@dataclass(frozen=True)
class Outcome:
    """The exit status and output of a program."""

    status: int
    stdout: bytes


@dataclass(frozen=True)
class Traced:
    """One run under `mematlas run`."""

    outcome: Outcome
    stderr: str = field(repr=False)
    file: Path
    top: int  # the stacks to ask for
    by: str = "peak"  # biggest first

    @cached_property
    def report(self) -> dict[str, Any]:
        """The `data` of `mematlas report --json`."""
        return report_data(self.file, self.by, self.top)

    @cached_property
    def leaks(self) -> dict[str, Any]:
        """The `data` of `mematlas leaks --json`."""
        return leaks_data(self.file, self.top)

    def left(self, figure: str, function: str) -> int:
        """Return the sum of a figure over the memory that `function` left live at the end."""
        return sum(stack[figure] for stack in with_function(self.leaks["leaks"], function))

    def stacks(self, function: str, *, kind: str | None = None) -> list[dict[str, Any]]:
        """Return all stacks that contain `function`; those of kind "fault" only if requested."""
        return [
            stack
            for stack in with_function(self.report["stacks"], function)
            if (stack["kind"] == kind if kind else stack["kind"] != "fault")
        ]

    def fault_sites(self, function: str) -> list[dict[str, Any]]:
        """Return the page faults of stacks that contain `function`."""
        return with_function(self.report["page_faults"]["sites"], function)

    def sum(self, figure: str, function: str, *, kind: str | None = None) -> int:
        """Return the sum of a figure over the stacks that contain `function`."""
        return sum(stack[figure] for stack in self.stacks(function, kind=kind))


def named(frame: dict[str, Any], function: str) -> bool:
    """Return whether a frame is of `function`; Python's names are qualified."""
    return str(frame["function"]).rpartition(".")[2] == function


def with_function(items: Iterable[dict[str, Any]], function: str) -> list[dict[str, Any]]:
    """Return the stacks that contain a function; each frame is looked at once, as stacks share them."""
    known: dict[int, bool] = {}

    def matches(frame: dict[str, Any]) -> bool:
        key = id(frame)
        if key not in known:
            known[key] = named(frame, function)
        return known[key]

    return [item for item in items if any(map(matches, item["frames"]))]


def ask(*arguments: str) -> dict[str, Any]:
    """Run a command with --json in this process, which saves its start, and return the data."""
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        status = main(arguments)
    assert status == 0, errors.getvalue()
    answer: dict[str, Any] = json.loads(output.getvalue())
    assert answer["schema"] == f"mematlas/{arguments[0]}/1"
    data: dict[str, Any] = answer["data"]
    return data


def bare(
    command: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a program untraced; for signal N the status is 128 + N."""
    done = subprocess.run(
        [*map(str, command)],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        timeout=TIMEOUT_S,
        check=False,
    )
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return Outcome(status, done.stdout)


def trace(
    file: Path,
    command: Sequence[str | Path],
    *options: str,
    stdin: bytes = b"",
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    top: int = ALL,
) -> Traced:
    """Run a program under `mematlas run OPTIONS`, recording to `file`."""
    # A sample that is drawn once and for all: that estimates keep to their errors is for the oracles.
    seed = () if {"--exact", "--seed"} & {*options} else ("--seed", "1")
    words = ["run", "-o", str(file), *options, *seed, "--", *map(str, command)]
    done = run_mematlas(words, stdin, cwd, {**os.environ, **(environment or {})})
    stderr = done.stderr.decode("utf-8", "replace")
    return Traced(Outcome(done.returncode, done.stdout), stderr, file, top)


@cache
def fork_server() -> ForkServer:
    """Return the fork server of this lane."""
    return ForkServer.start()


def run_mematlas(
    words: Sequence[str], stdin: bytes, cwd: Path | None, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Run `mematlas WORDS`, without a start of the interpreter where that makes no difference."""
    if fork_server().fits(environment):
        return fork_server().run(words, cwd, environment, stdin, TIMEOUT_S)
    return subprocess.run(
        [*MEMATLAS, *words],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env=environment,
        timeout=TIMEOUT_S,
        check=False,
    )


def run_text(
    words: Sequence[str | Path], cwd: Path | None = None, *, check: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run `mematlas WORDS`, and return its status and what it printed. Check that the status is 0."""
    done = run_mematlas([*map(str, words)], b"", cwd, os.environ)
    texts = (each.decode("utf-8", "replace") for each in (done.stdout, done.stderr))
    assert not check or done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return subprocess.CompletedProcess(done.args, done.returncode, *texts)


def stopped_child(parent: int) -> int | None:
    """Return the PID of the program below `parent` that has stopped itself; None if there is none."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for pid in map(int, children):
        with suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return pid
    return None


def stopped_snapshots(file: Path) -> list[Snapshot]:
    """Return the snapshots of a stopped program, also while the recording is written."""
    try:
        return [each for each in read(file).snapshots if each.trigger == "stopped"]
    except MematlasError:  # no file yet, or no first chunk
        return []


def trace_stopping(
    file: Path,
    command: Sequence[str | Path],
    *options: str,
    look: Callable[[int], object] = lambda _: None,
) -> Traced:
    """Run a program that stops itself; `look` at its PID after a snapshot, then let it go on.

    The snapshot is of a moment that the program chooses, however busy the machine is.
    """
    with subprocess.Popen(
        [*MEMATLAS, "run", "-o", file, "--interval", "100ms", *options, "--", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as run:
        wait_until(lambda: stopped_child(run.pid), "the program to stop")
        stopped = stopped_child(run.pid)
        assert stopped
        wait_until(lambda: stopped_snapshots(file), "a snapshot of the stopped program")
        look(stopped)
        os.kill(stopped, signal.SIGCONT)
        stdout, stderr = run.communicate(timeout=TIMEOUT_S)
    return Traced(Outcome(run.returncode, stdout), stderr.decode("utf-8", "replace"), file, ALL)
