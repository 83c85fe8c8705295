"""All benchmarks in one run: docs/performance.md, and a line for each run in benchmarks/history.jsonl."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from contest import read_record, spread

from mematlas.bench import fingerprint

if TYPE_CHECKING:
    from contest import Contest, Outcome

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGE = ROOT / "docs" / "performance.md"
HISTORY = HERE / "history.jsonl"
MINUTES = 28.0  # of all parts; a part that takes longer than its share is ended
STOP_S = 10  # from SIGTERM to SIGKILL
_PLANNED = (
    0.9  # of the time of a part; the rest is for a round that takes longer than the one before
)
CHANGED = 0.1  # a change of a best value that the history points at


@dataclass(frozen=True, slots=True)
class Part:
    """A program of this folder. `share` of the time, and its arguments in a full and in a quick run.

    `plans`: it takes --minutes, and does fewer rounds where they are few.
    """

    name: str
    title: str
    program: str
    share: float
    full: tuple[str, ...]
    quick: tuple[str, ...]
    plans: bool = False


PARTS = (
    Part("tracing", "Programs under the tracer", "tracing/compare.py", 0.84,
         ("--rounds", "3"), ("--quick", "--rounds", "1"), plans=True),
    Part("bench", "Bandwidth, latency, transposes", "bench/run.py", 0.07,
         ("--rounds", "5"), ("--rounds", "1", "--mib", "32")),
    Part("allocators", "Pool and arena", "memory/allocators.py", 0.03,
         ("--rounds", "5"), ("--rounds", "1")),
    Part("arrays", "NumPy arrays", "memory/arrays.py", 0.02,
         ("--rounds", "5"), ("--rounds", "1")),
    Part("observe", "Observing processes", "observe/run.py", 0.04,
         ("--rounds", "5"), ("--rounds", "1", "--gib", "0.125")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ran:
    """What a part did. `ended`: why it did not end by itself with its results; None: it did."""

    part: Part
    command: tuple[str, ...]
    seconds: float
    output: str
    contests: tuple[Contest, ...]
    ended: str | None


def run_part(part: Part, *, quick: bool, limit_s: float) -> Ran:
    """Run a part for at most `limit_s` seconds. What it recorded until its end is kept."""
    arguments = part.quick if quick else part.full
    if part.plans:
        arguments += ("--minutes", f"{_PLANNED * limit_s / 60:.1f}")
    command = (sys.executable, str(HERE / part.program), *arguments)
    with tempfile.TemporaryDirectory(prefix="mematlas-suite-") as folder:
        records, log = Path(folder, "records"), Path(folder, "output")
        records.touch()
        began = time.monotonic()
        with log.open("w") as file:
            ended = run_limited(command, file, limit_s, {"BENCHMARK_RECORDS": str(records)})
        lines = records.read_text(encoding="utf-8").splitlines()
        return Ran(
            part,
            ("python", f"benchmarks/{part.program}", *arguments),
            time.monotonic() - began,
            log.read_text(encoding="utf-8", errors="replace"),
            tuple(map(read_record, lines)),
            ended,
        )


def run_limited(
    command: tuple[str, ...], log: Any, limit_s: float, environment: dict[str, str]
) -> str | None:
    """Run a command in a process group of its own; return why it did not end well, or None.

    Status 1 means that a target was missed, which is a result, unless an exception ended the program.
    """
    process = subprocess.Popen(
        command,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=os.environ | environment | {"OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    try:
        status = process.wait(timeout=limit_s)
    except subprocess.TimeoutExpired:
        end_group(process)
        return f"was ended after {limit_s:.0f} s"
    except BaseException:
        end_group(process)
        raise
    if status == 1:
        return exception_in(Path(log.name))
    return f"ended with status {status}" if status else None


def exception_in(log: Path) -> str | None:
    """Return the exception that ended a Python program, from what the program printed; None: there was none."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if "Traceback (most recent call last):" not in lines:
        return None
    last = next(line.strip() for line in reversed(lines) if line.strip())
    return f"failed with {last[:200]}"


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            break
    process.wait()


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    found = fingerprint.read()
    commit = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    ).stdout.strip()
    cached = ", ".join(
        f"L{each.level} {each.size >> 10} KiB"
        for each in found.caches
        if each.kind != "instruction"
    )
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit or "unknown",
        "CPU": f"{found.cpu}, {found.usable_cpus} of {found.cpus} CPUs",
        "caches": cached or "unknown",
        "memory": f"{found.memory >> 30} GiB, THP {found.thp}",
        "kernel": found.kernel + (f", virtual ({found.hypervisor})" if found.hypervisor else ""),
        "load at the start": f"{found.load:.1f}",
        "Python, NumPy": f"{sys.version.split()[0]}, {version('numpy')}",
        "peers": ", ".join(f"{name} {version(name)}" for name in ("memray", "psutil")),
    }


