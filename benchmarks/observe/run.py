"""CPU time of observing, relative to the kernel's part and to peers, measured alternately.

python benchmarks/observe/run.py [--gib 2] [--rounds 5]      (as root; psutil and pmap if there)
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from contest import TIMEOUT, PeerError, hold, output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contest import Runner

HERE = Path(__file__).parent
PAGE = 4096
TIMED = """
import sys, time, resource
{setup}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.process_time()
{work}
took = time.process_time() - began
print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def build(folder: Path, name: str) -> Path:
    """Compile a program of this directory."""
    program = folder / name
    subprocess.run(["gcc", "-O2", HERE / f"{name}.c", "-o", program], check=True)
    return program


@contextmanager
def target(program: Path, *arguments: str) -> Iterator[tuple[int, int, int]]:
    """Run a target; return its PID, and the start and length of its mapping."""
    with subprocess.Popen(
        [program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        start, length = map(int, process.stdout.readline().split())
        yield process.pid, start, length
        process.communicate("")


def program_cost(*command: str | Path) -> tuple[float, float]:
    """Return the CPU seconds of a program, including its start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=TIMEOUT
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, float("nan")


def python_cost(setup: str, work: str) -> tuple[float, float]:
    """Return CPU seconds and peak memory growth (MB) of Python code, without the interpreter start."""
    code = TIMED.format(setup=setup, work=work)
    words = output([sys.executable, "-c", code]).split()
    if len(words) != 2:
        message = "printed no figures"
        raise PeerError(message)
    return float(words[0]), int(words[1]) / 1024


Contest = dict[str, "tuple[Any, ...]"]


def compete(title: str, rounds: int, contest: Contest, needed: float | None = None) -> None:
    """Run all contestants in turn, `rounds` times. The first is what is divided by.

    needed: the factor that each contestant of mematlas may take.
    """
    memory: dict[str, list[float]] = {name: [] for name in contest}

    def cost(name: str) -> float:
        measure, *arguments = contest[name]
        spent, grown = measure(*arguments)
        memory[name].append(grown)
        return float(spent)

    runners: dict[str, Runner] = {name: partial(cost, name) for name in contest}
    ours = [name for name in contest if name.startswith("mematlas")]
    base = next(iter(contest))
    found = hold(
        title,
        "s of CPU",
        rounds,
        runners,
        ours=ours,
        lower=True,
        base=base if base.startswith("kernel") else None,
    )
    for name in ours:
        grown = [f"{each:.0f}" for each in memory[name] if each == each]  # noqa: PLR0124 - not NaN
        if grown:
            print(f"    {name}: peak memory +{min(grown, key=int)} MB")
        best, least = found.best_of(name), found.best_of(base)
        if needed and best and least:
            word = "met   " if best <= needed * least else "MISSED"
            print(f"    {word}  {name}: {best / least:.2f} x (needed: {needed})", flush=True)


def smaps(rounds: int, programs: tuple[Path, Path]) -> None:
    """65,000 mappings: read and sum smaps."""
    peek, raw = programs
    with target(peek, "vmas", "65000") as (pid, _, _):
        path = f"/proc/{pid}/smaps"
        contest: Contest = {
            "kernel: raw read": (program_cost, raw, "read", path),
            "mematlas": (python_cost, "from mematlas.linux import smaps",
                         f"smaps.read({pid})[0].total('Rss')"),
            "psutil memory_maps": (python_cost, "import psutil",
                                   f"psutil.Process({pid}).memory_maps(grouped=False)"),
        }  # fmt: skip
        if shutil.which("pmap"):
            contest["pmap -XX"] = (program_cost, "pmap", "-XX", str(pid))
        compete("smaps of 65,000 mappings", rounds, contest, 1.1)


def pages(rounds: int, programs: tuple[Path, Path], gib: float) -> None:
    """Pages written in random order: pagemap to an array, and the join with frames."""
    peek, raw = programs
    size = int(gib * (1 << 30))
    with target(peek, "pages", str(size)) as (pid, start, length):
        count, first = length // PAGE, start // PAGE
        pagemap = ("words", f"/proc/{pid}/pagemap", str(first), str(count))
        tables = [f"/proc/kpage{name} 262144 {count}".split() for name in ("flags", "count")]
        span = f"{pid}, [({start}, {start + length})]"
        setup = "import numpy; from mematlas.linux import pagemap as pages"
        compete(f"pagemap of {gib:g} GiB to an array", rounds, {
            "kernel: raw read": (program_cost, raw, *pagemap),
            "mematlas": (python_cost, setup, f"pages.read({span}, join=False)"),
        })  # fmt: skip
        core = (
            "import os, numpy; from mematlas import _core;"
            f"d = os.open('/proc/{pid}/pagemap', 0);"
            "t = [os.open('/proc/kpage' + n, 0) for n in ('flags', 'count')]"
        )
        raw_reads = (program_cost, raw, *pagemap, *tables[0], *tables[1])
        joined = f"_core.join_frames(_core.read_pagemap(d, {start}, {count}), t, counts=1)"
        compete(f"pagemap + kpageflags + kpagecount of {gib:g} GiB", rounds, {
            "kernel: three raw reads": raw_reads,
            "mematlas join": (python_cost, core, joined),
        }, 1.2)  # fmt: skip
        compete(f"the same with kpagecgroup, of {gib:g} GiB", rounds, {
            "kernel: three raw reads": raw_reads,
            "mematlas": (python_cost, setup, f"pages.read({span})"),
        }, 1.6)  # fmt: skip


def sparse(rounds: int, programs: tuple[Path, Path]) -> None:
    """Run the benchmark of a mapping of 1 TiB with sixteen pages."""
    with target(programs[0], "sparse") as (pid, start, length):
        compete("16 pages in 1 TiB", rounds, {
            "mematlas": (python_cost, "import numpy; from mematlas.linux import pagemap as pages",
                         f"assert len(pages.read({pid}, [({start}, {start + length})]).entry) == 16"),
        })  # fmt: skip


def sweep(rounds: int, raw: Path) -> None:
    """All processes of the machine, plus two hundred."""
    sleepers = [subprocess.Popen(["sleep", "600"]) for _ in range(200)]
    try:
        pids = [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
        rollups = [f"/proc/{pid}/smaps_rollup" for pid in pids]
        asked = (
            "for p in psutil.process_iter():\n try: p.memory_full_info()\n except Exception: pass"
        )
        compete("smaps_rollup of all processes", rounds, {
            "kernel: raw reads": (program_cost, raw, "read", *rollups),
            "mematlas ps": (python_cost, "from mematlas.linux import processes",
                            "processes.read(commands=False)"),
            "psutil memory_full_info": (python_cost, "import psutil", asked),
        }, 1.2)  # fmt: skip
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()


def cache(rounds: int, gib: float, folder: Path) -> None:
    """Residency of a large file."""
    path = folder / "large"
    with path.open("wb") as file:
        for _ in range(int(gib * 64)):
            file.write(bytes(1 << 24))
    setup = "import pathlib; from mematlas.observe.page_cache import read as residency"
    contest: Contest = {
        "mematlas totals (cachestat)": (python_cost, setup,
                                        f"residency.read_file(pathlib.Path({str(path)!r}))"),
        "mematlas map (mincore)": (python_cost, setup,
                                   f"residency.read_map(pathlib.Path({str(path)!r}))"),
    }  # fmt: skip
    for peer in ("vmtouch", "fincore"):
        if shutil.which(peer):
            contest = {peer: (program_cost, peer, path), **contest}
    compete(f"residency of a {gib:g} GiB file (first: the peer)", rounds, contest)


def main() -> None:
    """Run all benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        programs = build(Path(name), "target"), build(Path(name), "raw")
        smaps(arguments.rounds, programs)
        sweep(arguments.rounds, programs[1])
        pages(arguments.rounds, programs, arguments.gib)
        sparse(arguments.rounds, programs)
        cache(arguments.rounds, arguments.gib, Path(name))


if __name__ == "__main__":
    main()
