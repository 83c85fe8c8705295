"""`mematlas bench` against its peers: bandwidth, latency and transposing, in alternation.

python benchmarks/bench/run.py [--rounds 5] [--mib 192] [--peers FOLDER ...]

Peers: STREAM (built here), NumPy, and what is found on PATH or in the folders: likwid-bench (apt-get
install likwid), multichase and multiload (https://github.com/google/multichase, make). A peer that is
missing or fails is named with the reason. Every figure is the best of the rounds, with the median beside
it: on a busy machine the best is what can be compared.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mematlas import _core, bench
from mematlas.bench.cases.bandwidth import cases
from mematlas.bench.cases.prefetch import words_at
from mematlas.bench.cases.transpose import methods
from mematlas.bench.pointer_chase import LINE, PointerChase, adjacent_lines, shuffled
from mematlas.bench.region import ProvenRegion

sys.path.insert(0, str(Path(__file__).parents[1]))

from contest import FAILURES, hold, output, reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from contest import Contest, Runner

HERE = Path(__file__).parent
PASSES = 4  # of ours and of NumPy's a round: the peers make several of their own
LATENCY_KIB = (16, 256, 4 << 10, 64 << 10, 256 << 10)
CHASED, SAMPLES = 0.5, 3  # seconds that multichase takes for one sample, and how many
NEEDED_BANDWIDTH, NEEDED_LATENCY = 0.97, 0.03
METHODS = ("in tiles", "by halves (cache-oblivious)", "row by row")
TRANSPOSED = {4096: 1.5, 8192: 1.6}


def main() -> int:
    """Run all comparisons; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=192, help="of each array")
    parser.add_argument(
        "--peers", type=Path, nargs="*", default=[], help="folders with their programs"
    )
    parser.add_argument("--only", choices=("bandwidth", "latency", "transpose"))
    given = parser.parse_args()
    paths = [str(each.absolute()) for each in given.peers]
    os.environ["PATH"] = os.pathsep.join([*paths, os.environ["PATH"]])
    print(f"{_core.stream_vectors()} loops; load of the machine: {os.getloadavg()[0]:.1f}")
    met = True
    if given.only in (None, "bandwidth"):
        met &= bandwidth(given.rounds, given.mib << 20)
    if given.only in (None, "latency"):
        met &= latency(given.rounds)
    if given.only in (None, "transpose"):
        met &= transpose(given.rounds)
    return 0 if met else 1


def judge(text: str, *, met: bool) -> bool:
    """Print a verdict."""
    print(f"    {'met   ' if met else 'MISSED'}  {text}")
    return met


# ---- bandwidth, GB/s of useful bytes


def bandwidth(rounds: int, size: int) -> bool:
    """Measure read, copy and triad with one thread."""
    met = True
    with tempfile.TemporaryDirectory() as folder, ProvenRegion("thp", 3 * (size + 4096)) as memory:
        print(f"\nbandwidth, arrays of {size >> 20} MiB, GB/s; ours in {memory.placement.text()}")
        absent: dict[str, str] = {}
        program = build_stream(Path(folder), absent)
        for operation in ("read", "copy", "triad"):
            mine = ours(memory, size, operation)
            found = hold(
                f"bandwidth of {operation}, arrays of {size >> 20} MiB",
                "GB/s",
                rounds,
                mine | peers(program, memory, size, operation),
                ours=tuple(mine),
                lower=False,
                absent=absent | missing("likwid-bench", "multiload"),
            )
            met &= judge_share(found, NEEDED_BANDWIDTH)
    return met


def judge_share(found: Contest, needed: float) -> bool:
    """Compare the best of ours with the best seen."""
    best = [value for each in found.outcomes if (value := found.best(each))]
    mine = [value for each in found.outcomes if each.mine and (value := found.best(each))]
    share = max(mine, default=0.0) / max(best, default=1.0)
    return judge(f"{share:.2f} of the best seen (needed: {needed})", met=share >= needed)


def missing(*programs: str) -> dict[str, str]:
    """Return the programs that are not on PATH."""
    return {each: "not installed" for each in programs if not shutil.which(each)}


def build_stream(folder: Path, absent: dict[str, str]) -> Path | None:
    """Compile STREAM's operations as its users do; None, and the reason in `absent`, if that fails."""
    program = folder / "stream"
    try:
        output(["gcc", "-O3", "-march=native", HERE / "stream.c", "-o", program])
    except FAILURES as error:
        absent["STREAM, gcc -O3"] = reason(error)
        return None
    return program


def ours(memory: ProvenRegion, size: int, operation: str) -> dict[str, Runner]:
    """Return the loops of mematlas, with both kinds of stores."""
    return {
        _own_name(str(case.labels["stores"])): partial(best_of, max, case.sample)
        for case in cases(memory, size, 1)
        if case.labels["what"] == operation
    }


def _own_name(stores: str) -> str:
    return "mematlas" if stores == "none" else f"mematlas, {stores} stores"


def best_of(
    choose: Callable[[list[float]], float], sample: Callable[[], float | None], passes: int = PASSES
) -> float:
    """Sample as often as peers do in one run."""
    return choose([value for _ in range(passes) if (value := sample()) is not None])


