"""Python stacks against Python's own record of them at each allocation."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from interpreters import interpreters
from traced_runs import PROGRAMS, ask, trace

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = PROGRAMS / "shifting_stacks.py"
BLOCK = 150_000  # as in the program
Stack = tuple[tuple[str, int], ...]


@pytest.mark.parametrize("python", interpreters())
def test_every_stack_is_the_one_python_names(python: str, tmp_path: Path) -> None:
    """Hundreds of stacks of short-lived frames have the right lines and bytes."""
    run = trace(tmp_path / "a.atlas", (python, PROGRAM), "--exact")
    assert run.outcome.status == 0, run.stderr
    told: Counter[Stack] = Counter()
    for line in run.outcome.stdout.splitlines():
        row = json.loads(line)
        told[tuple((function, number) for function, number in row["frames"])] += row["bytes"]
    found: Counter[Stack] = Counter()
    most = ask("report", str(run.file), "--json", "--by", "allocated", "--top", "2000")
    for stack in most["stacks"]:
        if stack["allocated_bytes"] >= BLOCK:
            frames = [frame for frame in stack["frames"] if frame["kind"] == "python"]
            found[tuple((frame["function"], frame["line"]) for frame in frames)] += (
                round(stack["allocated_bytes"] / BLOCK) * BLOCK
            )
    assert len(told) > 100
    assert {stack: size for stack, size in found.items() if stack in told} == told


@pytest.mark.parametrize("python", interpreters())
def test_code_that_another_thread_replaces(python: str, tmp_path: Path) -> None:
    """Each function owns its bytes, although its frame and code reuse the addresses of the last one's."""
    run = trace(tmp_path / "a.atlas", (python, PROGRAMS / "replaced_code.py"), "--exact")
    assert run.outcome.status == 0, run.stderr
    told = json.loads(run.outcome.stdout)
    found: Counter[str] = Counter()
    most = ask("report", str(run.file), "--json", "--by", "allocated", "--top", "2000")
    for stack in most["stacks"]:
        for frame in stack["frames"]:
            if frame["function"] in told["bytes"]:
                found[frame["function"]] += round(stack["allocated_bytes"], -4)
                break
    assert found == told["bytes"]
    assert told["again"] > len(told["bytes"]) // 4
