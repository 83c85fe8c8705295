"""Rules about a process: for each a state that triggers it, and a close one that does not."""

from __future__ import annotations

import shlex
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from doctor_states import BASE, CODE, GIB, MIB, heap, host, mapping, node, process
from mematlas.doctor import rules
from mematlas.doctor.model import Finding, FixKind, ProcessState, Severity
from mematlas.linux import numa_maps
from mematlas.linux.glibc_heap import Heaps
from mematlas.linux.held_files import HeldFile
from mematlas.linux.huge_use import HugeUse
from mematlas.linux.memory_mounts import MemoryMount
from mematlas.linux.numa_maps import NodePages

SMALL = mapping(BASE, 256 * MIB, Rss=256 * MIB)
ADVISED = mapping(BASE, 256 * MIB, flags="rd wr hg", Rss=256 * MIB, AnonHugePages=250 * MIB)
STACKS = [
    mapping(BASE + n * 16 * MIB, 8 * MIB, Rss=4 * MIB, AnonHugePages=4 * MIB) for n in range(10)
]
TWO = host(nodes=(node(0), node(1)))
FAR = (NodePages(BASE, "default", {0: 100 * MIB, 1: 150 * MIB}),)


def times(*sizes: int) -> tuple[tuple[float, int], ...]:
    """Return samples half a second apart."""
    return tuple((index / 2, size) for index, size in enumerate(sizes))


SWAPPED = {"VmSwap": 500 * MIB}
MANY = [mapping(BASE + n * 8192, 4096) for n in range(900)]

