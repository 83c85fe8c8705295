"""Decoders of chunks: each adds its chunk to the partial recording."""

from __future__ import annotations

import math
from dataclasses import astuple, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas._core.columns.trie import check_parents
from mematlas.linux.glibc_heap import HeapUse
from mematlas.linux.room import Room, UsedMount
from mematlas.recording import format as atlas
from mematlas.recording import model, row_types
from mematlas.recording.columns import join_rows, part_length
from mematlas.recording.validate import (
    address_of,
    amount_of,
    cell_length_of,
    check_column,
    number_of,
    optional,
    sample_rows,
    stack_rows,
    text_of,
    texts_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mematlas.recording.columns import ChunkData
    from mematlas.recording.model import Rows
    from mematlas.recording.partial import Metadata, PartialRecording


_ATTACHED = "when it was attached to"  # in the note of a process, where it is not said otherwise
_GRAPH_MOMENTS = {"peak", "exit"}
_MOST_CHANGES = 1 << 20  # rows, before they are folded
_FEW = 1 << 16  # rows checked at once; larger chunks are checked at access


def _read_header(pieces: PartialRecording, metadata: Metadata, _: ChunkData) -> None:
    sampling = metadata["sampling"]
    pieces.header = {
        "command": tuple(texts_of(metadata["command"])),
        "started": text_of(metadata["started"]),
        "machine": dict(metadata["machine"]),
        "sampling": model.Sampling(
            mode=text_of(sampling["mode"]),
            sample_bytes=amount_of(sampling["sample_bytes"]),
            interval_s=number_of(sampling["interval_s"]),
            fault_period=amount_of(sampling.get("fault_period", 0)),
        ),
        "runs": _runs_of(metadata),
        "segment": _segment_of(metadata),
    }


def _segment_of(metadata: Metadata) -> model.Segment | None:
    found = metadata.get("segment")
    if found is None:
        return None
    past = dict(found.get("past", {}))
    segment = model.Segment(
        number=amount_of(found["number"]),
        last=amount_of(found["last"]),
        start_s=number_of(found["start_s"]),
        detail_s=number_of(found["detail_s"]),
        past=model.Past(*(float(past.get(each.name, 0.0)) for each in fields(model.Past))),
    )
    if not all(0 <= value < math.inf for value in astuple(segment.past)):
        message = "sums before the segment out of range"
        raise ValueError(message)
    if not 0 < segment.number <= segment.last:
        message = "segment out of range"
        raise ValueError(message)
    return segment


def _runs_of(metadata: Metadata) -> tuple[model.Run, ...]:
    """Return the runs that a header names; of an older file one with what is known of it."""
    version, started = text_of(metadata.get("mematlas", "")), text_of(metadata["started"])
    return tuple(
        model.Run(
            id=text_of(each["id"]),
            host=text_of(each["host"]),
            version=text_of(each["version"]),
            started=text_of(each["started"]),
            labels=tuple(sorted((text_of(k), text_of(v)) for k, v in dict(each["labels"]).items())),
        )
        for each in metadata.get("runs", ())
    ) or (model.Run("", "", version, started),)


def _read_process(pieces: PartialRecording, metadata: Metadata, _: ChunkData) -> None:
    process = model.Process(
        index=int(metadata["index"]),
        pid=int(metadata["pid"]),
        parent_pid=int(metadata["parent_pid"]),
        parent_index=optional(int, metadata["parent_index"]),
        executable=text_of(metadata["executable"]),
        command=tuple(texts_of(metadata["command"])),
        start_s=number_of(metadata["start_s"]),
        python_version=optional(text_of, metadata["python_version"]),
        end_s=optional(number_of, metadata["end_s"]),
        ending=text_of(metadata["ending"]),
        note=text_of(metadata["note"]),
        title=text_of(metadata.get("title", "")),
        attached=metadata.get("attached", _ATTACHED in metadata["note"]) is True,
        forked=_known_flag(metadata.get("forked")),
        peak_rss_bytes=optional(amount_of, metadata.get("peak_rss_bytes")),
        uid=optional(amount_of, metadata.get("uid")),
        earlier_peak_rss_bytes=optional(amount_of, metadata.get("earlier_peak_rss_bytes")),
        cause=text_of(metadata.get("cause", "")),
        run=_run_index(pieces, metadata.get("run", 0)),
        build_id=text_of(metadata.get("build_id", "")),
    )
    pieces.processes[process.index] = process


def _run_index(pieces: PartialRecording, index: object) -> int:
    runs = len(pieces.header["runs"]) if pieces.header else 1
    if not isinstance(index, int) or not 0 <= index < runs:
        message = "a process belongs to no run"
        raise ValueError(message)
    return index


def _known_flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _read_nodes(pieces: PartialRecording, metadata: Metadata, data: ChunkData) -> None:
    process, first = int(metadata["process"]), int(metadata["first"])
    rows = data.part(row_types.NODE_DTYPE)
    if first != pieces.node_count.get(process, 0):
        message = "nodes out of order"
        raise ValueError(message)
    if part_length(rows) <= _FEW:
        check_parents(join_rows(row_types.NODE_DTYPE, [rows])["parent"], first)
    pieces.nodes.setdefault(process, []).append(rows)
    pieces.node_count[process] = first + part_length(rows)


def _read_modules(pieces: PartialRecording, metadata: Metadata, _: ChunkData) -> None:
    modules = [
        model.Module(
            text_of(path), text_of(build_id), address_of(bias), address_of(start), address_of(end)
        )
        for path, build_id, bias, start, end in metadata["modules"]
    ]
    pieces.modules.setdefault(int(metadata["process"]), []).extend(modules)


def _read_codes(pieces: PartialRecording, metadata: Metadata, data: ChunkData) -> None:
    codes, offset, tables = [], 0, data.plain()
    for name, file, first_line, linetable_format, length in metadata["codes"]:
        table = bytes(tables[offset : offset + length])
        codes.append(
            model.CodeObject(
                text_of(name),
                text_of(file),
                amount_of(first_line),
                table,
                amount_of(linetable_format),
            )
        )
        offset += length
    pieces.codes.setdefault(int(metadata["process"]), []).extend(codes)


def _read_totals(pieces: PartialRecording, metadata: Metadata, data: ChunkData) -> None:
    process = int(metadata["process"])
    rows = data.rows(row_types.TOTALS_DTYPE)
    if len(rows) <= _FEW:
        check_column(stack_count(pieces, process), "stack", rows["stack"])
    pieces.totals[process] = _totals_of(metadata, stack_rows(stack_count(pieces, process), rows))


def _totals_of(metadata: Metadata, rows: Rows) -> model.Totals:
    return model.Totals(
        process=int(metadata["process"]),
        time_s=number_of(metadata["time_s"]),
        peak_time_s=number_of(metadata["peak_time_s"]),
        peak_live_bytes=number_of(metadata["peak_live_bytes"]),
        rows=rows,
    )


def read_changes(
    pieces: PartialRecording, process: int, chunks: Iterable[tuple[Metadata, ChunkData]]
) -> None:
    """Add changed totals to those of a process, in the order of the file."""
    stacks = stack_count(pieces, process)
    before = pieces.totals.get(process)
    parts = [(before, np.asarray(before.rows))] if before else []
    for metadata, data in chunks:
        rows = data.array(row_types.TOTALS_DTYPE)
        check_column(stacks, "stack", rows["stack"])
        parts.append((_totals_of(metadata, rows), rows))
        if sum(len(rows) for _, rows in parts) > _MOST_CHANGES:
            parts = [_fold(parts)]
    if parts:
        last, rows = _fold(parts)
        pieces.totals[process] = replace(last, rows=stack_rows(stacks, rows))


def _fold(parts: Sequence[tuple[model.Totals, Rows]]) -> tuple[model.Totals, Rows]:
    """Return the last row of each stack and kind, sorted. A row's share of a later peak is what it has live."""
    last = parts[-1][0]
    rows = np.concatenate([rows for _, rows in parts])
    peaks = np.repeat([each.peak_time_s for each, _ in parts], [len(rows) for _, rows in parts])
    keys = rows["stack"].astype(np.uint64) << np.uint64(8) | rows["kind"]
    _, found = np.unique(keys[::-1], return_index=True)  # the first of the reversed is the last
    found = len(rows) - 1 - found
    rows, old = rows[found], peaks[found] < last.peak_time_s
    for name in ("bytes", "count", "variance"):
        rows[f"peak_{name}"][old] = rows[f"live_{name}"][old]
    return last, rows


def age_matrix_of(metadata: Metadata, rows: Rows) -> model.AgeMatrix:
    """Return the age matrix of a process."""
    return model.AgeMatrix(
        process=int(metadata["process"]),
        time_s=number_of(metadata["time_s"]),
        cell_s=cell_length_of(metadata["cell_s"]),
        rows=rows,
    )


def _read_idle(pieces: PartialRecording, metadata: Metadata, data: ChunkData) -> None:
    process = int(metadata["process"])
    pieces.idle[process] = model.IdleScan(
        process=process,
        time_s=number_of(metadata["time_s"]),
        seconds=number_of(metadata["seconds"]),
        method=text_of(metadata["method"]),
        whole=bool(metadata["whole"]),
        idle_bytes=amount_of(metadata["idle_bytes"]),
        rows=stack_rows(stack_count(pieces, process), data.array(row_types.IDLE_DTYPE)),
    )


def _read_objects(pieces: PartialRecording, metadata: Metadata, data: ChunkData) -> None:
    process = int(metadata["process"])
    names = tuple(map(text_of, metadata["names"]))
    rows = stack_rows(stack_count(pieces, process), data.array(row_types.OBJECTS_DTYPE))
    if (rows["type"] >= len(names)).any():
        message = "type index out of range"
        raise ValueError(message)
    pieces.objects[process] = model.Objects(process, number_of(metadata["time_s"]), names, rows)


def _read_heaps(pieces: PartialRecording, metadata: Metadata, _: ChunkData) -> None:
    process = int(metadata["process"])
    heaps = tuple(
        HeapUse(
            start=amount_of(start),
            size=amount_of(size),
            in_use=amount_of(in_use),
            free=amount_of(free),
            trimmable=amount_of(trimmable),
            main=bool(main),
            top=amount_of(top),
        )
        for start, size, in_use, free, trimmable, main, top in metadata["heaps"]
    )
    pieces.heaps[process] = model.GlibcHeaps(process, number_of(metadata["time_s"]), heaps)


def _read_bad_frees(pieces: PartialRecording, metadata: Metadata, _: ChunkData) -> None:
    process = int(metadata["process"])
    events = tuple(
        model.BadFreeEvent(
            time_s=number_of(time_s),
            stack=stack_of(pieces, process, stack),
            address=address_of(address),
            reason=model.BadFreeReason(reason),
            block_stack=stack_of(pieces, process, block_stack),
            freed_stack=stack_of(pieces, process, freed_stack),
            block_address=address_of(block_address),
            block_bytes=amount_of(block_bytes),
            freed_s=optional(number_of, freed_s),
        )
        for (
            time_s,
            stack,
            address,
            reason,
            block_stack,
            freed_stack,
            block_address,
            block_bytes,
            freed_s,
        ) in metadata["bad_frees"]
    )
    pieces.bad_frees[process] = events


def _read_room(pieces: PartialRecording, metadata: Metadata, _: ChunkData) -> None:
    huge, zero, error = metadata["huge"]
    pieces.rooms[int(metadata["process"])] = Room(
        limits=tuple(
            (text_of(name), amount_of(soft), amount_of(used))
            for name, soft, used in metadata["limits"]
        ),
        mounts=tuple(
            UsedMount(text_of(path), amount_of(size), amount_of(free), amount_of(mapped))
            for path, size, free, mapped in metadata["mounts"]
        ),
        huge_bytes=amount_of(huge),
        zero_bytes=amount_of(zero),
        zero_error_bytes=amount_of(error),
        hard_limits=tuple(
            (text_of(name), amount_of(hard)) for name, hard in metadata.get("hard_limits", ())
        ),
    )


def _read_timeline(pieces: PartialRecording, metadata: Metadata, data: ChunkData) -> None:
    rows = sample_rows(data.array(row_types.TIMELINE_DTYPE))
    pieces.timeline.setdefault(int(metadata["process"]), []).append(rows)


def _read_fault_sites(pieces: PartialRecording, metadata: Metadata, data: ChunkData) -> None:
    process = int(metadata["process"])
    rows = stack_rows(stack_count(pieces, process), data.array(row_types.FAULT_SITES_DTYPE))
    parts = tuple((model.PartKind(kind), text_of(name)) for kind, name in metadata["parts"])
    limit = np.where(rows["kind"] == 0, len(parts), pieces.node_count.get(process, 1))
    if (rows["owner"] >= limit).any():
        message = "a row refers to an unknown owner"
        raise ValueError(message)
    pieces.fault_sites[process] = model.FaultSites(
        process=process,
        state=text_of(metadata["state"]),
        reason=text_of(metadata["reason"]),
        samples=amount_of(metadata["samples"]),
        lost=amount_of(metadata["lost"]),
        parts=parts,
        rows=rows,
    )


def _read_frames(pieces: PartialRecording, metadata: Metadata, data: ChunkData) -> None:
    frames = [_frame(pieces.frame_of, tuple(each)) for each in metadata["frames"]]
    words = np.frombuffer(data.plain(), "<u8").tolist()
    stacks = [tuple(frames[number] for number in stack) for stack in metadata["stacks"]]
    pieces.frames.setdefault(int(metadata["process"]), {}).update(zip(words, stacks, strict=True))


def _frame(known: dict[tuple[Any, ...], model.Frame], metadata: tuple[Any, ...]) -> model.Frame:
    """Return a frame, shared with equal frames: processes of one program have most in common."""
    frame = known.get(metadata)
    if frame is None:
        function, file, line, module, kind, *more = metadata
        for each in (
            function,
            kind,
            "" if file is None else file,
            "" if module is None else module,
        ):
            if type(each) is not str:
                text_of(each)
        line = line if line is None else amount_of(line)
        length = amount_of(more[0]) if more else None
        frame = known[metadata] = model.Frame(function, file, line, module, kind, length)
    return frame


def _read_mark(pieces: PartialRecording, metadata: Metadata, _: ChunkData) -> None:
    pieces.marks.append(
        model.Mark(
            process=int(metadata["process"]),
            name=text_of(metadata["name"]),
            time_s=number_of(metadata["time_s"]),
            account_s=optional(number_of, metadata["account_s"]),
        )
    )


def _read_graph(pieces: PartialRecording, metadata: Metadata, data: ChunkData) -> None:
    process, moment = int(metadata["process"]), text_of(metadata["moment"])
    if moment not in _GRAPH_MOMENTS:
        message = f"{moment!r} is no moment of a heap graph"
        raise ValueError(message)
    amount_of(metadata["facts"]["size"])
    pieces.graphs[process, moment] = model.HeapGraph(
        process=process,
        moment=moment,
        time_s=number_of(metadata["time_s"]),
        facts=dict(metadata["facts"]),
        rows=stack_rows(stack_count(pieces, process), data.rows(row_types.GRAPH_DTYPE)),
    )


def _read_notes(pieces: PartialRecording, metadata: Metadata, _: ChunkData) -> None:
    pieces.notes.extend(texts_of(metadata["notes"]))
    pieces.lossy = pieces.lossy or metadata.get("lossy") is True
    for path, names in metadata.get("allocators", {}).items():
        pieces.allocators[text_of(path)] = tuple(texts_of(names))


def _read_end(pieces: PartialRecording, _: Metadata, __: ChunkData) -> None:
    pieces.complete = True


DECODERS: dict[bytes, Callable[[PartialRecording, Metadata, ChunkData], None]] = {
    atlas.HEADER: _read_header,
    atlas.PROCESS: _read_process,
    atlas.NODES: _read_nodes,
    atlas.MODULES: _read_modules,
    atlas.CODES: _read_codes,
    atlas.TOTALS: _read_totals,
    atlas.IDLE: _read_idle,
    atlas.OBJECTS: _read_objects,
    atlas.HEAPS: _read_heaps,
    atlas.ROOM: _read_room,
    atlas.BAD_FREES: _read_bad_frees,
    atlas.TIMELINE: _read_timeline,
    atlas.FAULT_SITES: _read_fault_sites,
    atlas.FRAMES: _read_frames,
    atlas.MARK: _read_mark,
    atlas.GRAPH: _read_graph,
    atlas.NOTES: _read_notes,
    atlas.END: _read_end,
}


def stack_count(pieces: PartialRecording, process: int) -> int:
    """Count the stacks of a process, including stack 0 ("no stack")."""
    return max(1, pieces.node_count.get(process, 0))


def stack_of(pieces: PartialRecording, process: int, stack: int) -> int:
    """Return a stack ID. Raises ValueError if the process has no such stack."""
    number = int(stack)
    if not 0 <= number < stack_count(pieces, process):
        message = "stack out of range"
        raise ValueError(message)
    return number
