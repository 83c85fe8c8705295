"""OOM kills from counters, version 1 and 2, and the reports that are made of them."""

from __future__ import annotations

from dataclasses import replace

from mematlas.agent.oom.kills import count_kills
from mematlas.linux.cgroup import CgroupLevel

EMPTY = CgroupLevel("", 0, None, None, None, None, None, 0, {}, {})


def level(path: str, version: int, kills: int, limit: int | None = None) -> CgroupLevel:
    """Return a group that is full if it has a limit and kills."""
    events = {"oom_kill": kills, **({"oom": kills} if limit else {})}
    failures = 5 * kills if limit else 0
    return replace(
        EMPTY, path=path, version=version, limit=limit, peak=limit, events=events, failures=failures
    )


def by_path(*levels: CgroupLevel) -> dict[str, CgroupLevel]:
    """Return groups by path."""
    return {each.path: each for each in levels}


def test_version_1_counts_in_the_group_of_the_process() -> None:
    """The group that ran out is the one above with a limit that was reached; that is probable only."""
    before = by_path(level("/a", 1, 0, 100), level("/a/b", 1, 0), level("/c", 1, 3))
    after = by_path(
        replace(level("/a", 1, 0, 100), failures=7), level("/a/b", 1, 1), level("/c", 1, 3)
    )
    (kill,) = count_kills(before, after)
    assert kill.victim_group == "/a/b"
    assert kill.limited
    assert kill.limited.path == "/a"
    assert any("probable" in note for note in kill.notes)


def test_version_2_counts_in_all_groups_above() -> None:
    """The innermost group is that of the process; the one whose own limit was reached counts `oom`."""
    before = by_path(level("/a", 2, 0, 100), level("/a/b", 2, 0), level("/a/c", 2, 0, 50))
    after = by_path(level("/a", 2, 2, 100), level("/a/b", 2, 2), level("/a/c", 2, 0, 50))
    (kill,) = count_kills(before, after)
    assert (kill.victim_group, kill.limited and kill.limited.path) == ("/a/b", "/a")
    assert any(note.startswith("2 processes were killed") for note in kill.notes)


def test_a_kill_of_the_machine_and_a_new_group() -> None:
    """Without a limit that was reached it is not known what ran out; a group that was not seen before counts nothing."""
    before = by_path(level("/a", 2, 0), level("/limited", 2, 0, 100))
    after = by_path(level("/a", 2, 1), level("/limited", 2, 0, 100), level("/new", 2, 9))
    (kill,) = count_kills(before, after)
    assert (kill.victim_group, kill.limited) == ("/a", None)
    assert count_kills(after, after) == []
