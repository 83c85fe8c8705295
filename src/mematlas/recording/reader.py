"""Reader of .atlas files. A cut or damaged file is read up to its last complete chunk."""

from __future__ import annotations

import math
import os
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mematlas.errors import AccessError, MematlasError, TargetError, UnsupportedError
from mematlas.linux.regular_file import open_regular
from mematlas.recording import format as atlas
from mematlas.recording import model, row_types
from mematlas.recording.columns import ChunkData
from mematlas.recording.decode import DECODERS, age_matrix_of, read_changes, stack_count
from mematlas.recording.lazy_rows import LazyRows
from mematlas.recording.partial import (
    MOST_SNAPSHOTS,
    KeptSnapshots,
    PackedSnapshot,
    PartialRecording,
)
from mematlas.recording.stored import Descriptor, FileSlice
from mematlas.recording.validate import (
    amount_of,
    number_of,
    optional,
    stack_rows,
    text_of,
    variance_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from os import PathLike
    from typing import BinaryIO

    import numpy as np

    from mematlas.recording.model import Rows

_LARGE = 1 << 20  # bytes; larger packed payloads stay in the file
_REPLACING = (
    atlas.TOTALS,
    atlas.FAULT_SITES,
    atlas.LIFETIMES,
    atlas.AGE_MATRIX,
    atlas.IDLE,
)  # chunk types of which the last one per process holds
_TOTALS = (atlas.TOTALS, atlas.CHANGED_TOTALS)
_AFTER_TOTALS = (atlas.LIFETIMES, atlas.FAULT_SITES, atlas.BAD_FREES)
_TIMELESS = (
    *(atlas.HEADER, atlas.PROCESS, atlas.NODES, atlas.MODULES, atlas.CODES, atlas.TIMELINE),
    *(atlas.FRAMES, atlas.NOTES, atlas.END),
)


def is_recording(path: str | PathLike[str]) -> bool:
    """Return whether a file begins as a recording; False if it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(len(atlas.MAGIC)) == atlas.MAGIC
    except OSError:
        return False


def has_end(path: Path) -> bool:
    """Return whether the last chunk of a file is its end. OSError as of reading it."""
    end = atlas.pack_chunk(atlas.END, {})
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(end)))
        return file.read() == end


def read(path: str | PathLike[str], *, until_s: float = math.inf) -> model.RecordingData:
    """Read a recording up to a time; `complete` is False if the file ends early or is damaged.

    Raises TargetError, AccessError or UnsupportedError if the file cannot be opened or has another
    version, MematlasError if nothing in it can be read.
    """
    try:
        file = Path(path).open("rb")
    except (FileNotFoundError, NotADirectoryError):
        message = f"{path}: no such file"
        raise TargetError(message) from None
    except IsADirectoryError:
        message = f"{path}: is a directory without a recording; name a recording in it"
        raise TargetError(message) from None
    except PermissionError:
        message = f"{path}: permission denied; run as its owner or ask for read permission"
        raise AccessError(message) from None
    with file:
        if not file.seekable():
            message = f"{path}: is a pipe; save it to a file first"
            raise TargetError(message)
        _check_start(path, file)
        pieces = PartialRecording()
        try:
            _read_chunks(pieces, _until(file, until_s))
        except atlas.MALFORMED:
            pieces.complete = False
        _read_replaceable(pieces)
        _read_snapshots(pieces)
        _read_fragmentation(pieces)
        _read_sharing(pieces)
    if pieces.header is None:
        message = f"{path}: the recording ends before its first chunk; nothing can be read"
        raise MematlasError(message)
    found = pieces.finish(pieces.header)
    if until_s < math.inf:
        cut_at(found, until_s)
    return found


def _until(file: BinaryIO, until_s: float) -> Iterator[tuple[bytes, int, atlas.Payload]]:
    """Yield the chunks of before a time. What has no time belongs to the totals before it."""
    passed: set[int] = set()  # processes whose totals are of later
    for kind, flags, payload in _chunks(file):
        if until_s < math.inf and kind not in _TIMELESS:
            metadata = atlas.unpack_metadata(flags, payload)
            time_s, process = metadata.get("time_s", 0.0), int(metadata["process"])
            if kind in _TOTALS and time_s > until_s:
                passed.add(process)
            if time_s > until_s or (kind in _AFTER_TOTALS and process in passed):
                continue
        yield kind, flags, payload


def cut_at(recording: model.RecordingData, until_s: float) -> None:
    """Remove what is told of processes after a time."""
    recording.processes = [
        replace(each, end_s=None, ending="running", cause="")
        if each.end_s is not None and each.end_s > until_s
        else each
        for each in recording.processes
        if each.start_s <= until_s
    ]
    recording.timeline = {
        index: rows[rows["time_s"] <= until_s] for index, rows in recording.timeline.items()
    }


def _read_chunks(
    pieces: PartialRecording, chunks: Iterator[tuple[bytes, int, atlas.Payload]]
) -> None:
    """Decode chunks that accumulate. Keep chunks packed that a later one may replace or few views read."""
    for kind, flags, payload in chunks:
        decode = DECODERS.get(kind)
        if kind == atlas.SNAPSHOT:
            _keep_snapshot(pieces, flags, payload)
        elif kind in {atlas.FRAGMENTATION, atlas.SHARING}:
            metadata = atlas.unpack_metadata(flags, payload)
            key = int(metadata["process"]), number_of(metadata["time_s"])
            found = _of_snapshots(pieces, kind)
            found[key] = (flags, payload)
            if len(found) > 4 * MOST_SNAPSHOTS * len(pieces.snapshots_kept):
                _thin_out(pieces, found)
        elif kind in {*_REPLACING, atlas.CHANGED_TOTALS}:
            _keep_sums(pieces, kind, flags, payload)
        elif decode:
            metadata, data = _unpack(flags, payload)
            pieces.packed += len(payload)
            pieces.inflated += data.unpacked
            if pieces.inflated > 4 * atlas.inflate_limit(pieces.packed):
                message = "the chunks inflate beyond the limit"
                raise ValueError(message)
            decode(pieces, metadata, data)


def _keep_sums(pieces: PartialRecording, kind: bytes, flags: int, payload: atlas.Payload) -> None:
    """Keep a chunk that replaces the one before, or changes to totals."""
    process = int(atlas.unpack_metadata(flags, payload)["process"])
    if kind == atlas.CHANGED_TOTALS:
        pieces.changes.setdefault(process, []).append((flags, payload))
        return
    pieces.latest[kind, process] = (flags, payload)
    if kind == atlas.TOTALS:
        pieces.changes.pop(process, None)


def _check_start(path: str | PathLike[str], file: BinaryIO) -> None:
    start = file.read(atlas.START.size)
    if len(start) < atlas.START.size or not start.startswith(atlas.MAGIC):
        message = f"{path}: not a mematlas recording; `mematlas run -o FILE.atlas` makes one"
        raise MematlasError(message)
    _, version, _ = atlas.START.unpack(start)
    if not atlas.OLDEST <= version <= atlas.VERSION:
        message = (
            f"{path}: format version {version}; this mematlas reads up to version "
            f"{atlas.VERSION}; use a newer mematlas"
        )
        raise UnsupportedError(message)


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, atlas.Payload]]:
    """Yield complete chunks, up to the first that is cut or fails its CRC check."""
    own = Descriptor(file.fileno())
    while len(head := file.read(atlas.CHUNK_HEAD)) == atlas.CHUNK_HEAD:
        kind, flags, length = atlas.HEAD.unpack_from(head)
        (check,) = atlas.CHECK.unpack_from(head, atlas.HEAD.size)
        if length > _bytes_left(file):
            return
        payload: atlas.Payload
        if flags == atlas.PACKED and length >= _LARGE:
            payload = FileSlice(own, file.tell(), length)
            found = zlib.crc32(head[: atlas.HEAD.size])
            for start in range(0, length, _LARGE):
                found = zlib.crc32(file.read(min(_LARGE, length - start)), found)
        else:
            payload = file.read(length)
            found = zlib.crc32(payload, zlib.crc32(head[: atlas.HEAD.size]))
        if found != check:
            return
        yield atlas.RENAMED_TYPES.get(kind, kind), flags, payload


def _bytes_left(file: BinaryIO) -> int:
    here = file.tell()
    end = file.seek(0, 2)
    file.seek(here)
    return end - here


def _unpack(flags: int, payload: atlas.Payload) -> tuple[dict[str, Any], ChunkData]:
    metadata, rows = atlas.unpack_chunk(flags, payload)
    return metadata, ChunkData(rows)


def _keep_snapshot(pieces: PartialRecording, flags: int, payload: atlas.Payload) -> None:
    """Keep a snapshot packed. Regular snapshots of a long run are thinned out."""
    metadata = atlas.unpack_metadata(flags, payload)
    pieces.snapshots_kept.setdefault(int(metadata["process"]), KeptSnapshots()).add(
        PackedSnapshot(pieces.snapshot_count, metadata, flags, payload)
    )
    pieces.snapshot_count += 1


def _read_replaceable(pieces: PartialRecording) -> None:
    """Read the last of the chunks that replace each other. Rows that few views need stay packed."""
    for (kind, process), (flags, payload) in pieces.latest.items():
        stacks = stack_count(pieces, process)
        try:
            if kind == atlas.LIFETIMES:
                pieces.lifetimes[process] = _packed_rows(
                    flags, payload, row_types.LIFETIMES_DTYPE, stacks
                )
            elif kind == atlas.AGE_MATRIX:
                rows = _packed_rows(flags, payload, row_types.AGE_MATRIX_DTYPE, stacks)
                pieces.age_matrix[process] = age_matrix_of(
                    atlas.unpack_metadata(flags, payload), rows
                )
            else:
                DECODERS[kind](pieces, *_unpack(flags, payload))
        except atlas.MALFORMED:
            pieces.complete = False
    pieces.latest.clear()
    for process, chunks in pieces.changes.items():
        try:
            read_changes(pieces, process, (_unpack(*each) for each in chunks))
        except atlas.MALFORMED:
            pieces.complete = False
    pieces.changes.clear()


def _read_snapshots(pieces: PartialRecording) -> None:
    """Read the kept snapshots in file order, up to the first malformed one."""
    every = [packed for each in pieces.snapshots_kept.values() for _, packed in each.kept]
    pieces.snapshots_kept.clear()
    for packed in sorted(every, key=lambda packed: packed.number):
        try:
            _read_snapshot(pieces, packed)
        except atlas.MALFORMED:
            pieces.complete = False
            return


def _read_snapshot(pieces: PartialRecording, packed: PackedSnapshot) -> None:
    """Read one snapshot. Its rows are inflated at each access, which few views need."""
    metadata = packed.metadata
    process = int(metadata["process"])
    stacks = stack_count(pieces, process)
    parts = tuple(
        model.Part(model.PartKind(kind), text_of(name), amount_of(resident), amount_of(error))
        for kind, name, resident, error in metadata["parts"]
    )
    rows = _packed_rows(packed.flags, packed.payload, row_types.SNAPSHOT_DTYPE, stacks)
    snapshot = model.Snapshot(
        process=process,
        time_s=number_of(metadata["time_s"]),
        trigger=text_of(metadata["trigger"]),
        rss_bytes=amount_of(metadata["rss_bytes"]),
        parts=parts,
        unexplained_bytes=amount_of(metadata["unexplained_bytes"]),
        huge_bytes=_known_amount(metadata, "huge_bytes"),
        peak_rss_bytes=_known_amount(metadata, "peak_rss_bytes"),
        page_table_bytes=_known_amount(metadata, "page_table_bytes"),
        rows=rows,
        touched=_touched(metadata.get("touched", ()), stacks),
        moment_s=optional(number_of, metadata.get("moment_s")),
    )
    pieces.snapshots.append(snapshot)


def _known_amount(metadata: Mapping[str, Any], name: str) -> int | None:
    return amount_of(metadata[name]) if name in metadata else None


def _touched(rows: Iterable[Any], stacks: int) -> tuple[model.Touched, ...]:
    found = []
    for row in rows:
        stack, owner, kind = map(amount_of, row[:3])
        size, variance = number_of(row[3]), variance_of(row[4])
        if not (0 <= stack < stacks and 0 <= owner < stacks):
            message = "a touch refers to an unknown stack"
            raise ValueError(message)
        if (kind and kind not in model.KIND_BY_NUMBER) or size < 0:
            message = "a touch has a value out of range"
            raise ValueError(message)
        found.append(model.Touched(stack, owner, kind, size, variance))
    return tuple(found)


def _packed_rows(flags: int, payload: atlas.Payload, dtype: np.dtype[np.void], stacks: int) -> Rows:
    """Return rows that are inflated at each access."""
    return cast("Rows", LazyRows(dtype, partial(_unpack_rows, flags, payload, dtype, stacks)))


def _unpack_rows(flags: int, payload: atlas.Payload, dtype: np.dtype[np.void], stacks: int) -> Rows:
    try:
        _, data = _unpack(flags, payload)
        return stack_rows(stacks, data.rows(dtype))
    except atlas.MALFORMED as error:
        message = f"a part of the recording is malformed ({error}); record the program again"
        raise MematlasError(message) from None


def _of_snapshots(
    pieces: PartialRecording, kind: bytes
) -> dict[tuple[int, float], tuple[int, atlas.Payload]]:
    """Return the chunks of one type that belong to a snapshot each."""
    return pieces.packed_sharing if kind == atlas.SHARING else pieces.packed_fragmentation


def _thin_out(
    pieces: PartialRecording, found: dict[tuple[int, float], tuple[int, atlas.Payload]]
) -> None:
    """Drop chunks whose snapshot was dropped."""
    times = {
        (process, number_of(packed.metadata["time_s"]))
        for process, found in pieces.snapshots_kept.items()
        for _, packed in found.kept
    }
    for key in found.keys() - times:
        del found[key]


def _read_fragmentation(pieces: PartialRecording) -> None:
    """Read the fragmentation of the kept snapshots."""
    for packed in pieces.snapshots:
        key = packed.process, packed.time_s
        if key not in pieces.packed_fragmentation:
            continue
        flags, payload = pieces.packed_fragmentation.pop(key)
        stacks = stack_count(pieces, packed.process)
        try:
            metadata = atlas.unpack_metadata(flags, payload)
            pieces.fragmentation[key] = model.Fragmentation(
                process=packed.process,
                time_s=packed.time_s,
                slack=tuple(
                    model.SlackPart(text_of(name), amount_of(free), amount_of(fragmented))
                    for name, free, fragmented in metadata["slack"]
                ),
                rows=_packed_rows(flags, payload, row_types.FRAGMENTATION_DTYPE, stacks),
            )
        except atlas.MALFORMED:
            pieces.complete = False


def _read_sharing(pieces: PartialRecording) -> None:
    """Read PSS and USS of the kept snapshots."""
    for snapshot in pieces.snapshots:
        key = snapshot.process, snapshot.time_s
        if key not in pieces.packed_sharing:
            continue
        flags, payload = pieces.packed_sharing.pop(key)
        try:
            metadata = atlas.unpack_metadata(flags, payload)
            pieces.sharing[key] = model.Sharing(
                process=snapshot.process,
                time_s=snapshot.time_s,
                pss_bytes=amount_of(metadata["pss_bytes"]),
                uss_bytes=amount_of(metadata["uss_bytes"]),
                parts=tuple(
                    model.SharedPart(
                        model.PartKind(kind), text_of(name), amount_of(shared), number_of(share)
                    )
                    for kind, name, shared, share in metadata["parts"]
                ),
                rows=_packed_rows(
                    flags, payload, row_types.SHARING_DTYPE, stack_count(pieces, snapshot.process)
                ),
            )
        except atlas.MALFORMED:
            pieces.complete = False
