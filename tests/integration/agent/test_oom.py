"""OOM kills in a memory cgroup: the reports of `mematlas agent`, as `mematlas oom` prints them."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import jsonschema
import pytest

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

from agents import (
    LIMIT,
    PYTHON_PROGRAM,
    WAIT_S,
    RunningAgent,
    await_agent,
    kill_by_oom,
    running_agent,
    start_agent,
)
from json_schemas import schema
from nested_cgroups import CgroupProgram, memory_cgroup
from traced_runs import run_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for cgroups and the kernel's log"),
]
SETTINGS = """
[limits]
cpu = "50%"
memory = "256M"
[[profile]]
name = "leaks"
command = "*leaks_on_command* {folder}/*"
"""


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """Return an agent that profiles the program."""
    folder = tmp_path_factory.mktemp("agent")
    with running_agent(folder, SETTINGS.format(folder=folder)) as agent:
        yield agent


def oom(agent: RunningAgent, *words: str) -> str:
    """Return what `mematlas oom` prints."""
    done = run_text(["oom", *words, "--state", agent.state])
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["python", "native"])
def test_the_report_names_limit_process_and_line(
    agent: RunningAgent, build: Callable[..., Path], kind: str
) -> None:
    """Whichever function allocates is the first of the lines, with about the bytes of the limit."""
    program: list[str | Path] = [sys.executable, PYTHON_PROGRAM]
    number = 4
    if kind == "native":
        program, number = [build("leaks_on_command")], 2
    kill = kill_by_oom(agent, program, number)
    assert kill.mistakes() == []
    jsonschema.Draft202012Validator(schema("oom")).validate(
        {"schema": "mematlas/oom/1", "data": kill.report}
    )
    text = " ".join(oom(agent, kill.report["id"]).split())
    assert f"cgroup {kill.group} reached its limit of 96.0 MiB" in text
    assert kill.function in text
    assert kill.report["id"] in oom(agent, "--list")


def test_a_kill_while_no_agent_ran_is_reported_by_the_next(tmp_path: Path) -> None:
    """The agent was killed: the next one reads the kernel's log, and what was on disk."""
    with memory_cgroup() as group, running_agent(tmp_path) as agent:
        group.limit(LIMIT)
        program = CgroupProgram(group)
        try:
            assert program.allocate(30 << 20)
            await_agent(lambda: _has_seen(agent, program.pid), "the program is on disk", 0.2)
            agent.process.send_signal(signal.SIGKILL)
            agent.process.wait(WAIT_S)
            while program.allocate(16 << 20):
                pass
        finally:
            program.end()
        later = start_agent(tmp_path, port=agent.port)
        try:
            await_agent(lambda: later.report_of(program.pid), "the kill is reported", 0.2)
            report = later.report(later.report_of(program.pid))
        finally:
            later.process.terminate()
            later.process.wait(WAIT_S)
        killed = [each for each in report["processes"] if each["killed"]]
        assert [each["pid"] for each in killed] == [program.pid]
        assert report["group"] == f"/{group.path.name}"
        assert any(note.startswith("no agent ran") for note in report["notes"])
        assert "import sys" in killed[0]["command"]


def _has_seen(agent: RunningAgent, pid: int) -> bool:
    path = agent.state / "history.jsonl"
    return path.exists() and f"[{pid}," in path.read_text()
