"""Reads an .atlas file back, up to the last whole chunk of one that was cut or damaged."""

from __future__ import annotations

import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mematlas.errors import AccessError, MematlasError, TargetError, UnsupportedError
from mematlas.recording import format as atlas
from mematlas.recording import model
from mematlas.recording.columns import Data
from mematlas.recording.decode import DECODERS, ages_of, room_of
from mematlas.recording.lazy_rows import LazyRows
from mematlas.recording.partial import MOST_SNAPSHOTS, Look, Looks, Pieces
from mematlas.recording.stored import Descriptor, Stored
from mematlas.recording.validate import amount_of, number_of, stack_rows, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike
    from typing import BinaryIO

    import numpy as np

    from mematlas.recording.model import Rows

_LARGE = 1 << 20  # bytes; what is packed into more stays in the file
_REPLACING = (
    atlas.TOTALS,
    atlas.TOUCHES,
    atlas.LIVES,
    atlas.AGES,
    atlas.COLD,
)  # the last of each process holds


def read(path: str | PathLike[str]) -> model.Recording:
    """Read a recording; `complete` is False if the file ends early or is damaged further on."""
    try:
        file = Path(path).open("rb")
    except (FileNotFoundError, NotADirectoryError):
        message = f"{path}: there is no such file"
        raise TargetError(message) from None
    except IsADirectoryError:
        message = f"{path}: a folder; name a recording in it"
        raise TargetError(message) from None
    except PermissionError:
        message = f"{path}: not allowed to read it; ask its owner, or run as that user"
        raise AccessError(message) from None
    with file:
        if not file.seekable():
            message = f"{path}: a pipe, which can be read but once; save it to a file first"
            raise TargetError(message)
        _check_start(path, file)
        pieces = Pieces()
        try:
            _take_chunks(pieces, file)
        except atlas.MALFORMED:
            pieces.complete = False
        _read_latest(pieces)
        _read_snapshots(pieces)
        _read_pins(pieces)
    if pieces.header is None:
        message = f"{path}: the recording was cut before its first chunk; nothing can be read"
        raise MematlasError(message)
    return pieces.whole(pieces.header)


def _take_chunks(pieces: Pieces, file: BinaryIO) -> None:
    """Decode what adds up; put by what a later chunk may replace, or nobody may look at."""
    for kind, flags, payload in _chunks(file):
        decode = DECODERS.get(kind)
        if kind == atlas.SNAPSHOT:
            _put_by(pieces, flags, payload)
        elif kind == atlas.PINS:
            facts = atlas.unpack_facts(flags, payload)
            key = int(facts["process"]), number_of(facts["time_s"])
            pieces.packed_pins[key] = (flags, payload)
            if len(pieces.packed_pins) > 4 * MOST_SNAPSHOTS:
                _thin_pins(pieces)
        elif kind in _REPLACING:
            facts = atlas.unpack_facts(flags, payload)
            pieces.latest[kind, int(facts["process"])] = (flags, payload)
        elif decode:
            facts, data = _unpack(flags, payload)
            pieces.packed += len(payload)
            pieces.inflated += data.unpacked
            if pieces.inflated > 4 * atlas.most_inflated(pieces.packed):
                message = "its chunks inflate to more than any recording holds"
                raise ValueError(message)
            decode(pieces, facts, data)


def _check_start(path: str | PathLike[str], file: BinaryIO) -> None:
    start = file.read(atlas.START.size)
    if len(start) < atlas.START.size or not start.startswith(atlas.MAGIC):
        message = f"{path}: not a mematlas recording; `mematlas run -o FILE.atlas` makes one"
        raise MematlasError(message)
    _, version, _ = atlas.START.unpack(start)
    if not atlas.OLDEST <= version <= atlas.VERSION:
        message = (
            f"{path}: a recording of format {version}, and this mematlas reads format "
            f"{atlas.VERSION}; use the mematlas that made it, or a newer one"
        )
        raise UnsupportedError(message)


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, atlas.Payload]]:
    """Give whole chunks; the first that is cut or fails its check ends them."""
    own = Descriptor(file.fileno())
    while len(head := file.read(atlas.CHUNK_HEAD)) == atlas.CHUNK_HEAD:
        kind, flags, length = atlas.HEAD.unpack_from(head)
        (check,) = atlas.CHECK.unpack_from(head, atlas.HEAD.size)
        if length > _bytes_left(file):
            return
        payload: atlas.Payload
        if flags == atlas.PACKED and length >= _LARGE:
            payload = Stored(own, file.tell(), length)
            found = zlib.crc32(head[: atlas.HEAD.size])
            for start in range(0, length, _LARGE):
                found = zlib.crc32(file.read(min(_LARGE, length - start)), found)
        else:
            payload = file.read(length)
            found = zlib.crc32(payload, zlib.crc32(head[: atlas.HEAD.size]))
        if found != check:
            return
        yield kind, flags, payload


