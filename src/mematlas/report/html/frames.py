"""Frames and stacks as HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.present.html.markup import safe
from mematlas.present.printable import shorten
from mematlas.report import frame_names
from mematlas.report.analyse.lines import RUNTIME, owner, tier

if TYPE_CHECKING:
    from mematlas.recording.model import Frame


def located(frame: Frame | None, directory: str) -> str:
    """Return a function and its location; paths are relative to `directory`."""
    if frame is None:
        return "<i>unknown stack</i>"
    where = shorten(frame_names.location(frame, directory), 120)
    return (
        f"<b>{safe(shorten(frame_names.function_name(frame), 160))}</b> "
        f'<span class="path">{safe(where)}</span>'
    )


def stack(frames: tuple[Frame, ...], directory: str, *, code: bool = False) -> str:
    """List the frames of a stack below its owner; with `code`, without runtime frames."""
    if not frames:
        return "<i>unknown stack</i>"
    index = owner(frames) or 0
    shown = [frame for frame in frames if not code or tier(frame) != RUNTIME] or [*frames]
    rows = "".join(f"<li>{located(frame, directory)}</li>" for frame in shown[:100])
    return (
        f"<details><summary>{located(frames[index], directory)}</summary><ol>{rows}</ol></details>"
    )
