"""Reports of kills: from the kernel's record with what was kept, from counters, and of the machine."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mematlas.agent.oom.kills import Kill, count_kills
from mematlas.agent.oom.missed import _level, newest
from mematlas.agent.oom.model import OomLine
from mematlas.agent.oom.report import Kept, make_report
from mematlas.agent.oom.text import render_report
from mematlas.agent.watch.groups import Groups
from mematlas.agent.watch.processes import Process, Sizes
from mematlas.linux.cgroup import CgroupLevel
from mematlas.linux.oom_records import OomLog, OomRecord

DATA = Path(__file__).parents[2] / "data" / "oom"


def record(name: str, index: int = 0) -> OomRecord:
    """Return a record of a captured log."""
    return OomLog().add((DATA / name).read_text().splitlines())[index]


def kept(*processes: Process, alive: bool = True, version: int = 2) -> Kept:
    """Return what an agent kept."""
    return Kept(
        Groups((version, "/nowhere")), processes, lambda _: "r.atlas", lambda _: alive, 100.0
    )


def process(pid: int, group: str, rss: int) -> Process:
    """Return a process that was seen a minute ago with half of its RSS."""
    found = Process.restored([pid, 1, 0, "app", "app --serve", group, rss])
    found.earlier = (40.0, rss // 2)
    found.sizes, found.read_at = Sizes(rss, rss, 0, 0, 0, rss), 90.0
    return found


def shown(report: object) -> str:
    """Return a report as text on one line."""
    stream = io.StringIO()
    render_report(report, console=Console(file=stream, width=100))  # type: ignore[arg-type]
    return " ".join(stream.getvalue().split())


@pytest.mark.parametrize(
    ("counted", "limited"),
    [(None, None), ([3, 3], None), ([3, 2], "/web")],  # None: of a file of an earlier version
)
def test_old_oom_events_are_no_limit_that_was_reached(
    counted: list[int | None] | None, limited: str | None
) -> None:
    """A kill after the last look is of the group's limit only if the group's own count grew since."""
    before = _level("/web", [200 << 20, 0, 200 << 20, 0, 0, None], 2, counted)
    after = replace(before, events={"oom_kill": 1, "oom": 3}, ooms=3)
    (kill,) = count_kills({"/web": before}, {"/web": after})
    assert kill.victim_group == "/web"
    assert (kill.limited.path if kill.limited else None) == limited


def test_a_kill_that_was_missed() -> None:
    """Its time is of the log, and nothing that was read after it is told as if it were of before."""
    found = record("memcg-6.18.txt")
    old = Process.restored([15262, 1, 0, "app", "app --serve", "/app/b", 1 << 20])
    kill = Kill(found, found.task_group, missed=True, time_s=1_700_000_000.0, notes=("a note",))
    report = make_report(kill, kept(old), "x")
    assert report.time == "2023-11-14T22:13:20+00:00"
    assert (report.processes[0].growth, report.processes[0].growth_s) == (None, None)
    assert report.processes[0].command == "app --serve"
    assert (report.usages, report.notes) == ((), ("a note",))
    assert "more than" not in shown(report)


@pytest.mark.parametrize(
    ("pid", "live", "words"),
    [
        (15262, 70 << 20, "most of it was allocated by leak (a.py:3)"),
        (15262, 30 << 20, "the line with most memory of 12 a) b (15262) is leak (a.py:3)"),
        (4, 70 << 20, "the line with most memory of PID 4 is leak (a.py:3)"),
    ],
)
def test_the_first_line_is_not_most_of_it_unless_it_is(pid: int, live: int, words: str) -> None:
    """The sentence is of the process that it names, and of half of its memory at least."""
    found = record("memcg-6.18.txt")
    report = make_report(Kill(found, found.task_group), kept(), "x")
    line = OomLine(pid, "leak", "a.py", 3, live, 1 << 20, ("leak",))
    assert words in shown(replace(report, lines=(line,)))


def test_the_last_victims_of_the_log() -> None:
    """As many as the machine counted since, whatever the clocks say."""
    records = [record("machine-6.1.txt", at) for at in (0, 1)]
    assert newest(records, 0) == []
    assert newest(records, 1) == records[1:]
    assert newest(records, 9) == records


def test_the_kernels_figures_and_what_was_kept() -> None:
    """The victim comes first, with the figures of the kill, and growth against the last minute."""
    found = record("memcg-6.18.txt")
    report = make_report(
        Kill(found, found.task_group), kept(process(15262, "/app/b", 40 << 20)), "x"
    )
    first = report.processes[0]
    assert (first.pid, first.killed, first.command) == (15262, True, "app --serve")
    assert first.resident == found.tasks[1].resident
    assert (first.growth, first.growth_s) == (first.resident - (20 << 20), 60.0)
    assert (first.pss, first.pss_age_s, first.recording) == (40 << 20, 10.0, "r.atlas")
    other = report.processes[1]
    assert (other.pid, other.killed, other.growth, other.pss) == (15261, False, None, None)
    assert (report.limit, report.usage) == (100 << 20, 100 << 20)
    text = shown(report)
    assert "cgroup /app reached its limit of 100 MiB; the OOM killer ended 12 a) b (15262)" in text
    assert "more than 60 s before" in text


def test_parts_of_the_kill_where_they_are_up_to_date() -> None:
    """The counters of version 1 lag behind: parts that leave much unaccounted are not shown."""
    stale = record("memcg-6.18.txt")
    assert make_report(Kill(stale, ""), kept(version=1), "x").parts == ()
    fresh = record("memcg-6.18.txt")
    fresh.stat = {"anon": 90 << 20, "file": 6 << 20, "shmem": 1 << 20, "kernel": 3 << 20, "sock": 0}
    report = make_report(Kill(fresh, ""), kept(), "x")
    assert report.parts_age_s == 0
    assert sum(each.bytes for each in report.parts) == 100 << 20
    assert "Parts of /app at the kill" in shown(report)


def test_the_machine_ran_out() -> None:
    """No group and no limit; a line without details says that the kernel wrote none."""
    found = record("machine-6.1.txt")
    report = make_report(Kill(found, found.task_group), kept(), "x")
    assert (report.group, report.limit, report.cause) == ("", None, "the machine ran out of memory")
    assert report.processes[0].anonymous is None
    second = record("machine-6.1.txt", 1)
    bare = make_report(Kill(second, ""), kept(process(901, "/a", 7 << 20)), "x")
    assert bare.processes[0].resident == 7604 << 10
    assert bare.processes[0].group == "/a"
    assert any(note.startswith("the kernel wrote no details") for note in bare.notes)


def test_from_counters_those_who_are_gone_were_killed() -> None:
    """Only processes of the group where the kill was counted; figures are those of before."""
    limited = CgroupLevel("/a", 9, 100, None, 100, None, None, 1, {}, {"oom_kill": 1})
    here, there = process(7, "/a/b", 50), process(8, "/ab", 60)
    kill = Kill(None, "/a/b", limited, ("the log cannot be read",))
    report = make_report(kill, kept(here, there, alive=False), "x")
    assert [(each.pid, each.killed) for each in report.processes] == [(7, True)]
    assert (report.source, report.group, report.limit, report.usage) == (
        "counters",
        "/a",
        100,
        None,
    )
    assert report.parts == ()
    seen = CgroupLevel("/a", 100, 100, None, 100, None, None, 1, {"anon": 90, "file": 5}, {})
    parted = make_report(replace(kill, before=(seen, 97.5)), kept(here, alive=False), "x")
    assert parted.parts_age_s == 2.5
    assert sum(each.bytes for each in parted.parts) == 100
    assert "when it was last read" in shown(parted)
    report = make_report(kill, kept(here, alive=True), "x")
    assert not any(each.killed for each in report.processes)
    assert "ended a process" in shown(report)
