"""Measure what the graph of a heap costs: CPU time of each part, and memory beside the columns.

    benchmarks/heap/graph.py [COUNT ...]

Each row is one program with COUNT blocks (see linked_blocks.c), linked in the order of allocation or at random.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from mematlas._core import HeapHandle
from mematlas.heap.analyse.summary import summarise
from mematlas.heap.read.capture import capture
from mematlas.heap.read.heap import read_heap

HERE = Path(__file__).parent
COLUMNS = 4 + 8 + 8 + 4 + 1 + 4  # bytes of the columns of a node
PARTS = ("index", "type_by_content", "link", "dominate")


def rss(name: str) -> int:
    """Return a figure of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


def watch(seconds: dict[str, float], peaks: dict[str, tuple[int, int]]) -> None:
    """Have the parts of the graph tell their CPU time, and memory before and at the peak."""
    for name in PARTS:
        method = getattr(HeapHandle, name)

        def timed(
            self: HeapHandle, *given: object, name: str = name, method: Any = method
        ) -> object:
            Path("/proc/self/clear_refs").write_text("5")
            before, start = rss("VmRSS"), time.process_time()
            result = method(self, *given)
            seconds[name] = time.process_time() - start
            peaks[name] = before, rss("VmHWM")
            return result

        setattr(HeapHandle, name, timed)


def measure(
    program: Path,
    count: int,
    order: str,
    seconds: dict[str, float],
    peaks: dict[str, tuple[int, int]],
) -> None:
    """Run one program and read its heap."""
    command = [str(program), str(count), order]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        image = capture(process.pid, stop_s=60)
        process.kill()
    start = time.process_time()
    heap = read_heap(image)
    read = time.process_time() - start
    start = time.process_time()
    summarise(heap)
    shown = time.process_time() - start
    most = max(peaks[name][1] for name in ("link", "dominate")) - peaks["link"][0]
    parts = ", ".join(f"{name} {seconds[name]:.2f}" for name in PARTS)
    print(
        f"{len(heap):,} blocks, {heap.edges:,} edges, {order}: read {read:.2f} s CPU ({parts}), first screen"
        f" {shown:.2f} s; memory of the graph {most / len(heap):.1f} bytes a block at most, of which {COLUMNS} are"
        f" columns and {heap.edges * 4 / len(heap):.1f} edges",
        flush=True,
    )


def main() -> None:
    """Build the program and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", nargs="*", type=int, default=[5_000_000])
    parser.add_argument("--order", choices=("order", "random"), action="append")
    arguments = parser.parse_args()
    seconds: dict[str, float] = {}
    peaks: dict[str, tuple[int, int]] = {}
    watch(seconds, peaks)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "linked_blocks"
        source = HERE / "linked_blocks.c"
        subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
        for count in arguments.count:
            for order in arguments.order or ("order", "random"):
                measure(program, count, order, seconds, peaks)


if __name__ == "__main__":
    main()
