"""Terminal view of page faults: the lines that took them and the owners of the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present.printable import clean
from mematlas.report import quantities
from mematlas.report.analyse.fault_lines import fault_lines
from mematlas.report.analyse.short_paths import short_path
from mematlas.report.text.page import title
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.recording.model import Frame
    from mematlas.report.analyse.fault_lines import FaultLine
    from mematlas.report.model.report import PageFaults
    from mematlas.report.text.page import FramePrinter

_NUMBER = 10
_INDENT = 2 + _NUMBER + 2
_SHOWN_OWNERS = 2


def page_faults(found: PageFaults | None, frames: FramePrinter, top: int) -> Text:
    """Render the section; empty if page faults were not sampled or none was taken."""
    if found is None:
        return Text()
    if not found.sites:
        why = "; ".join(found.refused)
        return title("Page faults", f"unknown: {clean(why)}") if why else Text()
    text = title("Page faults", quantities.page_faults(found))
    ranked = fault_lines(found.sites)
    for line in ranked[:top]:
        text.append("\n").append_text(_draw(line, frames))
    if len(ranked) > top:
        rest = sum(line.bytes for line in ranked[top:])
        more = quantities.count(len(ranked) - top, "more line")
        text.append(f"\n  {format_bytes(rest).rjust(_NUMBER)}  in {more} (--top N)", "dim")
    for why in found.refused:
        text.append(f"\n  not in all processes: {clean(why)}", "yellow")
    return text


def _whose(owner: Frame | str, faulting: Frame | None, frames: FramePrinter) -> str:
    if isinstance(owner, str):
        return f"in {frames.limited(short_path(clean(owner), frames.directory), 80)}"
    return "in memory it allocated" if owner == faulting else f"in memory of {frames.short(owner)}"


def _draw(line: FaultLine, frames: FramePrinter) -> Text:
    size = format_bytes(line.bytes) if line.bytes else "-"
    first = Text("  ").append(size.rjust(_NUMBER), "bold").append("  ")
    text = frames.hanging(first, frames.located(line.frame), _INDENT)
    owners = line.ranked_owners()
    phrase = quantities.count(line.faults, "fault")
    if line.major_faults:
        phrase += f", {line.major_faults:,} major"
    for owner, size_bytes, faults in owners[:_SHOWN_OWNERS]:
        share = f": {format_bytes(size_bytes) if size_bytes else quantities.count(faults, 'fault')}"
        name = _whose(owner, line.frame, frames)
        phrase += f" · {name}{share if len(owners) > 1 else ''}"
    if len(owners) > _SHOWN_OWNERS:
        phrase += f" · {quantities.count(len(owners) - _SHOWN_OWNERS, 'more owner')}"
    return text.append("\n").append_text(
        frames.hanging(Text(" " * _INDENT), Text(phrase, "dim"), _INDENT)
    )
