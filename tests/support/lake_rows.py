"""Made-up recordings of a fleet, as rows, and the answers computed from them in plain Python."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import TYPE_CHECKING

from mematlas.lake.rows import RunRows, name_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def recording(  # noqa: PLR0913 - what a recording says, by keyword
    run: str,
    lines: Mapping[str, int],
    *,
    host: str = "a",
    service: str = "web",
    version: str | None = "v1",
    day: str = "2026-11-01",
    labels: Mapping[str, str] | None = None,
    seconds: float = 10.0,
    resident_known: bool = True,
) -> RunRows:
    """Return the rows of a recording whose functions have these live bytes, each in `app.py` on line 1."""
    of_run = {"day": day, "service": service, "host": host, "version": version, "build": None}
    rows, names = [], {}
    for function, size in lines.items():
        name = name_row(function, "/srv/app/app.py", 1)
        names[name["line_id"]] = name
        metrics = {
            "live_bytes": size,
            "resident_bytes": size // 2 if resident_known else None,
            "pss_bytes": None,
            "peak_bytes": 2 * size,
            "allocated_bytes": 10 * size,
        }
        counts = {"live_count": 1, "allocations": 10, "error_bytes": 0}
        row = {**of_run, "run": run, "start": 1.0, "line_id": name["line_id"], **metrics, **counts}
        rows.append(row)
    names_of = ("live_bytes", "resident_bytes", "pss_bytes", "peak_bytes", "allocated_bytes")
    totals = {
        name: None if any(row[name] is None for row in rows) else sum(row[name] for row in rows)
        for name in names_of
    }
    facts = {"run": run, "start": 1.0, "duration_s": seconds, "command": "app", "sample_bytes": 0}
    labelled = tuple(
        {"day": day, "run": run, "name": name, "value": value}
        for name, value in (labels or {}).items()
    )
    return RunRows({**of_run, **facts, "complete": True, **totals}, labelled, tuple(rows), names)


def host_means(recordings: Iterable[RunRows]) -> dict[tuple[str, str], dict[str, float]]:
    """Return the mean live bytes by service and host, and function."""
    sizes: dict[tuple[str, str], list[dict[str, int]]] = defaultdict(list)
    for each in recordings:
        names = {number: row["function"] for number, row in each.names.items()}
        found = {names[row["line_id"]]: row["live_bytes"] for row in each.lines}
        sizes[each.run["service"], each.run["host"]].append(found)
    return {
        host: {
            name: statistics.fmean(each.get(name, 0) for each in found)
            for name in set().union(*found)
        }
        for host, found in sizes.items()
    }
