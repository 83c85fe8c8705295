"""Queries of a lake as ibis expressions, the same for all engines.

A *host* is a host and a service. The mean of a host is the sum of a line over its recordings, divided by their number:
a recording without the line counts as 0, one where the metric is unknown does not count. Of `allocated` the sum is
divided by the seconds recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mematlas.errors import MematlasError, TargetError, UsageError
from mematlas.lake.model import CodeLine, LakeState, Level, Selection

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

    from mematlas.lake.engines import Engine
    from mematlas.lake.storage import Storage

_HOST = ("service", "host")
_FILTERS = ("service", "host", "version", "build")
_LOST = ("No such file", "No files found", "PATH_NOT_FOUND", "NoSuchKey", "FILE_DOESNT_EXIST")
_LISTED = "' , * ? [ ] { }"
_OF_PATTERNS = set(_LISTED) - {" "}


class Lake:
    """A state of a lake, opened in an engine."""

    def __init__(self, store: Storage, state: LakeState, engine: Engine) -> None:
        """Open a state that was read before."""
        if set(store.url("")) & _OF_PATTERNS:
            raise UsageError(
                f"{store.name}: engines take one of {_LISTED} for a pattern; rename it"
            )
        if not state.of_table("runs"):
            raise TargetError(f"{store.name} has no recordings")
        self._store, self._state, self._engine = store, state, engine
        self.names = self._table("names", Selection())

    def select(self, selection: Selection) -> Selected:
        """Return the recordings of a selection; rows of single recordings are read for labels alone."""
        runs = _filtered(self._table("runs", selection), selection)
        if not selection.labels:
            return Selected(runs, _filtered(self._table("rollup", selection), selection))
        for name, value in selection.labels:
            labels = self._table("labels", selection)
            runs = runs.semi_join(
                labels.filter(labels["name"] == name, labels["value"] == value), "run"
            )
        lines = _filtered(self._table("lines", selection), selection)
        return Selected(runs, lines.semi_join(runs.select("run"), "run"))

    def fetch(self, expression: Any) -> pa.Table:
        """Compute an expression and return its rows."""
        try:
            return self._engine.fetch(expression)
        except Exception as error:
            raise self._failure(error) from error

    def code(self, level: Level, ids: Iterable[int]) -> dict[int, CodeLine]:
        """Return what numbers of lines, functions or files stand for."""
        wanted = list(ids)
        if not wanted:
            return {}
        key, names = f"{level}_id", self.names
        columns = {
            "function": names["function"].max() if level != "file" else None,
            "file": names["file"].max(),
            "line": names["line"].max() if level == "line" else None,
        }
        found = names.filter(names[key].isin(wanted)).group_by(key)
        rows = self.fetch(found.agg(**{k: v for k, v in columns.items() if v is not None}))
        return {
            row[key]: CodeLine(row.get("function"), row["file"], row.get("line"))
            for row in rows.to_pylist()
        }

    def _table(self, name: str, selection: Selection) -> Any:
        files = [each for each in self._state.of_table(name) if selection.includes(each)]
        if not files and name == "lines" and self._state.of_table("rollup"):
            raise UsageError(
                "the rows of single recordings have expired; labels cannot be asked for any more"
            )
        if not files:
            raise TargetError(f"{self._store.name} has no recordings of {selection.words()}")
        try:
            return self._engine.table(name, [self._store.url(each.path) for each in files])
        except Exception as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> MematlasError:
        """Return what to say of an exception of an engine, of which each has its own kinds."""
        first = str(error).strip().splitlines()[:1]
        if any(word in str(error) for word in _LOST):
            return MematlasError(f"{self._store.name} changed while it was read; try again")
        return MematlasError(f"the engine failed: {first[0] if first else type(error).__name__}")


@dataclass(frozen=True, slots=True)
class Selected:
    """Recordings of a selection, and their rows: `sums` has those of `rollup` or of `lines`."""

    runs: Any
    sums: Any

    def weights(self, by: str, *more: str) -> Any:
        """Return by host the recordings, or for `allocated` the seconds, that a mean is divided by."""
        runs = self.runs.filter(self.runs[f"{by}_bytes"].notnull())
        one = runs["duration_s"].sum() if by == "allocated" else runs.count().cast("float64")
        found = runs.group_by([*_HOST, *more]).agg(
            weight=one, recordings=runs.count(), run_bytes=runs[f"{by}_bytes"].sum().cast("float64")
        )
        return found.filter(found["weight"] > 0)

    def means(self, names: Any, by: str, level: Level, *more: str) -> Any:
        """Return the mean of each line by host: columns service, host, `more`, id, mean."""
        sums = self.sums.filter(self.sums[f"{by}_bytes"].notnull())
        by_line = sums.group_by([*_HOST, *more, "line_id"]).agg(total=sums[f"{by}_bytes"].sum())
        if level == "line":
            rows = by_line.rename(id="line_id")
        else:
            ids = names.select("line_id", f"{level}_id").distinct()
            rows = by_line.inner_join(ids, "line_id").rename(id=f"{level}_id")
            rows = rows.group_by([*_HOST, *more, "id"]).agg(total=rows["total"].sum())
        found = rows.inner_join(self.weights(by, *more), [*_HOST, *more])
        return found.select(
            *_HOST, *more, "id", mean=found["total"].cast("float64") / found["weight"]
        )


def _filtered(table: Any, selection: Selection) -> Any:
    """Return the rows of a selection, its labels aside."""
    tests = [
        table[name] == value for name in _FILTERS if (value := getattr(selection, name)) is not None
    ]
    if selection.since:
        tests.append(table["day"] >= selection.since)
    if selection.until:
        tests.append(table["day"] <= selection.until)
    return table.filter(*tests) if tests else table


def top_rows(
    lake: Lake, chosen: Selected, by: str, level: Level, most: int | None = None
) -> pa.Table:
    """Return id, fleet, hosts, mean and largest of the lines with most memory in all hosts together."""
    means = chosen.means(lake.names, by, level)
    means = means.filter(means["mean"] > 0)
    rows = means.group_by("id").agg(
        fleet=means["mean"].sum(),
        hosts=means.count(),
        mean=means["mean"].mean(),
        largest=means["mean"].max(),
    )
    ranked = rows.order_by(rows["fleet"].desc(), rows["id"])
    return lake.fetch(ranked if most is None else ranked.limit(most))


def host_totals(lake: Lake, chosen: Selected, by: str, *more: str) -> pa.Table:
    """Return recordings and the mean of all lines by host."""
    weights = chosen.weights(by, *more)
    return lake.fetch(
        weights.select(*_HOST, *more, "recordings", mean=weights["run_bytes"] / weights["weight"])
    )


def line_days(lake: Lake, chosen: Selected, by: str, level: Level, ids: Sequence[int]) -> pa.Table:
    """Return id, day and the sum of the means of the hosts of that day."""
    means = chosen.means(lake.names, by, level, "day")
    means = means.filter(means["id"].isin(list(ids)))
    return lake.fetch(means.group_by(["id", "day"]).agg(fleet=means["mean"].sum()))


def matching_ids(lake: Lake, level: Level, text: str) -> list[int]:
    """Return the numbers of lines, functions or files whose name contains a text."""
    names = lake.names
    found = names.filter(names["function"].contains(text) | names["file"].contains(text))
    rows = lake.fetch(found.select(f"{level}_id").distinct())
    return sorted(rows[f"{level}_id"].to_pylist())


def host_means(lake: Lake, chosen: Selected, by: str, level: Level) -> pa.Table:
    """Return service, host, id and mean: what a test of two groups compares."""
    return lake.fetch(chosen.means(lake.names, by, level))


def run_facts(lake: Lake, chosen: Selected) -> tuple[int, float]:
    """Return the number of recordings, and the mean bytes between their samples; 0: all are exact."""
    runs = chosen.runs
    row = lake.fetch(
        runs.agg(count=runs.count(), sample=runs["sample_bytes"].cast("float64").mean())
    ).to_pylist()[0]
    return int(row["count"]), float(row["sample"] or 0)
