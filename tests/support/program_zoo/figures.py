"""Figures of a recording for the table: owners, and the share of RSS that has one."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mematlas
from mematlas.report.analyse.lines import lines
from mematlas.report.frame_names import function_name, location

from .runs import MEMATLAS

if TYPE_CHECKING:
    from pathlib import Path

_OWNED = {"live", "mapped", "shared", "stack", "cow"}
_FILES = {"file", "copy"}
_LARGEST = 3
_LEAST = 0.01  # of RSS: what owns less is not among the largest


@dataclass(frozen=True, slots=True)
class Figures:
    """What a report says of one run. Shares are of RSS, of several processes of PSS, without mematlas' own memory.

    owned + files + slack + before + rest == 1
    """

    rss_bytes: int
    owned: float  # in live allocations, also those that forks share, other memory with an owner line, named stacks
    files: float  # pages of named files, written copies of them included
    slack: float  # free in an allocator; of a sampled run also blocks below the sampling interval
    before: float  # from before an attach
    rest: float  # anonymous memory without an owner, and what is unexplained
    complete: bool
    owners: tuple[tuple[str, str, float], ...]  # of the largest lines: function, place, share
    notes: tuple[str, ...]


def read_figures(recording: Path) -> Figures:
    """Read the figures of a recording from `mematlas report --json` and the library."""
    done = subprocess.run(
        [*MEMATLAS, "report", str(recording), "--json", "--top", "1"],
        capture_output=True,
        text=True,
        check=True,
    )
    data = json.loads(done.stdout)["data"]
    account = data["account"]
    sizes: dict[str, int] = {}
    for part in account["parts"]:
        sizes[part["kind"]] = sizes.get(part["kind"], 0) + part["resident_bytes"]
    measure = account["sum"] or "rss"  # the parts of several processes add up to their PSS
    base = max(account[f"{measure}_bytes"] - sizes.get("tracer", 0), 1)
    owned = sum(sizes.get(kind, 0) for kind in _OWNED) / base
    files = sum(sizes.get(kind, 0) for kind in _FILES) / base
    slack, before = sizes.get("slack", 0) / base, sizes.get("before", 0) / base
    report = mematlas.open(recording).report()
    metric = "pss" if measure == "pss" else "resident"
    ranked = lines(report.stacks, metric)
    return Figures(
        rss_bytes=account["rss_bytes"],
        owned=owned,
        files=files,
        slack=slack,
        before=before,
        rest=1 - (owned + files + slack + before),
        complete=data["complete"],
        owners=tuple(
            (
                function_name(line.frame) if line.frame else "unknown",
                location(line.frame) if line.frame else "",
                line.bytes[metric] / base,
            )
            for line in ranked[:_LARGEST]
            if line.bytes[metric] >= _LEAST * base
        ),
        notes=tuple(data["notes"]),
    )
