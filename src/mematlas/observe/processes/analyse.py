"""Processes sorted, grouped, and in tree order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.linux.processes import ProcessGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mematlas.linux.processes import ProcessRow


def rank(rows: Iterable[ProcessRow], by: str) -> list[ProcessRow]:
    """Return the processes sorted by a metric, largest first."""
    return sorted(rows, key=lambda row: (-row.metric(by), row.pid))


def sum_processes(name: str, rows: Iterable[ProcessRow]) -> ProcessGroup:
    """Sum the sizes of processes. A shared address space counts once; unknown sizes are counted apart."""
    counted = [row for row in rows if row.same_mm_as is None and not row.note.startswith("zombie")]

    def total(field: str) -> int:
        return sum(getattr(row, field) or 0 for row in counted)

    return ProcessGroup(
        name=name,
        processes=len(counted),
        rss=sum(row.rss for row in counted),
        pss=total("pss"),
        uss=total("uss"),
        swap=total("swap"),
        unknown=sum(row.pss is None for row in counted),
    )


def group_processes(
    rows: Iterable[ProcessRow], key: Callable[[ProcessRow], str]
) -> list[ProcessGroup]:
    """Group processes by a key and sum each group, largest PSS first."""
    members: dict[str, list[ProcessRow]] = {}
    for row in rows:
        members.setdefault(key(row), []).append(row)
    groups = [sum_processes(name, found) for name, found in members.items()]
    return sorted(groups, key=lambda each: (-each.pss, -each.rss))


def build_tree(rows: Iterable[ProcessRow], by: str) -> list[tuple[int, ProcessRow]]:
    """Return processes in tree order as (depth, row), siblings sorted by a metric, largest first."""
    rows = list(rows)
    pids = {row.pid for row in rows}
    children: dict[int, list[ProcessRow]] = {}
    for row in rank(rows, by):
        parent = row.parent_pid if row.parent_pid in pids else 0
        children.setdefault(parent, []).append(row)
    ordered: list[tuple[int, ProcessRow]] = []
    stack = [(0, row) for row in reversed(children.get(0, []))]
    while stack:
        depth, row = stack.pop()
        ordered.append((depth, row))
        stack += [(depth + 1, child) for child in reversed(children.get(row.pid, []))]
    return ordered
