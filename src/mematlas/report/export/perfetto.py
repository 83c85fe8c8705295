"""Perfetto trace: a heap profile of each process and metric, and RSS and swap over time.

https://github.com/google/perfetto/tree/main/protos/perfetto/trace defines the fields. One packet sequence holds all
packets. Names, mappings, frames and stacks are interned: a number is defined in the packet that first uses it.

"""

from __future__ import annotations

from itertools import islice
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mematlas.present.printable import clean
from mematlas.report import frame_names
from mematlas.report.export.protobuf import data, number
from mematlas.report.export.source import distinct_pids, started_nanoseconds
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mematlas.recording.model import Frame
    from mematlas.report.export.source import ExportSource

_START_NS = 1_000_000_000  # of a run on the clock of the trace: 0 is no time to some readers
_REALTIME, _COARSE, _BOOTTIME = 1, 4, 6  # numbers of clocks
_SEQUENCE = 1
_CLEARED, _CONTINUED = 1, 2  # flags: no number is defined yet; numbers defined before are used
_BATCH = 10_000  # stacks in a packet


class _Heap(NamedTuple):
    """A heap profile. Perfetto calls `allocated` minus `freed` unreleased."""

    name: str
    size: str  # column of the bytes that are unreleased
    blocks: str | None  # column of their number
    total: str | None = None  # column of all bytes, and of all blocks, if that is more
    total_blocks: str | None = None


_LIVE = _Heap("live", "live_bytes", "live_count", "allocated_bytes", "allocations")
_OTHERS = (
    _Heap("peak", "peak_bytes", "peak_count"),
    *(
        _Heap(name, f"{name}_bytes", None)
        for name in METRICS
        if name not in {"live", "peak", "allocated"}
    ),
)


def render(sources: Sequence[ExportSource]) -> Iterator[bytes]:
    """Render the trace."""
    yield from _Trace().packets(sources)


