"""Tests that a shared machine must be spared: memory and pools used up, writers killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from guest.conftest import full_node, holding, mematlas
from machine_state import in_child
from mematlas.control.tune import apply, plan
from mematlas.errors import MematlasError
from mematlas.memory import Region

pytestmark = pytest.mark.destructive
MIB = 1 << 20
HUGE = "hugepages.2M"
CGROUP = Path("/sys/fs/cgroup")


def tune_pool(pages: int) -> None:
    """Reserve a pool of 2 MiB pages."""
    mematlas("tune", "apply", f"{HUGE}={pages}", "--yes")


def killed() -> int:
    """Return the number of OOM kills."""
    text = Path("/proc/vmstat").read_text()
    return int(text.partition("oom_kill ")[2].split()[0])


# ---- out of memory


def test_the_chosen_one_is_killed() -> None:
    """When memory is exhausted, the program with --oom-score 1000 is killed, and a larger one is not."""
    before = killed()
    with holding(200 * MIB, "--oom-score", "-500") as spared:
        with holding(MIB, "--oom-score", "1000", more=("all",)) as hog:
            assert hog.end() == -signal.SIGKILL
        assert Path(f"/proc/{spared.pid}/stat").read_text().split()[2] != "Z"
    assert killed() > before
    assert "oom.killed" in {each["rule"] for each in diagnosis()}


# ---- hugetlb pools


def test_a_drained_pool_is_no_signal() -> None:
    """A request beyond the pool falls back to other pages, with the reason, and can be written."""
    tune_pool(4)
    with Region("16M", huge="2M") as region:
        assert region.granted != "2M"
        assert "8 pages needed, 4 of 4 free" in region.reasons[0]
        assert in_child(lambda: fill(region)) == 0


def fill(region: Region) -> bool:
    """Write every byte of a region."""
    region.array()[:] = 7
    return True


def test_two_that_race_for_a_pool() -> None:
    """Two processes repeatedly request 3 of 4 pages at once: neither dies, and at most one gets them."""
    tune_pool(4)

    def ask() -> bool:
        for _ in range(20):
            with Region("6M", huge="2M") as region:
                fill(region)
        return True

    first = os.fork()
    if first == 0:
        os._exit(int(not ask()))
    assert in_child(ask) == 0
    assert os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) == 0


def test_a_fork_with_the_pool_drained() -> None:
    """Parent and child write to private hugetlb memory without a free page: neither dies by SIGBUS."""
    tune_pool(2)
    with Region("4M", huge="2M", require=True) as region:
        fill(region)
        child = os.fork()
        if child == 0:
            time.sleep(0.2)
            os._exit(0)
        fill(region)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_groups_hugetlb_limit_is_no_signal() -> None:
    """A hugetlb limit of the cgroup, which the pool's files do not show, fails populate and not a touch."""
    tune_pool(8)
    limit = "hugetlb.2MB.max"
    (CGROUP / "cgroup.subtree_control").write_text("+hugetlb")
    group = CGROUP / "tight"
    group.mkdir()
    try:
        (group / limit).write_text(str(4 * MIB))

        def ask() -> bool:
            (group / "cgroup.procs").write_text(str(os.getpid()))
            with Region("4M", huge="2M", require=True) as small:
                fill(small)
            with Region("16M", huge="2M") as region:
                fill(region)
                return region.granted != "2M" and "cgroup" in region.reasons[0]

        assert in_child(ask) == 0
    finally:
        group.rmdir()


# ---- tune


KNOBS = ("vm.swappiness=11", "vm.dirty_bytes=300M", "hugepages.2M=3", "vm.overcommit_ratio=61")
FILES = ("swappiness", "dirty_bytes", "dirty_ratio", "overcommit_ratio", "overcommit_kbytes")


def die_at(place: int) -> int:
    """Apply the knobs in a child that is killed before a given write; return its exit status."""

    def die(at: int) -> None:
        if at == place:
            os.kill(os.getpid(), signal.SIGKILL)

    def act() -> bool:
        apply.apply(Path("/"), plan.make(Path("/"), plan.parse(KNOBS)), die)
        return True

    return in_child(act)


