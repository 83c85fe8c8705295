"""Measure questions to a simulated fleet, and how well `regress` finds the lines that were made to grow.

    benchmarks/lake/measure.py LAKE [--engine NAME ...]

LAKE is of fleet.py, beside its file of planted lines. Prints the time of each question in the engine (without the start of
Python), how far the answers of other engines are from DuckDB's, and power and false discoveries by growth.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mematlas.lake import answers
from mematlas.lake.engines import open_engine
from mematlas.lake.log import read_state
from mematlas.lake.model import Selection
from mematlas.lake.query import Lake
from mematlas.lake.rows import name_row
from mematlas.lake.storage import open_storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.lake.model import Regression, Top

warnings.filterwarnings("ignore")
SIDES = Selection(version="v1.4"), Selection(version="v1.5")


def timed(name: str, call: Callable[[], Any]) -> Any:
    """Call twice, print both times, and return the result."""
    times = []
    for _ in range(2):
        began, cpu = time.monotonic(), time.process_time()
        found = call()
        times.append(f"{time.monotonic() - began:.2f} s ({time.process_time() - cpu:.2f} s CPU)")
    print(f"  {name}: first {times[0]}, again {times[1]}", flush=True)
    return found


def top(lake: Lake) -> Top:
    """Return the largest lines of all recordings."""
    return answers.top(lake, Selection(), by="live", level="function", most=20)


def regress(lake: Lake, service: str | None = None, over: float = 0.01) -> Regression:
    """Return the lines that grew from v1.4 to v1.5."""
    before, after = (Selection(version=each.version, service=service) for each in SIDES)
    return answers.regress(
        lake, before, after, by="live", level="line", rate=0.05, over=over, least_bytes=1 << 16
    )


def distance(one: Any, other: Any) -> str:
    """Return in words how far two answers are from each other."""
    if [each.code for each in one.rows] != [each.code for each in other.rows]:
        return "OTHER ROWS"
    furthest = 0.0
    for left, right in zip(one.rows, other.rows, strict=True):
        for name, ours in asdict(left).items():
            theirs = getattr(right, name)
            if isinstance(ours, float) and ours != theirs:
                furthest = max(furthest, abs(ours - theirs) / max(abs(ours), abs(theirs)))
    return f"{len(one.rows)} equal rows, figures within {furthest:.0e} of each other"


def find_planted(lake: Lake, planted: dict[str, dict[str, float]]) -> None:
    """Print power by growth and false discoveries, over all services."""
    found: dict[float, list[bool]] = {}
    false, listed = 0, 0
    inside, known = 0, 0
    for service, lines in planted.items():
        rows = regress(lake, service).rows
        ids = {
            str(name_row(row.code.function, row.code.file, row.code.line)["line_id"]): row
            for row in rows
        }
        listed += len(rows)
        false += sum(each not in lines for each in ids)
        for line, growth in lines.items():
            found.setdefault(round(growth, 3), []).append(line in ids)
            row = ids.get(line)
            if row is not None and row.low is not None and row.high is not None:
                known += 1
                inside += row.low <= growth <= row.high
    for growth, hits in sorted(found.items()):
        print(f"  +{growth:.0%}: {sum(hits)} of {len(hits)} found")
    print(f"  {false} of {listed} listed lines are false")
    print(f"  {inside} of {known} intervals of 95 % have the growth that was planted")


def main() -> None:
    """Print times and answers of each engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lake")
    parser.add_argument("--engine", action="append", default=[])
    options = parser.parse_args()
    store = open_storage(options.lake)
    reference: tuple[Top, Regression] | None = None
    for name in ["duckdb", *options.engine]:
        began = time.monotonic()
        lake = Lake(store, read_state(store), open_engine(name, store))
        print(f"{name}: started in {time.monotonic() - began:.1f} s", flush=True)
        found = timed("top", lambda: top(lake)), timed("regress", lambda: regress(lake))  # noqa: B023
        if reference is None:
            reference = found
            find_planted(lake, json.loads(Path(f"{options.lake}.planted.json").read_text("utf-8")))
        else:
            for word, ours, theirs in zip(("top", "regress"), reference, found, strict=True):
                print(f"  {word}: {distance(ours, theirs)}", flush=True)


if __name__ == "__main__":
    main()
