"""How often `mematlas diff --fail-over 1M` fails two equal runs, and how often it finds a true growth.

    scripts/diff-of-equals [RUNS] [FOLDER]

Each of five programs is run RUNS times (default 21) as it is and RUNS times with more memory: 1 MiB and three
standard errors of the difference of two runs, those of sampling and those by which equal runs vary. All pairs of
equal runs are compared, RUNS * (RUNS - 1) / 2 of each program, and all pairs of a run and a grown one. Pairs share
runs, so they are not independent: RUNS runs of a program are as much evidence as RUNS / 2 independent pairs at
least, and as all pairs at most. A run that deviates shows in RUNS - 1 pairs. A pair fails if it fails in one of its
two orders.

FOLDER keeps the recordings, and runs that are there are not repeated. Exit status: 1 if more than one pair of
equal runs in 1,000 fails, or fewer than 95 % of the growths are found.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import mematlas

if TYPE_CHECKING:
    from mematlas.report.model.diff import Diff

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "tests/programs/equal_runs"
LIMIT = 1 << 20
MOST_FALSE = 1 / 1000
LEAST_FOUND = 0.95
RUNS = 21


class Result(NamedTuple):
    """The pairs of one program."""

    name: str
    pairs: int
    failed: int
    largest: int  # growth of an equal pair
    grown: int  # bytes
    grown_pairs: int
    found: int


def commands(folder: Path) -> dict[str, list[str]]:
    """Return the command of each program, built into a folder."""
    blocks = folder / "blocks"
    if not blocks.exists():
        command = ["gcc", "-g", "-O1", "-pthread", "-o", str(blocks), str(PROGRAMS / "blocks.c")]
        subprocess.run(command, check=True)
    python = [sys.executable, str(PROGRAMS / "grown.py")]
    return {
        "orders": [*python, str(ROOT / "examples/orders.py"), "2000"],
        "dicts": [*python, str(PROGRAMS / "dicts.py")],
        "pool": [*python, str(PROGRAMS / "pool.py")],
        "blocks": [str(blocks)],
        "threads": [str(blocks), "4"],
    }


def record(command: list[str], file: Path, grow: int) -> mematlas.Recording:
    """Run a program traced, unless its recording is there."""
    if not file.exists():
        run = [sys.executable, "-m", "mematlas", "run", "-o", str(file), "--", *command]
        environment = {**os.environ, "GROW": str(grow)}
        subprocess.run(run, check=True, capture_output=True, env=environment)
    return mematlas.open(file)


def backwards(diff: Diff) -> Diff:
    """Return the diff of the exchanged recordings, as far as its total."""
    total = replace(diff.total, before=diff.total.after, after=diff.total.before)
    return replace(diff, total=total)


def judge(name: str, command: list[str], folder: Path, runs: int) -> Result:
    """Compare all pairs of one program's runs."""
    equal = [record(command, folder / f"{name}-{n}.atlas", 0) for n in range(runs)]
    diffs = [a.diff(b) for a, b in combinations(equal, 2)]
    grew = [each.total.bytes for each in diffs]
    sampling = statistics.fmean(each.total.error_bytes or 0 for each in diffs)
    varying = statistics.stdev(grew) if len(grew) > 1 else 0.0
    more = LIMIT + round(3 * (sampling**2 + varying**2) ** 0.5)
    grown = [record(command, folder / f"{name}-{n}-grown.atlas", more) for n in range(runs)]
    found = [a.diff(b).exceeds(LIMIT) for a in equal for b in grown]
    return Result(
        name=name,
        pairs=len(diffs),
        failed=sum(each.exceeds(LIMIT) or backwards(each).exceeds(LIMIT) for each in diffs),
        largest=max(map(abs, grew)),
        grown=more,
        grown_pairs=len(found),
        found=sum(found),
    )


def main(arguments: list[str]) -> int:
    """Print a table of all programs; return 1 if diff is worse than promised."""
    runs = int(arguments[0]) if arguments else RUNS
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(arguments[1]) if len(arguments) > 1 else Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        results = []
        print(
            f"{'program':<10}{'pairs':>7}{'failed':>8}{'largest':>12}{'grown by':>12}{'found':>14}"
        )
        for name, command in commands(folder).items():
            each = judge(name, command, folder, runs)
            results.append(each)
            shown = f"{each.found}/{each.grown_pairs}"
            sizes = f"{each.largest / 1024:>8,.0f} KiB{each.grown / 1024:>8,.0f} KiB"
            print(f"{name:<10}{each.pairs:>7}{each.failed:>8}{sizes}{shown:>14}", flush=True)
    failed, pairs = sum(each.failed for each in results), sum(each.pairs for each in results)
    found, grown = sum(each.found for each in results), sum(each.grown_pairs for each in results)
    print(f"equal runs: {failed} of {pairs:,} pairs fail; growth: found in {found / grown:.1%}")
    return 1 if failed > max(1, pairs * MOST_FALSE) or found < grown * LEAST_FOUND else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
