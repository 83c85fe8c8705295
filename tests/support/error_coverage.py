"""How often the truth lies within two stated standard errors, over many seeds of the sampler.

Each seed is one recording of a shell that runs all programs in turn. A program counts what its function keep()
allocates, and writes the truth to a file.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas.recording import read as open_file
from mematlas.report.analyse import account, sums
from mematlas.report.analyse.fault_errors import bytes_variance
from mematlas.report.analyse.report import make_report
from mematlas.report.analyse.stacks import Stacks
from mematlas.tracing import TraceSettings
from mematlas.tracing import run as trace
from mematlas.tracing.output import open_recording, write_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mematlas.recording.model import Frame, Process, RecordingData, Rows

PROGRAMS = Path(__file__).parents[1] / "programs"
SHAPES = ("small", "mixed", "churn", "large", "falls", "partly", "threads", "grows", "turns")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with one standard error."""

    value: float
    error: float


@dataclass(slots=True)
class Coverage:
    """The estimates of one figure of one program, each with its truth."""

    estimates: list[tuple[Estimate, float]] = field(default_factory=list)

    def held(self) -> int:
        """Count the intervals of two standard errors that hold the truth."""
        return sum(
            abs(each.value - truth) <= 2 * each.error + 1e-6 * truth
            for each, truth in self.estimates
        )

    def bias(self) -> float:
        """Return the mean error, relative to the truth."""
        return float(np.mean([each.value / truth - 1 for each, truth in self.estimates]))

    def error_ratio(self) -> float:
        """Return the root mean square of the errors over that of the stated standard errors; 1 if they are honest."""
        real = np.mean([(each.value - truth) ** 2 for each, truth in self.estimates])
        stated = np.mean([each.error**2 for each, _ in self.estimates])
        return math.sqrt(float(real / stated)) if stated else math.inf


Found = dict[tuple[str, str], Coverage]


def build(folder: Path) -> list[list[str]]:
    """Compile the programs into `folder` and return their commands, without the file for the truth."""
    c, cpp = folder / "known_totals", folder / "known_strings"
    flags = ["-g", "-O1", "-pthread", "-o"]
    subprocess.run(["gcc", PROGRAMS / "known_totals.c", *flags, c], check=True)
    subprocess.run(["g++", PROGRAMS / "known_strings.cpp", *flags, cpp], check=True)
    objects = [sys.executable, "-S", "-E", str(PROGRAMS / "known_objects.py")]
    return [*([str(c), shape] for shape in SHAPES), [str(cpp)], objects]


def measure(seed: int, commands: Sequence[Sequence[str]], folder: Path, found: Found) -> None:
    """Add the estimates of one seed to `found`. All programs are recorded, unless `folder` has the recording."""
    file, truths = folder / f"run-{seed}.atlas", folder / f"truths-{seed}"
    if not file.exists():
        _record(seed, commands, file, truths)
    recording = open_file(file)
    known = {each["shape"]: each for each in map(json.loads, truths.read_text().splitlines())}
    for process in recording.processes:
        truth = known.get(_shape(process))
        if truth:
            for name, estimate, right in _compare(recording, process, truth):
                found[truth["shape"], name].estimates.append((estimate, right))


def _record(seed: int, commands: Sequence[Sequence[str]], file: Path, truths: Path) -> None:
    """Record all programs with one seed, and write what they know."""
    truths.unlink(missing_ok=True)
    partial = file.with_suffix(".new")
    script = "\n".join(" ".join([*each, str(truths)]) for each in commands)
    settings = TraceSettings(seed=seed)
    writers = []

    def open_writer(_: int) -> Any:
        writers.append(open_recording(str(partial), ["sh"], settings))
        return writers[0]

    outcome = trace(["/bin/sh", "-c", script], settings, open_writer)
    assert (outcome.status, outcome.failure) == (0, None)
    write_names(writers[0], str(partial))
    partial.rename(file)  # a recording that was begun and not ended is none


def _shape(process: Process) -> str:
    """Return the name of a process's program as the truth has it; empty for the shell."""
    words = process.command
    if not words or words[0].endswith("sh"):
        return ""
    program = Path(words[0]).name
    if program == "known_totals":
        return words[1]
    return "strings" if program == "known_strings" else "objects"


