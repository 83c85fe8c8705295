"""List of the benchmarks. Each module has `measure(settings, meter)` and is imported at its first use."""

from __future__ import annotations

from typing import Literal, NamedTuple

BenchmarkName = Literal[
    "bandwidth", "latency", "patterns", "prefetch", "transpose", "tlb", "sharing", "faults", "alloc",
    "numa",
]  # fmt: skip


class Benchmark(NamedTuple):
    """One benchmark: its name, the module that measures, and a summary of its figures.

    >>> from mematlas import bench
    >>> bench.BENCHMARKS[0].name
    'bandwidth'
    """

    name: str
    module: str
    summary: str


BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark(
        "bandwidth", "mematlas.bench.cases.bandwidth", "read, write, copy, triad; 1 to all threads"
    ),
    Benchmark("latency", "mematlas.bench.cases.latency", "a load, by size of the working set"),
    Benchmark("patterns", "mematlas.bench.cases.patterns", "rows, columns, strides, random order"),
    Benchmark("prefetch", "mematlas.bench.cases.prefetch", "look-ups with software prefetch"),
    Benchmark("transpose", "mematlas.bench.cases.transpose", "matrix transpose by several methods"),
    Benchmark(
        "tlb", "mematlas.bench.cases.tlb", "cost of page sizes: page walks, gathers, small mappings"
    ),
    Benchmark("sharing", "mematlas.bench.cases.sharing", "false sharing and contended atomics"),
    Benchmark("faults", "mematlas.bench.cases.faults", "page faults: touch, populate, fork"),
    Benchmark(
        "alloc", "mematlas.bench.cases.alloc", "malloc implementations, mematlas pool and arena"
    ),
    Benchmark(
        "numa", "mematlas.bench.cases.numa", "memory of each node from the CPUs of each node"
    ),
)
# A module named as a public function of the package would hide the function once it is imported.
NAMES = tuple(each.name for each in BENCHMARKS)