def version(package: str) -> str:
    """Return the version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def page(facts: dict[str, str], ran: list[Ran], command: str, *, quick: bool) -> str:
    """Render the page of results."""
    # Written by whoever runs the suite, so in no table of contents.
    lines = ["---", "orphan: true", "---", "", "# Performance", ""]
    lines += [f"Written by `{command}`. Every figure is of one machine and one day:", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {cell(text)} |" for name, text in facts.items())]
    lines += ["", *paragraphs(quick=quick)]
    for each in ran:
        lines += ["", f"## {each.part.title}", ""]
        lines += [f"`{' '.join(each.command)}`, {each.seconds:.0f} s.", ""]
        if each.ended:
            kept = "what it had measured by then follows" if each.contests else "its output follows"
            lines += [f"**This part {each.ended}**; {kept}.", ""]
        for contest in each.contests:
            lines += [*table(contest), ""]
        if not each.contests:
            lines += ["```text", each.output.strip() or "no output", "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def paragraphs(*, quick: bool) -> list[str]:
    """Return how to read the page."""
    text = (
        "All programs of a table ran in turn. *best* is the best round, which a busy machine disturbs least; *spread* "
        "is the distance of the extreme rounds as a share of the median. A peer that is missing or failed stands in "
        "its row with the reason, and the line below each table says whether a peer was better."
    )
    brief = "**A quick run: few rounds on small data. Do not quote it.**"
    return [text, *(["", brief] if quick else [])]


def table(contest: Contest) -> list[str]:
    """Render a contest as a table."""
    base = contest.best_of(contest.base) if contest.base else None
    heads = ["", "best", "median", "spread", *([f"of {contest.base}"] if base else [])]
    lines = [
        f"**{contest.title}**, {contest.unit}",
        "",
        row(heads),
        "|---" + "|---:" * (len(heads) - 1) + "|",
    ]
    lines += [row(cells(contest, each, base)) for each in contest.outcomes]
    return [*lines, "", f"{contest.verdict()}."]


def cells(contest: Contest, outcome: Outcome, base: float | None) -> list[str]:
    """Return the cells of a contestant; the reason where there is no figure."""
    best = contest.best(outcome)
    width = 3 + (base is not None)
    if best is None:
        return [outcome.name, outcome.failure or "no figure", *[""] * (width - 1)]
    name = f"{outcome.name} (later: {outcome.failure})" if outcome.failure else outcome.name
    found = [name, f"{best:.4g}", f"{median(outcome.values):.4g}", spread(outcome)]
    return [*found, f"{best / base:.2f}"] if base else found


def row(texts: list[str]) -> str:
    """Render one row of a table."""
    return f"| {' | '.join(map(cell, texts))} |"


def cell(text: str) -> str:
    """Keep a text from ending its cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def remember(path: Path, facts: dict[str, str], ran: list[Ran], *, quick: bool) -> None:
    """Append the best values of a run to the history, one line of JSON."""
    figures = {
        f"{each.part.name}: {contest.title}": {
            outcome.name: [best, contest.unit, "lower" if contest.lower else "higher"]
            for outcome in contest.outcomes
            if (best := contest.best(outcome)) is not None
        }
        for each in ran
        for contest in each.contests
    }
    line = {"machine": facts, "quick": quick, "figures": figures}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, sort_keys=True) + "\n")


