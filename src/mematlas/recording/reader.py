"""Reads an .atlas file back, up to the last whole chunk of one that was cut or damaged."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from mematlas.errors import AccessError, MematlasError, TargetError, UnsupportedError
from mematlas.model import recording as model
from mematlas.recording import format as atlas
from mematlas.recording.lazy import LazyRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike
    from typing import BinaryIO

    from mematlas.model.recording import Rows

    Facts = dict[str, Any]

R = TypeVar("R")
MOST_SNAPSHOTS = 200  # of a process; beyond that every second regular one is left out
_REGULAR = ("interval", "peak")
_REPLACING = (
    atlas.TOTALS,
    atlas.TOUCHES,
    atlas.LIVES,
    atlas.AGES,
    atlas.COLD,
)  # the last of each process holds
_MALFORMED = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    OverflowError,
    RecursionError,
    zlib.error,
)


def read(path: str | PathLike[str]) -> model.Recording:
    """Read a recording; `complete` is False if the file ends early or is damaged further on."""
    try:
        file = Path(path).open("rb")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        message = f"{path}: there is no such file"
        raise TargetError(message) from None
    except PermissionError:
        message = f"{path}: not allowed to read it; ask its owner, or run as that user"
        raise AccessError(message) from None
    with file:
        _check_start(path, file)
        pieces = _Pieces()
        try:
            _take_chunks(pieces, file)
        except _MALFORMED:
            pieces.complete = False
        _read_latest(pieces)
        _read_snapshots(pieces)
        _read_pins(pieces)
    if pieces.header is None:
        message = f"{path}: the recording was cut before its first chunk; nothing can be read"
        raise MematlasError(message)
    return pieces.whole(pieces.header)


def _take_chunks(pieces: _Pieces, file: BinaryIO) -> None:
    """Decode what adds up; put by what a later chunk may replace, or nobody may look at."""
    for kind, flags, payload in _chunks(file):
        decode = _DECODERS.get(kind)
        if kind == atlas.SNAPSHOT:
            _put_by(pieces, flags, payload)
        elif kind == atlas.PINS:
            facts = atlas.unpack_facts(flags, payload)
            key = int(facts["process"]), _number(facts["time_s"])
            pieces.packed_pins[key] = (flags, payload)
            if len(pieces.packed_pins) > 4 * MOST_SNAPSHOTS:
                _thin_pins(pieces)
        elif kind in _REPLACING:
            facts = atlas.unpack_facts(flags, payload)
            pieces.latest[kind, int(facts["process"])] = (flags, payload)
        elif decode:
            facts, data = atlas.unpack_payload(flags, payload)
            pieces.packed += len(payload)
            pieces.inflated += len(data)
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
    if version != atlas.VERSION:
        message = (
            f"{path}: a recording of format {version}, and this mematlas reads format "
            f"{atlas.VERSION}; use the mematlas that made it, or a newer one"
        )
        raise UnsupportedError(message)


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, bytes]]:
    """Give whole chunks; the first that is cut or fails its check ends them."""
    while len(head := file.read(atlas.CHUNK_HEAD)) == atlas.CHUNK_HEAD:
        kind, flags, length = atlas.HEAD.unpack_from(head)
        (check,) = atlas.CHECK.unpack_from(head, atlas.HEAD.size)
        if length > _bytes_left(file):
            return
        payload = file.read(length)
        if zlib.crc32(payload, zlib.crc32(head[: atlas.HEAD.size])) != check:
            return
        yield kind, flags, payload


def _bytes_left(file: BinaryIO) -> int:
    here = file.tell()
    end = file.seek(0, 2)
    file.seek(here)
    return end - here


@dataclass(frozen=True, slots=True)
class _Look:
    """A snapshot not yet inflated: of a long run only some are."""

    number: int  # among all snapshots of the file
    facts: Facts
    flags: int
    payload: bytes

    @property
    def rss_bytes(self) -> int:
        """RSS then."""
        return _amount(self.facts["rss_bytes"])


@dataclass(slots=True)
class _Looks:
    """The snapshots of one process that are kept, with their numbers within it."""

    kept: list[tuple[int, _Look]] = field(default_factory=list)
    count: int = 0
    stride: int = 1  # of the regular ones, one in so many is kept

    def add(self, look: _Look) -> None:
        """Take one more; the last, the highest and those not regular always stay."""
        self.kept.append((self.count, look))
        self.count += 1
        if len(self.kept) > MOST_SNAPSHOTS:
            self.stride *= 2
        if self.stride > 1:
            highest = max((each for _, each in self.kept), key=lambda each: each.rss_bytes)
            self.kept = [
                (number, each)
                for number, each in self.kept
                if number % self.stride == 0
                or each is highest
                or each is look
                or each.facts["trigger"] not in _REGULAR
            ]


@dataclass(slots=True)
class _Pieces:
    """What the chunks read so far add up to."""

    header: Facts | None = None
    processes: dict[int, model.Process] = field(default_factory=dict)
    nodes: dict[int, list[Rows]] = field(default_factory=dict)
    node_count: dict[int, int] = field(default_factory=dict)
    modules: dict[int, list[model.Module]] = field(default_factory=dict)
    codes: dict[int, list[model.Code]] = field(default_factory=dict)
    frames: dict[int, dict[int, tuple[model.Frame, ...]]] = field(default_factory=dict)
    looks: dict[int, _Looks] = field(default_factory=dict)
    look_count: int = 0
    packed: int = 0  # bytes of the chunks that are kept, in the file
    inflated: int = 0  # and in memory
    latest: dict[tuple[bytes, int], tuple[int, bytes]] = field(default_factory=dict)
    frame_of: dict[tuple[Any, ...], model.Frame] = field(default_factory=dict)
    snapshots: list[model.Snapshot] = field(default_factory=list)
    totals: dict[int, model.Totals] = field(default_factory=dict)
    timeline: dict[int, list[Rows]] = field(default_factory=dict)
    touches: dict[int, model.Touches] = field(default_factory=dict)
    lives: dict[int, Rows] = field(default_factory=dict)
    ages: dict[int, model.Ages] = field(default_factory=dict)
    cold: dict[int, model.Cold] = field(default_factory=dict)
    packed_pins: dict[tuple[int, float], tuple[int, bytes]] = field(default_factory=dict)
    pins: dict[tuple[int, float], model.Pins] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    complete: bool = False

    def whole(self, header: Facts) -> model.Recording:
        """Give the recording the pieces make."""
        return model.Recording(
            command=header["command"],
            started=header["started"],
            machine=header["machine"],
            sampling=header["sampling"],
            processes=[self.processes[index] for index in sorted(self.processes)],
            nodes={index: np.concatenate(parts) for index, parts in self.nodes.items()},
            modules=self.modules,
            codes=self.codes,
            frames=self.frames,
            snapshots=self.snapshots,
            totals=self.totals,
            timeline={index: np.concatenate(parts) for index, parts in self.timeline.items()},
            touches=self.touches,
            lives=self.lives,
            ages=self.ages,
            pins=self.pins,
            cold=self.cold,
            notes=self.notes,
            complete=self.complete,
        )


def _read_header(pieces: _Pieces, facts: Facts, _: memoryview) -> None:
    sampling = facts["sampling"]
    pieces.header = {
        "command": tuple(_texts(facts["command"])),
        "started": _text(facts["started"]),
        "machine": dict(facts["machine"]),
        "sampling": model.Sampling(
            mode=_text(sampling["mode"]),
            sample_bytes=int(sampling["sample_bytes"]),
            interval_s=_number(sampling["interval_s"]),
            fault_period=int(sampling.get("fault_period", 0)),
        ),
    }


def _read_process(pieces: _Pieces, facts: Facts, _: memoryview) -> None:
    process = model.Process(
        index=int(facts["index"]),
        pid=int(facts["pid"]),
        parent_pid=int(facts["parent_pid"]),
        parent_index=_optional(int, facts["parent_index"]),
        executable=_text(facts["executable"]),
        command=tuple(_texts(facts["command"])),
        start_s=_number(facts["start_s"]),
        python_version=_optional(_text, facts["python_version"]),
        end_s=_optional(_number, facts["end_s"]),
        ending=_text(facts["ending"]),
        note=_text(facts["note"]),
    )
    pieces.processes[process.index] = process


def _read_nodes(pieces: _Pieces, facts: Facts, data: memoryview) -> None:
    process, first = int(facts["process"]), int(facts["first"])
    rows = np.frombuffer(data, model.NODE_DTYPE)
    if first != pieces.node_count.get(process, 0):
        message = "nodes out of order"
        raise ValueError(message)
    indices = np.arange(first, first + len(rows))
    if (rows["parent"] >= np.maximum(indices, 1)).any():
        message = "a node comes before its parent"
        raise ValueError(message)
    pieces.nodes.setdefault(process, []).append(rows)
    pieces.node_count[process] = first + len(rows)


def _read_modules(pieces: _Pieces, facts: Facts, _: memoryview) -> None:
    modules = [
        model.Module(_text(path), _text(build_id), int(bias), int(start), int(end))
        for path, build_id, bias, start, end in facts["modules"]
    ]
    pieces.modules.setdefault(int(facts["process"]), []).extend(modules)


def _read_codes(pieces: _Pieces, facts: Facts, data: memoryview) -> None:
    codes, offset = [], 0
    for name, file, first_line, linetable_format, length in facts["codes"]:
        table = bytes(data[offset : offset + length])
        codes.append(
            model.Code(_text(name), _text(file), int(first_line), table, int(linetable_format))
        )
        offset += length
    pieces.codes.setdefault(int(facts["process"]), []).extend(codes)


def _put_by(pieces: _Pieces, flags: int, payload: bytes) -> None:
    """Keep a snapshot for later; of a long run's, keep ever fewer of the regular ones."""
    facts = atlas.unpack_facts(flags, payload)
    pieces.looks.setdefault(int(facts["process"]), _Looks()).add(
        _Look(pieces.look_count, facts, flags, payload)
    )
    pieces.look_count += 1