def values() -> dict[str, str]:
    """Read the kernel's current values of the knobs in the plan."""
    found = {name: Path("/proc/sys/vm", name).read_text() for name in FILES}
    return found | {"pool": Path("/proc/sys/vm/nr_hugepages").read_text()}


@pytest.mark.parametrize("place", range(len(KNOBS) + 1))
def test_undo_after_a_kill_between_any_two_writes(place: int) -> None:
    """After the writer is killed before any write, or after the last, undo restores the kernel's values."""
    before = values()
    assert die_at(place) == -signal.SIGKILL
    assert (values() != before) == (place > 0)
    assert "was interrupted" in mematlas("tune", "apply", "vm.swappiness=12", "--yes", status=1)
    mematlas("tune", "undo", "--yes")
    assert values() == before


def test_a_groups_memory_limit_is_no_death() -> None:
    """A region larger than its cgroup's memory.max is refused, because filling it would end in SIGKILL."""
    (CGROUP / "cgroup.subtree_control").write_text("+memory")
    group = CGROUP / "little"
    group.mkdir()
    try:
        (group / "memory.max").write_text(str(64 * MIB))

        def ask() -> bool:
            (group / "cgroup.procs").write_text(str(os.getpid()))
            try:
                Region("256M", populate=True)
            except MematlasError as error:
                return "limit of 64.0 MiB" in str(error)
            return False

        assert in_child(ask) == 0
    finally:
        group.rmdir()


def test_compact_and_drop_tell_what_they_gave() -> None:
    """drop_caches and compact report free 2 MiB blocks before and after, as in buddyinfo."""
    Path("/var/lib/filler").write_bytes(
        b"x" * (64 * MIB)
    )  # tmpfs: not dropped, moved by compaction
    said = mematlas("tune", "apply", "drop_caches", "compact", "--yes")
    found = re.findall(r"before, (\d+) \(", " ".join(said.split()))
    Path("/var/lib/filler").unlink()
    assert len(found) == 2
    assert all(int(each) > 0 for each in found)


def meminfo(name: str) -> int:
    """Read a value of meminfo, in bytes."""
    return int(Path("/proc/meminfo").read_text().partition(f"{name}:")[2].split()[0]) << 10


def diagnosis(*words: object) -> list[dict[str, Any]]:
    """Return the doctor's findings."""
    said = mematlas(
        "doctor", *words, "--json", *([] if "--duration" in words else ["--duration", "0s"])
    )
    findings: list[dict[str, Any]] = json.loads(said)["data"]["findings"]
    return findings


# ---- swap


def test_the_doctor_sees_thrashing() -> None:
    """A program limited to half of the memory it uses thrashes, and the doctor names it."""
    load = ["modprobe", "-d", os.environ["MEMATLAS_MODULES"], "zram"]
    done = subprocess.run(load, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"zram cannot be loaded: {done.stderr.strip()}")
    device = Path("/sys/block/zram0")
    (device / "disksize").write_text("256M")
    subprocess.run(["mkswap", "-q", "/dev/zram0"], check=True)
    subprocess.run(["swapon", "/dev/zram0"], check=True)
    (CGROUP / "cgroup.subtree_control").write_text("+memory")
    group = CGROUP / "small"
    group.mkdir()
    (group / "memory.high").write_text(str(24 * MIB))
    try:
        with holding(48 * MIB, more=("loop", str(group / "cgroup.procs"))) as child:
            found_rules = {each["rule"] for each in diagnosis(child.pid, "--duration", "4s")}
        assert "swap.thrash" in found_rules
    finally:
        subprocess.run(["swapoff", "/dev/zram0"], check=False)
        group.rmdir()


def test_a_full_node_is_seen() -> None:
    """With node 1 exhausted, the doctor says that new pages are remote, and a preferred policy falls back."""
    with full_node(1):
        assert "numa.node-full" in {each["rule"] for each in diagnosis()}
        with Region("64M", node=1, policy="preferred", populate=True) as region:
            placed = region.placement.by_node
            assert placed is not None
            assert placed.get(0, 0) > 16 * MIB
