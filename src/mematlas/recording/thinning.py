"""Thins a rolling recording: `python -m mematlas.recording.thinning FOLDER SECONDS BYTES RUN NUMBER`.

A process of its own, so that the recorder stays small. The recording keeps SECONDS and takes BYTES. Segments below NUMBER have ended. Each first gets the names
of its functions and lines, since files may be replaced later. Then those of one stretch of time are joined
to one file, with less detail the older they are. A file is complete before the files that it replaces go.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.columns.distinct import distinct
from mematlas.errors import AccessError, MematlasError, UnsupportedError
from mematlas.recording import reader
from mematlas.recording.frames import Resolver, used_words
from mematlas.recording.join import join
from mematlas.recording.join_results import coarser
from mematlas.recording.merge import write_joined
from mematlas.recording.model import Segment
from mematlas.recording.prune import prune
from mematlas.recording.segments import LOOK, SegmentFile, list_segments, pending_path, segment_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mematlas.recording.model import RecordingData, Rows, Snapshot

_MOST_JOINED = 24  # files at once,
_MOST_AT_ONCE = 1 << 18  # stacks in them, if there are several: about 250 MB
_MOST_RECENT = 100_000  # stacks of a process in a file that was joined,
_MOST_STACKS = 20_000  # and in one with less detail
_FILES = 12  # at least, in a folder that is full
_REGULAR = ("interval", "peak")


@dataclass(frozen=True, slots=True)
class Stretch:
    """How what is older than `age_s` is kept: joined to files of `file_s`, details `detail_s` apart."""

    age_s: float
    file_s: float
    detail_s: float


STRETCHES = (
    Stretch(age_s=24 * 3600.0, file_s=24 * 3600.0, detail_s=3600.0),
    Stretch(age_s=3600.0, file_s=3600.0, detail_s=60.0),
    Stretch(age_s=0.0, file_s=600.0, detail_s=0.0),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a rolling recording holds. A file has a small part of that, since the oldest file goes as a whole."""

    keep_s: float
    disk_bytes: int

    def file_s(self, stretch: Stretch) -> float:
        """Return the time that a file of a stretch holds."""
        return min(stretch.file_s, max(self.keep_s / _FILES, 1.0))

    @property
    def file_bytes(self) -> int:
        """Bytes of files that are joined to one."""
        return self.disk_bytes // _FILES


def thin_folder(folder: Path, run: int, number: int, limits: Limits) -> None:
    """Name and thin all segments of a run below a number, and the looks that are kept."""
    resolver = Resolver()
    for path in sorted(folder.glob(f"{LOOK}*.atlas")):
        _name_file(path, resolver)
    for group in _groups(folder, run, number, limits):
        with suppress(OSError):  # such as a full disk: the next pass tries again
            if len(group.files) > 1 or group.stretch.detail_s:
                _join_files(folder, group, resolver)
            else:
                _name_file(group.files[0].path, resolver)


@dataclass(frozen=True, slots=True)
class _Group:
    stretch: Stretch
    files: list[SegmentFile]