def _compare(
    recording: RecordingData, process: Process, truth: dict[str, Any]
) -> Iterator[tuple[str, Estimate, float]]:
    """Yield the name, the estimate and the truth of each figure that a program knows."""
    index = process.index
    stacks = Stacks.of(recording, index)
    kept = stacks.holding(lambda frame: frame.function.split("(")[0] in {"keep", "regrow"})
    totals, end = recording.totals[index], account.exit_of(recording, index)
    assert end is not None
    rows, last = _of(totals.rows, kept), _of(end.rows, kept)
    columns = {
        "live": (last, "live_bytes", "live_variance"),
        "peak": (rows, "peak_bytes", "peak_variance"),
        "allocated": (rows, "allocated_bytes", "allocated_variance"),
    }
    for name, (table, value, variance) in columns.items():
        if name in truth:
            yield name, _estimate(table[value], table[variance]), truth[name]
    if "resident" in truth and "resident_bytes" in (last.dtype.names or ()):
        values = last["resident_bytes"], last["live_bytes"]
        scaled = sums.scaled(last["live_variance"], *values)
        yield "resident", _estimate(values[0], scaled), truth["resident"]
    if index in recording.fault_sites:
        yield from _touches(recording, index, truth)
    objects = make_report(recording, index).objects or ()
    for name, size in truth.get("objects", {}).items():
        for each in objects:
            if each.name == name:
                yield f"type {name}", Estimate(each.live_bytes, each.error_bytes), size


def _touches(
    recording: RecordingData, index: int, truth: dict[str, Any]
) -> Iterator[tuple[str, Estimate, float]]:
    """Yield what functions touched first."""
    known: dict[str, int] = truth.get("touches", {})
    functions = {f"touched {name}": ({name}, size) for name, size in known.items()}
    if known:
        functions["touched all"] = (set(known), sum(known.values()))
    rows = sums.unpacked(recording.fault_sites[index].rows)
    stacks = Stacks.of(recording, index)
    for name, (which, size) in functions.items():
        some = stacks.holding(partial(_is_one_of, which))[rows["stack"]]
        variance = bytes_variance(rows, some, recording.sampling.fault_period)
        yield name, Estimate(float(rows["bytes"][some].sum()), math.sqrt(variance)), size


def _is_one_of(functions: set[str], frame: Frame) -> bool:
    return frame.function in functions


def _of(rows: Rows, kept: Any) -> Rows:
    unpacked = sums.unpacked(rows)
    found: Rows = unpacked[kept[unpacked["stack"]]]
    return found


def _estimate(values: Any, variances: Any) -> Estimate:
    return Estimate(float(values.sum()), math.sqrt(max(0.0, float(variances.sum()))))


def measure_all(seeds: Sequence[int], folder: Path, only: str | None = None) -> Found:
    """Record all programs with each seed."""
    found: Found = defaultdict(Coverage)
    commands = [each for each in build(folder) if only is None or each[-1].endswith(only)]
    for seed in seeds:
        measure(seed, commands, folder, found)
    return found


def table(found: Found) -> Iterator[str]:
    """Yield the lines of the table: each figure of each program, and the sum over programs."""
    yield f"{'program':10}{'figure':14}{'seeds':>6}{'held':>9}{'bias':>9}{'real/stated':>13}"
    whole: Found = defaultdict(Coverage)
    for (shape, name), each in sorted(found.items()):
        yield _row(shape, name, each)
        whole["all", name.split()[0]].estimates += each.estimates
    for (shape, name), each in sorted(whole.items()):
        yield _row(shape, name, each)


def _row(shape: str, name: str, each: Coverage) -> str:
    runs = len(each.estimates)
    return (
        f"{shape:10}{name:14}{runs:6}{100 * each.held() / runs:8.1f}%"
        f"{100 * each.bias():+8.2f}%{each.error_ratio():13.2f}"
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="scripts/error-coverage", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, metavar="N", help="default 200")
    parser.add_argument("--first", type=int, default=1, metavar="SEED", help="default 1")
    parser.add_argument("--only", metavar="PROGRAM", help="record this program alone")
    parser.add_argument("--folder", type=Path, help="keeps the recordings, and uses those there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, redirect_stdout(sys.stderr):
        folder: Path = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        seeds = range(arguments.first, arguments.first + arguments.seeds)
        found = measure_all(seeds, folder, arguments.only)
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