def _read_latest(pieces: _Pieces) -> None:
    """Inflate the sums of each process that no later ones replace."""
    for (kind, _), (flags, payload) in pieces.latest.items():
        try:
            _DECODERS[kind](pieces, *atlas.unpack_payload(flags, payload))
        except _MALFORMED:
            pieces.complete = False
    pieces.latest.clear()


def _read_snapshots(pieces: _Pieces) -> None:
    """Take the snapshots kept, in the order of the file, up to the first that is malformed."""
    looks = [look for each in pieces.looks.values() for _, look in each.kept]
    pieces.looks.clear()
    for look in sorted(looks, key=lambda look: look.number):
        try:
            _read_snapshot(pieces, look)
        except _MALFORMED:
            pieces.complete = False
            return


def _read_snapshot(pieces: _Pieces, look: _Look) -> None:
    """Take a snapshot; its rows are inflated when somebody looks at them, which few do."""
    facts = look.facts
    process = int(facts["process"])
    room = _room(pieces, process)
    parts = tuple(
        model.Part(model.PartKind(kind), _text(name), _amount(resident), _amount(error))
        for kind, name, resident, error in facts["parts"]
    )
    snapshot = model.Snapshot(
        process=process,
        time_s=_number(facts["time_s"]),
        trigger=_text(facts["trigger"]),
        rss_bytes=_amount(facts["rss_bytes"]),
        parts=parts,
        unexplained_bytes=_amount(facts["unexplained_bytes"]),
        rows=cast("Rows", LazyRows(model.SNAPSHOT_DTYPE, partial(_snapshot_rows, look, room))),
    )
    pieces.snapshots.append(snapshot)


