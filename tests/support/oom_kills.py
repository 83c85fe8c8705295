"""Programs that are killed at the limit of a cgroup, time after time: `scripts/oom-kills`.

Each time another function of a Python or a C program allocates, and the report of `mematlas agent` must name who was
killed, at which limit, and the function.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from agents import LEAKS, PYTHON_PROGRAM, kill_by_oom, running_agent

_RULE = '[limits]\ncpu = "20%"\n[[profile]]\nname = "leaks"\ncommand = "*leaks_on_command*"\n'


def main() -> int:
    """Kill programs, and return 1 if a report was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("times", type=int, nargs="?", default=20)
    times = parser.parse_args().times
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="mematlas-oom-") as name:
        folder = Path(name)
        native = folder / "leaks_on_command"
        source = PYTHON_PROGRAM.with_suffix(".c")
        subprocess.run(["gcc", "-g", "-O1", source, "-o", native], check=True, timeout=60)
        with running_agent(folder, _RULE) as agent:
            for number in range(times):
                command: list[str | Path] = (
                    [native] if number % 2 else [sys.executable, PYTHON_PROGRAM]
                )
                kill = kill_by_oom(agent, command, number // 2 % LEAKS)
                mistakes = kill.mistakes()
                wrong += bool(mistakes)
                first = kill.report["lines"][:1]
                said = [f"{each['function']} {each['live_bytes'] >> 20} MiB" for each in first]
                print(number + 1, kill.function, *said, *mistakes, sep="\t", flush=True)
            cost = agent.metrics()
            for each in ("agent_cpu_seconds_total", "agent_resident_bytes"):
                for process in ("agent", "recorder"):
                    label = f'mematlas_{each}{{process="{process}"}}'
                    print(label, cost.get(label))
            print(agent.said.read_text()[-2000:])
    print(f"{times - wrong} of {times} reports are right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
