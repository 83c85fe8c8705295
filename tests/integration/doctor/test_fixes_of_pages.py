"""Fixes for page sizes, temporary blocks and cgroups: applied to a program in that state, the figure falls."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from applied_fixes import applies, finding, named, running, settled
from integration.doctor.test_fixes import by_our_python, fix_of
from mematlas.cli import main
from mematlas.doctor import read, rules
from nested_cgroups import memory_cgroup

if TYPE_CHECKING:
    from conftest import Build

MIB = 1 << 20
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
needs_advice = pytest.mark.skipif(
    "[madvise]" not in THP.read_text(),
    reason="memory gets huge pages without advice, or none with it",
)
ARRAYS = """
import contextlib, mmap, sys
import numpy as np
from mematlas import memory
how = sys.argv[1]
with memory.numpy(huge="thp") if how == "arrays" else contextlib.nullcontext():
    kept = np.empty(128 << 20, np.uint8)
    kept[:] = 1
if how == "collapse":
    memory.collapse(kept)
print("ready", flush=True)
sys.stdin.readline()
"""
CHURN = """
import contextlib, resource, sys
import numpy as np
from mematlas import memory
how = sys.argv[1]
a = np.ones(5 << 20)
with memory.numpy(cache="128M") if how == "cache" else contextlib.nullcontext():
    buffer = np.empty_like(a)
    for _ in range(100):
        np.multiply(a, 2, out=buffer) if how == "out" else np.multiply(a, 2)
print("ready", flush=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt, flush=True)
sys.stdin.readline()
"""


def smaps(pid: int, name: str) -> int:
    """Return a sum of smaps_rollup in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    return 0


@applies("thp.malloc")
@needs_advice
def test_malloc_with_huge_pages(build: Build) -> None:
    """A restart gives large blocks of malloc huge pages."""
    with running([str(build("faulty")), "small-malloc"]) as child:
        fix = fix_of(child.pid, "thp.small-pages", "thp.malloc")
    with running(by_our_python(fix.command)) as child:
        assert smaps(child.pid, "AnonHugePages") > 100 * MIB
        assert finding(child.pid, "thp.small-pages") is None


@applies("thp.arrays", "thp.collapse")
@needs_advice
@pytest.mark.parametrize("how", ["arrays", "collapse"])
def test_arrays_in_huge_pages(how: str) -> None:
    """Arrays are allocated in huge pages, or collapsed into them."""
    words = [sys.executable, "-c", ARRAYS, how]
    with running(words, {"NUMPY_MADVISE_HUGEPAGE": "0"}) as child:
        assert smaps(child.pid, "AnonHugePages") > 100 * MIB
        assert finding(child.pid, "thp.small-pages") is None


def slack_or_churn(path: Path, command: list[str], rule: str, capsys: Any) -> dict[str, Any]:
    """Record a program, and return a finding about the recording."""
    words = [sys.executable, "-m", "mematlas", "run", "--exact", "-o", str(path), "--", *command]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    capsys.readouterr()
    assert main(["doctor", str(path), "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["data"]["findings"]
    return dict(next(each for each in findings if each["rule"] == rule))


def minor_faults(pid: int) -> int:
    """Return the minor faults of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


@applies("churn.tunables")
def test_large_blocks_stay_in_the_heap(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the tunables a large block is mapped once, not at each allocation."""
    command = [str(build("faulty")), "churn"]
    found = slack_or_churn(tmp_path / "run.atlas", command, "churn", capsys)
    fix = next(each for each in found["fixes"] if each["name"] == "churn.tunables")
    with running(command) as child:
        faults = minor_faults(child.pid)
    with running(fix["command"]) as child:
        assert minor_faults(child.pid) < faults // 10


@applies("churn.out", "churn.cache")
@pytest.mark.parametrize("how", ["out", "cache"])
def test_arrays_are_reused(how: str) -> None:
    """A buffer that is kept, or a cache of freed blocks, takes no page faults."""
    counts = []
    for way in ("plain", how):
        with running([sys.executable, "-c", CHURN, way], {"NUMPY_MADVISE_HUGEPAGE": "0"}) as child:
            assert child.stdout is not None
            counts.append(int(child.stdout.readline()))
    assert counts[1] < counts[0] // 4, counts


@applies("thp.allow")
@needs_advice
def test_huge_pages_are_allowed_again(build: Build) -> None:
    """Without PR_SET_THP_DISABLE advised memory gets huge pages."""
    program = str(build("faulty"))
    forbid = "import ctypes, os, sys; ctypes.CDLL(None).prctl(41, int(sys.argv[1]), 0, 0, 0); os.execv(sys.argv[2], sys.argv[2:])"
    words = [sys.executable, "-c", forbid]
    with running([*words, "1", program, "small-malloc"]) as child:
        fix = fix_of(child.pid, "thp.small-pages", "thp.allow")
        assert fix.command == "prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0)"
    with running([*words, "0", program, "sparse-huge"]) as child:
        assert smaps(child.pid, "AnonHugePages") > 100 * MIB


@applies("cgroup.raise-limit", "cgroup.reclaim")
@pytest.mark.machine
def test_a_group_at_its_limit(tmp_path: Path) -> None:
    """A higher limit ends the finding; reclaim frees the dentries that count for the group."""
    with memory_cgroup() as group:
        group.limit(64 * MIB)
        with in_group(
            group.path, "sys.stdout.write('')\nblock = bytearray(b'x') * (54 << 20)"
        ) as child:
            assert "cgroup.limit" in keys(child.pid)
            shell(child.pid, "cgroup.limit", "cgroup.raise-limit")
            assert "cgroup.limit" not in keys(child.pid)
        group.limit(96 * MIB)
        code = f"import os\nfor n in range(220_000):\n  os.path.exists('{tmp_path}/a_name_that_is_not_there_%08d' % n)"
        with in_group(group.path, code) as child:
            before = kernel(child.pid)
            if before < 32 * MIB:
                pytest.skip(f"dentries of a group are not counted here: {before:,} bytes")
            shell(child.pid, "cgroup.kernel", "cgroup.reclaim")
            assert settled(lambda: kernel(child.pid), before // 4) <= before // 4


def in_group(path: Path, code: str) -> Any:
    """Run Python code in a cgroup, from its first page on."""
    whole = f"import sys\n{code}\nprint('ready', flush=True)\nsys.stdin.readline()"
    joining = f'echo 0 > {path}/cgroup.procs; exec {sys.executable} -c "$0"'
    return running(["sh", "-c", joining, whole])


def keys(pid: int) -> set[str]:
    """Return the rules that find something about a process and its machine."""
    return {each.rule for each in rules.examine_process(read.read_process(pid, "/", 0)).findings}


def kernel(pid: int) -> int:
    """Return the kernel memory of the process's innermost cgroup in bytes."""
    return read.read_process(pid, "/", 0).host.now.cgroup[0].kernel or 0


def shell(pid: int, rule: str, name: str) -> None:
    """Run the shell command of a fix."""
    findings = rules.examine_process(read.read_process(pid, "/", 0)).findings
    found = next((each for each in findings if each.rule == rule), None)
    assert found, [each.rule for each in findings]
    subprocess.run(["sh", "-c", named(found.fixes, name).command], check=True)
