"""Run every workload in every mode, in alternation, and print the costs as ratios to bare.

CPU is that of the traced program alone; the tool's own processes are reported beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from plan import Mode, Workload, compile_c, modes, workloads

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "build" / "benchmarks"


@dataclass(frozen=True, slots=True)
class Cost:
    """One run. `parent_s` is CPU of the tool's processes, outside the program."""

    workload: str
    mode: str
    round: int
    cpu_s: float
    wall_s: float
    parent_s: float
    peak_rss_bytes: int
    file_bytes: int
    status: int


def children_cpu() -> float:
    """CPU seconds of all children waited for so far."""
    times = os.times()
    return times.children_user + times.children_system


def run_once(folder: Path, measure: str, mode: Mode, work: Workload, number: int) -> Cost:
    """Run one workload in one mode."""
    figures, file = folder / "figures", folder / "recording"
    for path in folder.glob("recording*"):
        path.unlink()
    figures.unlink(missing_ok=True)
    before = children_cpu()
    with (folder / "log").open("w+") as log:
        feeder = start_feeder(mode, file)
        subprocess.run(
            mode.wrap([measure, str(figures)], work, file), stdout=log, stderr=log, check=False
        )
        if feeder:
            end_feeder(feeder, file)
        if not figures.exists():
            log.seek(0)
            sys.exit(f"{work.name} under {mode.name} did not run: {log.read()[-2000:]}")
    user, system, peak_kib, wall, status = map(int, figures.read_text().split())
    cpu_s = (user + system) / 1e6
    size = sum(path.stat().st_size for path in folder.glob("recording*") if path.is_file())
    return Cost(
        work.name,
        mode.name,
        number,
        cpu_s,
        wall / 1e6,
        max(0.0, children_cpu() - before - cpu_s),
        peak_kib * 1024,
        size,
        status,
    )


def start_feeder(mode: Mode, file: Path) -> subprocess.Popen[bytes] | None:
    """Start what reads the program's FIFO, compressing as the peer's own script does."""
    if mode.feed is None:
        return None
    fifo = f"{file}.fifo"
    os.mkfifo(fifo)
    # The limit, in KiB, is for heaptrack 1.4: on some programs its reader takes all memory there is.
    script = 'ulimit -v 4000000; "$0" <"$1" 2>/dev/null | gzip -1 >"$2"'
    return subprocess.Popen(
        ["sh", "-c", script, mode.feed, fifo, f"{file}.gz"], stderr=subprocess.DEVNULL
    )


def end_feeder(feeder: subprocess.Popen[bytes], file: Path) -> None:
    """Wait for the reader; one whose program never opened the FIFO is let go."""
    with contextlib.suppress(OSError):
        os.close(os.open(f"{file}.fifo", os.O_WRONLY | os.O_NONBLOCK))
    feeder.wait()


def measure_all(folder: Path, chosen: list[Mode], works: list[Workload], rounds: int) -> list[Cost]:
    """Alternate: every round runs every mode once, every other round backwards."""
    measure = compile_c(HERE / "measure.c", folder / "measure")
    costs = []
    for work in works:
        able = [mode for mode in chosen if work.python or not mode.python_only]
        for number in range(rounds):
            for mode in able if number % 2 == 0 else reversed(able):
                costs.append(run_once(folder, measure, mode, work, number))
                print(".", end="", file=sys.stderr, flush=True)
        print(f" {work.name}", file=sys.stderr)
    return costs


def ratios(costs: list[Cost], work: str, mode: str, figure: str) -> list[float]:
    """Per round, one mode's figure over the bare program's."""
    of = {(c.mode, c.round): float(getattr(c, figure)) for c in costs if c.workload == work}
    rounds = sorted(number for name, number in of if name == mode)
    return [of[mode, n] / of["bare", n] for n in rounds]


def spread(values: list[float]) -> str:
    """Median, and from the lowest to the highest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def table(costs: list[Cost]) -> str:
    """Lay the ratios out as a Markdown table."""
    heads = ["workload", "mode", "program's CPU / bare", "wall / bare", "peak RSS / bare"]
    heads += ["tool's own CPU, s", "file, MB"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for work, mode in dict.fromkeys((cost.workload, cost.mode) for cost in costs):
        if mode == "bare":
            continue
        mine = [cost for cost in costs if (cost.workload, cost.mode) == (work, mode)]
        failed = sorted({cost.status for cost in mine} - {0})
        cells = [
            work,
            mode + (f" (ended with wait status {failed[0]})" if failed else ""),
            *(spread(ratios(costs, work, mode, f)) for f in ("cpu_s", "wall_s", "peak_rss_bytes")),
            f"{statistics.median(cost.parent_s for cost in mine):.2f}",
            f"{statistics.median(cost.file_bytes for cost in mine) / 1e6:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def machine() -> dict[str, object]:
    """Return the machine that this was measured on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_at_start": os.getloadavg()[0],
    }


def main() -> None:
    """Parse the command line, measure, print the table and keep both forms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, two rounds")
    parser.add_argument("--rounds", type=int, help="rounds per workload (7, quick: 2)")
    parser.add_argument("--only", default="", help="workloads, separated by commas")
    parser.add_argument("--modes", default="", help="modes, separated by commas; bare always runs")
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="DIR",
        help="another checkout, as the modes other, other --exact",
    )
    asked = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # idle workers of a thread pool burn CPU at random
    rounds = asked.rounds or (2 if asked.quick else 7)
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="mematlas-bench-") as name:
        folder = Path(name)
        works = [
            work
            for work in workloads(folder, quick=asked.quick)
            if not asked.only or work.name in asked.only.split(",")
        ]
        chosen = [
            mode
            for mode in modes(asked.beside)
            if mode.name == "bare" or not asked.modes or mode.name in asked.modes.split(",")
        ]
        costs = measure_all(folder, chosen, works, rounds)
    RESULTS.mkdir(parents=True, exist_ok=True)
    data = {"machine": facts, "rounds": rounds, "costs": [asdict(cost) for cost in costs]}
    answer = {"schema": "mematlas/benchmarks/1", "data": data}
    (RESULTS / "results.json").write_text(json.dumps(answer, indent=1) + "\n")
    text = table(costs)
    (RESULTS / "results.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
