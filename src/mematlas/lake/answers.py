"""Answers to the questions of `mematlas lake`, as models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mematlas.errors import TargetError, UsageError
from mematlas.lake import query
from mematlas.lake.growth import SMALL_BYTES, HostMeans, find_growth, interval
from mematlas.lake.model import (
    Change,
    GrownLine,
    LakeDiff,
    Level,
    Regression,
    Selection,
    Side,
    Top,
    TopRow,
    Trend,
    TrendRow,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from mematlas.lake.growth import Growth
    from mematlas.lake.query import Lake, Selected


def top(lake: Lake, selection: Selection, *, by: str, level: Level, most: int) -> Top:
    """Return the lines with most memory in all hosts together."""
    chosen = lake.select(selection)
    totals = _host_totals(lake, chosen, by, selection)
    rows = query.top_rows(lake, chosen, by, level, most).to_pylist()
    code = lake.code(level, [row["id"] for row in rows])
    return Top(
        by=by,
        level=level,
        selection=selection.words(),
        hosts=len(totals),
        recordings=_sum(totals, "recordings"),
        fleet_bytes=float(sum(totals["mean"].to_pylist())),
        rows=tuple(
            TopRow(code[row["id"]], row["fleet"], row["hosts"], row["mean"], row["largest"])
            for row in rows
        ),
    )


def trend(
    lake: Lake, selection: Selection, *, by: str, level: Level, most: int, text: str | None
) -> Trend:
    """Return the mean of a host by day: of all lines, and of those with most memory or whose name has a text."""
    chosen = lake.select(selection)
    totals = _host_totals(lake, chosen, by, selection, "day")
    sums: dict[str, list[float]] = {}
    for row in totals.to_pylist():
        sums.setdefault(row["day"], []).append(row["mean"])
    days = tuple(sorted(sums))
    hosts = tuple(len(sums[day]) for day in days)
    whole = tuple(sum(sums[day]) / len(sums[day]) for day in days)
    ids = _chosen_ids(lake, chosen, by, level, most, text)
    rows = query.line_days(lake, chosen, by, level, ids).to_pylist()
    by_day = {(row["id"], row["day"]): row["fleet"] for row in rows}
    code = lake.code(level, ids)
    found = [TrendRow(None, whole, _change(whole))]
    for each in ids:
        values = tuple(
            by_day.get((each, day), 0.0) / count for day, count in zip(days, hosts, strict=True)
        )
        found.append(TrendRow(code[each], values, _change(values)))
    return Trend(by, level, selection.words(), days, hosts, tuple(found))


def _chosen_ids(
    lake: Lake, chosen: Selected, by: str, level: Level, most: int, text: str | None
) -> list[int]:
    ranked = query.top_rows(lake, chosen, by, level, most if text is None else None)["id"]
    ids: list[int] = ranked.to_pylist()
    if text is not None:
        matching = set(query.matching_ids(lake, level, text))
        ids = [each for each in ids if each in matching][:most]
        if not ids:
            raise TargetError(f"no {level} of the selected recordings has {text!r} in its name")
    return ids


def _change(values: tuple[float, ...]) -> float | None:
    return values[-1] - values[0] if len(values) > 1 else None


def diff(
    lake: Lake, before: Selection, after: Selection, *, by: str, level: Level, most: int
) -> LakeDiff:
    """Return the lines whose mean of a host changed most."""
    sides, means = [], []
    for selection in (before, after):
        chosen = lake.select(selection)
        totals = _host_totals(lake, chosen, by, selection)
        side = _side(totals, selection, _sum(totals, "recordings"))
        rows = query.top_rows(lake, chosen, by, level)
        ids, fleet = rows["id"].to_pylist(), rows["fleet"].to_pylist()
        sides.append(side)
        means.append({each: size / side.hosts for each, size in zip(ids, fleet, strict=True)})
    changes = {
        each: means[1].get(each, 0.0) - means[0].get(each, 0.0)
        for each in means[0].keys() | means[1].keys()
    }
    ranked = sorted(changes, key=lambda each: (-abs(changes[each]), each))[:most]
    ranked = [each for each in ranked if round(changes[each])]
    code = lake.code(level, ranked)
    rows_of = (
        Change(code[each], means[0].get(each, 0.0), means[1].get(each, 0.0), changes[each])
        for each in ranked
    )
    return LakeDiff(by, level, sides[0], sides[1], tuple(rows_of))


def _side(totals: pa.Table, selection: Selection, recordings: int) -> Side:
    mean = float(np.mean(totals["mean"].to_numpy()))
    return Side(selection.words(), len(totals), recordings, mean)


def regress(  # noqa: PLR0913 - options of the command, by keyword
    lake: Lake,
    before: Selection,
    after: Selection,
    *,
    by: str,
    level: Level,
    rate: float,
    over: float,
    least_bytes: int,
    test: str | None = None,
) -> Regression:
    """Return the lines that grew across hosts, most sure first."""
    sides, groups, samples = [], [], []
    for selection in (before, after):
        chosen = lake.select(selection)
        totals = _host_totals(lake, chosen, by, selection)
        recordings, sample_bytes = query.run_facts(lake, chosen)
        sides.append(_side(totals, selection, recordings))
        samples.append(sample_bytes / (recordings / len(totals)) ** 0.5)
        groups.append(_host_means(totals, query.host_means(lake, chosen, by, level)))
    growth = find_growth(
        groups[0],
        groups[1],
        test=test,
        rate=rate,
        over=over,
        least_bytes=least_bytes,
        small_bytes=max(SMALL_BYTES, *samples),
    )
    return Regression(
        by=by,
        level=level,
        before=sides[0],
        after=sides[1],
        test=growth.test,
        hosts=growth.hosts,
        false_discovery_rate=rate,
        tested=len(growth.line),
        untested=growth.untested,
        small=growth.small,
        least_bytes=least_bytes,
        service_growth=_share(growth.service_change),
        detectable=_share(growth.detectable),
        rows=_grown(lake, growth, level, rate),
    )


def _grown(lake: Lake, growth: Growth, level: Level, rate: float) -> tuple[GrownLine, ...]:
    found = np.flatnonzero(growth.q_value <= rate)
    order = found[np.lexsort((growth.before[found] - growth.after[found], growth.q_value[found]))]
    low, high = interval(growth)
    code = lake.code(level, growth.line[order].tolist())
    return tuple(
        GrownLine(
            code=code[int(growth.line[at])],
            before_bytes=float(growth.before[at]),
            after_bytes=float(growth.after[at]),
            change_bytes=float(growth.after[at] - growth.before[at]),
            growth=_growth(growth.ratio[at]),
            low=_growth(low[at]),
            high=_growth(high[at]),
            host_spread=float(growth.spread[at]),
            hosts=int(growth.present[at]),
            p_value=float(growth.p_value[at]),
            q_value=float(growth.q_value[at]),
        )
        for at in order
    )


def _growth(ratio: float) -> float | None:
    """Return the growth that a ratio means; None if there were no bytes before."""
    return None if np.isnan(ratio) else float(ratio) - 1


def _share(change: float | None) -> float | None:
    return None if change is None else float(np.expm1(change))


def _host_means(totals: pa.Table, means: pa.Table) -> HostMeans:
    names = zip(totals["service"].to_pylist(), totals["host"].to_pylist(), strict=True)
    hosts = tuple(sorted(names))
    place = {each: row for row, each in enumerate(hosts)}
    of_row = [means[name].combine_chunks().dictionary_encode() for name in ("service", "host")]
    services, machines = (
        [str(each) for each in column.dictionary.to_pylist()] for column in of_row
    )
    codes = [column.indices.to_numpy(zero_copy_only=False) for column in of_row]
    pair = codes[0].astype(np.int64) * max(1, len(machines)) + codes[1]
    distinct, which = np.unique(pair, return_inverse=True)
    rows = np.array(
        [
            place[services[each // max(1, len(machines))], machines[each % max(1, len(machines))]]
            for each in distinct.tolist()
        ],
        np.int64,
    )
    return HostMeans(
        hosts=hosts,
        host=rows[which] if len(which) else np.zeros(0, np.int64),
        line=means["id"].to_numpy().astype(np.int64),
        mean=means["mean"].to_numpy().astype(np.float64),
    )


def _host_totals(
    lake: Lake, chosen: Selected, by: str, selection: Selection, *more: str
) -> pa.Table:
    """Return recordings and the mean of all lines by host; UsageError if there is none."""
    totals = query.host_totals(lake, chosen, by, *more)
    if not len(totals):
        raise UsageError(
            f"no recording of {selection.words()} has {by} bytes: there is none, or {by} is unknown"
        )
    return totals


def _sum(rows: pa.Table, name: str) -> int:
    return int(sum(rows[name].to_pylist()))
