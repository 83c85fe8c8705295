"""`mematlas agent`: its figures against the kernel's, reload, upgrade, a kill of the agent, and the end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")

import mematlas
from agents import (
    WAIT_S,
    RunningAgent,
    await_agent,
    end_recorder,
    running_agent,
    start_agent,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = '[limits]\ncpu = "50%"\nmemory = "256M"\n[series]\ncommands = 1000\n'  # not to wait for the account of CPU time
HOLD = "data = bytearray(b'x') * (48 << 20); print('ready', flush=True); input()"


@contextmanager
def named_program(folder: Path, code: str = HOLD) -> Iterator[subprocess.Popen[str]]:
    """Run Python under a name that no other process has."""
    link = folder / f"agt{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(sys.executable)
    with subprocess.Popen(
        [link, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        try:
            yield program
        finally:
            program.kill()


def rule(process: subprocess.Popen[str]) -> str:
    """Return a rule for a program."""
    assert isinstance(process.args, list)
    return f'[[profile]]\nname = "test"\ncommand = "{os.path.basename(process.args[0])}"\n'  # noqa: PTH119


def rss_of(pid: int) -> int:
    """Return RSS as the kernel counts it."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) << 10


def test_figures_are_the_kernels(tmp_path: Path) -> None:
    """PSS of a command, and sums by command and by cgroup that are the same; promtool agrees."""
    with named_program(tmp_path) as program, running_agent(tmp_path, QUICK) as agent:
        name = f'{{command="{Path(str(program.args[0])).name}"}}'  # type: ignore[index]
        await_agent(
            lambda: f"mematlas_command_pss_bytes{name}" in agent.metrics(), "PSS is read", 0.5
        )
        metrics = agent.metrics()
        assert metrics[f"mematlas_command_processes{name}"] == 1
        shown = metrics[f"mematlas_command_pss_bytes{name}"]
        assert (
            48 << 20 <= shown <= rss_of(program.pid)
        )  # what is shared is divided anew at any time
        for kind in ("pss_bytes", "processes", "processes_unread"):
            of = [f"mematlas_{what}_{kind}{{" for what in ("group", "command")]
            sums = [sum(v for k, v in metrics.items() if k.startswith(each)) for each in of]
            assert sums[0] == sums[1], kind
        assert any(name.startswith("mematlas_group_charged_bytes{") for name in metrics)
        if shutil.which("promtool"):
            done = subprocess.run(
                ["promtool", "check", "metrics"], input=agent.page(), capture_output=True, timeout=WAIT_S, check=False
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
    assert agent.process.returncode == 0


def test_two_agents_do_not_share_a_folder(tmp_path: Path) -> None:
    """The second says so and ends."""
    with running_agent(tmp_path) as agent:
        done = subprocess.run(
            [sys.executable, "-m", "mematlas", "agent", "--config", agent.config],
            capture_output=True, text=True, timeout=WAIT_S, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr == f"mematlas: another agent runs with the folder {agent.state}\n"
        assert agent.metrics()


def test_reload_upgrade_and_kill_lose_no_target(tmp_path: Path) -> None:
    """A rule profiles a program. The agent is upgraded, killed and started again: the recording goes on."""
    with named_program(tmp_path) as program, running_agent(tmp_path, QUICK) as agent:
        assert agent.recorder() is None  # nothing is profiled without a rule
        valid = agent.config.read_text()
        agent.config.write_text(valid + "[[profile]]\nnonsense = 1\n")
        agent.signal(signal.SIGHUP)
        await_agent(lambda: "settings not changed" in agent.said.read_text(), "the mistake is said")
        agent.config.write_text(valid + rule(program))
        agent.signal(signal.SIGHUP)
        await_agent(lambda: program.pid in agent.recorded(), "the program is profiled")
        recorder = agent.recorder()

        agent.signal(signal.SIGUSR2)
        await_agent(lambda: agent.said.read_text().count("observing") == 2, "the agent began anew")
        await_agent(agent.metrics, "it answers")
        assert agent.process.poll() is None
        assert agent.recorder() == recorder

        agent.process.kill()
        agent.process.wait(WAIT_S)
        assert agent.recorder() == recorder  # outlives it
        later = start_agent(tmp_path, QUICK + rule(program), agent.port)
        try:
            check_taken_over(later, recorder, program)
        finally:
            end_recorder(later)
            later.process.kill()
            later.process.wait(WAIT_S)


def check_taken_over(
    agent: RunningAgent, recorder: int | None, program: subprocess.Popen[str]
) -> None:
    """Check that a later agent has the recorder, and ends the recording with itself."""
    name = 'mematlas_profile_processes{rule="test",state="recorded"}'
    await_agent(lambda: agent.metrics().get(name) == 1, "the later agent has the target", 0.5)
    assert agent.recorder() == recorder
    agent.signal(signal.SIGTERM)
    assert agent.process.wait(WAIT_S) == 0
    assert agent.recorder() is None
    (path,) = (agent.state / "recordings").iterdir()
    recording = mematlas.open(str(path))
    assert [each.pid for each in recording.processes] == [program.pid]
    assert recording.complete
    assert program.poll() is None


def test_a_rule_that_is_removed_ends_its_recording(tmp_path: Path) -> None:
    """The program runs on, and the recording has its end."""
    with (
        named_program(tmp_path) as program,
        running_agent(tmp_path, QUICK + rule(program)) as agent,
    ):
        await_agent(lambda: program.pid in agent.recorded(), "the program is profiled")
        text = agent.config.read_text()
        agent.config.write_text(text[: text.index("[[profile]]")])
        agent.signal(signal.SIGHUP)
        await_agent(lambda: agent.recorder() is None, "the recorder ends")
        (path,) = (agent.state / "recordings").iterdir()
        assert mematlas.open(str(path)).complete
        assert program.poll() is None


def test_a_failed_attach_is_told(tmp_path: Path) -> None:
    """A static program cannot be entered: that is told, and the agent goes on."""
    source, static = tmp_path / "static.c", tmp_path / f"agts{os.getpid()}"
    source.write_text(
        '#include <stdio.h>\nint main(void) { puts("ready"); fflush(stdout); return getchar(); }\n'
    )
    if subprocess.run(
        ["gcc", "-static", source, "-o", static], check=False, capture_output=True
    ).returncode:
        pytest.skip("no static C library is installed")
    with subprocess.Popen(
        [static], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        settings = f'{QUICK}[[profile]]\nname = "static"\ncommand = "{static.name}"\n'
        with running_agent(tmp_path, settings) as agent:
            name = 'mematlas_profile_processes{rule="static",state="refused"}'
            await_agent(lambda: agent.metrics().get(name) == 1, "the refusal is told", 0.5)
        program.communicate("\n", timeout=WAIT_S)
