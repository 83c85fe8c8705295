"""Python stacks, for each way in which code is run and each CPython.

$MEMATLAS_PYTHONS names the interpreters, separated by colons; scripts/python-matrix sets it to those
of several Debian suites.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from interpreters import interpreters, packages
from traced_runs import PROGRAMS, trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from traced_runs import Traced

PROGRAM = PROGRAMS / "python_stacks.py"
SUBINTERPRETERS = """\
import sys
try:
    import _interpreters as made
except ImportError:
    import _xxsubinterpreters as made
kept = []
for _ in range(4):
    one = made.create()
    code = 'held = []\\ndef inside():\\n    held.append(bytearray(1750000))\\ninside()'
    made.run_string(one, code)
    made.destroy(one)
def outside():
    kept.append(bytearray(1800000))
outside()
"""
GREENLETS = """\
import greenlet
kept = []
def ping():
    for _ in range(3):
        kept.append(bytearray(1850000))
        other.switch()
def pong():
    while True:
        kept.append(bytearray(1900000))
        one.switch()
one, other = greenlet.greenlet(ping), greenlet.greenlet(pong)
one.switch()
"""


@pytest.fixture(scope="module", params=interpreters(), ids=lambda path: Path(path).name)
def python(request: pytest.FixtureRequest) -> str:
    """Return an interpreter."""
    return str(request.param)


@pytest.fixture(scope="module")
def ran(python: str, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """Run the program once in exact mode."""
    file = tmp_path_factory.mktemp("stacks") / "stacks.atlas"
    run = largest(trace(file, (python, PROGRAM), "--exact", environment={"PYTHONUTF8": "1"}))
    assert run.outcome.status == 0, run.stderr
    return run


def largest(run: Traced) -> Traced:
    """Return the report of the largest stacks only: all stacks of an interpreter are a gigabyte of JSON."""
    return replace(run, top=3000, by="allocated")


def python_frames(stack: dict[str, Any]) -> list[str]:
    """Return the Python functions of a stack, leaf first."""
    return [frame["function"] for frame in stack["frames"] if frame["kind"] == "python"]


def stacks_of(run: Traced, size: int) -> list[list[str]]:
    """Return the Python functions of the stacks that allocated blocks of about a size."""
    found = []
    for stack in run.report["stacks"]:
        blocks = stack["allocated_bytes"] // size
        if blocks and stack["allocated_bytes"] - blocks * size < 100 * blocks and blocks <= 4:
            found.append(python_frames(stack))
    return found


TASKS = ["Handle._run", "BaseEventLoop._run_once", "BaseEventLoop.run_forever"]
THREAD = ["Thread.run", "Thread._bootstrap_inner", "Thread._bootstrap"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1_050_000, ["keep", "Shop.method", "in_thread", *THREAD]),
        (1_100_000, ["keep", "Shop.price", "main", "<module>"]),
        (1_250_000, ["keep", "even", "task", *TASKS]),
        (1_300_000, ["keep", "odd", "task", *TASKS]),
        (1_350_000, ["keep", "task", *TASKS]),
        (1_450_000, ["keep", *["recurse"] * 101, "main", "<module>"]),
        (1_500_000, ["keep", "größe", "main", "<module>"]),
        (1_550_000, ["keep", "大きさ", "main", "<module>"]),
        (1_600_000, ["keep", "compare", "main", "<module>"]),
        (1_650_000, ["keep", "main.<locals>.<lambda>", "main", "<module>"]),
        (1_700_000, ["keep", "made", "<module>", "main", "<module>"]),
    ],
)
def test_functions_in_their_order(ran: Traced, size: int, expected: list[str]) -> None:
    """Every frame is recorded once and in order; a task's stack is that of its own loop."""
    found = stacks_of(ran, size)
    assert found, "no stack holds blocks of that size"
    for frames in found:
        seen = [name for name in frames if not name.startswith("Context")]  # 3.14's thread contexts
        if expected[-1] == TASKS[-1]:
            seen = seen[: len(expected)]
        assert seen == expected