def _bytes_left(file: BinaryIO) -> int:
    here = file.tell()
    end = file.seek(0, 2)
    file.seek(here)
    return end - here


def _unpack(flags: int, payload: atlas.Payload) -> tuple[dict[str, Any], Data]:
    facts, rows = atlas.unpack_chunk(flags, payload)
    return facts, Data(rows)


def _put_by(pieces: Pieces, flags: int, payload: atlas.Payload) -> None:
    """Keep a snapshot for later; of a long run's, keep ever fewer of the regular ones."""
    facts = atlas.unpack_facts(flags, payload)
    pieces.looks.setdefault(int(facts["process"]), Looks()).add(
        Look(pieces.look_count, facts, flags, payload)
    )
    pieces.look_count += 1


def _read_latest(pieces: Pieces) -> None:
    """Read the sums of each process that no later ones replace; rows as of snapshots, if few views need them."""
    for (kind, process), (flags, payload) in pieces.latest.items():
        room = room_of(pieces, process)
        try:
            if kind == atlas.LIVES:
                pieces.lives[process] = _packed_rows(flags, payload, model.LIVES_DTYPE, room)
            elif kind == atlas.AGES:
                rows = _packed_rows(flags, payload, model.AGES_DTYPE, room)
                pieces.ages[process] = ages_of(atlas.unpack_facts(flags, payload), rows)
            else:
                DECODERS[kind](pieces, *_unpack(flags, payload))
        except atlas.MALFORMED:
            pieces.complete = False
    pieces.latest.clear()


def _read_snapshots(pieces: Pieces) -> None:
    """Take the snapshots kept, in the order of the file, up to the first that is malformed."""
    looks = [look for each in pieces.looks.values() for _, look in each.kept]
    pieces.looks.clear()
    for look in sorted(looks, key=lambda look: look.number):
        try:
            _read_snapshot(pieces, look)
        except atlas.MALFORMED:
            pieces.complete = False
            return


def _read_snapshot(pieces: Pieces, look: Look) -> None:
    """Take a snapshot; its rows are inflated when somebody looks at them, which few do."""
    facts = look.facts
    process = int(facts["process"])
    room = room_of(pieces, process)
    parts = tuple(
        model.Part(model.PartKind(kind), text_of(name), amount_of(resident), amount_of(error))
        for kind, name, resident, error in facts["parts"]
    )
    rows = _packed_rows(look.flags, look.payload, model.SNAPSHOT_DTYPE, room)
    snapshot = model.Snapshot(
        process=process,
        time_s=number_of(facts["time_s"]),
        trigger=text_of(facts["trigger"]),
        rss_bytes=amount_of(facts["rss_bytes"]),
        parts=parts,
        unexplained_bytes=amount_of(facts["unexplained_bytes"]),
        huge_bytes=amount_of(facts["huge_bytes"]) if "huge_bytes" in facts else None,
        rows=rows,
    )
    pieces.snapshots.append(snapshot)


def _packed_rows(flags: int, payload: atlas.Payload, dtype: np.dtype[np.void], room: int) -> Rows:
    """Give rows that are inflated when somebody looks at them."""
    return cast("Rows", LazyRows(dtype, partial(_unpack_rows, flags, payload, dtype, room)))


def _unpack_rows(flags: int, payload: atlas.Payload, dtype: np.dtype[np.void], room: int) -> Rows:
    try:
        _, data = _unpack(flags, payload)
        return stack_rows(room, data.rows(dtype))
    except atlas.MALFORMED as error:
        message = f"a part of the recording is malformed ({error}); record the program anew"
        raise MematlasError(message) from None


def _thin_pins(pieces: Pieces) -> None:
    """Keep those whose snapshot is kept."""
    times = {
        (process, number_of(look.facts["time_s"]))
        for process, looks in pieces.looks.items()
        for _, look in looks.kept
    }
    pieces.packed_pins = {key: each for key, each in pieces.packed_pins.items() if key in times}


def _read_pins(pieces: Pieces) -> None:
    """Take those of the snapshots that were kept; rows as of snapshots."""
    for look in pieces.snapshots:
        key = look.process, look.time_s
        if key not in pieces.packed_pins:
            continue
        flags, payload = pieces.packed_pins.pop(key)
        room = room_of(pieces, look.process)
        try:
            facts = atlas.unpack_facts(flags, payload)
            pieces.pins[key] = model.Pins(
                process=look.process,
                time_s=look.time_s,
                slack=tuple(
                    model.SlackPart(text_of(name), amount_of(free), amount_of(pinned))
                    for name, free, pinned in facts["slack"]
                ),
                rows=_packed_rows(flags, payload, model.PINS_DTYPE, room),
            )
        except atlas.MALFORMED:
            pieces.complete = False
