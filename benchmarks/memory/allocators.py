"""Pool and arena of mematlas against glibc, mimalloc, jemalloc and tcmalloc, in alternation.

python benchmarks/memory/allocators.py [--rounds 15] [--clock wall] [--realtime] [--only tight,larson]
                                       [--peer snmalloc=/path/to/library.so]

Peers are Debian's packages libmimalloc2.0, libjemalloc2 and libtcmalloc-minimal4, as far as they are
installed, and libraries that are named with --peer, such as a build of snmalloc's src/snmalloc/override. One that fails is named with the reason, and runs no more in that case. Of each allocator: the least and the median of all rounds, in ns for one operation of the
slowest thread, and the highest RSS and the RSS at the end in MiB. On a machine with other work, CPU
time (the default) with many rounds is the figure to trust; --clock wall also counts the waiting of
threads for each other. --realtime keeps other processes off the CPUs (needs root).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from mematlas.memory import compile_flags

sys.path.insert(0, str(Path(__file__).parents[1]))

from contest import FAILURES, Contest, Outcome, reason, record

HERE = Path(__file__).parent
SOURCES = [str(HERE / name) for name in ("allocators.c", "patterns.c")]
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
PEERS = {
    "mimalloc": "libmimalloc.so.2",
    "jemalloc": "libjemalloc.so.2",
    "tcmalloc": "libtcmalloc_minimal.so.4",
}
OF_ONE_SIZE = {"tight", "handoff"}  # patterns that a pool can serve


@dataclass(frozen=True, slots=True)
class Case:
    """A pattern of patterns.c and how often it runs."""

    pattern: str
    threads: int
    operations: int


@dataclass(frozen=True, slots=True)
class Run:
    """What the program prints: ns for one operation, and KiB."""

    wall: float
    cpu: float
    peak: float
    end: float


CASES = (
    Case("tight", 1, 1_000_000),
    Case("tight", 2, 1_000_000),
    Case("handoff", 2, 500_000),
    *(
        Case(pattern, threads, 400_000)
        for pattern in ("larson", "mixed", "mstress", "sh6bench", "sh8bench")
        for threads in (1, 2)
    ),
    Case("xmalloc", 2, 400_000),
    Case("cache-scratch", 2, 200_000),
)


def build(folder: Path, peers: dict[str, Path]) -> dict[str, tuple[Path, dict[str, str]]]:
    """Compile a program for pool, arena and malloc; return them with their environment."""
    programs = {}
    for name in ("pool", "arena", "malloc"):
        programs[name] = folder / name
        flags = ["-pthread"] if name == "malloc" else compile_flags()
        command = ["gcc", "-O2", f"-D{name.upper()}", *SOURCES, "-o", str(programs[name]), *flags]
        subprocess.run(command, check=True)
    ways: dict[str, tuple[Path, dict[str, str]]] = {"pool": (programs["pool"], {})}
    ways |= {"arena": (programs["arena"], {}), "glibc": (programs["malloc"], {})}
    for name, library in peers.items():
        if library.exists():
            ways[name] = (programs["malloc"], {"LD_PRELOAD": str(library)})
    return ways


def measure(program: Path, environment: dict[str, str], case: Case) -> Run:
    """Run once and return what the program printed."""
    arguments = [case.pattern, str(case.threads), str(case.operations)]
    done = subprocess.run(
        [program, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    time.sleep(0.02)
    return Run(*map(float, done.stdout.split()))


def compete(
    ways: dict[str, tuple[Path, dict[str, str]]], case: Case, rounds: int
) -> tuple[dict[str, list[Run]], dict[str, str]]:
    """Run all that can serve a case in turn; return the runs, and why an allocator runs no more."""
    fit = {n: w for n, w in ways.items() if n != "pool" or case.pattern in OF_ONE_SIZE}
    runs: dict[str, list[Run]] = {name: [] for name in fit}
    failures: dict[str, str] = {}
    for _ in range(rounds):
        for name, (program, environment) in fit.items():
            if name in failures:
                continue
            try:
                runs[name].append(measure(program, environment, case))
            except (*FAILURES, TypeError) as error:  # TypeError: too few or too many figures
                failures[name] = reason(error)
    return runs, failures


def as_contest(
    title: str, runs: dict[str, list[Run]], failures: dict[str, str], clock: str
) -> Contest:
    """Return the ns of one case as a contest."""
    outcomes = tuple(
        Outcome(
            name,
            tuple(getattr(run, clock) for run in of_way),
            failures.get(name),
            mine=name in {"pool", "arena"},
        )
        for name, of_way in runs.items()
    )
    return Contest(f"{title}, {clock} time", "ns", True, outcomes)


def format_cell(runs: list[Run], clock: str) -> str:
    """Format least and median ns, highest and last MiB."""
    if not runs:
        return "failed"
    times = [getattr(run, clock) for run in runs]
    peak, end = (min(getattr(run, name) for run in runs) / 1024 for name in ("peak", "end"))
    return f"{min(times):.1f}/{statistics.median(times):.1f} {peak:.0f}-{end:.0f}"


def judge(runs: dict[str, list[Run]], clock: str) -> str:
    """Format the time of pool and arena against the best peer: below 1 is ahead."""
    least = {
        name: min(getattr(run, clock) for run in of_way) for name, of_way in runs.items() if of_way
    }
    peers = [name for name in least if name not in {"pool", "arena"}]
    if not peers:
        return "    no peer has a figure"
    best = min(peers, key=lambda name: least[name])
    ratios = [f"{n} {least[n] / least[best]:.2f}" for n in ("pool", "arena") if n in least]
    return f"    x {best}, the best peer: {', '.join(ratios)}"


def main() -> int:
    """Run the cases in alternation and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu")
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=LIBRARY")
    arguments = parser.parse_args()
    peers = {name: LIBRARIES / library for name, library in PEERS.items()}
    peers |= {
        name: Path(path) for name, _, path in (each.partition("=") for each in arguments.peer)
    }
    if arguments.realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
    with tempfile.TemporaryDirectory() as folder:
        ways = build(Path(folder), peers)
        print(f"{arguments.clock} ns, MiB".ljust(22) + "".join(f"{name:>18}" for name in ways))
        for case in CASES:
            if arguments.only and case.pattern not in arguments.only.split(","):
                continue
            runs, failures = compete(ways, case, arguments.rounds)
            cells = [format_cell(runs[n], arguments.clock) if n in runs else "-" for n in ways]
            title = f"{case.pattern}, {case.threads} thread{'s' * (case.threads > 1)}"
            print(f"{title:<22}" + "".join(f"{cell:>18}" for cell in cells))
            for name, why in failures.items():
                print(f"    {name}: {why}")
            print(judge(runs, arguments.clock), flush=True)
            record(as_contest(title, runs, failures, arguments.clock))
    return 0


if __name__ == "__main__":
    sys.exit(main())