def peers(
    program: Path | None, memory: ProvenRegion, size: int, operation: str
) -> dict[str, Runner]:
    """Return the peers that have this operation."""
    count = size // 8
    found: dict[str, Runner] = {}
    if program and operation != "read":
        found["STREAM, gcc -O3"] = partial(run_stream, program, count, operation)
    if shutil.which("likwid-bench"):
        wide = "" if _core.stream_vectors() == "SSE2" else _core.stream_vectors().lower()
        loop = {"read": "load", "copy": "copy_mem", "triad": "stream_mem"}[operation]
        name = f"{loop}_{wide.replace('-', '')}".rstrip("_")
        arrays = {"read": 1, "copy": 2, "triad": 3}[operation]
        found[f"likwid {name}"] = partial(run_likwid, name, arrays * size)
    if shutil.which("multiload"):
        load = {
            "read": "stream-sum",
            "copy": "memcpy-libc",
            "triad": "stream-triad-nontemporal-injection-delay",
        }[operation]
        found[f"multiload {load[:17]}"] = partial(run_multiload, load, 3 * size)
    a, b, c = (words_at(memory.address + part * size, count).view("f8") for part in range(3))
    numpy: dict[str, Callable[[], object]] = {
        "read": a.sum,
        "copy": lambda: np.copyto(a, b),
        "triad": lambda: (np.multiply(c, 3.0, out=a), np.add(a, b, out=a)),
    }
    useful = {"read": 8, "copy": 16, "triad": 24}[operation] * count
    found["NumPy"] = partial(best_of, max, partial(rate, numpy[operation], useful))
    return found


def rate(work: Callable[[], object], useful: int) -> float:
    """Time one call and return GB/s."""
    began = time.perf_counter_ns()
    work()
    return useful / (time.perf_counter_ns() - began)


def run_stream(program: Path, count: int, operation: str) -> float:
    """Run STREAM and return its rate."""
    text = output([program, str(count), str(PASSES)])
    return float(dict(line.split() for line in text.splitlines())[operation])


def run_likwid(loop: str, total: int) -> float:
    """Run likwid-bench with one thread on `total` bytes."""
    command = ["likwid-bench", "-t", loop, "-w", f"N:{total // 1000}kB:1", "-i", str(PASSES)]
    text = output(command)
    found = re.search(r"MByte/s:\s+([0-9.]+)", text)
    return float(found[1]) / 1e3 if found else float("nan")


def run_multiload(load: str, total: int) -> float:
    """Run multiload with one thread and return its best sample."""
    command = ["multiload", "-n", "2", "-t", "1", "-H", "-m", str(total), "-l", load]
    rows = output(command).splitlines()
    names, values = (re.split(r"\s*,\s*", row.strip()) for row in rows[:2])
    return float(dict(zip(names, values, strict=False))["LdMaxMibs"]) * (1 << 20) / 1e9


# ---- latency


def latency(rounds: int) -> bool:
    """Measure a random pointer chase in 4 KiB pages, against multichase."""
    if not shutil.which("multichase"):
        print("\nlatency is left out: no multichase on PATH or in --peers")
        return True
    met = True
    with ProvenRegion("4K", max(LATENCY_KIB) << 10) as memory:
        for kib in LATENCY_KIB:
            chase = PointerChase(shuffled(adjacent_lines(memory.address, (kib << 10) // LINE)))
            contest: dict[str, Runner] = {
                "mematlas": partial(run_chase, chase),
                "multichase": partial(run_multichase, kib << 10),
            }
            found = hold(
                f"latency of a load, {kib} KiB in 4 KiB pages",
                "ns",
                rounds,
                contest,
                ours=("mematlas",),
                lower=True,
            )
            mine, other = found.best_of("mematlas"), found.best_of("multichase")
            off = mine / other - 1 if mine and other else float("nan")
            text = f"{100 * off:+.1f} % (needed: within {100 * NEEDED_LATENCY:.0f} %)"
            met &= judge(text, met=abs(off) <= NEEDED_LATENCY)
    return met


def run_chase(chase: PointerChase) -> float:
    """Return the best of as many and as long samples as multichase makes, for equal disturbance."""
    steps = int(1e9 * CHASED / min(chase.run(10_000) for _ in range(20)))
    return min(chase.run(steps) for _ in range(SAMPLES))


def run_multichase(size: int) -> float:
    """Run multichase at random over all of `size`, instead of within 256 KiB at a time."""
    command = ["multichase", "-n", str(SAMPLES), "-s", str(LINE), "-m", str(size), "-T", str(size)]
    return float(output(command).split()[-1])


# ---- transposing


def transpose(rounds: int) -> bool:
    """Measure transposes of doubles against a copy and NumPy."""
    met = True
    for side, needed in TRANSPOSED.items():
        with ProvenRegion("thp", 16 * side * side) as memory:
            print(f"\ntransposing {side} x {side} doubles, ms; {memory.placement.text()}")
            runs: dict[str, Runner] = {
                name: partial(best_of, min, case.sample, 1 if "row" in name else PASSES)
                for case in methods(memory, side)
                if (name := str(case.labels["method"]))
            }
            found = hold(
                f"transpose of {side} x {side} doubles",
                "ms",
                rounds,
                runs,
                ours=METHODS,
                lower=True,
                base="a copy (the limit)",
            )
        tiles, copy = found.best_of(METHODS[0]), found.best_of("a copy (the limit)")
        ratio = tiles / copy if tiles and copy else float("nan")
        met &= judge(f"{ratio:.2f} x of a copy (needed: {needed})", met=ratio <= needed)
        check_transpose(side // 8)
    return met


def check_transpose(side: int) -> None:
    """Check that the timed result is a transpose."""
    matrix = np.arange(side * side, dtype="f8").reshape(side, side)
    if not np.array_equal(bench.transpose(matrix), matrix.T):
        raise SystemExit("the transpose is wrong")


if __name__ == "__main__":
    sys.exit(main())