class _Trace:
    """A trace while it is written."""

    def __init__(self) -> None:
        self._numbers: dict[
            tuple[int, object], int
        ] = {}  # by field of InternedData, and what is interned
        self._new: list[bytes] = []  # fields of InternedData for the next packet
        self._build_ids: dict[tuple[int, int], dict[str, bytes]] = {}
        self._index = 0  # of the next ProfilePacket
        self._first = True

    def packets(self, sources: Sequence[ExportSource]) -> Iterator[bytes]:
        """Yield the packets: clocks and processes, samples over time, heap profiles."""
        started = min(filter(None, map(started_nanoseconds, sources)), default=0)
        clocks = ((_BOOTTIME, _START_NS), (_COARSE, _START_NS), (_REALTIME, started))
        yield self._packet(
            0, data(6, b"".join(data(1, number(1, clock) + number(2, ns)) for clock, ns in clocks))
        )
        taken: set[int] = set()
        for source in sources:
            pids = distinct_pids(source, taken)
            yield from self._tree(source, pids)
            yield from self._timeline(source, pids)
            yield from self._profiles(source, pids)

    def _packet(self, time_s: float, fields: bytes) -> bytes:
        """Return a packet with what was interned since the last one."""
        flags = _CLEARED if self._first else _CONTINUED
        self._first = False
        interned, self._new = b"".join(self._new), []
        return data(
            1,
            number(8, _trace_time(time_s))
            + number(10, _SEQUENCE)
            + number(13, flags)
            + (data(12, interned) if interned else b"")
            + fields,
        )

    def _tree(self, source: ExportSource, pids: dict[int, int]) -> Iterator[bytes]:
        """Yield a packet for each program that a process ran, at its start."""
        for line in source.report.processes:
            parent = pids.get(line.parent_index, 0) if line.parent_index is not None else 0
            name = source.process_name(line.index)
            title = f"{source.title}: {name}" if source.title else name
            process = number(1, pids[line.index]) + number(2, parent) + data(3, title.encode())
            yield self._packet(line.start_s, data(2, data(1, process)))

    def _timeline(self, source: ExportSource, pids: dict[int, int]) -> Iterator[bytes]:
        for index, pid in pids.items():
            rows = source.recording.timeline.get(index)
            for row in [] if rows is None else rows:
                fields = b"".join(
                    _known(field, row[name])
                    for field, name in ((3, "rss_bytes"), (7, "swap_bytes"))
                )
                if fields:
                    yield self._packet(row["time_s"], data(9, data(1, number(1, pid) + fields)))

    def _profiles(self, source: ExportSource, pids: dict[int, int]) -> Iterator[bytes]:
        """Yield the heap profiles, the chosen metric first."""
        known = [each for each in (_LIVE, *_OTHERS) if each.size not in source.unknown]
        chosen = _LIVE if source.by == "allocated" else None
        roots = source.roots()
        for heap in sorted(known, key=lambda each: each is not chosen and each.name != source.by):
            for process in source.table.processes():
                yield from self._profile(source, process, pids[process], heap, roots)

    def _profile(
        self,
        source: ExportSource,
        process: int,
        pid: int,
        heap: _Heap,
        roots: dict[int, tuple[str, ...]],
    ) -> Iterator[bytes]:
        table, time_s = source.table, source.report.account.time_s
        rows = np.flatnonzero(table.process == process)
        names = [heap.size, heap.blocks, heap.total, heap.total_blocks]
        columns = [
            table.columns.narrow(name).at(rows) if name else np.zeros(len(rows), np.int64)
            for name in names
        ]
        some = np.flatnonzero(columns[0] | columns[2])
        values = zip(rows[some].tolist(), *(each[some].tolist() for each in columns), strict=True)
        head = number(1, pid) + number(9, _trace_time(time_s)) + data(11, heap.name.encode())
        while batch := list(islice(values, _BATCH)):
            samples = b"".join(
                data(2, number(1, self._stack(source, process, row, roots)) + _amounts(*figures))
                for row, *figures in batch
            )
            dump = data(5, head + samples) + number(7, self._index)
            self._index += 1
            yield self._packet(time_s, data(37, dump))

    def _stack(
        self, source: ExportSource, process: int, row: int, roots: dict[int, tuple[str, ...]]
    ) -> int:
        """Return the number of the stack of a row; it is of this process alone."""
        stack = int(source.table.stack[row])
        key = (7, (source.title, process, stack))
        if key not in self._numbers:
            frames = source.path(process, stack, roots)
            found = b"".join(
                number(2, self._frame(source, process, each)) for each in reversed(frames)
            )
            return self._define(key, found)
        return self._numbers[key]

    def _frame(self, source: ExportSource, process: int, frame: Frame | str) -> int:
        if isinstance(frame, str):
            name, file, build_id = frame, "", b""
        else:
            name, file = _frame_name(frame), clean(frame.file or frame.module or "")
            build_id = b"" if frame.file else self._build_id(source, process, file)
        key = (6, (name, file, build_id))
        if key not in self._numbers:
            mapping = self._mapping(file, build_id)
            return self._define(key, number(2, self._string(5, name.encode())) + number(3, mapping))
        return self._numbers[key]

    def _build_id(self, source: ExportSource, process: int, module: str) -> bytes:
        """Return the build ID of a module, which another process or host may have in another build."""
        key = id(source), process
        if key not in self._build_ids:
            modules = source.recording.modules.get(process, [])
            self._build_ids[key] = {
                clean(each.path): _hexadecimal(each.build_id) for each in reversed(modules)
            }
        return self._build_ids[key].get(module, b"")

    def _mapping(self, file: str, build_id: bytes) -> int:
        """Return the mapping of a module with its build ID, or of a source file."""
        key = (19, (file, build_id))
        if key not in self._numbers:
            fields = number(2, self._string(16, build_id)) if build_id else b""
            return self._define(key, fields + number(7, self._string(17, file.encode())))
        return self._numbers[key]

    def _string(self, field: int, text: bytes) -> int:
        key = (field, text)
        return self._numbers.get(key) or self._define(key, data(2, text))

    def _define(self, key: tuple[int, object], fields: bytes) -> int:
        """Intern something that is new: its number counts within its field."""
        known = self._numbers.setdefault((key[0], None), 0) + 1
        self._numbers[key[0], None] = self._numbers[key] = known
        self._new.append(data(key[0], number(1, known) + fields))
        return known


def _frame_name(frame: Frame) -> str:
    """Format a frame with its line: Perfetto merges frames of one name."""
    name = frame_names.function_name(frame)
    if frame.file and frame.line is not None:
        return f"{name} ({PurePath(clean(frame.file)).name}:{frame.line})"
    return name


def _hexadecimal(text: str) -> bytes:
    """Return the bytes of a build ID; of a malformed one none."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _amounts(size: int, count: int, total: int, total_count: int) -> bytes:
    """Encode what is unreleased as the difference of all and freed: never more is freed than was allocated."""
    total, total_count = max(total, size), max(total_count, count)
    return (
        number(2, total)
        + number(3, total - size)
        + number(5, total_count)
        + number(6, total_count - count)
    )


def _known(field: int, amount: float) -> bytes:
    """Encode bytes in KiB, as the kernel counts them; nothing for NaN, which is unknown."""
    return b"" if np.isnan(amount) else number(field, round(amount) >> 10)


def _trace_time(time_s: float) -> int:
    return _START_NS + round(float(time_s) * 1e9)
