"""The lines of `mematlas top` from two snapshots: filtered, grouped, in tree order, sorted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.observe.processes.analyse import build_tree
from mematlas.observe.top.filter import parse_filter
from mematlas.observe.top.model import TopLine
from mematlas.observe.top.rates import process_rates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mematlas.observe.top.model import Key, MachineSnapshot, ProcessRates, ProcessSnapshot


SHAPES = ("list", "tree", "user", "cgroup", "program")


@dataclass(frozen=True, slots=True)
class ListOptions:
    """The filter, grouping and order of the lines."""

    sort: str = "pss"
    reverse: bool = False
    shape: str = "list"
    text: str = ""  # filter, see parse_filter


def build_lines(
    before: MachineSnapshot | None,
    after: MachineSnapshot,
    options: ListOptions,
    user_name: Callable[[int], str],
) -> list[TopLine]:
    """Return the lines to show, in order. `before` of None, or of another session, gives no rates."""
    rates = process_rates(before, after)
    wanted = parse_filter(options.text, user_name)
    kept = [process for process in after.processes if wanted(process)]
    if options.shape == "tree":
        return _tree(kept, after, rates, options, user_name)
    lines = [_build_line(process, after, rates, user_name) for process in kept]
    if options.shape != "list":
        lines = _group(kept, lines, options.shape)
    return sort(lines, options.sort, reverse=options.reverse)


def sort(lines: Iterable[TopLine], by: str, *, reverse: bool = False) -> list[TopLine]:
    """Sort lines, largest first, names and PIDs ascending. Unknown values come last in both directions."""

    def known(line: TopLine) -> bool:
        return _value(line, by) is not None

    lines = sorted(lines, key=lambda line: str(line.key))
    first = [line for line in lines if known(line)]
    downwards = (by not in {"pid", "command"}) != reverse
    first.sort(key=lambda line: _value(line, by), reverse=downwards)  # type: ignore[arg-type, return-value]
    return first + [line for line in lines if not known(line)]


def _value(line: TopLine, by: str) -> float | str | None:
    match by:
        case "faults":
            return None if line.minor is None else line.minor + (line.major or 0)
        case "command":
            return line.name
        case _:
            value: float | None = getattr(line, by)
            return value


def _build_line(
    process: ProcessSnapshot,
    snapshot: MachineSnapshot,
    rates: dict[Key, ProcessRates],
    user_name: Callable[[int], str],
    depth: int = 0,
) -> TopLine:
    row, rate = process.row, rates.get(process.key)
    return TopLine(
        key=process.key,
        name=row.command,
        depth=depth,
        pid=row.pid,
        user=user_name(row.uid),
        rss=row.rss,
        pss=row.pss,
        uss=row.uss,
        swap=row.swap,
        thp=row.thp,
        minor=rate.minor if rate else None,
        major=rate.major if rate else None,
        growth=rate.growth if rate else None,
        age_s=None if process.read_at is None else snapshot.clock_s - process.read_at,
        processes=1,
        note=row.note
        or (f"shares the address space of {row.same_mm_as}" if row.same_mm_as else ""),
    )


def _tree(
    kept: list[ProcessSnapshot],
    snapshot: MachineSnapshot,
    rates: dict[Key, ProcessRates],
    options: ListOptions,
    user_name: Callable[[int], str],
) -> list[TopLine]:
    by_pid = {process.row.pid: process for process in kept}
    metric = (
        options.sort if options.sort in {"pss", "uss", "rss", "swap", "thp", "faults"} else "rss"
    )
    ordered = build_tree([process.row for process in kept], metric)
    return [
        _build_line(by_pid[row.pid], snapshot, rates, user_name, depth) for depth, row in ordered
    ]


def _group(kept: list[ProcessSnapshot], lines: list[TopLine], shape: str) -> list[TopLine]:
    members: dict[str, list[tuple[ProcessSnapshot, TopLine]]] = {}
    for process, line in zip(kept, lines, strict=True):
        names = {
            "user": line.user,
            "cgroup": process.row.cgroup or "unknown",
            "program": process.row.name,
        }
        members.setdefault(names[shape], []).append((process, line))
    return [_sum_group(name, found) for name, found in members.items()]


def _sum_group(name: str, found: list[tuple[ProcessSnapshot, TopLine]]) -> TopLine:
    """Sum the lines of one group. A shared address space counts once; unknown sizes are noted."""
    lines = [line for process, line in found if process.row.same_mm_as is None]
    unknown = sum(line.pss is None for line in lines)

    def total(field: str) -> int | None:
        known = [getattr(line, field) for line in lines if getattr(line, field) is not None]
        return sum(known) if known else None

    ages = [line.age_s for line in lines if line.age_s is not None]
    return TopLine(
        key=name,
        name=name,
        depth=0,
        pid=None,
        user="",
        rss=sum(line.rss for line in lines),
        pss=total("pss"),
        uss=total("uss"),
        swap=total("swap"),
        thp=total("thp"),
        minor=total("minor"),
        major=total("major"),
        growth=total("growth"),
        age_s=max(ages, default=None),
        processes=len(found),
        note=f"PSS of {unknown} unknown" if unknown else "",
    )
