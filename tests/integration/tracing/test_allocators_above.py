"""Allocators that a Python program sets above the tracer's: tracemalloc and the debug allocator."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from interpreters import interpreters
from mematlas.tracing.own_tracer import recorder_command
from traced_runs import MEMATLAS, trace
from waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from traced_runs import Traced

KEEPS = """
import tracemalloc


def before():
    return [bytes(400) for _ in range(1000)]


def during():
    return [bytes(400) for _ in range(3000)]


def after():
    return [bytes(400) for _ in range(5000)]


kept = [before()]
tracemalloc.start()
start = tracemalloc.get_traced_memory()[0]
kept.append(during())
traced = tracemalloc.get_traced_memory()[0] - start
del kept[0]
assert 3000 * 433 <= traced <= 3000 * 433 + 200_000, traced
tracemalloc.stop()
kept.append(after())
print(len(kept))
"""
BLOCK = 433  # bytes(400) with its header
INTERPRETERS = interpreters()


def run(tmp_path: Path, python: str, *options: str, environment: tuple[str, ...] = ()) -> Traced:
    """Run the program, which must print what it prints untraced."""
    program = tmp_path / "keeps.py"
    program.write_text(KEEPS)
    command: list[str | Path] = ["env", *environment, python, "-S", program]
    found = trace(tmp_path / "t.atlas", command, *options)
    assert found.outcome.status == 0, found.stderr
    assert found.outcome.stdout == b"2\n"
    return found


@pytest.mark.parametrize("python", INTERPRETERS)
def test_tracemalloc_counts_and_the_tracer_goes_on(python: str, tmp_path: Path) -> None:
    """Blocks from before, during and after tracemalloc are recorded once each."""
    found = run(tmp_path, python, "--exact")
    for function, blocks in (("during", 3000), ("after", 5000)):
        size = found.left("live_bytes", function)
        assert blocks * BLOCK <= size <= blocks * (BLOCK + 16) + 10_000
    assert found.left("live_bytes", "before") == 0


@pytest.mark.parametrize(
    "environment",
    [("PYTHONTRACEMALLOC=5",), ("PYTHONMALLOC=debug",), ("PYTHONDEVMODE=1", "PYTHONTRACEMALLOC=1")],
    ids=" ".join,
)
def test_set_at_the_start(environment: tuple[str, ...], tmp_path: Path) -> None:
    """Allocators that the interpreter sets while it starts are no danger either."""
    found = run(tmp_path, sys.executable, "--exact", environment=environment)
    assert found.left("live_bytes", "after") >= 5000 * BLOCK


def test_a_recorder_of_a_program_with_tracemalloc_is_not_slowed() -> None:
    """PYTHONTRACEMALLOC is meant for the program: its recorder would take tens of seconds."""
    options = recorder_command("module", "{}")[:-3]
    code = "import tracemalloc; print(tracemalloc.is_tracing())"
    done = subprocess.run(
        [*options, "-c", code],
        env={**os.environ, "PYTHONTRACEMALLOC": "5"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "False\n"


ATTACHED = """
import sys, tracemalloc
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


def test_attach_above_and_below(tmp_path: Path) -> None:
    """A program that starts and stops tracemalloc around an attachment, and again, lives on."""
    program = subprocess.Popen(
        [sys.executable, "-c", ATTACHED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def order(line: str) -> None:
        print(line, file=program.stdin, flush=True)
        assert program.stdout
        assert program.stdout.readline() == "done\n"

    kept = "kept = [[bytes(400) for _ in range(3000)] for _ in range(3)]"
    try:
        for turn, (first, second) in enumerate(
            [("tracemalloc.start()", "tracemalloc.stop()"), ("pass", "tracemalloc.start()")]
        ):
            order(first)
            file = tmp_path / f"{turn}.atlas"
            session = subprocess.Popen(
                [*MEMATLAS, "attach", str(program.pid), "--exact", "--duration", "60s", "-o", file],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            wait_until(file.exists, "the recording")
            order(kept)
            order(second)
            order(kept)
            subprocess.run([*MEMATLAS, "detach", str(program.pid)], check=True, timeout=60)
            _, errors = session.communicate(timeout=60)
            assert session.returncode == 0, errors
            order("kept = None")
        order("tracemalloc.stop()")
        order(kept)
    finally:
        program.communicate(timeout=60)  # the end of its input
        assert program.returncode == 0