def _groups(folder: Path, run: int, number: int, limits: Limits) -> Iterator[_Group]:
    """Yield the files that belong into one. A file of another run is of one that has ended."""
    now = time.time()
    files = [each for each in list_segments(folder) if each.run < run or each.last < number]
    group: list[SegmentFile] = []
    size = 0
    key: tuple[object, ...] = ()
    stretch = STRETCHES[-1]
    for each in files:
        try:
            status = each.path.stat()
        except OSError:
            continue
        age_s = max(0.0, now - status.st_mtime)  # a clock may have been set back
        found = next(known for known in STRETCHES if age_s >= known.age_s)
        its = (each.run, found, status.st_mtime // limits.file_s(found))
        size += status.st_size
        if group and (its != key or len(group) >= _MOST_JOINED or size > limits.file_bytes):
            yield _Group(stretch, group)
            group, size = [], status.st_size
        group, key, stretch = [*group, each], its, found
    if group:
        yield _Group(stretch, group)


def _name_file(path: Path, resolver: Resolver) -> None:
    """Write the names of a segment into it, unless they are there."""
    with suppress(MematlasError, OSError):
        _write_names(path, reader.read(path), resolver)


def _write_names(path: Path, data: RecordingData, resolver: Resolver) -> None:
    if _needs_names(data):
        _add_names(data, resolver)
        _replace(path, data, path)


def _needs_names(data: RecordingData) -> bool:
    return any(
        len(rows) > 1
        and not set(used_words(rows)[:64].tolist()) <= data.frames.get(index, {}).keys()
        for index, rows in data.nodes.items()
    )


def _add_names(data: RecordingData, resolver: Resolver) -> None:
    for index, nodes in data.nodes.items():
        known = data.frames.setdefault(index, {})
        modules, codes = data.modules.get(index, []), data.codes.get(index, [])
        known.update(resolver.resolve(used_words(nodes), modules, codes, known))


def _join_files(folder: Path, group: _Group, resolver: Resolver) -> None:
    for files, read in _portions(group.files):
        _join_portion(folder, files, read, group.stretch.detail_s, resolver)


def _portions(
    files: Sequence[SegmentFile],
) -> Iterator[tuple[list[SegmentFile], list[RecordingData]]]:
    """Yield files with what they hold: one, or several with as many stacks together as memory is meant for.

    What is joined has fewer stacks, so that the next pass joins the portions. A file that cannot be read stays, such as one
    of a later version. One of a mematlas that was killed at its begin holds nothing, and another may be gone meanwhile.
    """
    taken: list[SegmentFile] = []
    read: list[RecordingData] = []
    stacks = 0
    for each in files:
        try:
            data = reader.read(each.path)
        except (AccessError, UnsupportedError, OSError):
            break
        except MematlasError:
            taken.append(each)
            continue
        more = sum(len(each.rows) for each in data.totals.values())
        if read and stacks + more > _MOST_AT_ONCE:
            yield taken, read
            taken, read, stacks = [], [], 0
        taken, read, stacks = [*taken, each], [*read, data], stacks + more
    if read:
        yield taken, read


def _join_portion(
    folder: Path,
    files: Sequence[SegmentFile],
    read: Sequence[RecordingData],
    detail_s: float,
    resolver: Resolver,
) -> None:
    segment = read[0].segment
    if len(files) == 1 and segment and segment.detail_s >= detail_s:
        with suppress(MematlasError):
            _write_names(files[0].path, read[0], resolver)
        return
    for part in read:
        _add_names(part, resolver)
    data = join(read)
    first, last = files[0].first, files[-1].last
    begun = segment or Segment(first, last, 0.0)
    data.segment = replace(begun, number=first, last=last, detail_s=detail_s)
    if detail_s:
        thin(data, detail_s)
    prune(data, _MOST_STACKS if detail_s else _MOST_RECENT)
    path = segment_path(folder, files[0].run, first, last)
    _replace(path, data, files[-1].path)
    for each in files:
        if each.path != path:
            each.path.unlink(missing_ok=True)


def _replace(path: Path, data: RecordingData, dated: Path) -> None:
    """Write a recording in the place of a file, with the date of another. All or nothing."""
    pending = pending_path(path)
    try:
        date = dated.stat()
        write_joined(pending, data)
        os.utime(pending, ns=(date.st_atime_ns, date.st_mtime_ns))
        pending.replace(path)
    finally:
        pending.unlink(missing_ok=True)


def thin(data: RecordingData, detail_s: float) -> None:
    """Keep one snapshot of each process, the highest, and one point of its timeline in `detail_s`."""
    data.snapshots = [
        snapshot
        for process in data.processes
        for snapshot in _thin_snapshots(data.snapshots, process.index, detail_s)
    ]
    data.snapshots.sort(key=lambda each: each.time_s)
    kept = {(each.process, each.time_s) for each in data.snapshots}
    data.sharing = {key: each for key, each in data.sharing.items() if key in kept}
    data.fragmentation = {key: each for key, each in data.fragmentation.items() if key in kept}
    data.timeline = {index: _thin_points(rows, detail_s) for index, rows in data.timeline.items()}
    for index, matrix in data.age_matrix.items():
        shift = 0
        while matrix.cell_s and matrix.cell_s * 2 ** (shift + 1) <= detail_s:
            shift += 1
        data.age_matrix[index] = replace(
            matrix, cell_s=matrix.cell_s * 2**shift, rows=coarser(matrix.rows, shift)
        )


def _thin_snapshots(snapshots: Sequence[Snapshot], process: int, detail_s: float) -> list[Snapshot]:
    own = [each for each in snapshots if each.process == process]
    highest: dict[int, Snapshot] = {}
    for each in own:
        cell = int(each.time_s // detail_s)
        if cell not in highest or each.rss_bytes > highest[cell].rss_bytes:
            highest[cell] = each
    kept = {id(each) for each in highest.values()}
    return [
        each for each in own if id(each) in kept or each is own[-1] or each.trigger not in _REGULAR
    ]


def _thin_points(rows: Rows, detail_s: float) -> Rows:
    """Return of each cell of time the point of the highest RSS, and the last point of all."""
    if len(rows) < 2:
        return rows
    cells = rows["time_s"] // detail_s
    order = np.lexsort((np.nan_to_num(rows["rss_bytes"]), cells))
    last = np.append(np.diff(cells[order]) != 0, True)
    found: Rows = rows[distinct(np.append(order[last], len(rows) - 1))]
    return found


def main(folder: str, keep_s: str, disk_bytes: str, run: str, number: str) -> int:
    """Thin the folder at the lowest priority."""
    os.nice(19)
    limits = Limits(float(keep_s), int(disk_bytes))
    thin_folder(Path(folder), int(run), int(number), limits)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
