"""Answers of `mematlas heap` to --why, --unreachable and --diff for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.heap.model.answers import PATH_MARK
from mematlas.present import drawing
from mematlas.present.printable import clean
from mematlas.present.tables import amount, note, show, title, write
from mematlas.units import format_bytes, format_change, format_count, format_duration

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.heap.model.answers import Change, Difference, Lost, LostRow, Waste, Why


def render_why(why: Why, *, console: Console) -> None:
    """Render the paths from the roots, the most bytes first."""
    title(
        console,
        f"{format_count(why.count, 'block')}, {format_bytes(why.size)}: {clean(why.question)}",
        "shortest paths from a root",
    )
    for each in why.paths:
        write(
            console,
            drawing.hanging(
                Text(f"{format_bytes(each.size):>9}  {each.count:>9,}  ", "cyan"),
                Text(clean(PATH_MARK.join(each.names))),
                22,
                console,
            ),
        )
    if why.sampled < why.count - why.lost:
        note(
            console,
            f"estimated from the paths of {why.sampled:,} of {why.count - why.lost:,} blocks",
        )
    rest = why.count - why.lost - sum(each.count for each in why.paths)
    if rest > 0:
        note(console, f"{rest:,} blocks are held in other ways; list more with --top")
    if why.lost:
        note(console, f"nothing holds {why.lost:,} of them: see --unreachable")


def render_lost(lost: Lost, *, top: int, console: Console) -> None:
    """Render the lost blocks by type."""
    if not lost.direct:
        title(console, "nothing is lost", "each live block is reachable from a root")
    else:
        title(
            console,
            f"lost {format_bytes(lost.direct_size + lost.indirect_size)}",
            f"{format_count(lost.direct, 'block')} directly, {lost.indirect:,} by way of these",
        )
        show(
            console,
            (">count", ">bytes", ">indirect", ">bytes", "=first at", "~lost"),
            [
                [
                    f"{each.count:,}",
                    amount(each.size),
                    f"{each.indirect_count:,}" if each.indirect_count else "-",
                    amount(each.indirect_size),
                    f"{each.addresses[0]:#x}" if each.addresses else "",
                    clean(each.name) + _lost_remark(each) + clean(_allocated(each)),
                ]
                for each in lost.rows[:top]
            ],
        )
    if lost.weak:
        note(
            console,
            f"{lost.weak:,} more blocks ({format_bytes(lost.weak_size)}) hang on other memory only, which "
            "leak checkers do not look at: a mapping of the program's own, or shared memory",
        )
    for text in lost.findings[:5]:
        note(console, clean(text))
    note(console, "pointers that only the kernel holds (io_uring, epoll, timers) are not seen")


def _allocated(row: LostRow) -> str:
    return f"  allocated by {row.allocated}" if row.allocated else ""


def _lost_remark(row: LostRow) -> str:
    if row.forgotten:
        return (
            f"  {row.forgotten:,} count more references than were found: a forgotten Py_DECREF()?"
        )
    if row.collectable:
        return "  (a cycle for Python's collector)"
    return "  (cycle)" if row.cycle else ""


def render_waste(waste: Waste, *, top: int, console: Console) -> None:
    """Render what could be saved, by kind."""
    total = sum(waste.totals.values())
    title(
        console,
        f"{format_bytes(total)} could be saved",
        f"of {format_bytes(waste.size)} in live blocks",
    )
    for kind, heading in _WASTES.items():
        rows = [each for each in waste.rows if each.kind == kind]
        if not rows:
            continue
        title(console, heading, format_bytes(waste.totals[kind]))
        show(
            console,
            (">bytes", ">count", "~type" if kind != "duplicate" else "~text"),
            [[amount(each.size), f"{each.count:,}", clean(each.name)] for each in rows[:top]],
        )
    if not total:
        note(console, "no Python objects, or none of these kinds")


_WASTES = {
    "duplicate": "strings that are there several times",
    "instance dict": "attributes in dicts, which __slots__ would save",
    "slack": "room behind the items of containers",
    "empty": "containers without items",
}


def render_difference(difference: Difference, *, top: int, console: Console) -> None:
    """Render what grew by type and by path."""
    title(
        console,
        f"{format_change(difference.size_after - difference.size_before)} in "
        f"{format_duration(max(difference.seconds, 0.0))}",
        f"{format_bytes(difference.size_before)} to {format_bytes(difference.size_after)}; "
        f"lost {format_bytes(difference.lost_before)} to {format_bytes(difference.lost_after)}",
    )
    title(console, "by path", "retained bytes")
    _changes(difference.paths[:top], "~path", console)
    if any(each.growth is None for each in difference.paths[:top]):
        note(console, "?: one of the looks does not list the path, because it retained little then")
    title(console, "by type", "bytes of blocks")
    _changes(difference.types[:top], "~type", console)


def _changes(changes: tuple[Change, ...], heading: str, console: Console) -> None:
    show(
        console,
        (">change", ">before", ">after", ">blocks", heading),
        [
            [
                "?" if each.growth is None else format_change(each.growth),
                amount(each.size_before),
                amount(each.size_after),
                "?"
                if each.count_after is None or each.count_before is None
                else f"{each.count_after - each.count_before:+,}",
                clean(each.name),
            ]
            for each in changes
        ],
    )