def _snapshot_rows(look: _Look, room: int) -> Rows:
    try:
        _, data = atlas.unpack_payload(look.flags, look.payload)
        return _stack_rows(room, np.frombuffer(data, model.SNAPSHOT_DTYPE))
    except _MALFORMED as error:
        message = f"a snapshot of the recording is malformed ({error}); record the program anew"
        raise MematlasError(message) from None


def _read_totals(pieces: _Pieces, facts: Facts, data: memoryview) -> None:
    process = int(facts["process"])
    pieces.totals[process] = model.Totals(
        process=process,
        time_s=_number(facts["time_s"]),
        peak_time_s=_number(facts["peak_time_s"]),
        peak_live_bytes=_number(facts["peak_live_bytes"]),
        rows=_stack_rows(_room(pieces, process), np.frombuffer(data, model.TOTALS_DTYPE)),
    )


def _read_lives(pieces: _Pieces, facts: Facts, data: memoryview) -> None:
    process = int(facts["process"])
    rows = np.frombuffer(data, model.LIVES_DTYPE)
    pieces.lives[process] = _stack_rows(_room(pieces, process), rows)


def _read_ages(pieces: _Pieces, facts: Facts, data: memoryview) -> None:
    process = int(facts["process"])
    rows = np.frombuffer(data, model.AGES_DTYPE)
    if (rows["born"] > rows["died"]).any():
        message = "memory died before it was born"
        raise ValueError(message)
    pieces.ages[process] = model.Ages(
        process=process,
        time_s=_number(facts["time_s"]),
        cell_s=_number(facts["cell_s"]),
        rows=_stack_rows(_room(pieces, process), rows),
    )


