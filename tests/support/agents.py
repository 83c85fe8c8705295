"""A running `mematlas agent`, programs in memory cgroups that are killed, and the reports of it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nested_cgroups import memory_cgroup
from traced_runs import run_text
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PYTHON_PROGRAM = Path(__file__).parents[1] / "programs" / "leaks_on_command.py"
LEAKS = 5  # functions of the programs
LIMIT = 96 << 20
WAIT_S = 240.0  # an agent chooses in turns of many seconds, and a machine may be busy


def await_agent(holds: Callable[[], object], what: str, every_s: float = 0.2) -> None:
    """Wait for what an agent does."""
    wait_until(holds, what, every_s, WAIT_S)


@dataclass
class RunningAgent:
    """An agent, its address and the folder of its state."""

    process: subprocess.Popen[bytes]
    port: int
    state: Path
    config: Path
    said: Path  # its standard error

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name with labels; {} while it does not answer."""
        try:
            text = self.page().decode()
        except OSError:  # a URLError, too
            return {}
        rows = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in rows}

    def page(self) -> bytes:
        """Return the metrics as text. OSError: it does not answer."""
        address = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(address, timeout=WAIT_S) as answer:
            return bytes(answer.read())

    def recorded(self) -> list[int]:
        """Return the processes that its recorder has entered. Asking for metrics would take its CPU time."""
        try:
            return list(json.loads((self.state / "recorder.status").read_text())["entered"])
        except (OSError, ValueError):
            return []

    def recorder(self) -> int | None:
        """Return the PID of its recorder; None if none runs."""
        try:
            found = json.loads((self.state / "recorder.process").read_text())
            command = Path(f"/proc/{found['pid']}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return int(found["pid"]) if str(self.state).encode() in command else None

    def report_of(self, pid: int) -> str:
        """Return the name of the report of a kill of this process; others may be killed on the machine."""
        for path in (self.state / "oom").glob("*.json"):
            processes = json.loads(path.read_text())["data"]["processes"]
            if any(each["pid"] == pid and each["killed"] for each in processes):
                return path.stem
        return ""

    def reports(self) -> list[str]:
        """Return the names of its reports."""
        return sorted(each.stem for each in (self.state / "oom").glob("*.json"))

    def report(self, name: str) -> dict[str, Any]:
        """Return what `mematlas oom NAME --json` prints."""
        done = run_text(["oom", name, "--json", "--state", self.state])
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)["data"]
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it."""
        self.process.send_signal(number)


def start_agent(folder: Path, settings: str = "", port: int | None = None) -> RunningAgent:
    """Start an agent with settings beside its address and folder."""
    port = port or free_port()
    state, config, said = folder / "state", folder / "agent.toml", folder / "said"
    config.write_text(f'listen = "127.0.0.1:{port}"\nstate = "{state}"\n{settings}')
    with said.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "mematlas", "agent", "--config", config],
            stdin=subprocess.DEVNULL, stderr=file,
        )  # fmt: skip
    agent = RunningAgent(process, port, state, config, said)

    def answers() -> bool:
        assert process.poll() is None, said.read_text()
        return bool(agent.metrics())

    await_agent(answers, "the agent answers", 0.2)
    return agent


@contextmanager
def running_agent(folder: Path, settings: str = "") -> Iterator[RunningAgent]:
    """Run an agent, and end it with its recorder."""
    agent = start_agent(folder, settings)
    try:
        yield agent
    finally:
        if agent.process.poll() is None:
            agent.process.terminate()
        try:
            agent.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            agent.process.kill()
            agent.process.wait()
        end_recorder(agent)


def end_recorder(agent: RunningAgent) -> None:
    """Kill the recorder of an agent that was killed, if it runs."""
    recorder = agent.recorder()
    if recorder is not None:
        with suppress(ProcessLookupError):
            os.kill(recorder, signal.SIGKILL)


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Kill:
    """A program that was killed: what it allocated in, and what the report says."""

    pid: int
    group: str
    function: str
    line: int | None
    report: dict[str, Any]

    def mistakes(self) -> list[str]:
        """Return what the report says wrong."""
        report, found = self.report, []
        killed = [each for each in report["processes"] if each["killed"]]
        if [each["pid"] for each in killed] != [self.pid]:
            found.append(f"killed: {[each['pid'] for each in killed]}, not {self.pid}")
        if report["group"] != self.group or report["limit"] != LIMIT:
            found.append(f"limit: {report['limit']} of {report['group']}")
        first = report["lines"][0] if report["lines"] else {"function": None, "live_bytes": 0}
        if not re.fullmatch(f"{self.function}(\\(.*\\))?", str(first["function"])):
            found.append(f"line: {first['function']}, not {self.function}: {report['lines_note']}")
        if self.line is not None and first.get("line") != self.line:
            found.append(f"line: {first.get('line')}, not {self.line}")
        held = sum(each["live_bytes"] for each in report["lines"])
        if killed and not 0.6 * LIMIT < held < 1.3 * LIMIT:
            found.append(f"live: {held} of a limit of {LIMIT}")
        return found


def kill_by_oom(agent: RunningAgent, command: list[str | Path], number: int) -> Kill:
    """Start a program in a limited cgroup, have it profiled, let it allocate, and return the report of its kill.

    Its last argument is the state of the agent, for a rule that another agent does not have: one alone can attach.
    """
    with memory_cgroup() as group:
        group.limit(LIMIT)
        with subprocess.Popen(
            [*command, agent.state],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=group.enter,  # noqa: PLW1509
        ) as program:  # fmt: skip
            assert program.stdout is not None
            assert program.stdin is not None
            assert program.stdout.readline() == "ready\n"
            await_agent(lambda: program.pid in agent.recorded(), "the program is profiled", 0.2)
            program.stdin.write(f"{number}\n")
            program.stdin.flush()
            assert program.wait(WAIT_S) == -signal.SIGKILL
        await_agent(lambda: agent.report_of(program.pid), "the agent reports the kill", 0.2)
        name = agent.report_of(program.pid)
        line = None
        if str(command[-1]).endswith(".py"):
            line = _line_in(Path(command[-1]), f"leak_{number}")
        path = f"/{group.path.name}"
        return Kill(program.pid, path, f"leak_{number}", line, agent.report(name))


def _line_in(program: Path, function: str) -> int:
    lines = program.read_text().splitlines()
    return lines.index(f"def {function}():") + 2
