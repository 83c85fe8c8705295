"""`mematlas wss` for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.present.tables import amount, line, note, share_bar, show, title
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.observe.working_set.model import WorkingSet


def render_working_set(found: WorkingSet, *, top: int, console: Console) -> None:
    """Render the size of the working set and the mappings it lies in."""
    share = found.used * 100 / found.rss if found.rss else 0.0
    title(
        console,
        f"{format_bytes(found.used)} of {format_bytes(found.rss)} used ({share:.0f} %)",
        f"in {format_duration(found.seconds)}{', estimated' if found.estimate else ''}",
    )
    line(console, "method", found.method, 8)
    line(console, "reason", found.chosen, 8)
    rows = (
        [
            amount(row.used),
            amount(row.rss),
            share_bar(row.used, row.rss, 10, console),
            row.name or "(anonymous)",
        ]
        for row in found.mappings[:top]
    )
    show(console, (">used", ">RSS", "=", "<mapping"), rows)
    for text in found.notes:
        note(console, text)