def _read_cold(pieces: _Pieces, facts: Facts, data: memoryview) -> None:
    process = int(facts["process"])
    pieces.cold[process] = model.Cold(
        process=process,
        time_s=_number(facts["time_s"]),
        seconds=_number(facts["seconds"]),
        method=_text(facts["method"]),
        whole=bool(facts["whole"]),
        cold_bytes=_amount(facts["cold_bytes"]),
        rows=_stack_rows(_room(pieces, process), np.frombuffer(data, model.COLD_DTYPE)),
    )


def _thin_pins(pieces: _Pieces) -> None:
    """Keep those whose snapshot is kept."""
    times = {
        (process, _number(look.facts["time_s"]))
        for process, looks in pieces.looks.items()
        for _, look in looks.kept
    }
    pieces.packed_pins = {key: each for key, each in pieces.packed_pins.items() if key in times}


def _read_pins(pieces: _Pieces) -> None:
    """Take those of the snapshots that were kept."""
    for look in pieces.snapshots:
        key = look.process, look.time_s
        if key not in pieces.packed_pins:
            continue
        try:
            facts, data = atlas.unpack_payload(*pieces.packed_pins.pop(key))
            rows = np.frombuffer(data, model.PINS_DTYPE)
            pieces.pins[key] = model.Pins(
                process=look.process,
                time_s=look.time_s,
                slack=tuple(
                    model.SlackPart(_text(name), _amount(free), _amount(pinned))
                    for name, free, pinned in facts["slack"]
                ),
                rows=_stack_rows(_room(pieces, look.process), rows),
            )
        except _MALFORMED:
            pieces.complete = False


def _read_timeline(pieces: _Pieces, facts: Facts, data: memoryview) -> None:
    rows = np.frombuffer(data, model.TIMELINE_DTYPE)
    pieces.timeline.setdefault(int(facts["process"]), []).append(rows)


