"""`mematlas agent`: its figures against the kernel's, reload, upgrade, a kill of the agent, and the end."""

from __future__ import annotations

import json
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
from agents import RunningAgent, end_recorder, running_agent, start_agent
from waiting import WAIT_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = '[limits]\ncpu = "50%"\n'  # not to wait for the account of CPU time
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


def pss_of(pid: int) -> int:
    """Return PSS as the kernel counts it."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
    assert found
    return int(found[1]) << 10


def test_figures_are_the_kernels(tmp_path: Path) -> None:
    """PSS of a command, the sum of all PSS, and parts that add up to the usage of each group; promtool agrees."""
    with named_program(tmp_path) as program, running_agent(tmp_path, QUICK) as agent:
        name = f'{{command="{Path(str(program.args[0])).name}"}}'  # type: ignore[index]
        wait_until(
            lambda: f"mematlas_command_pss_bytes{name}" in agent.metrics(), "PSS is read", 0.5
        )
        metrics = agent.metrics()
        assert metrics[f"mematlas_command_processes{name}"] == 1
        shown = metrics[f"mematlas_command_pss_bytes{name}"]
        assert (
            abs(shown - pss_of(program.pid)) < 4 << 20
        )  # shared pages of Python's are divided anew
        for kind in ("pss_bytes", "processes", "processes_unread"):
            of = [f"mematlas_{what}_{kind}{{" for what in ("group", "command")]
            sums = [sum(v for k, v in metrics.items() if k.startswith(each)) for each in of]
            assert sums[0] == sums[1], kind
        check_parts(metrics)
        if shutil.which("promtool"):
            text = subprocess.run(
                ["curl", "-s", f"http://127.0.0.1:{agent.port}/metrics"],
                capture_output=True, check=True, timeout=WAIT_S,
            ).stdout  # fmt: skip
            done = subprocess.run(
                ["promtool", "check", "metrics"], input=text, capture_output=True, timeout=WAIT_S, check=False
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
    assert agent.process.returncode == 0


def check_parts(metrics: dict[str, float]) -> None:
    """Check that the parts of each group are its usage, as of the same reading."""
    parts: dict[str, float] = {}
    for name, value in metrics.items():
        if found := re.fullmatch(r'mematlas_group_charged_bytes{(.*),part="\w+"}', name):
            parts[found[1]] = parts.get(found[1], 0) + value
    usages = {each: metrics[f"mematlas_group_usage_bytes{{{each}}}"] for each in parts}
    assert parts
    # Usage of groups with a limit is newer than their parts.
    steady = [each for each in parts if f"mematlas_group_limit_bytes{{{each}}}" not in metrics]
    close = [abs(parts[each] - usages[each]) <= 0.1 * usages[each] + (4 << 20) for each in steady]
    assert sum(close) >= len(steady) // 2


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
        wait_until(lambda: "settings not changed" in agent.said.read_text(), "the mistake is said")
        agent.config.write_text(valid + rule(program))
        agent.signal(signal.SIGHUP)
        wait_until(lambda: program.pid in agent.recorded(), "the program is profiled")
        recorder = agent.recorder()

        agent.signal(signal.SIGUSR2)
        wait_until(lambda: agent.said.read_text().count("observing") == 2, "the agent began anew")
        wait_until(agent.metrics, "it answers")
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
    wait_until(lambda: agent.metrics().get(name) == 1, "the later agent has the target", 0.5)
    assert agent.recorder() == recorder
    agent.signal(signal.SIGTERM)
    assert agent.process.wait(2 * WAIT_S) == 0
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
        wait_until(lambda: program.pid in agent.recorded(), "the program is profiled")
        text = agent.config.read_text()
        agent.config.write_text(text[: text.index("[[profile]]")])
        agent.signal(signal.SIGHUP)
        wait_until(lambda: agent.recorder() is None, "the recorder ends")
        (path,) = (agent.state / "recordings").iterdir()
        assert mematlas.open(str(path)).complete
        assert program.poll() is None


def test_a_failed_attach_is_not_repeated(tmp_path: Path) -> None:
    """A static program cannot be entered: that is remembered with its reason."""
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
            wait_until(lambda: agent.metrics().get(name) == 1, "the refusal is told", 0.5)
            log = (agent.state / "recorder.process").read_text()
            wait_until(lambda: (agent.state / "history.jsonl").stat().st_size, "a round passed")
            assert agent.metrics()[name] == 1
            assert (agent.state / "recorder.process").read_text() == log
            assert json.loads(log)
        program.communicate("\n", timeout=WAIT_S)
