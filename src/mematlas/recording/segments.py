"""The files of a rolling recording: a folder with one file for each segment of time.

`RUN-NUMBER.atlas` is a segment, `RUN-FIRST-LAST.atlas` segments that were joined. A run of mematlas that goes on
in the same folder has the next RUN. `look-TIME.atlas` is kept, whatever its age.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

LOOK = "look-"
_PENDING = re.compile(r"\.(?:\d{4,9}-\d{6,12}(?:-\d{6,12})?|look-\d+T\d+)\.atlas\.\d+")
_NAME = re.compile(r"(\d{4,9})-(\d{6,12})(?:-(\d{6,12}))?\.atlas")


@dataclass(frozen=True, slots=True, order=True)
class SegmentFile:
    """One file of a rolling recording; first <= last."""

    run: int
    first: int
    last: int
    path: Path

    @property
    def bytes(self) -> int:
        """Size; 0 if it is gone."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


def segment_path(
    folder: str | PathLike[str], run: int, first: int, last: int | None = None
) -> Path:
    """Return the path of a segment, or of segments that are joined."""
    joined = "" if last is None or last == first else f"-{last:06}"
    return Path(folder) / f"{run:04}-{first:06}{joined}.atlas"


def list_segments(folder: str | PathLike[str]) -> list[SegmentFile]:
    """Return the segments in order, without those that another file has joined. OSError as of listing a folder."""
    found = []
    for path in Path(folder).iterdir():
        if match := _NAME.fullmatch(path.name):
            run, first, last = match.groups()
            found.append(SegmentFile(int(run), int(first), int(last or first), path))
    found.sort(key=lambda each: (each.run, each.first, -each.last))
    kept: list[SegmentFile] = []
    for each in found:
        if not kept or each.run != kept[-1].run or each.last > kept[-1].last:
            kept.append(each)
    return kept


def joined_files(folder: str | PathLike[str]) -> list[Path]:
    """Return the files whose segments another file has joined: what is left of a mematlas that was killed."""
    kept = {each.path for each in list_segments(folder)}
    return [
        path for path in Path(folder).iterdir() if _NAME.fullmatch(path.name) and path not in kept
    ]


def pending_path(path: Path) -> Path:
    """Return the name of a file that this process writes to put it in the place of another."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def pending_files(folder: str | PathLike[str]) -> list[Path]:
    """Return the files that a process had not yet put in the place of others, as it was killed."""
    return [path for path in Path(folder).iterdir() if _PENDING.fullmatch(path.name)]


def newest_file(path: str | PathLike[str]) -> Path:
    """Return a path, or of a folder with segments the newest of these. OSError as of listing a folder."""
    files = list_segments(path) if Path(path).is_dir() else []
    return files[-1].path if files else Path(path)
