"""Reads the folder of a rolling recording as one recording."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import AccessError, MematlasError, TargetError
from mematlas.recording import reader
from mematlas.recording.join import join
from mematlas.recording.segments import SegmentFile, list_segments

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from mematlas.recording.model import RecordingData


def read(path: str | PathLike[str], at_s: float | None = None) -> RecordingData:
    """Read a recording, a file or a folder, as it was at a time in seconds since 1970; None: as it is.

    Of a folder with several runs of mematlas, the last one that had a process by then. Raises as reader.read();
    MematlasError as well, if the recording holds nothing of that time.
    """
    if not Path(path).is_dir():
        return _read_file(path, at_s)
    try:
        files = list_segments(path)
    except PermissionError:
        message = f"{path}: permission denied; run as its owner or ask for read permission"
        raise AccessError(message) from None
    begun: list[RecordingData] = []
    for run in sorted({each.run for each in files}, reverse=True):
        found = _read_run([each for each in files if each.run == run], at_s)
        if any(each.processes for each in found):
            return join(found)
        begun = begun or found
    if begun:
        return join(begun)
    if not files:
        message = f"{path}: is a directory without a recording; name a file, or what `mematlas run --keep 24h` wrote"
        raise TargetError(message)
    if at_s is None:
        message = f"{path}: the recording ends before its first chunk; nothing can be read"
        raise MematlasError(message)
    begin = _begin_of(path)
    message = f"{path}: nothing is kept of {_format(at_s)}; the oldest is of {_format(begin)}"
    raise TargetError(message)


def _format(time_s: float) -> str:
    return datetime.fromtimestamp(time_s).astimezone().isoformat(sep=" ", timespec="seconds")


def _begin_of(path: str | PathLike[str]) -> float:
    """Return the begin of the oldest segment, in seconds since 1970."""
    for each in list_segments(path):
        with suppress(MematlasError, OSError):
            data = reader.read(each.path, until_s=-math.inf)
            return started_s(data) + (data.segment.start_s if data.segment else 0.0)
    return 0.0


def started_s(recording: RecordingData) -> float:
    """Return the start of the run in seconds since 1970. Raises MematlasError if it is not known."""
    try:
        return datetime.fromisoformat(recording.started).timestamp()
    except ValueError:
        message = "the recording does not tell when it began"
        raise MematlasError(message) from None


def _read_file(path: str | PathLike[str], at_s: float | None) -> RecordingData:
    if at_s is None:
        return reader.read(path)
    begin_s = started_s(reader.read(path, until_s=-math.inf))
    if at_s < begin_s:
        message = f"{path} begins at {_format(begin_s)}"
        raise TargetError(message)
    return reader.read(path, until_s=at_s - begin_s)


def _read_run(files: Sequence[SegmentFile], at_s: float | None) -> list[RecordingData]:
    """Read the segments of one run. A file that goes meanwhile was the oldest, or is joined: skip it."""
    found: list[RecordingData] = []
    until_s = math.inf
    for each in files:
        try:
            if at_s is not None and until_s == math.inf:
                until_s = at_s - started_s(reader.read(each.path, until_s=-math.inf))
            data = reader.read(each.path, until_s=until_s)
        except TargetError:
            continue
        except MematlasError:  # a file that was begun as mematlas was killed has no header yet
            if each is files[-1]:
                continue
            raise
        if data.segment and data.segment.start_s > until_s:
            break
        found.append(data)
    if found and until_s < math.inf:
        found[-1].complete = True  # up to then
    return found
