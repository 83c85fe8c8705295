"""Page faults of a run: the code that touched memory first, and the code that allocated it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from traced_runs import named

if TYPE_CHECKING:
    from conftest import Build, Run
    from traced_runs import Traced


EVERY = ("--faults", "1")
PAGE = os.sysconf("SC_PAGESIZE")
SIZE = 64 << 20
SMALL = 20_000 * 1000  # bytes that small_blocks keeps


def sampled(run: Traced) -> Traced:
    """Return the run; skip if this machine does not allow sampling page faults."""
    found = run.report["page_faults"]
    if not found["samples"] and found["refused"]:
        pytest.skip(f"page faults are not to be had here: {found['refused'][0]}")
    return run


def pages_of(run: Traced, function: str) -> float:
    """Return the bytes that a function touched first, in whole pages."""
    touched: int = sum(site["bytes"] for site in run.fault_sites(function))
    return touched / PAGE


def test_every_fault_is_at_the_line_that_touched(build: Build, traced: Run) -> None:
    """If one function allocates and another one touches, faults belong to the latter, in memory of the former."""
    run = sampled(traced(build("allocate_here_touch_there"), options=EVERY))
    assert SIZE / PAGE <= pages_of(run, "touch_there") <= SIZE / PAGE + 2
    assert pages_of(run, "allocate_here") <= 2  # malloc's header
    owners = {
        frame["function"]
        for site in run.fault_sites("touch_there")
        if site["owner"] and site["faults"] > 1
        for frame in site["owner"]
    }
    assert "allocate_here" in owners
    assert not run.fault_sites("leave_untouched") or pages_of(run, "leave_untouched") <= 2


def test_malloc_touches_for_its_caller(build: Build, traced: Run) -> None:
    """Pages of small blocks are touched in malloc() itself, which exact runs call from the hook."""
    for options in (EVERY, (*EVERY, "--exact")):
        run = sampled(traced(build("small_blocks"), options=options))
        sites = run.fault_sites("keep_small")
        touched = sum(site["bytes"] for site in sites)
        assert SMALL <= touched <= SMALL * 1.1
        heap = sum(site["bytes"] for site in sites if site["memory"] == "glibc heap")
        owned = sum(site["bytes"] for site in sites if site["owner"])
        assert heap + owned >= 0.9 * touched


def test_one_in_many_gives_the_same_within_its_error(build: Build, traced: Run) -> None:
    """The estimate with the default period is within five standard errors."""
    run = sampled(traced(build("allocate_here_touch_there")))
    found = run.report["page_faults"]
    assert found["period"] > 1
    touched = sum(site["bytes"] for site in run.fault_sites("touch_there"))
    error = max(site["error_bytes"] for site in run.fault_sites("touch_there"))
    assert abs(touched - SIZE) <= 5 * error
    assert error <= SIZE / 8


def test_faults_are_those_the_kernel_counted(build: Build, traced: Run) -> None:
    """All faults of the program but those of the loader and the kernel are sampled."""
    run = sampled(traced(build("touch_tenth"), options=EVERY))
    found = run.report["page_faults"]
    if found["counted_faults"] is None:
        pytest.skip("the program was too short for a look at the kernel's count")
    seen = found["faults"] + found["lost"]
    assert seen >= found["counted_faults"] - 1500  # a snapshot before the end: no upper bound
    touched = (1 << 30) / 10 / PAGE
    assert touched <= seen <= touched + 1500


def test_python_lines_touch(traced: Run) -> None:
    """Faults of a filled buffer belong to the Python line that fills it."""
    code = "def fill(room):\n    for at in range(0, len(room), 4096):\n        room[at] = 1\n"
    code += "import mmap\nroom = mmap.mmap(-1, 8 << 20, flags=0x22)\n"
    code += "room.madvise(mmap.MADV_NOHUGEPAGE)\nfill(room)\n"
    run = sampled(traced(sys.executable, "-c", code, options=EVERY))
    assert (8 << 20) / PAGE <= pages_of(run, "fill") <= (8 << 20) / PAGE + 64
    lines = {
        frame["line"]
        for site in run.fault_sites("fill")
        for frame in site["frames"]
        if named(frame, "fill") and site["faults"] > 1000
    }
    assert lines == {3}


def test_children_are_seen(build: Build, traced: Run) -> None:
    """Forked children sample their own faults."""
    run = sampled(traced(build("forks"), options=EVERY))
    processes = {site["process"] for site in run.report["page_faults"]["sites"]}
    assert len(processes) > 1


def test_a_huge_page_counts_whole(traced: Run, tmp_path: Path) -> None:
    """A fault that a huge page answers makes 2 MiB resident."""
    code = "import mmap\nroom = mmap.mmap(-1, 64 << 20, flags=0x22)\nroom.madvise(14)\n"
    code += "for at in range(0, len(room), 4096): room[at] = 1\n"
    code += "import re; print(sum(int(n) for n in re.findall('AnonHugePages: +([0-9]+)', "
    code += f"open('/proc/self/smaps').read())), file=open('{tmp_path}/huge', 'w'))"
    run = sampled(traced(sys.executable, "-c", code, options=EVERY))
    huge = int((tmp_path / "huge").read_text()) << 10
    if huge < 32 << 20:
        pytest.skip("no transparent huge pages were given")
    found = run.report["page_faults"]
    assert found["bytes"] >= 64 << 20
    assert found["faults"] < (64 << 20) / PAGE


def test_huge_pages_that_are_gone_again_count_whole(traced: Run, tmp_path: Path) -> None:
    """The size of a fault is known even if the memory is freed at once and all descriptors are closed."""
    code = f"""
