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
        "bandwidth", "mematlas.bench.bandwidth", "read, write, copy, triad; 1 to all threads"
    ),
    Benchmark("latency", "mematlas.bench.latency", "a load, by how much memory is in use"),
    Benchmark("patterns", "mematlas.bench.patterns", "rows against columns, strides, random"),
    Benchmark("prefetch", "mematlas.bench.prefetch", "look-ups announced ahead"),
    Benchmark("transpose", "mematlas.bench.transposing", "a matrix turned over"),
    Benchmark("tlb", "mematlas.bench.tlb", "what page size costs: walks, gathers, small mappings"),
    Benchmark("sharing", "mematlas.bench.sharing", "false sharing and contended atomics"),
    Benchmark("faults", "mematlas.bench.faults", "memory from the kernel: touch, populate, fork"),
    Benchmark("alloc", "mematlas.bench.alloc", "malloc implementations, our pool and arena"),
    Benchmark("numa", "mematlas.bench.numa", "each memory node from each node's CPUs"),
)
# No module may be named as a public function of the package: importing it would hide the function.
NAMES = tuple(each.name for each in BENCHMARKS)
