"""`mematlas ps` for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.linux.users import user_name
from mematlas.observe.processes.analyse import sum_processes
from mematlas.present import drawing
from mematlas.present.printable import clean
from mematlas.present.tables import amount, fit, note, show, title

_HELD = 1 << 20  # bytes held by descriptors, below which no note is made
_SHOWN_HOLDERS = 5
DENIED = "run as root (CAP_SYS_PTRACE); a few processes deny access even to root"

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mematlas.linux.processes import ProcessGroup, ProcessRow, ProcessTable


def render_processes(
    table: ProcessTable, rows: Sequence[tuple[int, ProcessRow]], *, console: Console
) -> None:
    """Render rows of (depth in the tree, process), then the sums over all processes."""
    wide = drawing.is_wide(console, 100)
    cells = []
    for depth, row in rows:
        columns = [str(row.pid), fit(user_name(row.uid), 8, console)]
        columns += [amount(value) for value in (row.pss, row.uss, row.rss, row.swap)]
        if wide:
            columns += [amount(row.thp), f"{row.minor_faults + row.major_faults:,}"]
        cells.append([*columns, "  " * depth + clean(row.command)])
    more = (">THP", ">faults") if wide else ()
    headings = (">PID", "=user", ">PSS", ">USS", ">RSS", ">swap", *more, "~command")
    show(console, headings, cells)
    _sum(table, len(rows), console)


def _sum(table: ProcessTable, shown: int, console: Console) -> None:
    total = sum_processes("all", table.processes)
    title(
        console,
        f"{amount(total.pss)} PSS in {total.processes - total.unknown} processes",
        f"{amount(total.uss)} USS, {amount(total.swap)} swapped; {shown} shown",
    )
    if table.denied:
        note(console, f"{_processes(table.denied)} denied access to PSS, USS and swap: {DENIED}")
    if table.exited:
        note(console, f"{_processes(table.exited)} ended during the read")
    holding = sorted(
        (row for row in table.processes if (row.held or 0) >= _HELD),
        key=lambda row: -(row.held or 0),
    )
    for row in holding[:_SHOWN_HOLDERS]:
        text = f"{row.pid} ({clean(row.name)}) holds {amount(row.held)} of memory by descriptors, not mapped"
        note(console, f"{text}: `mematlas show {row.pid}`")
    for row in table.processes:
        if row.same_mm_as is not None:
            text = (
                f"{row.pid} shares the address space of {row.same_mm_as} (CLONE_VM): counted once"
            )
            note(console, text)


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def render_groups(groups: Sequence[ProcessGroup], by: str, *, console: Console) -> None:
    """Render one line per user or cgroup."""
    rows = (
        [
            str(group.processes),
            *[amount(value) for value in (group.pss, group.uss, group.rss, group.swap)],
            str(group.unknown or "-"),
            group.name,
        ]
        for group in groups
    )
    show(console, (">processes", ">PSS", ">USS", ">RSS", ">swap", ">unknown", f"<{by}"), rows)
