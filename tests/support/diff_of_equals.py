"""How often `mematlas diff --fail-over 1M` fails two equal runs, and how often it finds a true growth.

Each of five programs is run as it is, and with more memory: 1 MiB and three standard errors of the difference of
two runs, those that diff states or the spread of equal runs, whichever is greater; where diff says that a larger growth only
is found in 95 %, by that. All pairs of equal runs are compared, and all pairs of a run and a grown one. Pairs share runs, so they are not independent: N runs of a program are as much evidence as
N / 2 independent pairs at least, and as all pairs at most. A run that deviates shows in N - 1 pairs. A pair fails
if it fails in one of its two orders. A line is called changed if the diff lists it beyond chance.

Exit status: 1 if more than one pair of equal runs in 1,000 fails, or fewer than 95 % of the growths are found.
"""

from __future__ import annotations

import argparse
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
    from mematlas.report.model.report import Metric

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "tests/programs/equal_runs"
LIMIT = 1 << 20
MOST_FALSE = 1 / 1000
LEAST_FOUND = 0.95
RUNS = 21  # of a program: 210 pairs, 1,050 of five programs
GROWN_RUNS = 20
METRICS = ("resident", "live")


class Result(NamedTuple):
    """The pairs of one program."""

    name: str
    by: str
    pairs: int
    failed: int
    changed: int  # equal pairs with a line called changed
    refused: int  # of all pairs: a process has no account in one of the two
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


def record(command: list[str], file: Path, grow: int, seed: int = 0) -> mematlas.Recording:
    """Run a program traced, unless its recording is there. Raise RuntimeError with its words if it fails.

    `seed` is of the sampler; 0: a different one each time.
    """
    if not file.exists():
        # A recording that was begun and not ended must not be taken for a run.
        partial = file.with_suffix(".new")
        run = [sys.executable, "-m", "mematlas", "run", *(["--seed", str(seed)] if seed else [])]
        run += ["-o", str(partial), "--", *command]
        environment = {**os.environ, "GROW": str(grow)}
        ran = subprocess.run(run, capture_output=True, text=True, env=environment, check=False)
        if ran.returncode:
            raise RuntimeError(f"{' '.join(run)}: status {ran.returncode}\n{ran.stderr}")
        partial.rename(file)
    return mematlas.open(file)


def backwards(diff: Diff) -> Diff:
    """Return the diff of the exchanged recordings, as far as its total."""
    total = replace(diff.total, before=diff.total.after, after=diff.total.before)
    return replace(diff, total=total)


def judge(
    name: str, command: list[str], folder: Path, sizes: tuple[int, int], by: Metric, seed: int = 0
) -> Result:
    """Compare all pairs of one program's runs: of equal ones, and of these with grown ones.

    `sizes` are the numbers of equal and of grown runs. With a seed the runs have it and those that follow.
    """
    seeds = [seed + n if seed else 0 for n in range(sum(sizes))]
    equal = [record(command, folder / f"{name}-{n}.atlas", 0, seeds[n]) for n in range(sizes[0])]
    diffs = [a.diff(b, by=by) for a, b in combinations(equal, 2)]
    grew = [each.total.bytes for each in diffs if not each.unlike]
    sampling = statistics.fmean(each.total.error_bytes or 0 for each in diffs)
    more = max(
        LIMIT + round(3 * max(sampling, statistics.stdev(grew))),
        round(statistics.fmean(each.found_bytes(LIMIT) for each in diffs)),
    )
    grown = [
        record(command, folder / f"{name}-{n}-grown-{more}.atlas", more, seeds[sizes[0] + n])
        for n in range(sizes[1])
    ]
    growths = [a.diff(b, by=by) for a in equal for b in grown]
    found = [each.exceeds(LIMIT) for each in growths if not each.unlike]
    judged = [each for each in diffs if not each.unlike]
    return Result(
        name=name,
        by=by,
        pairs=len(judged),
        failed=sum(each.exceeds(LIMIT) or backwards(each).exceeds(LIMIT) for each in judged),
        changed=sum(any(line.certain for line in each.lines) for each in judged),
        refused=len(diffs) + len(growths) - len(judged) - len(found),
        largest=max(map(abs, grew)),
        grown=more,
        grown_pairs=len(found),
        found=sum(found),
    )


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="scripts/diff-of-equals", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"equal runs; default {RUNS}")
    parser.add_argument("--grown", type=int, default=GROWN_RUNS, help="default %(default)s")
    parser.add_argument("--by", choices=METRICS, default=METRICS[0], help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the first run; default random")
    parser.add_argument("--folder", type=Path, help="keeps the recordings, and uses those there")
    parser.add_argument("names", nargs="*", help="programs; default all five")
    options = parser.parse_args(arguments)
    if options.runs < 3 or options.grown < 1:
        parser.error(
            "three equal runs, of which the spread is known, and a grown one are the least"
        )
    return options


def main(arguments: list[str]) -> int:
    """Print a table of all programs; return 1 if diff is worse than promised."""
    options = parse(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder: Path = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        programs = commands(folder)
        results = []
        print(
            f"{'program':<10}{'pairs':>7}{'failed':>8}{'changed':>9}{'refused':>9}{'largest':>12}{'grown by':>12}{'found':>14}"
        )
        for name in options.names or programs:
            sizes = options.runs, options.grown
            each = judge(name, programs[name], folder, sizes, options.by, options.seed)
            results.append(each)
            shown = f"{each.found}/{each.grown_pairs}"
            shift = f"{each.largest / 1024:>8,.0f} KiB{each.grown / 1024:>8,.0f} KiB"
            counts = f"{each.pairs:>7}{each.failed:>8}{each.changed:>9}{each.refused:>9}"
            print(f"{name:<10}{counts}{shift}{shown:>14}", flush=True)
    failed, pairs = sum(each.failed for each in results), sum(each.pairs for each in results)
    found, grown = sum(each.found for each in results), sum(each.grown_pairs for each in results)
    changed = sum(each.changed for each in results)
    print(
        f"equal runs: {failed} of {pairs:,} pairs fail, {changed} name a line; growth: found in {found / grown:.1%}"
    )
    return 1 if failed > max(1, pairs * MOST_FALSE) or found < grown * LEAST_FOUND else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
