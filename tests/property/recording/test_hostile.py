"""Hostile recordings: complete chunks with valid CRCs and arbitrary contents."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

import synthetic_recording
from mematlas.cli.main import main
from mematlas.errors import MematlasError
from mematlas.heap.analyse.summary import summarise
from mematlas.heap.read.recorded import read_graph
from mematlas.heap.text.answers import render_waste
from mematlas.heap.text.tree import render_summary
from mematlas.recording import format as atlas
from mematlas.recording import reader
from mematlas.recording.columns import ChunkData
from mematlas.recording.frames import resolve_missing
from mematlas.recording.packed import Packed, read_head
from mematlas.recording.row_types import COLUMNS, NODE_DTYPE, TIMELINE_DTYPE
from mematlas.report.analyse.heap_lines import with_lines
from mematlas.report.analyse.leaks import find_leaks
from mematlas.report.analyse.lines import lines
from mematlas.report.analyse.lost_memory import find_lost_memory
from mematlas.report.analyse.report import make_report
from mematlas.report.text.leaks import render_leaks
from mematlas.report.text.report import render_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mematlas.recording.format import ShuffledRows

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
    | st.sampled_from([1 << 62, -(1 << 70), 10**300, "interval", "exit", "live", "/dev/zero"]),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=4), each, max_size=3),
    max_leaves=8,
)  # fmt: skip


def chunks(write: Callable[[Path], None]) -> list[tuple[bytes, dict[str, Any], bytes]]:
    """Split a synthetic recording into chunks."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.atlas"
        write(path)
        with path.open("rb") as file:
            file.read(atlas.START.size)
            found = list(reader._chunks(file))
    return [
        (kind, metadata, plain(kind, rows))
        for kind, flags, payload in found
        for metadata, rows in [atlas.unpack_chunk(flags, payload)]
    ]


def plain(kind: bytes, rows: memoryview | ShuffledRows | Packed) -> bytes:
    """Return rows as written."""
    if isinstance(rows, memoryview):
        return bytes(rows)
    return ChunkData(rows).rows(np.dtype(COLUMNS[atlas._COLUMNS_OF[kind]])).tobytes()


CHUNKS = chunks(synthetic_recording.write)
EVERY = chunks(synthetic_recording.write_every_chunk)


def survive(data: Iterable[tuple[bytes, dict[str, Any], bytes]]) -> None:
    """Read and render a recording. Only an error in one line is allowed."""
    start = atlas.START.pack(atlas.MAGIC, atlas.VERSION, 0)
    show(start + b"".join(atlas.pack_chunk(*each) for each in data))


def show(whole: bytes) -> None:
    """Read and render a recording of these bytes."""
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.atlas"
        path.write_bytes(whole)
        with contextlib.suppress(MematlasError):
            recording = reader.read(path)
            recording.notes += resolve_missing(recording)
            report = make_report(recording)
            render_report(report, lines(report.stacks, "live"), top=5, by="live", console=console)
            leaks = replace(find_leaks(recording), heap=find_lost_memory(recording))
            render_leaks(leaks, top=5, console=console)
            for each in recording.graphs.values():
                heap = with_lines(read_graph(each), recording, each.process)
                render_summary(summarise(heap), top=5, console=console)
                render_waste(heap.content.waste(5), top=5, console=console)