import mmap, os, re
os.closerange(3, 1 << 20)
for _ in range(100):
    room = mmap.mmap(-1, 8 << 20, flags=0x22)
    room.madvise(14)
    for at in range(0, len(room), 4096): room[at] = 1
    huge = sum(map(int, re.findall('AnonHugePages: +([0-9]+)', open('/proc/self/smaps').read())))
    print(huge, file=open('{tmp_path}/huge', 'a'))
    room.close()
"""
    run = sampled(traced(sys.executable, "-c", code, options=EVERY))
    huge = [int(line) << 10 for line in (tmp_path / "huge").read_text().splitlines()]
    if min(huge) < 6 << 20:
        pytest.skip("not always were transparent huge pages given")
    touched = sum(site["bytes"] for site in run.fault_sites("mmap_ass_subscript"))
    assert touched == pytest.approx(100 * (8 << 20), rel=0.01)


def test_major_faults_name_their_file(traced: Run, tmp_path: Path) -> None:
    """Pages read from disk are major faults in that file."""
    file = tmp_path / "cold"
    file.write_bytes(os.urandom(4 << 20))
    code = f"import mmap, os\nf = open('{file}', 'rb')\nos.fsync(f.fileno())\n"
    code += "os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)\n"
    code += "m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\nm.madvise(mmap.MADV_RANDOM)\n"
    code += "s = sum(m[at] for at in range(0, len(m), 4096))\n"
    run = sampled(traced(sys.executable, "-c", code))
    inside = [
        site
        for site in run.report["page_faults"]["sites"]
        if site["memory"] in {str(file), "filemap"} and site["major_faults"]
    ]
    if not inside:
        pytest.skip("this file system keeps its pages, so no fault is major")
    assert sum(site["major_faults"] for site in inside) > 900


@pytest.mark.parametrize("how", ["handle", "wait", "die"])
def test_programs_that_know_sigtrap_are_left_alone(build: Build, traced: Run, how: str) -> None:
    """Handling SIGTRAP, waiting for all signals and dying of SIGTRAP work as without mematlas."""
    run = traced(build("sigtrap"), how, options=EVERY)
    assert run.outcome.status == (128 + 5 if how == "die" else 0)
    found = run.report["page_faults"]
    if not found["samples"]:
        return
    ended = ["SIGTRAP" in reason for reason in found["refused"]]
    assert ended == ([True] if how == "handle" else [])
    if how == "wait":
        assert pages_of(run, "touch") >= 3 * (16 << 20) / PAGE - 32  # some were touched by malloc


def test_a_refusal_is_said(build: Build, traced: Run) -> None:
    """If perf events are forbidden, the run goes on without samples and says why."""
    run = traced(build("no_perf"), build("allocate_here_touch_there"))
    reasons = run.report["page_faults"]["refused"]
    assert len([each for each in reasons if "perf_event" in each]) == 1
    assert run.sum("live_bytes", "allocate_here") == SIZE


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_a_program_in_valgrind_is_let_run(build: Build, traced: Run) -> None:
    """Inside valgrind no faults are sampled: a SIGTRAP for its own faults would kill it."""
    run = traced("valgrind", "--tool=none", "-q", build("allocate_here_touch_there"), options=EVERY)
    assert any("valgrind" in reason for reason in run.report["page_faults"]["refused"])
    assert run.sum("live_bytes", "allocate_here") > 0


def test_off_is_off(build: Build, traced: Run) -> None:
    """`--faults off` samples no faults."""
    run = traced(build("allocate_here_touch_there"), options=("--faults", "off"))
    assert run.report["page_faults"] is None


def test_huge_faults_are_sampled_more_often(build: Build, traced: Run) -> None:
    """A fault of 2 MiB counts once, and few of them make much memory resident."""
    modes = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not modes.exists() or "[never]" in modes.read_text():
        pytest.skip("transparent huge pages are off")
    run = sampled(traced(build("asks_for_huge", "-pthread")))
    faults = {
        name: sum(site["faults"] for site in run.fault_sites(name))
        for name in ("touch_here", "touch_there")
    }
    if not any(each["huge_bytes"] for each in run.report["stacks"]):
        pytest.skip("no huge page was to be had")
    assert 66 <= faults["touch_here"] <= 94  # one in 7 of 80
    assert faults["touch_there"] in {61, 122}  # the thread was there before


def test_huge_faults_are_sampled_after_all_descriptors_are_closed(
    build: Build, traced: Run
) -> None:
    """The collector holds the event for a program that closes everything."""
    run = sampled(traced(build("asks_for_huge", "-pthread"), "close"))
    if not any(each["huge_bytes"] for each in run.report["stacks"]):
        pytest.skip("no huge page was to be had")
    assert 66 <= sum(site["faults"] for site in run.fault_sites("touch_here")) <= 94
