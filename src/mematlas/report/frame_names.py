"""Names of frames: function, location in the source, and paths relative to the program."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mematlas.present.printable import NAME, clean, shorten
from mematlas.report.analyse.lines import OWN, owner, tier
from mematlas.report.analyse.short_paths import short_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.recording.model import Frame
    from mematlas.report.analyse.lines import LineStats
    from mematlas.report.model.report import Report


def location(frame: Frame, directory: str = "") -> str:
    """Format the location of a frame: `file:line`, the file, or the module."""
    if frame.file:
        path = short_path(frame.file, directory)
        return path if frame.line is None else f"{path}:{frame.line}"
    if frame.module:
        return clean(frame.module).rsplit("/", 1)[-1]
    return "unknown location"


def function_name(frame: Frame) -> str:
    """Return the name of a function, never empty."""
    return clean(frame.function).replace(".<locals>.", ".") or "unknown function"


def owner_name(line: LineStats, directory: str = "", width: int = NAME) -> str:
    """Format the owner of a line as `function file:line`, each within `width`."""
    if line.frame is None:
        return "unknown stack"
    return named(line.frame, directory, width)


def named(frame: Frame, directory: str, width: int = NAME) -> str:
    """Format a frame as `function file:line`, each within `width`."""
    where = shorten(location(frame, directory), width)
    return f"{shorten(function_name(frame), width)} {where}"


def directory_of(report: Report, ranked: list[LineStats]) -> str:
    """Return the common directory of the program's own code; views show paths relative to it."""
    recorded = report.machine.get("directory") or report.machine.get("cwd")
    return str(recorded) if recorded else _common(line.frame for line in ranked)


def shared_directory(stacks: Iterable[tuple[Frame, ...]]) -> str:
    """Return the common directory of the owners of some stacks."""
    owners = ((frames, owner(frames)) for frames in stacks)
    return _common(frames[index] for frames, index in owners if index is not None)


def _common(frames: Iterable[Frame | None]) -> str:
    files = {
        frame.file
        for frame in frames
        if frame and frame.file and frame.file.startswith("/") and tier(frame) == OWN
    }
    common = os.path.commonpath([file.rpartition("/")[0] for file in files]) if files else ""
    return "" if common.count("/") < 2 else common
