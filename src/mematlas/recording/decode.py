"""Chunks of a recording, each decoded into the pieces read so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas._core.columns.trie import check_parents
from mematlas.linux.glibc_heap import HeapUse
from mematlas.recording import format as atlas
from mematlas.recording import model
from mematlas.recording.columns import join_rows, part_length
from mematlas.recording.validate import (
    amount_of,
    check_column,
    number_of,
    optional,
    stack_rows,
    text_of,
    texts_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.recording.columns import Data
    from mematlas.recording.model import Rows
    from mematlas.recording.partial import Facts, Pieces


_FEW = 1 << 16  # rows that are looked at when they are read; more, when somebody asks for them


def _read_header(pieces: Pieces, facts: Facts, _: Data) -> None:
    sampling = facts["sampling"]
    pieces.header = {
        "command": tuple(texts_of(facts["command"])),
        "started": text_of(facts["started"]),
        "machine": dict(facts["machine"]),
        "sampling": model.Sampling(
            mode=text_of(sampling["mode"]),
            sample_bytes=int(sampling["sample_bytes"]),
            interval_s=number_of(sampling["interval_s"]),
            fault_period=int(sampling.get("fault_period", 0)),
        ),
    }


def _read_process(pieces: Pieces, facts: Facts, _: Data) -> None:
    process = model.Process(
        index=int(facts["index"]),
        pid=int(facts["pid"]),
        parent_pid=int(facts["parent_pid"]),
        parent_index=optional(int, facts["parent_index"]),
        executable=text_of(facts["executable"]),
        command=tuple(texts_of(facts["command"])),
        start_s=number_of(facts["start_s"]),
        python_version=optional(text_of, facts["python_version"]),
        end_s=optional(number_of, facts["end_s"]),
        ending=text_of(facts["ending"]),
        note=text_of(facts["note"]),
    )
    pieces.processes[process.index] = process


def _read_nodes(pieces: Pieces, facts: Facts, data: Data) -> None:
    process, first = int(facts["process"]), int(facts["first"])
    rows = data.part(model.NODE_DTYPE)
    if first != pieces.node_count.get(process, 0):
        message = "nodes out of order"
        raise ValueError(message)
    if part_length(rows) <= _FEW:
        check_parents(join_rows(model.NODE_DTYPE, [rows])["parent"], first)
    pieces.nodes.setdefault(process, []).append(rows)
    pieces.node_count[process] = first + part_length(rows)


def _read_modules(pieces: Pieces, facts: Facts, _: Data) -> None:
    modules = [
        model.Module(text_of(path), text_of(build_id), int(bias), int(start), int(end))
        for path, build_id, bias, start, end in facts["modules"]
    ]
    pieces.modules.setdefault(int(facts["process"]), []).extend(modules)


def _read_codes(pieces: Pieces, facts: Facts, data: Data) -> None:
    codes, offset, tables = [], 0, data.plain()
    for name, file, first_line, linetable_format, length in facts["codes"]:
        table = bytes(tables[offset : offset + length])
        codes.append(
            model.Code(text_of(name), text_of(file), int(first_line), table, int(linetable_format))
        )
        offset += length
    pieces.codes.setdefault(int(facts["process"]), []).extend(codes)


def _read_totals(pieces: Pieces, facts: Facts, data: Data) -> None:
    process = int(facts["process"])
    rows = data.rows(model.TOTALS_DTYPE)
    if len(rows) <= _FEW:
        check_column(room_of(pieces, process), "stack", rows["stack"])
    pieces.totals[process] = model.Totals(
        process=process,
        time_s=number_of(facts["time_s"]),
        peak_time_s=number_of(facts["peak_time_s"]),
        peak_live_bytes=number_of(facts["peak_live_bytes"]),
        rows=stack_rows(room_of(pieces, process), rows),
    )


def ages_of(facts: Facts, rows: Rows) -> model.Ages:
    """Give the ages of a process with these rows."""
    return model.Ages(
        process=int(facts["process"]),
        time_s=number_of(facts["time_s"]),
        cell_s=number_of(facts["cell_s"]),
        rows=rows,
    )


def _read_cold(pieces: Pieces, facts: Facts, data: Data) -> None:
    process = int(facts["process"])
    pieces.cold[process] = model.Cold(
        process=process,
        time_s=number_of(facts["time_s"]),
        seconds=number_of(facts["seconds"]),
        method=text_of(facts["method"]),
        whole=bool(facts["whole"]),
        cold_bytes=amount_of(facts["cold_bytes"]),
        rows=stack_rows(room_of(pieces, process), data.array(model.COLD_DTYPE)),
    )


def _read_objects(pieces: Pieces, facts: Facts, data: Data) -> None:
    process = int(facts["process"])
    names = tuple(map(text_of, facts["names"]))
    rows = stack_rows(room_of(pieces, process), data.array(model.OBJECTS_DTYPE))
    if (rows["type"] >= len(names)).any():
        message = "a type without a name"
        raise ValueError(message)
    pieces.objects[process] = model.Objects(process, number_of(facts["time_s"]), names, rows)


def _read_heaps(pieces: Pieces, facts: Facts, _: Data) -> None:
    process = int(facts["process"])
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
        for start, size, in_use, free, trimmable, main, top in facts["heaps"]
    )
    pieces.heaps[process] = model.GlibcHeaps(process, number_of(facts["time_s"]), heaps)


def _read_timeline(pieces: Pieces, facts: Facts, data: Data) -> None:
    rows = data.array(model.TIMELINE_DTYPE)
    pieces.timeline.setdefault(int(facts["process"]), []).append(rows)


def _read_touches(pieces: Pieces, facts: Facts, data: Data) -> None:
    process = int(facts["process"])
    rows = stack_rows(room_of(pieces, process), data.array(model.TOUCHES_DTYPE))
    places = tuple((model.PartKind(kind), text_of(name)) for kind, name in facts["places"])
    room = np.where(rows["kind"] == 0, len(places), pieces.node_count.get(process, 1))
    if (rows["owner"] >= room).any():
        message = "a row names an owner that was not written"
        raise ValueError(message)
    pieces.touches[process] = model.Touches(
        process=process,
        state=text_of(facts["state"]),
        reason=text_of(facts["reason"]),
        samples=int(facts["samples"]),
        lost=int(facts["lost"]),
        places=places,
        rows=rows,
    )


def _read_frames(pieces: Pieces, facts: Facts, data: Data) -> None:
    frames = [_frame(pieces.frame_of, tuple(each)) for each in facts["frames"]]
    words = np.frombuffer(data.plain(), "<u8").tolist()
    stacks = [tuple(frames[number] for number in stack) for stack in facts["stacks"]]
    pieces.frames.setdefault(int(facts["process"]), {}).update(zip(words, stacks, strict=True))


def _frame(known: dict[tuple[Any, ...], model.Frame], facts: tuple[Any, ...]) -> model.Frame:
    """Make a frame, or give the one made before: processes of one program share most of theirs."""
    frame = known.get(facts)
    if frame is None:
        function, file, line, module, kind = facts
        for each in (
            function,
            kind,
            "" if file is None else file,
            "" if module is None else module,
        ):
            if type(each) is not str:
                text_of(each)
        line = line if line is None or type(line) is int else int(line)
        frame = known[facts] = model.Frame(function, file, line, module, kind)
    return frame


def _read_notes(pieces: Pieces, facts: Facts, _: Data) -> None:
    pieces.notes.extend(texts_of(facts["notes"]))


def _read_end(pieces: Pieces, _: Facts, __: Data) -> None:
    pieces.complete = True


DECODERS: dict[bytes, Callable[[Pieces, Facts, Data], None]] = {
    atlas.HEADER: _read_header,
    atlas.PROCESS: _read_process,
    atlas.NODES: _read_nodes,
    atlas.MODULES: _read_modules,
    atlas.CODES: _read_codes,
    atlas.TOTALS: _read_totals,
    atlas.COLD: _read_cold,
    atlas.OBJECTS: _read_objects,
    atlas.HEAPS: _read_heaps,
    atlas.TIMELINE: _read_timeline,
    atlas.TOUCHES: _read_touches,
    atlas.FRAMES: _read_frames,
    atlas.NOTES: _read_notes,
    atlas.END: _read_end,
}


def room_of(pieces: Pieces, process: int) -> int:
    """Count the stacks of a process; 0, "no stack", always exists."""
    return max(1, pieces.node_count.get(process, 0))
