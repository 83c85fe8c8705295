"""Run every workload in every mode, in alternation, and print the costs as ratios to bare.

CPU is that of the traced program alone; the tool's own processes are reported beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from contest import Contest, Outcome, record

from plan import Mode, Workload, compile_c, modes, workloads

HERE = Path(__file__).parent
MOST_S = 900  # of one run
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


class NotRunError(Exception):
    """A workload that did not run under a mode, with the last line of what was printed."""


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
        try:
            command = mode.wrap([measure, str(figures)], work, file)
            subprocess.run(command, stdout=log, stderr=log, check=False, timeout=MOST_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotRunError(str(error)) from None
        finally:
            if feeder:
                end_feeder(feeder, file)
        if not figures.exists():
            log.seek(0)
            said = log.read().split("\n")
            last = next((line.strip() for line in reversed(said) if line.strip()), "no output")
            raise NotRunError(last[:200])
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
    try:
        feeder.wait(timeout=MOST_S)
    except subprocess.TimeoutExpired:
        feeder.kill()
        feeder.wait()


def measure_all(
    folder: Path,
    chosen: list[Mode],
    works: list[Workload],
    rounds: int,
    until_s: float = math.inf,
) -> tuple[list[Cost], dict[tuple[str, str], str]]:
    """Alternate: a round runs every workload in every mode once, every other round backwards.

    A mode that fails under a workload is left out there; the reason stands in the second result. Without a
    bare run there is nothing to divide by, and the workload is left out. A workload whose last round would not
    end until the time `until_s` of the monotonic clock has no more rounds.
    """
    measure = compile_c(HERE / "measure.c", folder / "measure")
    costs = []
    failures: dict[tuple[str, str], str] = {}
    took: dict[str, float] = {}  # seconds of the last round of each workload
    for number in range(rounds):
        for work in works:
            began = time.monotonic()
            if work.name in took and began + took[work.name] > until_s:
                continue
            able = [mode for mode in chosen if work.python or not mode.python_only]
            for mode in able if number % 2 == 0 else reversed(able):
                if (work.name, mode.name) in failures or (work.name, "bare") in failures:
                    continue
                try:
                    costs.append(run_once(folder, measure, mode, work, number))
                except NotRunError as error:
                    failures[work.name, mode.name] = str(error)
                print(".", end="", file=sys.stderr, flush=True)
            took[work.name] = time.monotonic() - began
            print(f" {work.name}, round {number + 1}", file=sys.stderr)
    return [cost for cost in costs if (cost.workload, "bare") not in failures], failures


def ratios(costs: list[Cost], work: str, mode: str, figure: str) -> list[float]:
    """Per round, one mode's figure over the bare program's."""
    of = {(c.mode, c.round): float(getattr(c, figure)) for c in costs if c.workload == work}
    rounds = sorted(number for name, number in of if name == mode)
    return [of[mode, n] / of["bare", n] for n in rounds if ("bare", n) in of]


def spread(values: list[float]) -> str:
    """Median, and from the lowest to the highest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def table(costs: list[Cost], failures: dict[tuple[str, str], str] | None = None) -> str:
    """Lay the ratios out as a Markdown table, with a row for what did not run."""
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
    for (work, mode), why in (failures or {}).items():
        told = why.replace("|", "/")
        lines.append(f"| {work} | {mode} | did not run: {told} |" + " |" * (len(heads) - 3))
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
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin no round that would end later"
    )
    parser.add_argument("--only", default="", help="workloads, separated by commas")
    parser.add_argument("--modes", default="", help="modes, separated by commas; bare always runs")
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="DIR",
        help="another checkout, as the modes other, other --exact",
    )
    asked = parser.parse_args()
    until_s = time.monotonic() + 60 * asked.minutes
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
        costs, failures = measure_all(folder, chosen, works, rounds, until_s)
    RESULTS.mkdir(parents=True, exist_ok=True)
    data = {"machine": facts, "rounds": rounds, "costs": [asdict(cost) for cost in costs]}
    data["failures"] = [[*where, why] for where, why in failures.items()]
    answer = {"schema": "mematlas/benchmarks/1", "data": data}
    (RESULTS / "results.json").write_text(json.dumps(answer, indent=1) + "\n")
    text = table(costs, failures)
    (RESULTS / "results.md").write_text(text)
    print(text, end="")
    record_all(costs, failures)


def record_all(costs: list[Cost], failures: dict[tuple[str, str], str]) -> None:
    """Record the ratios to bare of each workload, as contests."""
    for work in dict.fromkeys([cost.workload for cost in costs] + [work for work, _ in failures]):
        names = dict.fromkeys(cost.mode for cost in costs if cost.workload == work)
        for field, title in (("cpu_s", "CPU"), ("wall_s", "wall time")):
            outcomes = [
                Outcome(
                    name,
                    tuple(ratios(costs, work, name, field)),
                    failures.get((work, name)),
                    name.startswith("mematlas"),
                )
                for name in names
                if name != "bare"
            ]
            outcomes += [
                Outcome(name, (), why, name.startswith("mematlas"))
                for (where, name), why in failures.items()
                if where == work and name not in names
            ]
            record(Contest(f"{work}, {title}", "of bare", True, tuple(outcomes)))


if __name__ == "__main__":
    main()