def show_history(path: Path) -> str:
    """Render how each figure of ours changed from run to run on one machine, the latest runs last."""
    runs: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        run = json.loads(line)
        runs.setdefault((run["machine"]["CPU"], run["quick"]), []).append(run)
    if not runs:
        return f"{path}: no runs yet; benchmarks/all adds one\n"
    lines = []
    for (cpu, quick), of_machine in runs.items():
        lines.append(f"{cpu}{', quick runs' if quick else ''}")
        commits = [run["machine"]["commit"] for run in of_machine]
        lines.append(f"  {len(of_machine)} runs: {', '.join(commits[-8:])}")
        names = dict.fromkeys(
            (title, name)
            for run in of_machine
            for title, found in run["figures"].items()
            for name in found
            if "mematlas" in name
            or name.startswith(("in tiles", "by halves", "memory.", "pool", "arena"))
        )
        for title, name in names:
            found = [run["figures"].get(title, {}).get(name) for run in of_machine]
            lines.append(f"  {title}, {name}: {' '.join(map(shown, found[-8:]))}{judge(found)}")
    return "\n".join(lines) + "\n"


def shown(figure: list[Any] | None) -> str:
    """Format a figure of the history."""
    return "-" if figure is None else f"{figure[0]:.4g}"


def judge(found: list[list[Any] | None]) -> str:
    """Return whether the last figure differs from the median of those before."""
    known = [each for each in found if each is not None]
    if len(known) < 2 or found[-1] is None:
        return ""
    before = median(each[0] for each in known[:-1])
    if not before or abs(known[-1][0] / before - 1) < CHANGED:
        return ""
    better = (known[-1][0] < before) == (known[-1][2] == "lower")
    return (
        f"   {'better' if better else 'WORSE'}, {known[-1][0] / before:.2f} x of the median before"
    )


def arguments(asked: argparse.Namespace) -> list[str]:
    """Return the options that the figures depend on: not the names of files."""
    given = ["--quick"] if asked.quick else []
    given += ["--only", asked.only] if asked.only else []
    return given + (["--minutes", f"{asked.minutes:g}"] if asked.minutes != MINUTES else [])


def main() -> int:
    """Run the parts, write the page and add to the history; 1 if a part did not end well."""
    parser = argparse.ArgumentParser(prog="benchmarks/all", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["history"], help="print the history")
    parser.add_argument("--quick", action="store_true", help="few rounds on small data")
    parser.add_argument(
        "--only", default="", metavar="PART,...", help=", ".join(each.name for each in PARTS)
    )
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all parts (default 28)")
    parser.add_argument(
        "-o", "--output", type=Path, default=PAGE, help="the page (default docs/performance.md)"
    )
    parser.add_argument("--history", type=Path, default=HISTORY, help="a file of JSON lines")
    asked = parser.parse_args()
    if asked.command:
        print(show_history(asked.history), end="")
        return 0
    names = asked.only.split(",") if asked.only else [each.name for each in PARTS]
    unknown = set(names) - {each.name for each in PARTS}
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    facts, ran = machine(), []
    chosen = [each for each in PARTS if each.name in names]
    end = time.monotonic() + 60 * asked.minutes
    for index, part in enumerate(chosen):
        left = sum(each.share for each in chosen[index:])
        limit_s = max(1.0, (end - time.monotonic()) * part.share / left)
        print(f"{part.name}: at most {limit_s:.0f} s", flush=True)
        ran.append(run_part(part, quick=asked.quick, limit_s=limit_s))
        print(ran[-1].output, end="", flush=True)
        print(f"{part.name}: {ran[-1].ended or 'done'}, {ran[-1].seconds:.0f} s", flush=True)
        # After each part, so that an interrupted run leaves what it has.
        command = " ".join(["benchmarks/all", *arguments(asked)])
        asked.output.write_text(page(facts, ran, command, quick=asked.quick), encoding="utf-8")
    remember(asked.history, facts, ran, quick=asked.quick)
    print(f"written: {asked.output}, {asked.history}")
    return int(any(each.ended for each in ran))


if __name__ == "__main__":
    sys.exit(main())
