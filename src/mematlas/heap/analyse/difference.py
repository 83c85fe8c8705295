"""What grew between two looks, by type and by path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.heap.model.answers import PATH_MARK, Change, Difference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mematlas.heap.model.answers import Holder, Summary


def compare(before: Summary, after: Summary) -> Difference:
    """Return the changes from one look to another."""
    return Difference(
        before=_title(before),
        after=_title(after),
        seconds=after.moment - before.moment,
        size_before=before.totals.size,
        size_after=after.totals.size,
        lost_before=before.totals.lost + before.totals.lost_indirectly,
        lost_after=after.totals.lost + after.totals.lost_indirectly,
        types=_changes(
            ((row.name, row.count, row.size) for row in before.types),
            ((row.name, row.count, row.size) for row in after.types),
        ),
        paths=_changes(_paths(before.holders), _paths(after.holders)),
    )


def _title(summary: Summary) -> str:
    return f"{summary.name} ({summary.pid})" if summary.pid is not None else summary.name


def _changes(
    before: Iterable[tuple[str, int, int]], after: Iterable[tuple[str, int, int]]
) -> tuple[Change, ...]:
    old, new = _sums(before), _sums(after)
    rows = [
        Change(
            name,
            old.get(name, (0, 0))[0],
            new.get(name, (0, 0))[0],
            old.get(name, (0, 0))[1],
            new.get(name, (0, 0))[1],
        )
        for name in {*old, *new}
        if old.get(name) != new.get(name)
    ]
    return tuple(sorted(rows, key=lambda row: (-abs(row.growth), row.name)))


def _sums(rows: Iterable[tuple[str, int, int]]) -> dict[str, tuple[int, int]]:
    """Add up rows of one name: two classes may have it."""
    sums: dict[str, tuple[int, int]] = {}
    for name, count, size in rows:
        old = sums.get(name, (0, 0))
        sums[name] = (old[0] + count, old[1] + size)
    return sums


def _paths(holders: Iterable[Holder], above: str = "") -> Iterator[tuple[str, int, int]]:
    """Yield each row of a tree by its path: blocks that it retains, and their bytes."""
    for each in holders:
        path = f"{above}{PATH_MARK}{each.name}" if above else each.name
        yield path, each.retained_count, each.retained
        yield from _paths(each.held, path)
