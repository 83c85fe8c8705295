"""CPU seconds of short commands, of one installation or of several in alternation.

python benchmarks/cli/starts.py [--rounds 12] [PATH/OF/mematlas ...]      (default: the one in PATH)
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = (
    "--version",
    "--help",
    "run --help",
    "run -o true.atlas -- true",
    f"run -o python.atlas -- {sys.executable} -c pass",
    "report true.atlas",
    "ps",
    f"show {os.getpid()}",
    "system",
    "doctor --duration 0s",
)


def cost(program: str, words: list[str], folder: Path) -> tuple[float, float]:
    """Run a command; return its CPU seconds, those of the processes that it waits for included, and its wall seconds."""
    began = time.monotonic()
    with (folder / "output").open("w") as output:
        process = subprocess.Popen([program, *words], cwd=folder, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in {0, 1}:  # doctor has findings
        raise SystemExit((folder / "output").read_text())
    return usage.ru_utime + usage.ru_stime, time.monotonic() - began


def processor() -> str:
    """Return the model of the CPU."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def main() -> None:
    """Print a line for each command: least and median CPU, and least wall time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("programs", nargs="*", default=[shutil.which("mematlas") or "mematlas"])
    arguments = parser.parse_args()
    print(f"{processor()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {time.ctime()}")
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            found: dict[str, list[tuple[float, float]]] = {each: [] for each in arguments.programs}
            for _ in range(arguments.rounds):
                for program, costs in found.items():
                    costs.append(cost(program, command.split(), Path(folder)))
            for program, costs in found.items():
                cpu, wall = zip(*costs, strict=True)
                print(
                    f"{command.split(' -c ')[0]:60.60} CPU {min(cpu):.3f} s, median {statistics.median(cpu):.3f} s,"
                    f" wall {min(wall):.3f} s  {program}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
