"""`mematlas system`: each topic, from a captured machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mematlas.linux import machine
from mematlas.observe.machine.topics import TOPICS, pressure_topic

if TYPE_CHECKING:
    from mematlas.observe.machine.model import Topic

CAPTURED = Path(__file__).parents[2] / "data" / "sysroots" / "6.18"


def figure(topic: Topic, name: str) -> Any:
    """Return the value of a figure by name."""
    return next(
        each.value for section in topic.sections for each in section.figures if each.name == name
    )


def test_memory_parts_make_the_whole() -> None:
    """The parts of memory and the unaccounted rest sum to MemTotal."""
    facts = machine.read(str(CAPTURED))
    parts = TOPICS["memory"](facts).sections[0].figures
    assert sum(int(each.value or 0) for each in parts) == facts.meminfo["MemTotal"]


def test_free_blocks_are_about_the_free_memory() -> None:
    """Free blocks of all zones sum to MemFree, except for pages on per-CPU lists."""
    facts = machine.read(str(CAPTURED))
    blocks = sum(
        count * 4096 << order for zone in facts.zones for order, count in enumerate(zone.free)
    )
    assert abs(blocks - facts.meminfo["MemFree"]) < 0.02 * facts.meminfo["MemTotal"]


def test_every_size_and_vendor_statistic_is_kept() -> None:
    """Sizes are enumerated: one without `enabled`, and a statistic only some kernels have."""
    facts = machine.read(str(CAPTURED))
    assert list(facts.thp_sizes) == [8192, 65536, 2097152]
    assert "enabled" not in facts.thp_sizes[8192]
    assert "anon_fault_declined" in facts.thp_sizes[65536]
    grid = TOPICS["thp"](facts).sections[1].grid
    assert grid is not None
    assert grid.columns == ("", "8K", "64K", "2M")


def test_the_tightest_cgroup_is_named() -> None:
    """The level with the least headroom sets the effective limit, not the innermost; no limit is None."""
    facts = machine.read(str(CAPTURED))
    assert [level.path for level in facts.cgroup] == ["/app/worker", "/app", "/"]
    assert facts.cgroup[2].limit is None
    assert facts.cgroup[0].swap == 4096
    first, *_ = TOPICS["cgroup"](facts).answer
    assert first.startswith(
        "memory.limit_in_bytes of /app, 1.00 GiB, is the effective limit of this process: 124 MiB left"
    )


def test_cgroup_version_2(tmp_path: Path) -> None:
    """Version 2 files are read too; "max" is no limit."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/svc\n")
    mount = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    (tmp_path / "proc/self/mountinfo").write_text(mount)
    group = tmp_path / "sys/fs/cgroup/svc"
    group.mkdir(parents=True)
    texts = {"current": "4096", "max": "8192", "high": "max", "events": "low 0\nmax 5\noom_kill 1"}
    for name, text in texts.items():
        (group / f"memory.{name}").write_text(text + "\n")
    (level, _) = machine.read(str(tmp_path)).cgroup
    assert (level.current, level.limit, level.high, level.failures) == (4096, 8192, None, 5)


def test_rates_are_changes_per_second() -> None:
    """Two reads give rates; one read gives totals."""
    before = machine.read(str(CAPTURED))
    counters = {**before.vmstat, "pgfault": before.vmstat["pgfault"] + 500}
    topic = pressure_topic(before, replace(before, vmstat=counters), 2.0)
    assert figure(topic, "pgfault") == 250
    assert figure(topic, "pswpout") == 0
    assert figure(pressure_topic(before), "pgfault") == before.vmstat["pgfault"]


def test_missing_files_have_reasons(tmp_path: Path) -> None:
    """On a machine without readable files, each topic says so, and no value is 0."""
    facts = machine.read(str(tmp_path))
    assert "proc/meminfo" in facts.missing
    for name in ("memory", "fragmentation", "pressure"):
        topic = TOPICS[name](facts)
        assert topic.answer[0].startswith("unknown")
        assert topic.notes


def test_indices_of_debugfs() -> None:
    """The fragmentation index has one number per order; -1 means a block is free."""
    text = "Node 0, zone   Normal -1.000 -1.000 0.931 0.966 \n"
    assert machine.parse_indices(text) == {"Node 0, zone Normal": (-1.0, -1.0, 0.931, 0.966)}


def test_slab_names_and_sums() -> None:
    """The captured slab caches do not exceed Slab of meminfo."""
    facts = machine.read(str(CAPTURED))
    assert {each.name for each in facts.slabs} >= {"dentry", "vm_area_struct", "kmalloc-512"}
    assert all(each.active <= each.objects for each in facts.slabs)
    assert sum(each.total_bytes for each in facts.slabs) <= facts.meminfo["Slab"]