CASES: dict[str, tuple[ProcessState, ProcessState]] = {
    "thp.small-pages": (process(SMALL), process(ADVISED)),
    "thp.shared-small-pages": (
        process(mapping(BASE, 256 * MIB, "rw-s", "/memfd:cache", Rss=256 * MIB)),
        process(
            mapping(BASE, 256 * MIB, "rw-s", "/memfd:cache", Rss=256 * MIB, ShmemPmdMapped=200 * MIB)
        ),
    ),
    "thp.bloat": (
        process(huge=HugeUse(128 * MIB, 127 * MIB, MIB, 1024, advised=True)),
        process(huge=HugeUse(1024 * MIB, 127 * MIB, 10 * MIB, 1024)),
    ),
    "tmpfs.full-inside": (
        process(mounts=(MemoryMount("/dev/shm", 64 * MIB, 0),)),
        process(
            mounts=(MemoryMount("/dev/shm", 64 * MIB, 0),),
            on=host(mounts=(MemoryMount("/dev/shm", 64 * MIB, 0),)),
        ),
    ),
    "thp.stacks": (
        process(*STACKS, threads=tuple(BASE + n * 16 * MIB + 8192 for n in range(10))),
        process(*STACKS, threads=(BASE + 8192,)),
    ),
    "memory.process-page-tables": (
        process(sizes={"VmPTE": 100 * MIB}),
        process(sizes={"VmPTE": 100 * MIB, "VmRSS": 40 * GIB}),
    ),
    "hugetlb.fork": (
        process(mapping(BASE, 4 * MIB, flags="rd wr ht", Private_Hugetlb=4 * MIB)),
        process(mapping(BASE, 4 * MIB, flags="rd wr ht dc", Private_Hugetlb=4 * MIB)),
    ),
    "numa.remote": (process(on=TWO, numa=FAR), process(on=TWO, numa=FAR, cpus_nodes=frozenset({0, 1}))),
    "security.write-execute": (
        process(mapping(BASE, MIB, "rwxp")),
        process(mapping(BASE, MIB, "rw-p"), mapping(BASE + MIB, MIB, "r-xp")),
    ),
    "malloc.bloat": (
        process(heaps=Heaps((heap(used=20 * MIB, trimmable=80 * MIB),))),
        process(heaps=Heaps((heap(used=900 * MIB, trimmable=80 * MIB),))),
    ),
    "swap.process": (process(sizes=SWAPPED), process(sizes={"VmSwap": 30 * MIB})),
    "faults.major": (process(major_rate=900.0), process(major_rate=10.0)),
    "growth": (
        process(anonymous=times(*(200 * MIB + n * 2 * MIB for n in range(25)))),
        process(anonymous=times(*(200 * MIB + n % 5 * 20 * MIB for n in range(25)))),
    ),
    "files.replaced": (
        process(mapping(BASE, MIB, "r-xp", "/usr/lib/libssl.so.3 (deleted)")),
        process(mapping(BASE, MIB, "r-xp", "/memfd:jit (deleted)")),
    ),
    "rss.lazy": (
        process(mapping(BASE, GIB, Rss=GIB, AnonHugePages=GIB, LazyFree=GIB // 2)),
        process(mapping(BASE, GIB, Rss=GIB, AnonHugePages=GIB, LazyFree=MIB)),
    ),
    "memory.held": (
        process(held=(HeldFile((3, 5), "/memfd:orphan", (0, 1), 9, 220 * MIB),)),
        process(held=(HeldFile((3,), "/memfd:small", (0, 1), 9, 2 * MIB),)),
    ),
    "limit.memlock": (
        process(sizes={"VmLck": 7 * MIB}),
        process(sizes={"VmLck": 7 * MIB}, capabilities=1 << 14),
    ),
    "limit.mappings": (
        process(*MANY, on=host(sysctl={"max_map_count": "1000"})),
        process(*MANY, on=host(sysctl={"max_map_count": "2000"})),
    ),
    "limit.address-space": (
        process(limits={"Max address space": (GIB, 4 * GIB)}),
        process(limits={"Max address space": (2 * GIB, GIB)}),
    ),
    "limit.stack": (process(sizes={"VmStk": 7 * MIB}), process(sizes={"VmStk": 2 * MIB})),
    "oom.immune": (
        process(oom=(0, -1000), sizes={"VmRSS": 8 * GIB}),
        process(oom=(0, -1000), sizes={"VmRSS": GIB}),
    ),
    "oom.first": (process(oom=(1300, 900)), process(oom=(700, 200))),
}  # fmt: skip


def finding(state: ProcessState, rule: str) -> Finding | None:
    """Return the finding of one rule; None if there is none."""
    findings = rules.examine_process(state).findings
    return next((each for each in findings if each.rule == rule), None)


def test_every_rule_has_a_case() -> None:
    """Every rule about processes has a state that triggers it and one that does not."""
    assert sorted(CASES) == sorted(rule.key for rule in rules.PROCESS_RULES)


def test_kills_of_the_past_are_not_of_the_process() -> None:
    """OOM kills since boot are no finding about a process; one during the check is."""
    past, now = host(vmstat={"oom_kill": 88}), host(rates={"oom_kill": 1})
    assert rules.examine_process(process(on=past)).findings == ()
    assert [each.rule for each in rules.examine_process(process(on=now)).findings] == [
        "oom.killing"
    ]


def test_a_healthy_process() -> None:
    """A healthy process on a healthy machine has no finding, and every rule is checked."""
    checkup = rules.examine_process(process())
    assert (checkup.findings, checkup.unchecked) == ((), ())


@pytest.mark.parametrize("rule", CASES)
def test_rule(rule: str) -> None:
    """The rule finds its fault, with evidence and fixes, and nothing in a close state."""
    faulty, healthy = CASES[rule]
    found = finding(faulty, rule)
    assert found is not None
    assert found.evidence
    assert found.fixes
    assert finding(healthy, rule) is None


@pytest.mark.parametrize(
    ("state", "words", "kind"),
    [
        (process(SMALL, lines={"THP_enabled": "0"}), "PR_SET_THP_DISABLE", FixKind.CODE),
        (process(SMALL, on=host(thp={"enabled": "always madvise [never]"})), "never", FixKind.TUNE),
        (process(SMALL), "not advised", FixKind.EXEC),
        (process(SMALL.replace("rd wr", "rd wr nh")), "MADV_NOHUGEPAGE", FixKind.CODE),
        (process(SMALL.replace("rd wr", "rd wr hg")), "no huge page was free", FixKind.CODE),
    ],
)
def test_why_pages_are_small(state: ProcessState, words: str, kind: FixKind) -> None:
    """Memory in small pages has one of five reasons, each with its own fix."""
    found = finding(state, "thp.small-pages")
    assert found is not None
    assert words in found.evidence[0]
    assert found.fixes[0].kind is kind


def test_the_command_can_be_run_again() -> None:
    """A start command quotes the program's arguments, and newlines in them."""
    found = finding(process(SMALL), "thp.small-pages")
    assert found is not None
    assert shlex.split(found.fixes[0].command)[-3:] == ["service", "--name", "a b"]
    from mematlas.doctor.rules.fixes import command_line

    assert command_line(["python3", "-c", "a=1\nb='x'"]) == r"python3 -c $'a=1\nb=\'x\''"


def test_an_executable_stack_is_named() -> None:
    """An executable stack has its own fix: linking the program again."""
    found = finding(process(mapping(BASE, MIB, "rwxp", "[stack]"), CODE), "security.write-execute")
    assert found is not None
    assert "stack" in found.headline
    assert "execstack" in found.fixes[0].command


@pytest.mark.parametrize(
    ("rule", "more"),
    [
        ("malloc.bloat", {"heaps": "its memory cannot be read"}),
        ("numa.remote", {"numa": "this kernel was built without CONFIG_NUMA"}),
        ("growth", {"anonymous": times(1, 2, 3)}),
        ("faults.major", {"major_rate": None}),
    ],
)
def test_unknown_is_reported(rule: str, more: dict[str, Any]) -> None:
    """A rule without data is listed as not checked, with the reason, never as passed."""
    checkup = rules.examine_process(process(**more))
    assert rule in {each.rule for each in checkup.unchecked}
    assert rule not in {each.rule for each in checkup.passed}


def test_swap_is_critical_with_major_faults() -> None:
    """Swapped memory that is needed again is critical."""
    quiet, busy = (
        finding(process(sizes=SWAPPED, major_rate=rate), "swap.process") for rate in (0.0, 200.0)
    )
    assert quiet is not None
    assert busy is not None
    assert (quiet.severity, busy.severity) == (Severity.WARNING, Severity.CRITICAL)


def test_pages_that_others_map_are_moved_with_shared() -> None:
    """Without --shared the kernel leaves them where they are, and the command does nothing."""
    for mappers, shared in ((1, False), (8, True)):
        (line,) = numa_maps.parse(
            f"7f00 default mapmax={mappers} N0=100 N1=40000 kernelpagesize_kB=4"
        )
        state = process(on=TWO, numa=(line,))
        (finding,) = [
            each for each in rules.examine_process(state).findings if each.rule == "numa.remote"
        ]
        fix = finding.fixes[0]
        assert fix.name == "numa.migrate"
        assert fix.command.endswith(" --shared") is shared


HOSTILE = "/tmp/a;touch${IFS}/pwned `id` $(id) 'b'"


def hostile(value: Any) -> Any:
    """Return a state in which a stranger has chosen each path, name and word of a command."""
    if isinstance(value, str):
        return value + HOSTILE if value.startswith("/") else value
    if isinstance(value, tuple):
        return type(value)(map(hostile, value)) if type(value) is tuple else value
    if is_dataclass(value) and not isinstance(value, type):
        kept = {
            each.name: hostile(getattr(value, each.name)) for each in fields(value) if each.init
        }
        if "command" in kept and isinstance(kept["command"], tuple):
            kept["command"] = tuple(f"{word}{HOSTILE}" for word in kept["command"])
        return replace(value, **kept)
    return value


def test_a_name_from_outside_is_one_word_of_a_command() -> None:
    """No command that is printed runs, or splits, what a process or its mounts are called."""
    named = set()
    for faulty, _ in CASES.values():
        for finding in rules.examine_process(hostile(faulty)).findings:
            for fix in finding.fixes:
                if "pwned" in fix.command:
                    named.add(fix.name)
                    parts = [each for each in shlex.split(fix.command) if HOSTILE not in each]
                    assert not any(
                        each in " ".join(parts) for each in ("pwned", "touch", "`", "$(")
                    )
    assert {"tmpfs.grow", "thp.malloc"} <= named
