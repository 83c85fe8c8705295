"""`mematlas migrate` for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.present.printable import clean
from mematlas.present.tables import note, show, title
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.control.migrate.model import Migration

_REASONS = {
    "moved": "the kernel moved them",
    "already there": "they were on the node before",
    "not moved": "the kernel left them where they are and gives no reason",
    "EACCES": "other processes map them, too",
    "EBUSY": "the kernel was using them; try again",
    "EFAULT": "the page of zeros that the kernel shares, or memory of a device: there is nothing to move",
    "EIO": "they are being written to disk, or cannot be moved",
    "ENOENT": "they were freed or swapped out meanwhile",
    "ENOMEM": "the node has no free memory",
    "EINVAL": "pages of this kind cannot be moved",
}


def render_migration(found: Migration, *, console: Console) -> None:
    """Render resident memory by node before and after, and the outcome of the pages."""
    title(console, f"{clean(found.name)} ({found.pid}) to node {found.to}", _aside(found))
    after = found.after
    nodes = sorted({found.to, *found.before, *(after or {})})
    rows = [
        [
            f"node {node}",
            format_bytes(found.before.get(node, 0)),
            *([] if after is None else [format_bytes(after.get(node, 0))]),
        ]
        for node in nodes
    ]
    show(console, ("=resident", ">before", *([] if after is None else [">after"])), rows)
    if found.outcomes:
        _render_outcomes(found, console)
    elsewhere = sum(size for node, size in found.before.items() if node != found.to)
    if found.room is not None and elsewhere > found.room:
        note(
            console,
            f"node {found.to} could take {format_bytes(found.room)} of the {format_bytes(elsewhere)} that are on "
            "other nodes: free memory and swap, and page cache",
        )
    if after is None:
        note(console, "nothing was moved: this was a dry run")
        return
    if found.outcomes.get("EACCES") and not found.shared:
        note(console, "--shared moves pages that other processes map, with CAP_SYS_NICE")
    note(
        console,
        "what the process allocates from now on is placed by its own policy; `mematlas exec --membind` or "
        "a cpuset sets one",
    )


def _aside(found: Migration) -> str:
    if found.after is None:
        return ""
    moved = format_bytes(found.outcomes.get("moved", 0))
    left = f", {format_bytes(found.left)} stayed elsewhere" if found.left else ""
    return f"{moved} moved in {format_duration(found.seconds)}{left}"


def _render_outcomes(found: Migration, console: Console) -> None:
    console.print()
    rows = [
        [format_bytes(size), name, _REASONS.get(name, "")]
        for name, size in sorted(found.outcomes.items(), key=lambda item: -item[1])
    ]
    show(console, (">bytes", "=outcome", "<why"), rows)
