"""Which processes a recorder has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.agent.profile.targets import REFUSED, WAITING, Targets
from mematlas.agent.settings import AgentSettings, Rule
from mematlas.agent.watch.processes import Process

if TYPE_CHECKING:
    from pathlib import Path


def process(pid: int, rss: int) -> Process:
    """Return a process that began long ago."""
    return Process.restored([pid, 1, 0, "app", "app --x", "/a", rss])


def test_a_refused_process_takes_nobodys_place(tmp_path: Path) -> None:
    """The largest cannot be entered: the next ones are profiled, as many as the rule says."""
    rule = Rule("all", command="app", processes=2)
    targets = Targets(AgentSettings(state=str(tmp_path), rules=(rule,), processes=2))
    every = [process(pid, pid << 20) for pid in range(900_001, 900_006)]
    targets.choose(every, 1 << 40)
    assert sorted(targets.chosen) == [(900_004, 1), (900_005, 1)]
    targets.refused[900_005, 1] = "a reason"
    targets.choose(every, 1 << 40)
    states = {key[0]: targets.state_of(key) for key in targets.chosen}
    assert targets._wanted() == [(900_003, 1), (900_004, 1)]  # it is not tried again
    assert states == {900_003: WAITING, 900_004: WAITING, 900_005: REFUSED}
