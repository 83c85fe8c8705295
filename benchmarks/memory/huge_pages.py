"""Random gather and scatter, and first touch, by kind of pages: each in a process of its own, in alternation.

python benchmarks/memory/huge_pages.py [--size 4G] [--touch 1G] [--rounds 5] [--json]      (as root)

The machine's shmem_enabled and hugetlb pool are changed for the run, and put back.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas.memory import Region, where
from mematlas.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SHMEM = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
INDICES = 4 << 20
TRIES = 3
# name: (what is asked of Region, a pool is needed)
BACKINGS: dict[str, tuple[dict[str, Any], bool]] = {
    "private, 4 KiB": ({"advise": "nohugepage"}, False),
    "private, THP": ({"huge": "thp", "require": True}, False),
    "shared, 4 KiB": ({"share": True}, False),
    "shared, THP": ({"huge": "thp", "share": True, "require": True}, False),
    "hugetlb 2 MiB": ({"huge": "2M", "require": True}, True),
}
BASE = {"private, THP": "private, 4 KiB", "hugetlb 2 MiB": "private, 4 KiB",
        "shared, THP": "shared, 4 KiB"}  # fmt: skip


def measure(name: str, size: int, touch: int) -> dict[str, float]:
    """Measure one kind of pages in this process: ns per element, ms for the first touch."""
    options = BACKINGS[name][0]
    found = {"touch_ms": min(first_touch(options, touch) for _ in range(TRIES))}
    with Region(size, **options) as region:
        found |= access(region.array(dtype=np.int64))
    return found


def access(array: NDArray[np.int64]) -> dict[str, float]:
    """Gather from random indices, and scatter to them."""
    array[:] = 1
    indices = np.random.default_rng(7).integers(0, len(array), INDICES)
    out = np.empty(INDICES, np.int64)

    def scatter() -> None:
        array[indices] = 5

    return {
        "huge_share": where(array).huge / array.nbytes,
        "gather_ns": best(lambda: np.take(array, indices, out=out, mode="clip")),
        "scatter_ns": best(scatter),
    }


def first_touch(options: dict[str, Any], size: int) -> float:
    """Map memory and write every page; return the ms, with the mapping, which populates hugetlb."""
    began = time.perf_counter()
    with Region(size, **options) as region:
        array = region.array()
        array[::4096] = 1
        took = (time.perf_counter() - began) * 1e3
        del array
    return took


def best(act: Any) -> float:
    """Return the least nanoseconds per element."""
    times = []
    for _ in range(TRIES):
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    return min(times) / INDICES * 1e9


@contextmanager
def written(path: Path, text: str) -> Iterator[None]:
    """Set a sysfs file inside the `with` block."""
    before = path.read_text().strip()
    if "[" in before:
        before = before.partition("[")[2].partition("]")[0]
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(before)


def in_process(name: str, size: int, touch: int) -> dict[str, float]:
    """Measure in a process of its own, with the hugetlb pool it needs."""
    with ExitStack() as stack:
        if BACKINGS[name][1]:
            stack.enter_context(written(POOL, str(size >> 21)))
        command = [
            sys.executable,
            __file__,
            "--one",
            name,
            "--size",
            str(size),
            "--touch",
            str(touch),
        ]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        found: dict[str, float] = json.loads(done.stdout)
        return found


def main() -> None:
    """Measure every kind of pages in turn, several times, and print the best of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="4G", type=parse_bytes)
    parser.add_argument("--touch", default="1G", type=parse_bytes)
    parser.add_argument("--rounds", default=5, type=int)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", choices=BACKINGS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.size, arguments.touch)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in BACKINGS}
    with written(SHMEM, "advise"):
        for _ in range(arguments.rounds):
            for name in BACKINGS:
                found[name].append(in_process(name, arguments.size, arguments.touch))
    results = {
        name: {key: min(each[key] for each in rows) for key in rows[0]}
        for name, rows in found.items()
    }
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    show(results, arguments.size, arguments.touch)


def show(results: dict[str, dict[str, float]], size: int, touch: int) -> None:
    """Print a Markdown table, with each gain over base pages."""
    head = (
        f"gather from {format_bytes(size)} | scatter | first touch of {format_bytes(touch)} | huge"
    )
    print(f"| backing | {head} |\n|---|---|---|---|---|")
    for name, row in results.items():
        cells = []
        for key, unit in (("gather_ns", "ns"), ("scatter_ns", "ns"), ("touch_ms", "ms")):
            gain = f" ({results[BASE[name]][key] / row[key]:.1f}x)" if name in BASE else ""
            cells.append(f"{row[key]:.{1 if unit == 'ns' else 0}f} {unit}{gain}")
        print(f"| {name} | {' | '.join(cells)} | {100 * row['huge_share']:.0f} % |")


if __name__ == "__main__":
    main()
