"""Samples prepared for drawing: summed over processes, reduced to the number of pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mematlas.report.model.report import Report
    from mematlas.report.model.window import Window

Points = list[tuple[float, float | None]]
"""(time, value) pairs. A value holds until the next pair; None: unknown."""


def summed(report: Report | Window, column: str, process: int | None = None) -> Points:
    """Sum a column over all processes, or return that of one process, at each of its changes."""
    events: list[tuple[float, int, float | None]] = []
    for series in report.series:
        if process is not None and series.process != process:
            continue
        values = getattr(series, column)
        events += [
            (time, series.process, _known(value))
            for time, value in zip(series.time_s, values, strict=True)
        ]
        end = series.end_s
        if end is not None and series.time_s and len(report.series) > 1 and process is None:
            events.append((max(end, series.time_s[-1]), series.process, None))
    return _running(sorted(events, key=lambda event: event[0]))


def _known(value: float | None) -> float | None:
    return None if value is None or not value >= 0 else float(value)  # NaN is not >= 0 either


def _running(events: list[tuple[float, int, float | None]]) -> Points:
    now: dict[int, float] = {}
    points: Points = []
    total = 0.0
    for time, process, value in events:
        total -= now.pop(process, 0.0)
        if value is not None:
            now[process] = value
            total += value
        point = (time, total if now else None)
        if points and points[-1][0] == time:
            points[-1] = point
        else:
            points.append(point)
    return points


def counted(
    report: Report | Window,
    column: str,
    count: int,
    span: tuple[float, float],
    process: int | None = None,
) -> list[float]:
    """Return the increase of a counter in each of `count` equal intervals of `span`.

    The increase between two rows is spread evenly over the time between them.
    """
    edges = np.linspace(span[0], span[1], count + 1)
    found = np.zeros(count)
    for series in report.series:
        if series.time_s and process in (None, series.process):
            values = np.array(getattr(series, column), np.float64)
            sums = np.interp(edges, series.time_s, values)
            found += np.maximum(np.diff(sums), 0.0)
    return [float(each) for each in found]


def highest(points: Points) -> tuple[float, float] | None:
    """Return the highest value and its time; None if none is known."""
    known = [(value, time) for time, value in points if value is not None]
    return max(known, key=lambda pair: pair[0], default=None)


def buckets(points: Points, count: int, span: tuple[float, float]) -> list[float | None]:
    """Return the highest value in each of `count` equal intervals of `span`."""
    start, end = span
    found: list[float | None] = [None] * count
    has_points = [False] * count
    for time, value in points:
        index = int((time - start) / (end - start or 1.0) * (count - 1))
        index = min(count - 1, max(0, index))
        before = found[index]
        found[index] = value if before is None else max(before, value or 0.0)
        has_points[index] = True
    last: float | None = None
    for index in range(count):
        if has_points[index]:
            last = found[index]
        found[index] = last
    return found
