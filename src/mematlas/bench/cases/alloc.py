"""Allocators: each in a process of its own, by LD_PRELOAD, with the patterns of real programs."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING

from mematlas.bench.case import Case
from mematlas.errors import MematlasError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.bench.method import BenchSettings, Meter

PROGRAM = "mematlas_alloc_work"
PATTERNS = ("churn", "batch", "handoff")
MIXED = 0  # a size that stands for random sizes
_LIVE_BYTES = 4 << 20  # in use by a thread, about
_SIZES = (16, 64, 256, 1024, 16384, MIXED)
_QUICK = (64, 1024, MIXED)
_MEAN_MIXED = 770  # bytes, of sizes from 16 to 4096 with a uniform logarithm

_LIBRARIES = {
    "glibc": ((), ""),
    "jemalloc": (("libjemalloc.so.2",), "libjemalloc2"),
    "mimalloc": (("libmimalloc.so.3", "libmimalloc.so.2", "libmimalloc.so"), "libmimalloc2.0"),
    "tcmalloc": (("libtcmalloc_minimal.so.4", "libtcmalloc.so.4"), "libtcmalloc-minimal4"),
}
OURS = {"pool": "mematlas.memory.Pool", "arena": "mematlas.memory.Arena"}
ALLOCATORS = (*_LIBRARIES, *OURS)


def measure(settings: BenchSettings, meter: Meter) -> None:
    """Time every installed allocator at every pattern, then read its resident memory."""
    found = []
    for name in ALLOCATORS:
        allocator = find(name)
        if isinstance(allocator, str):
            meter.unavailable[name] = allocator
        else:
            found.append(allocator)
            meter.proofs[name] = OURS.get(name, allocator.library)
    threads = settings.threads or tuple(sorted({1, min(16, len(os.sched_getaffinity(0)))}))
    sizes = (settings.size,) if settings.size else _QUICK if settings.quick else _SIZES
    meter.measure(cases(found, sizes, threads, 5 if settings.quick else 15), until=0.8)
    held = (8 if settings.quick else 64) << 20
    meter.measure([case for each in found for case in residency(each, sizes[:1], held)], least=3)


@dataclass(frozen=True, slots=True)
class TestedAllocator:
    """A malloc, or the pool or arena of mematlas. `library` is the file the process has loaded."""

    name: str
    preload: str
    library: str


def find(name: str) -> TestedAllocator | str:
    """Return an allocator that was run once, or the reason why it cannot be measured."""
    libraries, package = _LIBRARIES.get(name, ((), ""))
    for preload in libraries or ("",):
        used = str(_run(name, preload, "churn", 64, 10, 1, 1).get("library", ""))
        if not preload or os.path.basename(preload).split(".so")[0] in used:  # noqa: PTH119
            return TestedAllocator(name, preload, used)
    return f"not installed ({libraries[0]}); on Debian: apt-get install {package}"


def live_objects(size: int) -> int:
    """Return how many objects a thread holds."""
    return max(16, min(10_000, _LIVE_BYTES // (size or _MEAN_MIXED)))


def cases(
    allocators: Sequence[TestedAllocator],
    sizes: Sequence[int],
    threads: Sequence[int],
    milliseconds: int,
) -> list[Case]:
    """Return a case for every allocator, pattern, size and number of threads that fit together."""
    return [
        Case(
            {"what": pattern, "allocator": each.name, "size": size, "threads": count},
            "ns",
            partial(_sample, each, pattern, size, count, milliseconds),
        )
        for size in sizes
        for pattern in PATTERNS
        for count in threads
        if not (pattern == "handoff" and count % 2)
        for each in allocators
        if not (each.name == "pool" and size == MIXED)
    ]


def _sample(
    each: TestedAllocator, pattern: str, size: int, threads: int, milliseconds: int
) -> float | None:
    """Measure the nanoseconds of an allocation and its free in a thread; None without CPU time."""
    live = live_objects(size)
    found = _run(each.name, each.preload, pattern, size, live, threads, milliseconds)
    done = int(found["operations"])
    return int(found["ns"]) / done if done else None


class AllocatorResidency:
    """Resident bytes of an allocator for each requested byte, at three occupancies of one run."""

    def __init__(self, each: TestedAllocator, size: int, total: int) -> None:
        self._arguments = (
            each.name,
            each.preload,
            "hold",
            size,
            total // (size or _MEAN_MIXED),
            1,
            0,
        )
        self._seen: dict[str, str] = {}

    def at(self, occupancy: str) -> float:
        """Return the share at an occupancy; run the program if its last run has been read."""
        if occupancy not in self._seen:
            self._seen = _run(*self._arguments)
        return int(self._seen.pop(occupancy)) / int(self._seen["asked"])


OCCUPANCIES = {"held": "all in use", "thin": "one in ten in use", "empty": "all freed"}


def residency(each: TestedAllocator, sizes: Sequence[int], total: int) -> list[Case]:
    """Return cases of resident memory with all objects in use, with nine in ten freed, and with all freed."""
    found = []
    for size in sizes:
        run = AllocatorResidency(each, size, total)
        for occupancy, title in OCCUPANCIES.items():
            labels: dict[str, str | int] = {
                "what": "resident", "allocator": each.name, "size": size, "occupancy": title
            }  # fmt: skip
            found.append(Case(labels, "bytes per requested byte", partial(run.at, occupancy)))
    return found


def _run(
    name: str, preload: str, pattern: str, size: int, live: int, threads: int, milliseconds: int
) -> dict[str, str]:
    program = os.fspath(resources.files("mematlas").joinpath(PROGRAM))  # type: ignore[call-overload]
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
    if preload:
        environment["LD_PRELOAD"] = preload
    numbers = (size, live, threads, milliseconds)
    command = [program, name if name in OURS else "malloc", pattern, *map(str, numbers)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise MematlasError(f"{program}: {error.strerror}; install mematlas anew") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise MematlasError(f"{name} failed at {pattern}: {said[-1] if said else done.returncode}")
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())
