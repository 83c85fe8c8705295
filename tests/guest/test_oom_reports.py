"""An OOM kill at the limit of a cgroup of version 2: what `mematlas oom` says of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

import agents
import waiting

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = '[limits]\ncpu = "100%"\n[[profile]]\nname = "leaks"\ncommand = "*leaks_on_command*"\n'
SLOW_S = 300.0  # without KVM everything takes ten times as long


def test_version_2_names_limit_process_line_and_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts are those that the kernel wrote at the kill: they are up to date there."""
    for module in (agents, waiting):
        monkeypatch.setattr(module, "WAIT_S", SLOW_S)
    with agents.running_agent(tmp_path, SETTINGS) as agent:
        kill = agents.kill_by_oom(agent, [sys.executable, agents.PYTHON_PROGRAM], 4)
        metrics = agent.metrics()
    assert kill.mistakes() == []
    report = kill.report
    assert report["parts_age_s"] == 0
    assert sum(each["bytes"] for each in report["parts"]) == report["usage"]
    parts = {each["title"]: each["bytes"] for each in report["parts"]}
    assert parts["anonymous memory"] > 0.8 * report["limit"]
    assert any(name.startswith("mematlas_group_pressure_ratio") for name in metrics)
