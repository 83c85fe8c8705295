"""Terminal view of page faults: the lines that took them and the owners of the memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present.printable import clean, shorten
from mematlas.report import quantities
from mematlas.report.analyse.lines import owning_frame
from mematlas.report.analyse.short_paths import short_path
from mematlas.report.text.page import title
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.recording.model import Frame
    from mematlas.report.model.report import PageFaults, StackFaults
    from mematlas.report.text.page import FramePrinter

_NUMBER = 10
_INDENT = 2 + _NUMBER + 2
_SHOWN_OWNERS = 2


@dataclass(slots=True)
class _Line:
    """Page faults of one line, by owner of the memory."""

    frame: Frame | None
    bytes: int = 0
    faults: int = 0
    major_faults: int = 0
    owners: dict[str, list[int]] = field(default_factory=dict)  # bytes and faults


def page_faults(found: PageFaults | None, frames: FramePrinter, top: int) -> Text:
    """Render the section; empty if page faults were not sampled or none was taken."""
    if found is None:
        return Text()
    if not found.sites:
        why = "; ".join(found.refused)
        return title("Page faults", f"unknown: {clean(why)}") if why else Text()
    text = title("Page faults", _summary(found))
    ranked = _lines(found.sites, frames)
    for line in ranked[:top]:
        text.append("\n").append_text(_draw(line, frames))
    if len(ranked) > top:
        rest = sum(line.bytes for line in ranked[top:])
        more = quantities.count(len(ranked) - top, "more line")
        text.append(f"\n  {format_bytes(rest).rjust(_NUMBER)}  in {more} (--top N)", "dim")
    for why in found.refused:
        text.append(f"\n  not in all processes: {clean(why)}", "yellow")
    return text


def _summary(found: PageFaults) -> str:
    error = f" ± {format_bytes(found.error_bytes)}" if found.error_bytes else ""
    phrase = f"{format_bytes(found.bytes)}{error} made resident by {found.faults:,} page faults"
    if found.major_faults:
        phrase += f", {found.major_faults:,} major"
    if found.period > 1:
        phrase += f" (1 in {found.period} sampled)"
    return phrase + (f"; {found.lost:,} samples lost" if found.lost else "")


def _lines(sites: tuple[StackFaults, ...], frames: FramePrinter) -> list[_Line]:
    found: dict[Frame | None, _Line] = {}
    for site in sites:
        frame = owning_frame(site.frames)
        line = found.setdefault(frame, _Line(frame))
        line.bytes += site.bytes
        line.faults += site.faults
        line.major_faults += site.major_faults
        sums = line.owners.setdefault(_whose(site, frame, frames), [0, 0])
        sums[0] += site.bytes
        sums[1] += site.faults
    return sorted(found.values(), key=lambda line: (-line.bytes, -line.faults))


def _whose(site: StackFaults, faulting: Frame | None, frames: FramePrinter) -> str:
    if site.owner is None:
        return f"in {shorten(short_path(clean(site.memory), frames.directory), 80)}"
    frame = owning_frame(site.owner)
    if frame is None:
        return f"in memory ({site.memory}) of an unknown stack"
    return "in memory it allocated" if frame == faulting else f"in memory of {frames.short(frame)}"


def _draw(line: _Line, frames: FramePrinter) -> Text:
    size = format_bytes(line.bytes) if line.bytes else "-"
    first = Text("  ").append(size.rjust(_NUMBER), "bold").append("  ")
    text = frames.hanging(first, frames.located(line.frame), _INDENT)
    owners = sorted(line.owners.items(), key=lambda item: [-sums for sums in item[1]])
    phrase = quantities.count(line.faults, "fault")
    if line.major_faults:
        phrase += f", {line.major_faults:,} major"
    for name, (size_bytes, faults) in owners[:_SHOWN_OWNERS]:
        share = f": {format_bytes(size_bytes) if size_bytes else quantities.count(faults, 'fault')}"
        phrase += f" · {name}{share if len(owners) > 1 else ''}"
    if len(owners) > _SHOWN_OWNERS:
        phrase += f" · {quantities.count(len(owners) - _SHOWN_OWNERS, 'more owner')}"
    return text.append("\n").append_text(
        frames.hanging(Text(" " * _INDENT), Text(phrase, "dim"), _INDENT)
    )
