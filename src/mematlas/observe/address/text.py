"""`mematlas where` for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.observe.page_states.text import HIDDEN
from mematlas.present.printable import clean
from mematlas.present.tables import line

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.linux.pageflags import PageLocation


def render_location(location: PageLocation, *, console: Console) -> None:
    """Render the mapping, symbol, page and frame of one address."""
    mapping = f"{location.start:x}-{location.end:x} {location.permissions}  {location.name or '(anonymous)'}"
    line(console, "address", f"{location.address:#x} of process {location.pid}")
    line(console, "mapping", mapping)
    if location.file_offset is not None:
        line(console, "offset", f"{location.file_offset:#x} in the file")
    if location.symbol:
        source = f"  {clean(location.source)}" if location.source else ""
        line(console, "symbol", f"{clean(location.symbol)}{source}")
    times = "once" if location.mapcount == 1 else f"{location.mapcount} times"
    count = "" if location.mapcount is None else f", mapped {times}"
    line(console, "page", f"{location.state}{count}")
    if location.flags:
        line(console, "flags", " ".join(location.flags))
    if location.frame is not None:
        line(console, "frame", f"{location.frame:#x}, physical address {location.physical:#x}")
    elif location.hidden:
        line(console, "frame", HIDDEN)
    if location.node is not None:
        line(console, "node", str(location.node))
    if location.cgroup:
        line(console, "charged to", clean(location.cgroup))
