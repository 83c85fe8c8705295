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
        paths=_changes(
            _paths(before.holders), _paths(after.holders), _whole(before), _whole(after)
        ),
    )


def _title(summary: Summary) -> str:
    return f"{summary.name} ({summary.pid})" if summary.pid is not None else summary.name


def _changes(
    before: Iterable[tuple[str, int, int]],
    after: Iterable[tuple[str, int, int]],
    whole_before: set[str] | None = None,
    whole_after: set[str] | None = None,
) -> tuple[Change, ...]:
    """Return the rows that differ. `whole`: paths below which a look lists all rows; None: it lists all there are."""
    old, new = _sums(before), _sums(after)
    rows = []
    for name in {*old, *new}:
        first, second = _row(name, old, whole_before), _row(name, new, whole_after)
        if first != second:
            rows.append(Change(name, first[0], second[0], first[1], second[1]))
    return tuple(sorted(rows, key=lambda row: (-_most(row), row.name)))


def _row(
    name: str, rows: dict[str, tuple[int, int]], whole: set[str] | None
) -> tuple[int, int] | tuple[None, None]:
    """Return blocks and bytes of a row; 0 where there is none, None where the look may have left it out."""
    if name in rows:
        return rows[name]
    if whole is None:
        return 0, 0
    above = name
    while above:
        above = above.rpartition(PATH_MARK)[0]
        if above in rows or not above:
            return (0, 0) if above in whole else (None, None)
    return None, None


def _most(row: Change) -> int:
    """Return the change in bytes, or the largest that it can be."""
    if row.growth is not None:
        return abs(row.growth)
    return row.size_before or row.size_after or 0


def _whole(summary: Summary) -> set[str]:
    """Return the paths below which a look lists all rows; "" stands for the first level."""
    listed = sum(each.retained for each in summary.holders)
    found = {""} if listed == summary.totals.size else set()
    cut: set[str] = set()
    waiting = [(each.name, each) for each in summary.holders]
    while waiting:
        path, each = waiting.pop()
        (cut if each.rest_rows else found).add(path)
        waiting += [(f"{path}{PATH_MARK}{below.name}", below) for below in each.held]
    return found - cut


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
