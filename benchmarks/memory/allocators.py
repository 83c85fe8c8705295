"""Pool and arena of mematlas against glibc, mimalloc, jemalloc and tcmalloc, in alternation.

python benchmarks/memory/allocators.py [--rounds 9] [--realtime] [--only tight,...]

Peers are Debian's packages libmimalloc2.0, libjemalloc2 and libtcmalloc-minimal4, as far as they are
installed. Each figure is the least of all rounds, followed by the median: ns for one alloc and one free,
of the slowest thread. --realtime keeps other processes off the CPUs (needs root).
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

HERE = Path(__file__).parent
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
PEERS = {
    "mimalloc": "libmimalloc.so.2",
    "jemalloc": "libjemalloc.so.2",
    "tcmalloc": "libtcmalloc_minimal.so.4",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A pattern and its target: ns for the pool, or a share of glibc's time for the arena."""

    pattern: str
    threads: int
    operations: int
    pool: float | None = None
    arena: float | None = None


CASES = (
    Case("tight", 1, 3_000_000, pool=4.0),
    Case("tight", 2, 3_000_000, pool=5.0),
    Case("handoff", 2, 2_000_000, pool=10.0),
    Case("larson", 1, 1_000_000, arena=1.2),
    Case("larson", 2, 1_000_000, arena=1.0),
    Case("mixed", 1, 1_000_000, arena=1.2),
    Case("mixed", 2, 1_000_000, arena=1.0),
)


def build(folder: Path) -> dict[str, tuple[Path, dict[str, str]]]:
    """Compile a program for pool, arena and malloc; return them with their environment."""
    programs = {}
    for name in ("pool", "arena", "malloc"):
        programs[name] = folder / name
        flags = ["-pthread"] if name == "malloc" else compile_flags()
        source = str(HERE / "allocators.c")
        command = ["gcc", "-O2", f"-D{name.upper()}", source, "-o", str(programs[name]), *flags]
        subprocess.run(command, check=True)
    ways: dict[str, tuple[Path, dict[str, str]]] = {"pool": (programs["pool"], {})}
    ways |= {"arena": (programs["arena"], {}), "glibc": (programs["malloc"], {})}
    for name, library in PEERS.items():
        if (LIBRARIES / library).exists():
            ways[name] = (programs["malloc"], {"LD_PRELOAD": str(LIBRARIES / library)})
    return ways


def measure(program: Path, environment: dict[str, str], case: Case) -> float:
    """Run once and return the ns."""
    arguments = [case.pattern, str(case.threads), str(case.operations)]
    done = subprocess.run(
        [program, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    time.sleep(0.02)
    return float(done.stdout)


def judge(case: Case, least: dict[str, float]) -> list[str]:
    """Format whether the target is met."""
    said = []
    if case.pool is not None:
        kept = "kept" if least["pool"] <= case.pool else "MISSED"
        said.append(f"pool at most {case.pool:g} ns: {kept}")
    if case.arena is not None:
        ratio = least["arena"] / least["glibc"]
        kept = "kept" if ratio <= case.arena else "MISSED"
        said.append(f"arena at most {case.arena:g} x glibc: {ratio:.2f}, {kept}")
    return said


def main() -> int:
    """Run all cases; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    if arguments.realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        ways = build(Path(folder))
        print("ns, least / middle     " + "".join(f"{name:>16}" for name in ways))
        for case in CASES:
            if arguments.only and case.pattern not in arguments.only.split(","):
                continue
            fit = {n: w for n, w in ways.items() if n != "pool" or case.pool is not None}
            runs: dict[str, list[float]] = {name: [] for name in fit}
            for _ in range(arguments.rounds):
                for name, (program, environment) in fit.items():
                    runs[name].append(measure(program, environment, case))
            least = {name: min(times) for name, times in runs.items()}
            cells = [
                f"{least[n]:.1f} / {statistics.median(runs[n]):.1f}" if n in fit else "-"
                for n in ways
            ]
            title = f"{case.pattern}, {case.threads} thread{'s' * (case.threads > 1)}"
            print(f"{title:<23}" + "".join(f"{cell:>16}" for cell in cells))
            for line in judge(case, least):
                missed |= "MISSED" in line
                print(f"    {line}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