@given(st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_any_metadata_may_be_anything(data: st.DataObject) -> None:
    """Metadata replaced by any JSON is refused or ends the recording there."""
    at = data.draw(st.integers(0, len(CHUNKS) - 1))
    kind, metadata, rows = CHUNKS[at]
    if not metadata:
        return
    name = data.draw(st.sampled_from(sorted(metadata)))
    # small values of `first`: in a chunk large enough to be packed, the writer needs a number
    values = VALUES if name != "first" else st.none() | st.integers() | st.text(max_size=9)
    changed = {**metadata, name: data.draw(values)}
    survive([*CHUNKS[:at], (kind, changed, rows), *CHUNKS[at + 1 :]])


@given(st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_any_row_may_be_anything(data: st.DataObject) -> None:
    """Eight bytes of rows replaced by any others: NaN, infinite, negative, out of range."""
    at = data.draw(st.sampled_from([n for n, each in enumerate(CHUNKS) if len(each[2]) >= 8]))
    kind, metadata, rows = CHUNKS[at]
    where = data.draw(st.integers(0, len(rows) // 8 - 1)) * 8
    changed = rows[:where] + data.draw(st.binary(min_size=8, max_size=8)) + rows[where + 8 :]
    survive([*CHUNKS[:at], (kind, metadata, changed), *CHUNKS[at + 1 :]])


def damaged(data: st.DataObject, value: Any) -> Any:
    """Return a JSON value of which one part is another."""
    if isinstance(value, dict) and value:
        key = data.draw(st.sampled_from(sorted(value)))
        return {**value, key: damaged(data, value[key])}
    if isinstance(value, list) and value:
        at = data.draw(st.integers(0, len(value) - 1))
        return [*value[:at], damaged(data, value[at]), *value[at + 1 :]]
    return data.draw(VALUES)


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_a_heap_graph_may_be_anything(data: st.DataObject) -> None:
    """One fact or eight bytes of the rows of a heap graph replaced by any others."""
    at = next(number for number, each in enumerate(EVERY) if each[0] == atlas.GRAPH)
    kind, metadata, rows = EVERY[at]
    if data.draw(st.booleans()):
        metadata = {**metadata, "facts": damaged(data, metadata["facts"])}
    else:
        where = data.draw(st.integers(0, len(rows) // 8 - 1)) * 8
        rows = rows[:where] + data.draw(st.binary(min_size=8, max_size=8)) + rows[where + 8 :]
    survive([*EVERY[:at], (kind, metadata, rows), *EVERY[at + 1 :]])


@given(st.permutations(range(len(CHUNKS))), st.integers(0, len(CHUNKS)))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_chunks_in_any_order(order: list[int], count: int) -> None:
    """Chunks in another order, missing or repeated are refused or end the recording."""
    survive(CHUNKS[at] for at in [*order[:count], *order[: count // 2]])


def inflated(mebibytes: int, start: bytes = b"") -> bytes:
    """Deflate `size` zero bytes after a prefix."""
    pack = zlib.compressobj(9)
    packed = [pack.compress(start), *(pack.compress(bytes(1 << 20)) for _ in range(mebibytes))]
    return b"".join((*packed, pack.flush()))


def plain_bomb(mebibytes: int) -> bytes:
    """Build a chunk of nodes that inflates to a given size."""
    metadata = json.dumps({"process": 0, "first": 0}).encode()
    metadata += b" " * (-len(metadata) % 8)
    bomb = inflated(mebibytes, len(metadata).to_bytes(8, "little") + metadata)
    return chunk_of(atlas.NODES, atlas.COMPRESSED, bomb)


def words_bomb(mebibytes: int) -> bytes:
    """Build a chunk of one node whose dictionary inflates to a given size, and its sums."""
    metadata = json.dumps({"process": 0, "first": 0}).encode()
    metadata += b" " * (-len(metadata) % 8)
    words = inflated(mebibytes)
    entry = struct.Struct("<4B3I2Q")
    described = struct.pack("<QQII", len(metadata), 1, 3, 0)
    described = described[:8] + metadata + described[8:] + 2 * entry.pack(*[0] * 9)
    described += entry.pack(4, 0, 0, 0, 0, mebibytes << 17, 0, 0, len(words))
    head = zlib.compress(described)
    bomb = len(head).to_bytes(8, "little") + head + words
    sums = {"process": 0, "time_s": 1, "peak_time_s": 1, "peak_live_bytes": 5}
    row = struct.pack("<2I11d", 0, 1, *[5.0] * 11)
    return chunk_of(atlas.NODES, atlas.PACKED, bomb) + atlas.pack_chunk(atlas.TOTALS, sums, row)


def chunk_of(kind: bytes, flags: int, payload: bytes) -> bytes:
    """Add a chunk header to a payload."""
    head = atlas.HEAD.pack(kind, flags, len(payload))
    return head + atlas.CHECK.pack(zlib.crc32(payload, zlib.crc32(head))) + payload


@pytest.mark.parametrize(
    "chunks",
    [lambda: plain_bomb(512), lambda: plain_bomb(60) * 40, lambda: words_bomb(1024)],
    ids=["one", "many", "words"],
)
def test_a_bomb_stays_small(tmp_path: Path, chunks: Callable[[], bytes]) -> None:
    """A decompression bomb is refused; the reader stays below 1 GiB."""
    path = tmp_path / "bomb.atlas"
    start = atlas.START.pack(atlas.MAGIC, atlas.VERSION, 0)
    start += b"".join(atlas.pack_chunk(*chunk) for chunk in CHUNKS[:2])
    path.write_bytes(start + chunks())
    limit = 1 << 30

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    ran = subprocess.run(
        [sys.executable, "-m", "mematlas", "report", str(path)],
        preexec_fn=bound,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "not complete" in ran.stdout


def many_sums() -> list[tuple[bytes, dict[str, Any], bytes]]:
    """Return the synthetic recording with enough rows in its chunks to be packed."""
    found = []
    for kind, metadata, rows in CHUNKS:
        repeated = rows
        if kind == atlas.NODES and metadata["first"]:
            continue
        if kind == atlas.NODES:
            nodes = np.zeros(100, NODE_DTYPE)
            nodes["parent"][1:] = np.arange(99)
            nodes["word"][1:] = np.arange(99) % 7 + 4096
            repeated = nodes.tobytes()
        elif kind in atlas._COLUMNS_OF:
            repeated = rows * 40
        found.append((kind, metadata, repeated))
    return found


MANY = many_sums()


@given(st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_packed_columns_may_say_anything(data: st.DataObject) -> None:
    """Any replaced byte of column descriptions or columns in a chunk with a valid CRC."""
    chunks = [atlas.pack_chunk(*each) for each in MANY]
    packed = [n for n, each in enumerate(chunks) if atlas.HEAD.unpack_from(each)[1] == atlas.PACKED]
    at = data.draw(st.sampled_from(packed))
    payload = chunks[at][atlas.CHUNK_HEAD :]
    head = bytearray(zlib.decompress(read_head(memoryview(payload))))
    rest = bytearray(payload[8 + len(read_head(memoryview(payload))) :])
    metadata = 8 + int.from_bytes(head[:8], "little")
    head[data.draw(st.integers(metadata, len(head) - 1))] = data.draw(st.integers(0, 255))
    if rest and data.draw(st.booleans()):
        rest[data.draw(st.integers(0, len(rest) - 1))] = data.draw(st.integers(0, 255))
    deflated = zlib.compress(bytes(head))
    payload = len(deflated).to_bytes(8, "little") + deflated + bytes(rest)
    start = atlas.HEAD.pack(MANY[at][0], atlas.PACKED, len(payload))
    chunks[at] = start + atlas.CHECK.pack(zlib.crc32(payload, zlib.crc32(start))) + payload
    show(atlas.START.pack(atlas.MAGIC, atlas.VERSION, 0) + b"".join(chunks))


def test_a_pipe_for_a_module_is_not_opened(tmp_path: Path) -> None:
    """A module path that is a pipe does not block."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    start = 0x7F0000000000
    modules = {"process": 0, "modules": [[str(pipe), "", start, start, start + (1 << 21)]]}
    survive((kind, modules if kind == atlas.MODULES else metadata, rows)
            for kind, metadata, rows in CHUNKS if kind != atlas.FRAMES)  # fmt: skip


def with_values(kind: bytes, **values: object) -> bytes:
    """Return the synthetic recording with metadata replaced in all chunks of a kind."""
    start = atlas.START.pack(atlas.MAGIC, atlas.VERSION, 0)
    changed = (
        (each, {**metadata, **values} if each == kind else metadata, rows)
        for each, metadata, rows in EVERY
        if each != atlas.END
    )
    return start + b"".join(atlas.pack_chunk(*each) for each in changed)


def with_samples(name: str, value: float) -> bytes:
    """Return the synthetic recording with a column of its timeline replaced."""
    start, found = atlas.START.pack(atlas.MAGIC, atlas.VERSION, 0), []
    for kind, metadata, rows in EVERY:
        if kind == atlas.TIMELINE:
            samples = np.frombuffer(rows, TIMELINE_DTYPE).copy()
            samples[name] = value
            found.append((kind, metadata, samples.tobytes()))
        elif kind != atlas.END:
            found.append((kind, metadata, rows))
    return start + b"".join(atlas.pack_chunk(*each) for each in found)


@pytest.mark.parametrize(
    "whole",
    [
        with_values(atlas.MODULES, modules=[["/x", "", 0, 1 << 64, 1 << 65]]),
        with_values(atlas.MODULES, modules=[["/x", "", -1, -1, 5]]),
        with_values(atlas.PROCESS, end_s=1e308, index=0),
        with_values(atlas.PROCESS, end_s=-5, index=0),
        with_values(atlas.AGE_MATRIX, cell_s=1e-300),
        with_values(atlas.TOTALS, time_s=1e308, peak_live_bytes=1e300),
        with_values(atlas.GRAPH, moment="noon"),
        with_samples("time_s", float("inf")),
        with_samples("time_s", float("nan")),
        with_samples("rss_bytes", float("-inf")),
        with_samples("live_bytes", 1e300),
    ],
)
def test_numbers_out_of_range(
    tmp_path: Path, whole: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """No view and no export fails other than by an error of one line."""
    path = tmp_path / "a.atlas"
    path.write_bytes(whole)
    for command in (
        ["report", str(path)],
        ["report", str(path), "--json"],
        ["report", str(path), "--to", "html", "-o", str(tmp_path / "a.html")],
        ["leaks", str(path)],
        *(
            ["export", str(path), "--to", kind, "-o", str(tmp_path / "out")]
            for kind in ("chrome", "csv", "pprof", "speedscope", "dhat")
        ),
    ):
        assert main(command) in range(6)
    assert "Traceback" not in capsys.readouterr().err