def _read_touches(pieces: _Pieces, facts: Facts, data: memoryview) -> None:
    process = int(facts["process"])
    rows = _stack_rows(_room(pieces, process), np.frombuffer(data, model.TOUCHES_DTYPE))
    places = tuple((model.PartKind(kind), _text(name)) for kind, name in facts["places"])
    room = np.where(rows["kind"] == 0, len(places), pieces.node_count.get(process, 1))
    if (rows["owner"] >= room).any():
        message = "a row names an owner that was not written"
        raise ValueError(message)
    pieces.touches[process] = model.Touches(
        process=process,
        state=_text(facts["state"]),
        reason=_text(facts["reason"]),
        samples=int(facts["samples"]),
        lost=int(facts["lost"]),
        places=places,
        rows=rows,
    )


def _read_frames(pieces: _Pieces, facts: Facts, data: memoryview) -> None:
    frames = [_frame(pieces.frame_of, tuple(each)) for each in facts["frames"]]
    words = np.frombuffer(data, "<u8").tolist()
    stacks = [tuple(frames[number] for number in stack) for stack in facts["stacks"]]
    pieces.frames.setdefault(int(facts["process"]), {}).update(zip(words, stacks, strict=True))


def _frame(known: dict[tuple[Any, ...], model.Frame], facts: tuple[Any, ...]) -> model.Frame:
    """Make a frame, or give the one made before: processes of one program share most of theirs."""
    frame = known.get(facts)
    if frame is None:
        function, file, line, module, kind = facts
        frame = known[facts] = model.Frame(
            _text(function),
            _optional(_text, file),
            _optional(int, line),
            _optional(_text, module),
            _text(kind),
        )
    return frame


def _read_notes(pieces: _Pieces, facts: Facts, _: memoryview) -> None:
    pieces.notes.extend(_texts(facts["notes"]))


def _read_end(pieces: _Pieces, _: Facts, __: memoryview) -> None:
    pieces.complete = True


_DECODERS: dict[bytes, Callable[[_Pieces, Facts, memoryview], None]] = {
    atlas.HEADER: _read_header,
    atlas.PROCESS: _read_process,
    atlas.NODES: _read_nodes,
    atlas.MODULES: _read_modules,
    atlas.CODES: _read_codes,
    atlas.TOTALS: _read_totals,
    atlas.LIVES: _read_lives,
    atlas.AGES: _read_ages,
    atlas.COLD: _read_cold,
    atlas.TIMELINE: _read_timeline,
    atlas.TOUCHES: _read_touches,
    atlas.FRAMES: _read_frames,
    atlas.NOTES: _read_notes,
    atlas.END: _read_end,
}


def _stack_rows(room: int, rows: Rows) -> Rows:
    """Give the rows back if each names a node that exists and has figures that can be told."""
    if len(rows) and int(rows["stack"].max()) >= room:
        message = "a row names a stack that was not written"
        raise ValueError(message)
    for name in rows.dtype.names or ():
        if rows.dtype[name].kind != "f":
            continue
        most = 2.0**112 if name.endswith("variance") else 2.0**56  # so that sums fit 63 bits
        if not (np.abs(rows[name]) < most).all():  # as of what is no number
            message = f"{name} holds what is no amount"
            raise ValueError(message)
    return rows


def _room(pieces: _Pieces, process: int) -> int:
    """Count the stacks of a process; 0, "no stack", always exists."""
    return max(1, pieces.node_count.get(process, 0))


def _text(value: object) -> str:
    if not isinstance(value, str):
        message = f"{value!r} is no text"
        raise TypeError(message)
    return value


def _texts(values: list[object]) -> list[str]:
    return [_text(value) for value in values]


def _number(value: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        message = "not a finite number"
        raise ValueError(message)
    return number


def _amount(value: float) -> int:
    amount = int(value)
    if abs(amount) >= 1 << 56:
        message = "no amount of memory"
        raise ValueError(message)
    return amount


def _optional(convert: Callable[[Any], R], value: object) -> R | None:
    return None if value is None else convert(value)
