"""Run programs with a known truth and count how often mematlas is right: `scripts/trust --help`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .catalogue import KINDS, read_cases
from .load import busy_cpus
from .runs import build, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .catalogue import Case

Counts = Counter[tuple[str, str, str, bool]]  # case, load, kind, right


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen cases. Return 1 if a claim was wrong more often than is allowed."""
    parser = argparse.ArgumentParser(prog="scripts/trust", description=__doc__)
    parser.add_argument("names", nargs="*", help="cases of tests/trust; default all")
    parser.add_argument("--list", action="store_true", help="list the cases")
    parser.add_argument("--rounds", type=int, default=20, help="runs of each case; default 20")
    parser.add_argument(
        "--load", choices=("idle", "busy", "both"), default="both", help="default both"
    )
    parser.add_argument("--folder", type=Path, default=Path("build/trust"), help="scratch folder")
    options = parser.parse_args(arguments)
    chosen = [case for case in read_cases() if not options.names or case.name in options.names]
    cases = [case for case in chosen if not case.root or os.geteuid() == 0]
    if options.list:
        print("\n".join(f"{case.name:24} {case.why}" for case in cases))
        return 0
    counts: Counts = Counter()
    loads = ("idle", "busy") if options.load == "both" else (options.load,)
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    commands = [build(case, folder) for case in cases]
    interrupted = True
    with suppress(KeyboardInterrupt):  # the table is of the rounds so far
        for load in loads:
            with busy_cpus(2 * (os.cpu_count() or 1) if load == "busy" else 0):
                for number in range(options.rounds):
                    for case, command in zip(cases, commands, strict=True):
                        _count(case, command, load, number, folder, counts)
        interrupted = False
    print(_format(cases, loads, counts))
    if interrupted:
        return 128 + signal.SIGINT
    return 1 if _too_often_wrong(loads, counts) else 0


def _count(
    case: Case, command: list[str], load: str, number: int, folder: Path, counts: Counts
) -> None:
    """Run one case and count; print each claim that was wrong with the text."""
    for judgement in run(case, command, folder / f"{case.name}.run"):
        counts[case.name, load, judgement.kind, judgement.right] += 1
        if not judgement.right:
            print(
                f"{case.name}, {load}, run {number + 1}: {judgement.kind}: {judgement.reason}\n"
                f"    {judgement.text[:600]}",
                flush=True,
            )


def _format(cases: Sequence[Case], loads: Sequence[str], counts: Counts) -> str:
    """Format the table: for each case and load, how many of the runs were right."""
    heads = [f"{kind}, {load}" for load in loads for kind in KINDS]
    lines = ["| case | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for case in cases:
        cells = []
        for load in loads:
            for kind in KINDS:
                right = counts[case.name, load, kind, True]
                total = right + counts[case.name, load, kind, False]
                cells.append(f"{right} of {total}" if total else "-")
        lines.append(f"| {case.name} | " + " | ".join(cells) + " |")
    for load in loads:
        right, total = _sum(load, counts)
        lines.append(f"\n{load}: {right} of {total} claims were right")
    return "\n".join(lines)


def _too_often_wrong(loads: Sequence[str], counts: Counts) -> bool:
    """Return whether one claim was wrong on an idle machine, or 1 % of them on a busy one."""
    for load in loads:
        right, total = _sum(load, counts)
        if total - right > (0.01 * total if load == "busy" else 0):
            return True
    return False


def _sum(load: str, counts: Counts) -> tuple[int, int]:
    """Return how many claims under a load were right, and how many were judged."""
    right = sum(n for (_, each, _, good), n in counts.items() if each == load and good)
    return right, sum(n for (_, each, _, _), n in counts.items() if each == load)


if __name__ == "__main__":
    sys.exit(main())
