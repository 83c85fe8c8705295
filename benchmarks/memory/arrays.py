"""memory.numpy() against NumPy's own allocator: `(a * b + a) - b`, in alternation.

python benchmarks/memory/arrays.py [--rounds 9] [--realtime]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mematlas import memory
from mematlas.units import format_bytes

sys.path.insert(0, str(Path(__file__).parents[1]))

from contest import Contest, Outcome, record

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = [80, 800, 8 << 10, 64 << 10, 512 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20]
SLOWER, FASTER_FROM = 1.05, 64 << 20


def once(act: Callable[[], object], count: int) -> float:
    """Measure the seconds of a call, over `count` calls with cold caches."""
    time.sleep(0.02)
    for _ in range(1 + count // 4):
        act()
    began = time.perf_counter()
    for _ in range(count):
        act()
    return (time.perf_counter() - began) / count


def expression(size: int) -> Callable[[], object]:
    """Return `(a * b + a) - b` as a function on arrays of `size` bytes: three operations, two temporaries."""
    a, b = np.random.default_rng(1).random((2, size // 8))
    return lambda: (a * b + a) - b


def as_contest(size: int, ours: list[float], own: list[float]) -> Contest:
    """Return the seconds of one size as a contest, in microseconds."""
    outcomes = (
        Outcome("NumPy's own", tuple(1e6 * each for each in own)),
        Outcome("memory.numpy()", tuple(1e6 * each for each in ours), mine=True),
    )
    return Contest(f"(a * b + a) - b, arrays of {format_bytes(size)}", "us", True, outcomes)


def main() -> int:
    """Run all sizes; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--realtime", action="store_true")
    arguments = parser.parse_args()
    if arguments.realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
    missed = False
    print("each array     NumPy's own        placed    ratio")
    for size in SIZES:
        act = expression(size)
        count = max(2, min(20_000, (32 << 20) // size))
        own, ours = [], []
        with memory.numpy() as placed:
            for _ in range(arguments.rounds):
                ours.append(once(act, count))
                own.append(Context().run(once, act, count))  # an empty context has NumPy's own
        assert (placed.stats().mapped > 0) == (size >= 1 << 20)
        ratio = min(ours) / min(own)
        record(as_contest(size, ours, own))
        kept = ratio < 1 if size == FASTER_FROM else ratio <= SLOWER
        missed |= not kept
        print(
            f"{format_bytes(size):>10} {min(own) * 1e6:12.2f} us {min(ours) * 1e6:10.2f} us "
            f"{ratio:8.3f} {'' if kept else ' MISSED'}",
            flush=True,
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
