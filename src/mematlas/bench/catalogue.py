"""The benchmarks there are. A benchmark's module has `measure(settings, meter)`; it is imported on use."""

from __future__ import annotations

from typing import NamedTuple


class Benchmark(NamedTuple):
    """One benchmark: its name, the module that measures, and what it tells."""

    name: str
    module: str
    summary: str


BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark(
        "bandwidth", "mematlas.bench.cases.bandwidth", "read, write, copy, triad; 1 to all threads"
    ),
    Benchmark("latency", "mematlas.bench.cases.latency", "a load, by how much memory is in use"),
    Benchmark("patterns", "mematlas.bench.cases.patterns", "rows against columns, strides, random"),
    Benchmark("prefetch", "mematlas.bench.cases.prefetch", "look-ups announced ahead"),
    Benchmark("transpose", "mematlas.bench.cases.transpose", "a matrix turned over"),
    Benchmark(
        "tlb", "mematlas.bench.cases.tlb", "what page size costs: walks, gathers, small mappings"
    ),
    Benchmark("sharing", "mematlas.bench.cases.sharing", "false sharing and contended atomics"),
    Benchmark(
        "faults", "mematlas.bench.cases.faults", "memory from the kernel: touch, populate, fork"
    ),
    Benchmark("alloc", "mematlas.bench.cases.alloc", "malloc implementations, our pool and arena"),
    Benchmark("numa", "mematlas.bench.cases.numa", "each memory node from each node's CPUs"),
)
# No module may be named as a public function of the package: importing it would hide the function.
NAMES = tuple(each.name for each in BENCHMARKS)
