"""Rules about the machine, each with a state that triggers it and a close one that does not."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from doctor_states import GIB, MIB, group, host, node, row
from mematlas.doctor import rules
from mematlas.doctor.model import Counters, HostState, Severity
from mematlas.linux.hugepages import HugePool
from mematlas.linux.machine import Stall, SwapArea, Zone
from mematlas.linux.memory_mounts import MemoryMount

if TYPE_CHECKING:
    from pathlib import Path

    from mematlas.doctor.model import Fix

DISK = SwapArea("/dev/vdb", "partition", 4 * GIB, GIB, -2)
ZRAM = SwapArea("/dev/zram0", "partition", 4 * GIB, GIB, 100)
BUSY = {"pswpin": 4000, "pswpout": 4000}
TWO = (node(0), node(1))
SHREDDED = (Zone(0, "Normal", (400_000, 20_000, 0, 0, 0, 0, 0, 0, 0, 10, 0)),)

# rule: (a state that triggers it, one that nearly does)
CASES: dict[str, tuple[HostState, HostState]] = {
    "memory.nearly-out": (
        host(meminfo={"MemAvailable": GIB // 2}),
        host(meminfo={"MemAvailable": GIB}),
    ),
    "memory.stalling": (
        host(stalls=(Stall("some", 40.0, 30.0, 9.0, 1), Stall("full", 20.0, 9.0, 1.0, 1))),
        host(stalls=(Stall("some", 4.0, 30.0, 9.0, 1), Stall("full", 1.0, 9.0, 1.0, 1))),
    ),
    "memory.direct-reclaim": (
        host(rates={"pgscan_direct": 50_000, "pgsteal_direct": 20_000}),
        host(rates={"pgscan_direct": 500}),
    ),
    "swap.thrash": (host(rates=BUSY), host(rates={"pswpin": 0, "pswpout": 90_000})),
    "swap.uncompressed": (host(swaps=(DISK,)), host(swaps=(DISK,), zswap={"enabled": "Y"})),
    "overcommit": (
        host(meminfo={"Committed_AS": 40 * GIB}),
        host(meminfo={"Committed_AS": 40 * GIB, "SwapTotal": 32 * GIB}),
    ),
    "oom.killed": (host(vmstat={"oom_kill": 3}), host(rates={"oom_kill": 2})),
    "oom.killing": (host(rates={"oom_kill": 2}), host(vmstat={"oom_kill": 3})),
    "cgroup.limit": (
        host(cgroup=(group(current=GIB - MIB, failures=12),)),
        host(cgroup=(group(current=GIB - MIB, stat={"inactive_file": GIB * 3 // 4, "active_file": 0}),)),
    ),
    "cgroup.killed": (
        host(cgroup=(group(events={"oom_kill": 2}, failures=40),)),
        host(cgroup=(group(limit=None, events={"oom_kill": 2}),)),
    ),
    "cgroup.throttled": (
        host(cgroup=(group(current=800_000_000, high=800_000_000, events={"high": 523_412},
                           pressure={"some": 80.0, "full": 70.0}),)),
        host(cgroup=(group(current=800_000_000, high=800_000_000, version=1),)),
    ),
    "cgroup.kernel": (
        host(cgroup=(group(kernel=300 * MIB, stat={"slab_reclaimable": 250 * MIB, "inactive_file": 0,
                                                   "active_file": 0}),)),
        host(cgroup=(group(kernel=20 * MIB),)),
    ),
    "tmpfs.full": (
        host(mounts=(MemoryMount("/dev/shm", 64 * MIB, 0),)),
        host(mounts=(MemoryMount("/run/empty", 4096, 0), MemoryMount("/dev/shm", 64 * MIB, 8 * MIB))),
    ),
    "numa.node-full": (
        host(nodes=(node(0, free=10 * MIB), node(1))),
        host(nodes=(node(0, free=10 * MIB), node(1, free=GIB))),
    ),
    "numa.misses": (
        host(nodes=TWO, rates={"numa_miss": 5000, "numa_hit": 5000}),
        host(nodes=TWO, rates={"numa_miss": 5000, "numa_hit": 500_000}),
    ),
    "numa.zone-reclaim": (
        host(nodes=TWO, sysctl={"zone_reclaim_mode": "1"}),
        host(sysctl={"zone_reclaim_mode": "1"}),
    ),
    "dirty.throttled": (host(meminfo={"Dirty": 1900 * MIB}), host(meminfo={"Dirty": 900 * MIB})),
    "memory.reserve": (
        host(sysctl={"min_free_kbytes": "4096"}),
        host(sysctl={"min_free_kbytes": "131072"}, meminfo={"MemTotal": 2048 * GIB, "MemAvailable": 2000 * GIB}),
    ),
    "kernel.slab": (
        host(meminfo={"SUnreclaim": 3 * GIB}),
        host(meminfo={"SUnreclaim": GIB}),
    ),
    "memory.locked": (host(meminfo={"Mlocked": 9 * GIB}), host(meminfo={"Mlocked": 4 * GIB})),
    "ksm.unprofitable": (
        host(ksm={"run": 1, "general_profit": -5 * MIB}),
        host(ksm={"run": 1, "general_profit": 5 * MIB}),
    ),
    "thp.off": (
        host(thp={"enabled": "always madvise [never]"}),
        host(thp={"enabled": "always madvise [never]"}, meminfo={"AnonPages": 100 * MIB}),
    ),
    "thp.fault-compaction": (
        host(thp={"defrag": "[always] defer never"}, rates={"compact_stall": 30}),
        host(thp={"defrag": "always [defer] never"}, rates={"compact_stall": 30}),
    ),
    "thp.shared-off": (
        host(thp={"shmem_enabled": "always [never]"}, meminfo={"Shmem": 2 * GIB}),
        host(meminfo={"Shmem": 2 * GIB}),
    ),
    "fragmentation": (
        host(zones=SHREDDED),
        host(zones=(Zone(0, "Normal", (10_000, 1000, 0, 0, 0, 0, 0, 0, 0, 0, 0)),)),
    ),
    "hugetlb.idle": (
        host(pools=(HugePool(2 * MIB, 512, 500, 10, 0),)),
        host(pools=(HugePool(2 * MIB, 512, 100, 10, 0),)),
    ),
    "hugetlb.empty": (
        host(pools=(HugePool(2 * MIB, 64, 4, 4, 0),)),
        host(pools=(HugePool(2 * MIB, 64, 4, 0, 0), HugePool(GIB, 0, 0, 0, 0))),
    ),
    "memory.page-tables": (
        host(meminfo={"PageTables": 2 * GIB}),
        host(meminfo={"PageTables": 100 * MIB}),
    ),
}  # fmt: skip


def found(state: HostState) -> dict[str, Severity]:
    """Return the rules that found something, with severity."""
    return {each.rule: each.severity for each in rules.examine_host(state).findings}


def test_every_rule_has_a_case() -> None:
    """Every rule about the machine has a state that triggers it and one that does not."""
    assert [rule.key for rule in rules.HOST_RULES if rule.key not in CASES] == []
    assert len(CASES) == len(rules.HOST_RULES)


def test_a_healthy_machine() -> None:
    """A healthy machine has no finding, and every rule is checked."""
    checkup = rules.examine_host(host())
    assert (checkup.findings, checkup.unchecked) == ((), ())
    assert len(checkup.passed) == len(rules.HOST_RULES)


@pytest.mark.parametrize("rule", CASES)
def test_rule(rule: str) -> None:
    """The rule finds its fault and nothing else, and nothing in a close state."""
    faulty, healthy = CASES[rule]
    assert rule in found(faulty)
    assert rule not in found(healthy)
    finding = next(each for each in rules.examine_host(faulty).findings if each.rule == rule)
    assert finding.evidence
    assert finding.fixes
    assert all(map(str.strip, (finding.headline, finding.why, *finding.evidence)))


def test_no_rule_knows_what_was_not_told() -> None:
    """On a machine without readable files no rule passes that had nothing to check."""
    from mematlas.linux.machine import Machine

    nothing = HostState(Counters(), Machine(4096), 0.0)
    checkup = rules.examine_host(nothing)
    assert checkup.findings == ()
    unknown = {each.rule for each in checkup.unchecked}
    assert {"memory.nearly-out", "overcommit", "fragmentation", "memory.stalling"} <= unknown


def test_strict_overcommit() -> None:
    """With overcommit_memory=2 the commit limit counts, and the suggested ratio suffices."""
    state = host(
        sysctl={"overcommit_memory": "2"},
        meminfo={"Committed_AS": 15 * GIB // 2, "CommitLimit": 8 * GIB},
    )
    finding = rules.examine_host(state).findings[0]
    assert finding.severity is Severity.CRITICAL
    ratio = int(finding.fixes[0].command.partition("ratio=")[2].split()[0])
    assert 16 * GIB * ratio // 100 >= 15 * GIB // 2 * 5 // 4 - GIB // 4
    calm = host(sysctl={"overcommit_memory": "2"}, meminfo={"Committed_AS": 7 * GIB})
    assert "overcommit" not in found(calm)


def test_the_kernels_reserve_can_be_too_large() -> None:
    """A reserve of a quarter of memory is found too, with its cost."""
    finding = rules.examine_host(host(sysctl={"min_free_kbytes": str(4 << 20)})).findings[0]
    assert finding.rule == "memory.reserve"
    assert finding.cost > 3 * GIB


def test_a_mount_point_is_one_word_of_a_command() -> None:
    """Any user with a namespace of users may choose the path, and root is asked to run the command."""
    path = "/tmp/a;touch${IFS}/pwned `id` $(id) \n"
    state = host(mounts=(MemoryMount(path, 64 * MIB, 0),))
    (finding,) = [each for each in rules.examine_host(state).findings if each.rule == "tmpfs.full"]
    assert len(finding.fixes) == 2
    for fix in finding.fixes:
        assert shlex.split(fix.command)[-1] == path


def fixes_of(state: HostState, rule: str) -> dict[str, Fix]:
    """Return the fixes of a finding by name."""
    (finding,) = [each for each in rules.examine_host(state).findings if each.rule == rule]
    return {each.name: each for each in finding.fixes}


def test_a_limit_is_raised_in_an_order_the_kernel_accepts() -> None:
    """Memory with swap may not be limited below memory (EINVAL); a limit above is named."""
    full = group(version=1, current=GIB - MIB, swap_limit=GIB, path="/pod/app")
    above = group(version=1, path="/pod", limit=GIB)
    fix = fixes_of(host(cgroup=(full, above)), "cgroup.limit")["cgroup.raise-limit"]
    first, second = fix.command.split(" && ")
    assert first == f"echo {GIB * 3 // 2} > /sys/fs/cgroup/app/memory.memsw.limit_in_bytes"
    assert second == f"echo {GIB * 3 // 2} > /sys/fs/cgroup/app/memory.limit_in_bytes"
    assert "the limit of /pod above it stays 1.00 GiB" in fix.note
    roomy = group(version=1, path="/pod", limit=4 * GIB)
    fix = fixes_of(host(cgroup=(replace(full, swap_limit=4 * GIB), roomy)), "cgroup.limit")[
        "cgroup.raise-limit"
    ]
    assert "&&" not in fix.command
    assert "above it" not in fix.note


def test_reclaim_is_advised_where_the_kernel_has_it(tmp_path: Path) -> None:
    """memory.reclaim exists since Linux 5.19; how much it frees is not promised."""
    stat = {"slab_reclaimable": 250 * MIB, "inactive_file": 0, "active_file": 0}
    state = host(cgroup=(group(kernel=300 * MIB, stat=stat, directory=str(tmp_path)),))
    assert "cgroup.reclaim" not in fixes_of(state, "cgroup.kernel")
    (tmp_path / "memory.reclaim").touch()
    assert fixes_of(state, "cgroup.kernel")["cgroup.reclaim"].gain is None


def test_nodes_are_named_where_their_numbers_have_holes() -> None:
    """A range would hold node 1, which is not there."""
    state = host(nodes=(node(0, free=0), node(2)))
    fix = fixes_of(state, "numa.node-full")["numa.interleave"]
    assert fix.command == "mematlas exec --interleave 0,2 -- COMMAND"


def test_the_largest_processes_are_named() -> None:
    """When memory is short, the evidence lists the three largest processes, the largest first."""
    rows = tuple(row(n, f"worker-{n} --big", pss=n * GIB) for n in range(1, 6))
    state = host(meminfo={"MemAvailable": GIB // 2}, processes=rows)
    named = [each for each in rules.examine_host(state).findings[0].evidence if "process " in each]
    assert named == [f"{n}.00 GiB pss: process {n} worker-{n} --big" for n in (5, 4, 3)]


def test_urgent_findings_come_first() -> None:
    """Findings are sorted by severity, then by the memory concerned."""
    state = host(rates=BUSY, swaps=(DISK,), meminfo={"MemAvailable": GIB // 2, "Shmem": 2 * GIB},
                 thp={"shmem_enabled": "always [never]"})  # fmt: skip
    findings = rules.examine_host(state).findings
    order = [list(Severity).index(each.severity) for each in findings]
    assert order == sorted(order)
    assert findings[0].rule == "memory.nearly-out"
