"""A file of snapshots, appended one by one.

The file has a header (magic and version), then chunks as in an .atlas file (`recording.format`). `SESS`
starts a session; `WHOL` is a snapshot with all rows; `DIFF` has the changes since the previous snapshot:
fields of rows by number, new rows, and the keys of ended processes. Readers ignore a truncated or damaged
last chunk, and writers cut it off.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from mematlas._version import __version__
from mematlas.errors import MematlasError, TargetError
from mematlas.linux.machine import Stall
from mematlas.linux.processes import ProcessRow
from mematlas.observe.top.model import MachineSnapshot, ProcessSnapshot, SnapshotCost
from mematlas.recording import format as atlas

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

MAGIC = b"\x89ATTOP\r\n"
VERSION = 1
SESSION, WHOLE, CHANGED = b"SESS", b"WHOL", b"DIFF"
_WHOLE_EVERY = 50  # snapshots; a seek unpacks at most this many

_ROW = tuple(field.name for field in fields(ProcessRow))
_Row = list[Any]
_Rows = dict[str, _Row]


class _Chunk(NamedTuple):
    kind: bytes
    offset: int
    session: int


class SnapshotWriter:
    """Appends snapshots to a file. Each is written to the kernel before `add` returns."""

    def __init__(self, path: str | PathLike[str], machine: dict[str, Any]) -> None:
        """Open or create the file, cut off an incomplete last chunk, and start a session.

        Raises MematlasError if another process writes the file, TargetError if it is another kind of file.
        """
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._begin(path, machine)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._rows: _Rows = {}
        self._since_whole = _WHOLE_EVERY

    def _begin(self, path: str | PathLike[str], machine: dict[str, Any]) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MematlasError(f"{path} is locked by another mematlas; use another file") from None
        if os.fstat(self._descriptor).st_size:
            end = _index(path)[1]
            os.ftruncate(self._descriptor, end)
        else:
            _write(self._descriptor, atlas.START.pack(MAGIC, VERSION, 0))
        os.lseek(self._descriptor, 0, os.SEEK_END)
        metadata = {"mematlas": __version__, "machine": machine, "fields": _ROW}
        _write(self._descriptor, atlas.pack_chunk(SESSION, metadata))

    def add(self, snapshot: MachineSnapshot) -> int:
        """Append a snapshot and return its size in bytes."""
        rows = {_name(process): _pack(process) for process in snapshot.processes}
        metadata = _pack_machine(snapshot)
        if self._since_whole >= _WHOLE_EVERY:
            self._since_whole = 0
            chunk = atlas.pack_chunk(WHOLE, {**metadata, "rows": rows})
        else:
            chunk = atlas.pack_chunk(CHANGED, {**metadata, **_difference(self._rows, rows)})
        self._since_whole += 1
        self._rows = rows
        _write(self._descriptor, chunk)
        return len(chunk)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()


class SnapshotReader:
    """The snapshots in a file, by number. A snapshot is unpacked on access."""

    def __init__(self, path: str | PathLike[str]) -> None:
        """Open a file and index its snapshots. Raises TargetError if it has none."""
        self.path = Path(path)
        self._chunks = [chunk for chunk in _index(path)[0] if chunk.kind != SESSION]
        self._file = self.path.open("rb")
        self._at = -1  # number of the snapshot that _rows and _metadata hold
        self._rows: _Rows = {}
        self._metadata: dict[str, Any] = {}
        if not self._chunks:
            self._file.close()
            raise TargetError(f"{path} has no complete snapshot")

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, number: int) -> MachineSnapshot:
        """Unpack a snapshot. Sequential access unpacks one chunk each."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        first = number
        while self._chunks[first].kind != WHOLE:
            first -= 1
        start = self._at + 1 if first <= self._at <= number else first
        for each in range(start, number + 1):
            self._apply(each)
            self._at = each
        return _unpack(self._metadata, self._rows, self._chunks[number].session)

    def __iter__(self) -> Iterator[MachineSnapshot]:
        return (self[number] for number in range(len(self)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _apply(self, number: int) -> None:
        kind, metadata = _read_chunk(self._file, self._chunks[number].offset)
        self._metadata = metadata
        if kind == WHOLE:
            self._rows = metadata["rows"]
            return
        for name in metadata.get("ended", metadata.get("gone", ())):  # older files: "gone"
            self._rows.pop(name, None)
        self._rows.update(metadata["new"])
        for name, changes in metadata["changed"].items():
            row = self._rows[name]
            for field, value in zip(changes[::2], changes[1::2], strict=True):
                row[field] = value


def _index(path: str | PathLike[str]) -> tuple[list[_Chunk], int]:
    """Return all complete chunks, and the offset at which the last one ends."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(atlas.START.size)
            if len(start) < atlas.START.size or not start.startswith(MAGIC):
                raise TargetError(f"{path} is not a recording of mematlas top")
            if atlas.START.unpack(start)[1] != VERSION:
                raise TargetError(f"{path} was written by a newer mematlas; use that version")
            return _walk(file)
    except FileNotFoundError:
        raise TargetError(f"there is no file {path}") from None


def _walk(file: Any) -> tuple[list[_Chunk], int]:
    chunks: list[_Chunk] = []
    session, at = -1, atlas.START.size
    while True:
        head = file.read(atlas.CHUNK_HEAD)
        if len(head) < atlas.CHUNK_HEAD:
            return chunks, at
        kind, _, length = atlas.HEAD.unpack_from(head)
        payload = file.read(length)
        (check,) = atlas.CHECK.unpack_from(head, atlas.HEAD.size)
        if len(payload) < length or check != zlib.crc32(
            payload, zlib.crc32(head[: atlas.HEAD.size])
        ):
            return chunks, at
        session += kind == SESSION
        chunks.append(_Chunk(kind, at, session))
        at += atlas.CHUNK_HEAD + length


def _read_chunk(file: Any, offset: int) -> tuple[bytes, dict[str, Any]]:
    file.seek(offset)
    kind, flags, length = atlas.HEAD.unpack_from(file.read(atlas.CHUNK_HEAD))
    return kind, atlas.unpack_metadata(flags, file.read(length))


def _name(process: ProcessSnapshot) -> str:
    return f"{process.row.pid}.{process.started}"


def _pack(process: ProcessSnapshot) -> _Row:
    return [*(getattr(process.row, name) for name in _ROW), process.started, process.read_at]


def _pack_machine(snapshot: MachineSnapshot) -> dict[str, Any]:
    return {
        "time_s": snapshot.time_s,
        "clock_s": snapshot.clock_s,
        "kernel_threads": snapshot.kernel_threads,
        "meminfo": snapshot.meminfo,
        "vmstat": snapshot.vmstat,
        "stalls": [asdict(stall) for stall in snapshot.stalls],
        "cost": asdict(snapshot.cost),
    }


def _difference(before: _Rows, after: _Rows) -> dict[str, Any]:
    changed = {}
    for name in after.keys() & before.keys():
        old, new = before[name], after[name]
        changes: list[Any] = []
        for field, value in enumerate(new):
            if value != old[field]:
                changes += (field, value)
        if changes:
            changed[name] = changes
    return {
        "changed": changed,
        "new": {name: after[name] for name in after.keys() - before.keys()},
        "ended": sorted(before.keys() - after.keys()),
    }


def _unpack(metadata: dict[str, Any], rows: _Rows, session: int) -> MachineSnapshot:
    processes = []
    for row in rows.values():
        *values, started, read_at = row
        processes.append(ProcessSnapshot(ProcessRow(*values), started, read_at))
    return MachineSnapshot(
        session=session,
        time_s=metadata["time_s"],
        clock_s=metadata["clock_s"],
        processes=tuple(sorted(processes, key=lambda each: each.key)),
        kernel_threads=metadata["kernel_threads"],
        meminfo=metadata["meminfo"],
        vmstat=metadata["vmstat"],
        stalls=tuple(Stall(**stall) for stall in metadata["stalls"]),
        cost=SnapshotCost(**metadata["cost"]),
    )


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
