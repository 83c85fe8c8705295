"""A real Prometheus scrapes `mematlas agent` beside a leaking and a steady service: `scripts/agent-soak`.

The leaking one must raise MematlasLimitNear of examples/prometheus, the steady one nothing. The CPU time and RSS of the agent
are those that the kernel counts, with some 200 processes on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents import WAIT_S, free_port, running_agent
from nested_cgroups import nested

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agents import RunningAgent
    from nested_cgroups import Cgroup

EXAMPLES = Path(__file__).parents[2] / "examples" / "prometheus"
SERVICE = """
import sys, time
rate = int(sys.argv[1])
kept = [bytearray(b"x") * (200 << 20)]
while True:
    time.sleep(0.5)
    passing = bytearray(b"x") * (4 << 20)
    kept.append(bytearray(b"x") * (rate // 2))
"""
_LIMIT = 1500 << 20
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Run for some minutes, print the cost and the alerts, and return 1 if one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=10)
    parser.add_argument("--processes", type=int, default=150, help="idle processes beside")
    arguments = parser.parse_args()
    if not shutil.which("prometheus"):
        parser.error("prometheus is not installed: apt-get install prometheus")
    with tempfile.TemporaryDirectory(prefix="mematlas-soak-") as name, ExitStack() as stack:
        folder = Path(name)
        _, leaking, steady = stack.enter_context(nested())
        for group, rate in ((leaking, 1 << 20), (steady, 0)):
            group.limit(_LIMIT)
            stack.enter_context(_program([sys.executable, "-c", SERVICE, str(rate)], group))
        for _ in range(arguments.processes):
            stack.enter_context(_program(["sleep", "100000"]))
        agent = stack.enter_context(running_agent(folder))
        port = free_port()
        stack.enter_context(_prometheus(folder, agent.port, port))
        return _watch(agent, port, arguments.minutes * 60, leaking, steady)


def _watch(agent: RunningAgent, port: int, seconds: float, leaking: Cgroup, steady: Cgroup) -> int:
    time.sleep(10)  # the cost of the start is told apart
    begun, before = time.monotonic(), _cpu_s(agent.process.pid)
    print(f"start: {before:.2f} s of CPU time", flush=True)
    fired: dict[str, float] = {}
    highest = 0
    while (passed := time.monotonic() - begun) < seconds:
        time.sleep(10)
        highest = max(highest, _rss(agent.process.pid))
        for each in _alerts(port):
            fired.setdefault(each, passed)
    share = (_cpu_s(agent.process.pid) - before) / (time.monotonic() - begun)
    count = sum(each.name.isdecimal() for each in Path("/proc").iterdir())
    print(
        f"{count} processes and kernel threads; agent: {share:.3%} of a core, RSS at most {highest >> 20} MiB"
    )
    for name in ("agent_slowdown", "agent_cpu_ratio", "agent_pss_age_seconds", "processes"):
        print(f"mematlas_{name}", agent.metrics().get(f"mematlas_{name}"))
    for alert, at in fired.items():
        print(f"after {at:.0f} s: {alert}")
    wanted = f"MematlasLimitNear /{_path(leaking)}"
    right = wanted in fired and not any(_path(steady) in each for each in fired)
    within = share <= 0.01 and highest <= 64 << 20
    print("right" if right and within else f"wrong: {wanted} alone is right, 1 % and 64 MiB")
    return 0 if right and within else 1


def _path(group: Cgroup) -> str:
    return f"{group.path.parent.name}/{group.path.name}"


def _program(command: list[str], group: Cgroup | None = None) -> ExitStack:
    """Start a program, in a group, which the stack ends."""
    stack = ExitStack()
    process = subprocess.Popen(command, preexec_fn=group.enter if group else None)  # noqa: PLW1509
    stack.callback(process.wait, WAIT_S)
    stack.callback(process.kill)
    return stack


def _prometheus(folder: Path, target: int, port: int) -> ExitStack:
    config = folder / "prometheus.yml"
    config.write_text(
        f"global: {{scrape_interval: 15s, evaluation_interval: 15s}}\n"
        f"rule_files: [{EXAMPLES}/agent.rules.yml]\n"
        f"scrape_configs:\n- job_name: agent\n  static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n"
    )
    return _program(
        [
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
        ]
    )  # fmt: skip


def _alerts(port: int) -> Iterator[str]:
    """Yield the alerts that fire, with their group."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/alerts", timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
    except OSError:
        return
    for each in found["data"]["alerts"]:
        if each["state"] == "firing":
            yield f"{each['labels']['alertname']} {each['labels'].get('group', '')}"


def _cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS


def _rss(pid: int) -> int:
    words = Path(f"/proc/{pid}/statm").read_text().split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
