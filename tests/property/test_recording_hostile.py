"""Recordings made to harm their reader: whole chunks with right checks, and nonsense in them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

import synthetic
from mematlas.analysis.leaks import find_leaks
from mematlas.analysis.report import make_report
from mematlas.errors import MematlasError
from mematlas.recording import format as atlas
from mematlas.recording import reader
from mematlas.recording.frames import resolve_missing
from mematlas.views.text.leaks import render_leaks
from mematlas.views.text.report import render_report

if TYPE_CHECKING:
    from collections.abc import Iterable

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
    | st.sampled_from([1 << 62, -(1 << 70), 10**300, "interval", "exit", "live", "/dev/zero"]),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=4), each, max_size=3),
    max_leaves=8,
)  # fmt: skip


def chunks() -> list[tuple[bytes, dict[str, Any], bytes]]:
    """Take the synthetic recording apart."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.atlas"
        synthetic.write(path)
        with path.open("rb") as file:
            file.read(atlas.START.size)
            found = list(reader._chunks(file))
    return [
        (kind, facts, bytes(rows))
        for kind, flags, payload in found
        for facts, rows in [atlas.unpack_payload(flags, payload)]
    ]


CHUNKS = chunks()


def survive(data: Iterable[tuple[bytes, dict[str, Any], bytes]]) -> None:
    """Read and show a recording; it may be refused in one line, and nothing else may happen."""
    whole = atlas.START.pack(atlas.MAGIC, atlas.VERSION, 0)
    whole += b"".join(atlas.pack_chunk(*each) for each in data)
    console = Console(file=io.StringIO(), width=100)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.atlas"
        path.write_bytes(whole)
        with contextlib.suppress(MematlasError):
            recording = reader.read(path)
            recording.notes += resolve_missing(recording)
            render_report(make_report(recording), top=5, by="live", console=console)
            render_leaks(find_leaks(recording), top=5, console=console)


@given(st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_any_fact_may_be_anything(data: st.DataObject) -> None:
    """A fact replaced by any JSON is refused, or ends the recording there."""
    at = data.draw(st.integers(0, len(CHUNKS) - 1))
    kind, facts, rows = CHUNKS[at]
    if not facts:
        return
    name = data.draw(st.sampled_from(sorted(facts)))
    changed = {**facts, name: data.draw(VALUES)}
    survive([*CHUNKS[:at], (kind, changed, rows), *CHUNKS[at + 1 :]])


@given(st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_any_row_may_be_anything(data: st.DataObject) -> None:
    """Eight bytes of rows replaced by any others: NaN, infinite, negative, out of range."""
    at = data.draw(st.sampled_from([n for n, each in enumerate(CHUNKS) if len(each[2]) >= 8]))
    kind, facts, rows = CHUNKS[at]
    where = data.draw(st.integers(0, len(rows) // 8 - 1)) * 8
    changed = rows[:where] + data.draw(st.binary(min_size=8, max_size=8)) + rows[where + 8 :]
    survive([*CHUNKS[:at], (kind, facts, changed), *CHUNKS[at + 1 :]])


@given(st.permutations(range(len(CHUNKS))), st.integers(0, len(CHUNKS)))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_chunks_in_any_order(order: list[int], count: int) -> None:
    """Chunks shuffled, left out or met twice are refused, or end the recording."""
    survive(CHUNKS[at] for at in [*order[:count], *order[: count // 2]])


@pytest.mark.parametrize("count", [1, 40])
def test_a_bomb_stays_small(tmp_path: Path, count: int) -> None:
    """A megabyte that inflates to gigabytes is refused; the reader stays below 1 GiB."""
    size = (512 if count == 1 else 60) << 20
    facts = json.dumps({"process": 0, "first": 0}).encode()
    facts += b" " * (-len(facts) % 8)
    pack = zlib.compressobj(9)
    bomb = pack.compress(len(facts).to_bytes(8, "little") + facts)
    bomb += b"".join(pack.compress(bytes(1 << 20)) for _ in range(size >> 20)) + pack.flush()
    head = atlas.HEAD.pack(atlas.NODES, atlas.COMPRESSED, len(bomb))
    chunk = head + atlas.CHECK.pack(zlib.crc32(bomb, zlib.crc32(head))) + bomb
    path = tmp_path / "bomb.atlas"
    start = atlas.START.pack(atlas.MAGIC, atlas.VERSION, 0) + atlas.pack_chunk(*CHUNKS[0])
    path.write_bytes(start + chunk * count)
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
    assert "cut short" in ran.stdout


def test_a_pipe_for_a_module_is_not_opened(tmp_path: Path) -> None:
    """A module's path that names a pipe must not be waited for."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    start = 0x7F0000000000
    modules = {"process": 0, "modules": [[str(pipe), "", start, start, start + (1 << 21)]]}
    survive((kind, modules if kind == atlas.MODULES else facts, rows)
            for kind, facts, rows in CHUNKS if kind != atlas.FRAMES)  # fmt: skip
