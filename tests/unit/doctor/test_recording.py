"""Rules about recordings, each with a recording that triggers it and a close one that does not."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from doctor_states import GIB, MIB
from mematlas.doctor import rules
from mematlas.doctor.model import RecordingState
from mematlas.linux.glibc_heap import HeapUse
from mematlas.linux.room import Room, UsedMount
from mematlas.recording.model import (
    Frame,
    GlibcHeaps,
    Module,
    Part,
    PartKind,
    Process,
    RecordingData,
    Sampling,
    Snapshot,
    Totals,
)
from mematlas.recording.row_types import TIMELINE_DTYPE, TOTALS_DTYPE
from mematlas.report.model.leaks import LIKELY, Leak, Leaks, LeakVerdict, VerdictSum
from mematlas.report.model.report import Account, BadFree, ProcessSummary, Report, StackStats

FRAMES = (Frame("load", "/srv/orders.py", 10, None, "python"),)
SAMPLING = Sampling("exact", 1, 1.0)
NO_ROWS = np.zeros(0, TOTALS_DTYPE)


def stack(**more: Any) -> StackStats:
    """Return a stack that holds one block of 128 MiB in huge pages."""
    held = 128 * MIB
    healthy = StackStats(
        frames=FRAMES, kind="malloc", process=0, live_bytes=held, live_count=1, peak_bytes=held,
        allocated_bytes=held, allocations=1, resident_bytes=held, huge_bytes=held, swapped_bytes=0,
        error_bytes=0,
    )  # fmt: skip
    return replace(healthy, **more)


def leak(**more: Any) -> Leak:
    """Return a leak entry for memory that was allocated at the start and kept."""
    steady = Leak(
        frames=FRAMES, kind="malloc", process=0, verdict=LeakVerdict.SETUP, evidence="allocated once, not freed",
        live_bytes=50 * MIB, live_count=1, error_bytes=0, allocated_bytes=50 * MIB, allocations=1,
        bytes_per_s=None,
    )  # fmt: skip
    return replace(steady, **more)


def run(  # noqa: PLR0913 - the facts that rules ask for
    *stacks: StackStats,
    leaks: tuple[Leak, ...] = (leak(),),
    slack: int = MIB,
    complete: bool = True,
    note: str = "",
    bad_frees: tuple[BadFree, ...] = (),
    parts: bool = True,
    pool: str = "glibc heap",
    library: str = "/usr/lib/libc.so.6",
    heaps: tuple[HeapUse, ...] = (),
    peak_live: int = 128 * MIB,
    faults: int = 40_000,
    ending: str = "exited 0",
    cause: str = "",
    room: Room | None = None,
) -> RecordingState:
    """Return the state of a healthy run with some differences."""
    every = (Part(PartKind.LIVE, "", 128 * MIB), Part(PartKind.SLACK, pool, slack))
    account = Account(5.0, "exit", 128 * MIB + slack, every if parts else (), 0)
    rows = np.zeros(1, TIMELINE_DTYPE)
    rows["minor_faults"] = faults
    recording = RecordingData(
        command=("python3", "orders.py"), started="now", machine={}, sampling=SAMPLING,
        processes=[Process(0, 1, 0, None, "/usr/bin/python3", ("python3", "orders.py"), 0.0, "3.11", ending=ending, cause=cause)],
        nodes={}, modules={0: [Module(library, "", 0, 4096, 8192)]}, codes={}, frames={},
        snapshots=[Snapshot(0, 5.0, "exit", account.rss_bytes, account.parts, 0, NO_ROWS)],
        totals={0: Totals(0, 5.0, 4.0, peak_live, NO_ROWS)}, timeline={0: rows},
        notes=[], complete=complete, heaps={0: GlibcHeaps(0, 5.0, heaps)} if heaps else {},
        rooms={0: room} if room else {},
    )  # fmt: skip
    report = Report(
        command=recording.command, started="now", machine={}, sampling=SAMPLING, complete=complete,
        processes=(ProcessSummary(0, 1, None, "orders", 0.0, 5.0, "exited 0", 128 * MIB, note),),
        account=account, last=account, peak_live_bytes=128 * MIB, peak_live_time_s=4.0,
        stacks=stacks or (stack(),), series=(), bad_frees=bad_frees, notes=(),
    )  # fmt: skip
    kept = Leaks(
        command=recording.command, started="now", sampling=SAMPLING, complete=complete, time_s=5.0,
        live_bytes=0, likely_bytes=sum(each.live_bytes for each in leaks if each.verdict in LIKELY), leaks=leaks, bad_frees=bad_frees, notes=(),
        sums={verdict: VerdictSum(1, sum(each.live_bytes for each in leaks if each.verdict is verdict),
                                  sum(each.error_bytes for each in leaks if each.verdict is verdict))
              for verdict in {each.verdict for each in leaks}},
    )  # fmt: skip
    return RecordingState("run.atlas", recording, report, kept)


CHURN = {"allocations": 20_000, "allocated_bytes": 20_000 * MIB, "live_bytes": 0, "live_count": 0,
         "resident_bytes": 0, "huge_bytes": 0}  # fmt: skip
CASES: dict[str, tuple[RecordingState, RecordingState]] = {
    "leaks": (
        run(leaks=(leak(verdict=LeakVerdict.GROWING, evidence="grew", bytes_per_s=1e6),)),
        run(leaks=(leak(verdict=LeakVerdict.STEADY),)),
    ),
    "bad-frees": (run(bad_frees=(BadFree(FRAMES, 0, 3),)), run()),
    "malloc.slack": (run(slack=90 * MIB), run(slack=20 * MIB)),
    "thp.small-blocks": (run(stack(huge_bytes=0)), run(stack(huge_bytes=0, live_count=40_000))),
    "untouched": (
        run(stack(live_bytes=2 * GIB, resident_bytes=MIB, huge_bytes=0)),
        run(stack(live_bytes=2 * GIB, resident_bytes=GIB, huge_bytes=GIB)),
    ),
    "churn": (run(stack(**CHURN), faults=5_000_000), run(stack(**CHURN))),
    "ended.oom": (
        run(ending="killed by SIGKILL", cause="cgroup /app reached its limit of 200 MiB"),
        run(ending="killed by SIGKILL"),
    ),
    "ended.tmpfs": (
        run(
            ending="killed by SIGBUS",
            room=Room(mounts=(UsedMount("/dev/shm", 64 * MIB, 0, 200 * MIB),)),
        ),
        run(ending="killed by SIGBUS", room=Room(mounts=(UsedMount("/dev/shm", GIB, GIB, MIB),))),
    ),
    "ended.limit": (
        run(ending="exited 1", room=Room(limits=(("Max address space", GIB, GIB - MIB),))),
        run(ending="exited 0", room=Room(limits=(("Max address space", GIB, GIB - MIB),))),
    ),
    "thp.bloat": (
        run(room=Room(huge_bytes=128 * MIB, zero_bytes=127 * MIB, zero_error_bytes=MIB)),
        run(room=Room(huge_bytes=1024 * MIB, zero_bytes=127 * MIB, zero_error_bytes=MIB)),
    ),
    "swap.blocks": (run(stack(swapped_bytes=60 * MIB)), run(stack(swapped_bytes=MIB))),
    "recording.partial": (run(note="static program: not traced"), run()),
}


def rules_found(state: RecordingState) -> set[str]:
    """Return the rules that found something."""
    return {each.rule for each in rules.examine_recording(state).findings}


def test_every_rule_has_a_case() -> None:
    """Every rule about recordings has a state that triggers it and one that does not."""
    assert sorted(CASES) == sorted(rule.key for rule in rules.recording_rules())


@pytest.mark.parametrize("rule", CASES)
def test_rule(rule: str) -> None:
    """The rule finds its fault, and nothing in a close state."""
    faulty, healthy = CASES[rule]
    assert rule in rules_found(faulty)
    assert rule not in rules_found(healthy)


def test_a_healthy_run() -> None:
    """A run without faults has no finding, and every rule is checked."""
    checkup = rules.examine_recording(run())
    assert (checkup.findings, checkup.unchecked) == ((), ())


def test_evidence_names_the_line_of_code() -> None:
    """A finding names function, file and line."""
    findings = rules.examine_recording(CASES["leaks"][0]).findings
    assert "load /srv/orders.py:10" in findings[0].evidence[0]


def test_only_growth_is_a_warning() -> None:
    """What a short run never freed is no finding, nor is what may be an error of sampling."""

    def found(**more: Any) -> list[str]:
        checkup = rules.examine_recording(run(leaks=(leak(**more),)))
        return [f"{each.severity.name}: {each.headline}" for each in checkup.findings]

    short = {"verdict": LeakVerdict.UNFREED, "evidence": "none freed"}
    assert found(**short) == []
    (kept,) = found(**short, bytes_per_s=0.0)
    assert "cannot be told" in kept
    assert "info" in kept.lower()
    growing = {"verdict": LeakVerdict.GROWING, "bytes_per_s": 1e6}
    assert "warning" in found(**growing)[0].lower()
    assert found(**{**growing, "bytes_per_s": None}) == []
    assert found(**growing, error_bytes=25 * MIB) == []


def test_a_run_without_account_is_not_judged_by_it() -> None:
    """Without a residency snapshot the rules on pages and slack are not checked."""
    checkup = rules.examine_recording(run(parts=False))
    unknown = {each.rule for each in checkup.unchecked}
    assert {"malloc.slack", "thp.small-blocks", "untouched"} == unknown


def test_a_recording_cut_short_says_so() -> None:
    """A recording that was cut short is reported."""
    assert "recording.partial" in rules_found(run(complete=False))


HOLES = (HeapUse(0, 200 * MIB, 4 * MIB, 185 * MIB, 180 * MIB, main=True, top=132 << 10),)
TOP = (HeapUse(0, 200 * MIB, 4 * MIB, 185 * MIB, 180 * MIB, main=True, top=179 * MIB),)
ARENAS = tuple(HeapUse(n << 26, 40 * MIB, MIB, 24 * MIB, 23 * MIB, main=False) for n in range(8))
JEMALLOC, TCMALLOC, MIMALLOC = (
    {"pool": pool, "library": f"/usr/lib/{name}"}
    for pool, name in (
        ("mapping of an allocator", "libjemalloc.so.2"),
        ("glibc heap", "libtcmalloc_minimal.so.4"),  # it takes memory by brk too
        ("mapping of an allocator", "libmimalloc.so.2.0"),
    )
)
SPREAD = (leak(live_count=40_000),)


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"heaps": HOLES}, ["glibc.trim", "glibc.jemalloc"]),
        ({"heaps": TOP}, ["glibc.trim", "glibc.trim-threshold", "glibc.jemalloc"]),
        ({"heaps": ARENAS, "peak_live": 24 * MIB}, ["glibc.trim", "glibc.arena-max", "glibc.jemalloc"]),
        ({"heaps": ARENAS, "peak_live": 180 * MIB}, ["glibc.trim", "glibc.jemalloc"]),
        ({"heaps": HOLES, "leaks": SPREAD}, ["glibc.trim"]),
        ({}, ["glibc.jemalloc"]),
        ({"pool": "pymalloc arena"}, ["pymalloc.off"]),
        ({"pool": "pymalloc arena", "leaks": SPREAD}, []),
        (JEMALLOC, ["jemalloc.decay"]),
        (TCMALLOC, ["tcmalloc.decommit"]),
        (MIMALLOC, ["mimalloc.reset-delay"]),
        (MIMALLOC | {"library": "/opt/libmimalloc.so.2.1"}, ["mimalloc.purge-delay"]),
        (MIMALLOC | {"library": "/opt/libmimalloc.so.3.0"}, ["mimalloc.purge-delay"]),
        (MIMALLOC | {"leaks": (leak(live_count=4000),)}, []),
        ({"library": "/lib/ld-musl-x86_64.so.1"}, []),
    ],
)  # fmt: skip
def test_fixes_are_those_of_the_allocator(more: dict[str, Any], names: list[str]) -> None:
    """Slack has the fixes that return it for the allocator, and none where none does."""
    findings = rules.examine_recording(run(slack=190 * MIB, **more)).findings
    found = next(each for each in findings if each.rule == "malloc.slack")
    assert [each.name for each in found.fixes if each.name] == names
    assert all(each.gain is None or 0 < each.gain <= 190 * MIB for each in found.fixes)
    if not names:
        assert re.search("no setting|run --exact", " ".join(found.evidence))


def test_a_mount_point_is_one_word_of_a_command() -> None:
    """A recording comes from anywhere, and root is asked to run the command."""
    path = "/tmp/a;touch${IFS}/pwned `id` $(id) \n"
    mounts = (UsedMount(path, 64 * MIB, 0, 200 * MIB),)
    state = run(ending="killed by SIGBUS", room=Room(mounts=mounts))
    found = next(
        each for each in rules.examine_recording(state).findings if each.rule == "ended.tmpfs"
    )
    assert [shlex.split(each.command)[-1] for each in found.fixes] == [path]