def test_generators_are_where_they_are_resumed(ran: Traced) -> None:
    """A generator's caller is the code that requests its next value, through `yield from` too."""
    found = stacks_of(ran, 1_200_000)
    assert ["keep", "generator", "main", "<module>"] in found
    assert ["keep", "generator", "delegating", "main", "<module>"] in found


def test_finalizers_run_on_top_of_who_dropped_the_object(ran: Traced) -> None:
    """The caller of `__del__` is the code that dropped the last reference."""
    found = stacks_of(ran, 1_150_000)
    assert ["keep", "Shop.__del__", "main", "<module>"] in found


def test_lines(ran: Traced) -> None:
    """Frames name file and line, also of code compiled at run time."""
    where = {
        (frame["function"], Path(frame["file"]).name, frame["line"])
        for stack in ran.stacks("keep")
        for frame in stack["frames"]
        if frame["kind"] == "python"
    }
    text = PROGRAM.read_text().splitlines()

    def line(code: str) -> int:
        return next(number for number, each in enumerate(text, 1) if code in each)

    assert ("keep", PROGRAM.name, line("KEPT.append")) in where
    assert ("Shop.price", PROGRAM.name, line("keep(1_100_000)")) in where
    assert ("generator", PROGRAM.name, line("keep(1_200_000)")) in where
    assert ("main", PROGRAM.name, line("recurse(100)")) in where
    assert ("made", "<made here>", 3) in where


def test_native_frames_surround_the_python_ones(ran: Traced) -> None:
    """Frames of the eval loop are removed, and C code between Python frames is in its place."""
    for stack in ran.stacks("keep"):
        functions = [frame["function"] for frame in stack["frames"]]
        assert not any("EvalFrameDefault" in name for name in functions)
    [compared] = [stack for stack in ran.stacks("compare") if stack["allocated_bytes"] > 1_000_000]
    kinds = [frame["kind"] for frame in compared["frames"]]
    assert kinds[0] != "python"  # the C code that makes a bytearray is the leaf
    python_at = [at for at, kind in enumerate(kinds) if kind == "python"]
    assert any(b - a > 1 for a, b in itertools.pairwise(python_at))  # list.sort


def test_subinterpreters_are_safe(python: str, tmp_path: Path, traced: Callable[..., Any]) -> None:
    """Subinterpreters that are created and destroyed do not disturb the program or its stacks."""
    bare = subprocess.run([python, "-c", SUBINTERPRETERS], capture_output=True, check=False)
    if bare.returncode:
        pytest.skip(f"no subinterpreters: {bare.stderr.decode().splitlines()[-1]}")
    run = largest(trace(tmp_path / "s.atlas", (python, "-c", SUBINTERPRETERS), "--exact"))
    assert (run.outcome.status, run.outcome.stdout) == (0, b"")
    assert stacks_of(run, 1_800_000) == [["outside", "<module>"]]
    minor = int(subprocess.check_output([python, "-c", "import sys; print(sys.version_info[1])"]))
    for frames in stacks_of(run, 1_750_000):  # 3.11 reports only the first interpreter of a thread
        assert frames == (["inside", "<module>"] if minor >= 12 else ["<module>"])


def test_greenlets_are_not_mixed_up(python: str, tmp_path: Path) -> None:
    """A greenlet has its own stack, not that of the greenlet that switched to it."""
    environment = packages(python)
    bare = subprocess.run(
        [python, "-c", GREENLETS], capture_output=True, check=False, env=os.environ | environment
    )
    if bare.returncode:
        pytest.skip(f"no greenlets: {bare.stderr.decode().splitlines()[-1]}")
    command = (python, "-c", GREENLETS)
    run = largest(trace(tmp_path / "g.atlas", command, "--exact", environment=environment))
    assert run.outcome.status == 0
    assert all(frames[0] == "ping" and "pong" not in frames for frames in stacks_of(run, 1_850_000))
    assert all(frames[0] == "pong" and "ping" not in frames for frames in stacks_of(run, 1_900_000))
    assert stacks_of(run, 1_900_000)
