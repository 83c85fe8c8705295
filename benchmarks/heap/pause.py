"""Measure how long a program stands still while its memory is copied, by the program's own clock.

    benchmarks/heap/pause.py [MIB ...]

Each row is one program (see written_memory.c): its longest gap without and with a capture, and what mematlas says.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from mematlas import _core
from mematlas._core import CaptureWay

HERE = Path(__file__).parent
SECONDS = 120
WAYS = {"copy-first": CaptureWay.COPY_FIRST, "stop": CaptureWay.STOP}


def ask(process: subprocess.Popen[str]) -> str:
    """Return the program's longest gap and write since the last question."""
    assert process.stdout
    process.send_signal(signal.SIGUSR1)
    return process.stdout.readline().strip()


def read_huge(pid: int) -> str:
    """Return the huge pages of a process as the kernel prints them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith("AnonHuge"))


def measure(program: Path, mib: int, pages: str, rate: int, repeats: int) -> None:
    """Run one program, and copy it by each way in turn."""
    command = [str(program), str(mib), pages, str(rate), str(SECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        for turn in range(repeats):
            for name, way in WAYS.items():
                ask(process)
                time.sleep(0.5)
                bare, huge = ask(process), read_huge(process.pid)
                copied = _core.capture_process(process.pid, way, timeout_s=5)
                print(
                    f"{mib} MiB {pages} {rate}/s {name} {turn}: without: {bare}; with: {ask(process)}; stopped"
                    f" {copied.pause_s * 1e3:.2f} ms of {copied.seconds:.2f} s; huge {huge} ->"
                    f" {read_huge(process.pid)}",
                    flush=True,
                )
        process.kill()


def measure_gcore(program: Path, mib: int, folder: Path) -> None:
    """Run one program, and have gcore copy it."""
    with subprocess.Popen(
        [str(program), str(mib), "4k", "1000", str(SECONDS)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        ask(process)
        subprocess.run(
            ["gcore", "-o", str(folder / "core"), str(process.pid)], check=True, capture_output=True
        )
        print(f"{mib} MiB 4k 1000/s gcore: {ask(process)}", flush=True)
        process.kill()


def main() -> None:
    """Build the program and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mib", nargs="*", type=int, default=[1024])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "written_memory"
        source = HERE / "written_memory.c"
        subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
        for mib in arguments.mib:
            for pages in ("4k", "thp"):
                for rate in (1000, 20000):
                    measure(program, mib, pages, rate, arguments.repeats)
            if shutil.which("gcore"):
                measure_gcore(program, mib, Path(folder))


if __name__ == "__main__":
    main()
