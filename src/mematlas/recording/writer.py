"""Writer of .atlas files. Rows come as bytes, so that no NumPy is needed."""

from __future__ import annotations

import os
from array import array
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mematlas._version import __version__
from mematlas.recording import format as atlas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor
    from os import PathLike

    from mematlas.linux.glibc_heap import HeapUse
    from mematlas.linux.room import Room
    from mematlas.recording.model import (
        BadFreeEvent,
        CodeObject,
        Frame,
        Mark,
        Module,
        Part,
        PartKind,
        Process,
        Run,
        Sampling,
        Segment,
        SharedPart,
        Touched,
    )

NODE_BYTES = 16
_LARGE = 1 << 20  # bytes of rows; packing them takes about 20 ms
_MEANWHILE_S = 0.01


class Writer:
    """An .atlas file being written. Each method writes one chunk before it returns.

    A kill at any time loses at most the chunk being written; readers drop an incomplete chunk.
    Nodes, modules and codes must be written before the chunks that refer to them.
    """

    # Of all the files that one writer begins.
    meanwhile: Callable[[], object] | None = None  # called while a large chunk is packed
    _packer: ThreadPoolExecutor | None = None

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        command: Iterable[str],
        started: str,
        machine: Mapping[str, Any],
        sampling: Sampling,
        runs: Iterable[Run] = (),
        segment: Segment | None = None,
    ) -> None:
        """Create or truncate the file and write its header. `Process.run` is an index in `runs`."""
        self._file = Path(path).open("wb", buffering=0)
        self.name = os.fspath(path)
        self.size = 0  # bytes in the file
        self._nodes: dict[int, int] = {}
        self._write(atlas.START.pack(atlas.MAGIC, atlas.VERSION, 0))
        metadata: dict[str, Any] = {
            "mematlas": __version__,
            "command": list(command),
            "started": started,
            "machine": dict(machine),
            "sampling": _fields(sampling, "mode", "sample_bytes", "interval_s", "fault_period"),
        }
        if known := [_run(each) for each in runs]:
            metadata["runs"] = known
        if segment:
            metadata["segment"] = _fields(segment, "number", "last", "start_s", "detail_s")
            metadata["segment"]["past"] = asdict(segment.past)
        self._chunk(atlas.HEADER, metadata)

    def process(self, process: Process) -> None:
        """Write a process, new or with more known than before."""
        metadata = _fields(
            process,
            *("index", "pid", "parent_pid", "parent_index", "executable", "command"),
            *(
                "start_s",
                "python_version",
                "end_s",
                "ending",
                "note",
                "title",
                "attached",
                "forked",
            ),
            *("peak_rss_bytes", "earlier_peak_rss_bytes", "uid", "cause"),
        )
        if process.run:
            metadata["run"] = process.run
        if process.build_id:
            metadata["build_id"] = process.build_id
        self._chunk(atlas.PROCESS, metadata)

    def nodes(self, process: int, rows: bytes | memoryview) -> None:
        """Append trie nodes (NODE_DTYPE). The first node of a process is the root."""
        first = self._nodes.get(process, 0)
        self._chunk(atlas.NODES, {"process": process, "first": first}, rows)
        self._nodes[process] = first + _size(rows) // NODE_BYTES

    def modules(self, process: int, modules: Iterable[Module]) -> None:
        """Append loaded modules. Of modules at one address in turn, each has an epoch in bits 57-62."""
        table = [_values(each, "path", "build_id", "bias", "start", "end") for each in modules]
        self._chunk(atlas.MODULES, {"process": process, "modules": table})

    def codes(self, process: int, codes: Iterable[CodeObject]) -> None:
        """Append Python code objects. IDs continue from those written before and start at 1."""
        codes = list(codes)
        table = [
            [each.name, each.file, each.first_line, each.linetable_format, len(each.linetable)]
            for each in codes
        ]
        tables = b"".join(each.linetable for each in codes)
        self._chunk(atlas.CODES, {"process": process, "codes": table}, tables)

    def snapshot(  # noqa: PLR0913 - one argument a fact
        self,
        process: int,
        *,
        time_s: float,
        trigger: str,
        rss_bytes: int,
        parts: Iterable[Part],
        unexplained_bytes: int,
        rows: bytes | memoryview,
        huge_bytes: int | None = None,
        peak_rss_bytes: int | None = None,
        page_table_bytes: int | None = None,
        touched: Iterable[Touched] = (),
        moment_s: float | None = None,
    ) -> None:
        """Write a snapshot (SNAPSHOT_DTYPE)."""
        metadata = {
            "process": process,
            "time_s": time_s,
            "trigger": trigger,
            "rss_bytes": rss_bytes,
            "parts": [_values(p, "kind", "name", "resident_bytes", "error_bytes") for p in parts],
            "unexplained_bytes": unexplained_bytes,
        }
        if huge_bytes is not None:
            metadata["huge_bytes"] = huge_bytes
        if peak_rss_bytes is not None:
            metadata["peak_rss_bytes"] = peak_rss_bytes
        if page_table_bytes is not None:
            metadata["page_table_bytes"] = page_table_bytes
        if moment_s is not None:
            metadata["moment_s"] = moment_s
        touches = [_values(t, "stack", "owner", "kind", "bytes", "variance") for t in touched]
        if touches:
            metadata["touched"] = touches
        self._chunk(atlas.SNAPSHOT, metadata, rows)

    def mark(self, mark: Mark) -> None:
        """Write a mark, after the snapshot that was taken for it."""
        self._chunk(atlas.MARK, _fields(mark, "process", "name", "time_s", "account_s"))

    def totals(
        self,
        process: int,
        *,
        time_s: float,
        peak_time_s: float,
        peak_live_bytes: float,
        rows: bytes | memoryview,
        changed: bool = False,
    ) -> None:
        """Write the sums since the start (TOTALS_DTYPE). They replace those written before.

        `changed`: those that changed alone, which replace those of the same stack and kind. If there is a new peak,
        the other rows have as their share of the peak what they have live.
        """
        metadata = {
            "process": process,
            "time_s": time_s,
            "peak_time_s": peak_time_s,
            "peak_live_bytes": peak_live_bytes,
        }
        self._chunk(atlas.CHANGED_TOTALS if changed else atlas.TOTALS, metadata, rows)

    def fragmentation(
        self,
        process: int,
        *,
        time_s: float,
        slack: Iterable[tuple[str, int, int]],
        rows: bytes | memoryview,
    ) -> None:
        """Write the fragmentation at the snapshot of `time_s` (FRAGMENTATION_DTYPE).

        `slack` lists (part name, bytes on free pages, free bytes on pages with live blocks).
        """
        metadata = {"process": process, "time_s": time_s, "slack": [list(each) for each in slack]}
        self._chunk(atlas.FRAGMENTATION, metadata, rows)

    def sharing(
        self,
        process: int,
        *,
        time_s: float,
        pss_bytes: int,
        uss_bytes: int,
        parts: Iterable[SharedPart],
        rows: bytes | memoryview,
    ) -> None:
        """Write PSS and USS at the snapshot of `time_s` (SHARING_DTYPE)."""
        metadata = {
            "process": process,
            "time_s": time_s,
            "pss_bytes": pss_bytes,
            "uss_bytes": uss_bytes,
            "parts": [_values(p, "kind", "name", "shared_bytes", "share_bytes") for p in parts],
        }
        self._chunk(atlas.SHARING, metadata, rows)

    def idle(self, process: int, rows: bytes | memoryview, **metadata: float | str | bool) -> None:
        """Write the result of an idle-page scan (IDLE_DTYPE). It replaces the one written before.

        `metadata` are the other fields of `IdleScan`.
        """
        self._chunk(atlas.IDLE, {"process": process, **metadata}, rows)

    def objects(
        self, process: int, *, time_s: float, names: Iterable[str], rows: bytes | memoryview
    ) -> None:
        """Write live Python objects by type (OBJECTS_DTYPE). They replace those written before."""
        metadata = {"process": process, "time_s": time_s, "names": list(names)}
        self._chunk(atlas.OBJECTS, metadata, rows)

    def bad_frees(self, process: int, events: Iterable[BadFreeEvent]) -> None:
        """Write frees of pointers that were no live blocks. They replace those written before."""
        rows = [[getattr(each, name) for name in atlas.BAD_FREE_FIELDS] for each in events]
        self._chunk(atlas.BAD_FREES, {"process": process, "bad_frees": rows})

    def heaps(self, process: int, *, time_s: float, heaps: Iterable[HeapUse]) -> None:
        """Write the glibc heaps. They replace those written before."""
        rows = [[getattr(each, name) for name in atlas.HEAP_FIELDS] for each in heaps]
        self._chunk(atlas.HEAPS, {"process": process, "time_s": time_s, "heaps": rows})

    def room(self, process: int, *, time_s: float, room: Room) -> None:
        """Write limits, mounts and use of huge pages. They replace those written before."""
        metadata = {
            "process": process,
            "time_s": time_s,
            "limits": room.limits,
            "mounts": [(each.path, each.size, each.free, each.mapped) for each in room.mounts],
            "huge": (room.huge_bytes, room.zero_bytes, room.zero_error_bytes),
            "hard_limits": room.hard_limits,
        }
        self._chunk(atlas.ROOM, metadata)

    def lifetimes(self, process: int, rows: bytes | memoryview) -> None:
        """Write lifetimes of freed blocks (LIFETIMES_DTYPE). They replace those written before."""
        self._chunk(atlas.LIFETIMES, {"process": process}, rows)

    def age_matrix(
        self, process: int, *, time_s: float, cell_s: float, rows: bytes | memoryview
    ) -> None:
        """Write the age matrix at `time_s` (AGE_MATRIX_DTYPE). It replaces the one written before."""
        self._chunk(
            atlas.AGE_MATRIX, {"process": process, "time_s": time_s, "cell_s": cell_s}, rows
        )

    def timeline(self, process: int, rows: bytes | memoryview) -> None:
        """Append samples (TIMELINE_DTYPE)."""
        self._chunk(atlas.TIMELINE, {"process": process}, rows)

    def fault_sites(
        self,
        process: int,
        *,
        state: str,
        reason: str,
        samples: int,
        lost: int,
        parts: Iterable[tuple[PartKind, str]],
        rows: bytes | memoryview,
    ) -> None:
        """Write page faults by stack and owner (FAULT_SITES_DTYPE). They replace those written before."""
        metadata = {
            "process": process,
            "state": state,
            "reason": reason,
            "samples": samples,
            "lost": lost,
            "parts": [[str(kind), name] for kind, name in parts],
        }
        self._chunk(atlas.FAULT_SITES, metadata, rows)

    def graph(
        self,
        process: int,
        *,
        moment: str,
        time_s: float,
        facts: Mapping[str, Any],
        rows: bytes | memoryview,
    ) -> None:
        """Write the heap graph of a process at "peak" or "exit" (GRAPH_DTYPE). It replaces the one written before."""
        metadata = {"process": process, "moment": moment, "time_s": time_s, "facts": dict(facts)}
        self._chunk(atlas.GRAPH, metadata, rows)

    def frames(self, process: int, frames: Mapping[int, tuple[Frame, ...]]) -> None:
        """Append resolved frames by trie word, leaf (inlined) first."""
        numbers: dict[Frame, int] = {}
        stacks = [
            [numbers.setdefault(frame, len(numbers)) for frame in stack]
            for stack in frames.values()
        ]
        metadata = {
            "process": process,
            "frames": [_frame(each) for each in numbers],
            "stacks": stacks,
        }
        self._chunk(atlas.FRAMES, metadata, array("Q", frames).tobytes())

    def notes(
        self,
        notes: Iterable[str],
        allocators: Mapping[str, Sequence[str]] | None = None,
        *,
        lossy: bool = False,
    ) -> None:
        """Append notes: what was not seen or not resolved, and why.

        `allocators`: names of the allocators inside files, by path.
        `lossy`: events of the program were not recorded, so the recording is not complete.
        """
        metadata: dict[str, Any] = {"notes": list(notes)}
        if allocators:
            metadata["allocators"] = {path: list(names) for path, names in allocators.items()}
        if lossy:
            metadata["lossy"] = True
        self._chunk(atlas.NOTES, metadata)

    def end(self) -> None:
        """Write the end chunk, which marks a complete recording, and close the file."""
        self._chunk(atlas.END, {})
        self.close()

    def close(self) -> None:
        """Close the file without an end chunk, if it is open."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def _chunk(self, kind: bytes, metadata: dict[str, Any], rows: bytes | memoryview = b"") -> None:
        if self.meanwhile is None or _size(rows) < _LARGE:
            self._write(atlas.pack_chunk(kind, metadata, rows))
            return
        from concurrent.futures import ThreadPoolExecutor, wait

        # One thread for all chunks: each new one would get an arena of the allocator of its own.
        self._packer = self._packer or ThreadPoolExecutor(1)
        packed = self._packer.submit(atlas.pack_chunk, kind, metadata, rows)
        while not wait([packed], _MEANWHILE_S).done:
            self.meanwhile()
        self._write(packed.result())

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file.fileno(), view) :]
        self.size += len(data)

    def cut(self) -> None:
        """Remove what was written of a chunk that could not be written whole, as on a full disk."""
        os.ftruncate(self._file.fileno(), self.size)
        os.lseek(self._file.fileno(), self.size, os.SEEK_SET)


def _fields(thing: object, *names: str) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in names}


def _run(run: Run) -> dict[str, Any]:
    return {**_fields(run, "id", "host", "version", "started"), "labels": dict(run.labels)}


def _values(thing: object, *names: str) -> list[Any]:
    return [getattr(thing, name) for name in names]


def _frame(frame: Frame) -> list[Any]:
    values = _values(frame, "function", "file", "line", "module", "kind")
    return values if frame.code_bytes is None else [*values, frame.code_bytes]


def _size(rows: bytes | memoryview) -> int:
    return rows.nbytes if isinstance(rows, memoryview) else len(rows)
