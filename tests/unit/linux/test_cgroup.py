"""Levels of a cgroup count their own events, and those of the groups below apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.linux.cgroup import _read_v2

if TYPE_CHECKING:
    from pathlib import Path


def test_events_at_the_own_limit(tmp_path: Path) -> None:
    """memory.events counts those of descendants; memory.events.local does not, and is absent before Linux 5.2."""
    (tmp_path / "memory.events").write_text("max 9\noom 2\noom_kill 2\n", encoding="utf-8")
    level = _read_v2("/pod", str(tmp_path))
    assert (level.failures, level.ooms, level.events["oom_kill"]) == (9, None, 2)
    (tmp_path / "memory.events.local").write_text("max 0\noom 0\noom_kill 0\n", encoding="utf-8")
    level = _read_v2("/pod", str(tmp_path))
    assert (level.failures, level.ooms, level.events["oom_kill"]) == (0, 0, 2)
