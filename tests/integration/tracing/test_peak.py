"""The account is of the highest RSS, however short that lasts and however it ends."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mematlas.recording import read

if TYPE_CHECKING:
    from conftest import Build, Run
    from traced_runs import Traced

MIB = 1 << 20
PYTHON = getattr(sys, "_base_executable", sys.executable)
both_modes = pytest.mark.parametrize("options", [(), ("--exact",)], ids=["sampled", "exact"])


def highest(run: Traced) -> int:
    """Return the highest RSS of a process, as the kernel knows it."""
    return max(each["peak_rss_bytes"] or 0 for each in run.report["processes"])


def had_no_answer(run: Traced) -> bool:
    """Return whether the machine was so busy that the program's bounded wait was in vain, which is said."""
    return any("before mematlas could read" in each["note"] for each in run.report["processes"])


@both_modes
@pytest.mark.parametrize(
    "way",
    [
        *("munmap", "syscall", "fixed", "madvise", "mremap", "sbrk", "free", "realloc", "frees"),
        *("small", "threads", "exit", "_exit", "exec", "abort", "assert"),
        *("trim", "truncate", "punch"),
    ],
)
def test_a_peak_of_20_ms(build: Build, traced: Run, options: tuple[str, ...], way: str) -> None:
    """RSS falls by a call that the tracer sees, and the account is of the moment before."""
    run = traced(build("peaks"), way, options=options, top=1000)
    assert run.outcome.status == (134 if way in {"abort", "assert"} else 0)
    assert highest(run) >= 150 * MIB
    if had_no_answer(run):
        pytest.skip("the collector got no CPU in time, as the report says")
    # A heap that shrinks with small frees is seen at one free in some, and by then it has begun to shrink. Threads
    # run on while pages are read for one of them.
    least = 0.9 if way in {"small", "threads"} else 0.95
    assert run.report["account"]["rss_bytes"] >= least * highest(run)


@both_modes
def test_the_peak_of_numpy_temporaries(traced: Run, options: tuple[str, ...]) -> None:
    """Temporaries that live for milliseconds are in the account, by the line that made them."""
    pytest.importorskip("numpy")
    code = (
        "import numpy as np, time\n"
        "def work():\n"
        "    a = np.ones(5_000_000)\n"
        "    return ((a * 2 + a * 3) * (a + 1)).sum()\n"
        "kept = np.ones(1_000_000)\n"
        "time.sleep(0.05)\n"
        "work()\n"
        "time.sleep(0.1)\n"
    )
    run = traced(
        sys.executable, "-c", code, options=options, top=1000
    )  # all stacks are 4 GB of JSON
    run = replace(run, by="live")
    if had_no_answer(run):
        pytest.skip("the collector got no CPU in time, as the report says")
    assert run.report["account"]["rss_bytes"] >= 0.95 * highest(run)
    assert run.sum("live_bytes", "work") >= 3 * 40_000_000


def test_a_loop_of_big_mappings_waits_for_few_looks(traced: Run) -> None:
    """A look is worth its wait per 5 % of growth, not per fall of RSS."""
    code = (
        "import mmap\n"
        "for _ in range(300):\n"
        "    with mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE) as memory:\n"
        "        memory.write(bytes(4 << 20))\n"
    )
    run = traced(PYTHON, "-c", code, options=("--interval", "1000"))
    assert len(read(run.file).snapshots) <= 12


def test_the_highest_rss_of_a_killed_program_is_the_kernels(traced: Run) -> None:
    """Nobody can read the pages of a program that is killed while it grows; how high RSS was is known all the same."""
    code = "import os; kept = b'x' * (100 << 20); os.kill(os.getpid(), 9)"
    run = traced(PYTHON, "-c", code)
    assert run.outcome.status == 128 + 9
    if any("counted, but not named" in each for each in run.report["notes"]):
        pytest.skip("whether other programs ran is not known here")
    assert highest(run) >= 100 * MIB
