"""Cut or damaged recordings are read as a prefix of the original."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

import synthetic_recording
from mematlas.errors import MematlasError
from mematlas.recording import read

if TYPE_CHECKING:
    from mematlas.recording.model import RecordingData


@cache
def whole_bytes() -> bytes:
    """Return the bytes of the synthetic recording."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.atlas"
        synthetic_recording.write(path)
        return path.read_bytes()


def read_bytes(data: bytes) -> RecordingData | None:
    """Read a recording from bytes; None if it is refused."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.atlas"
        path.write_bytes(data)
        try:
            return read(path)
        except MematlasError:
            return None


@cache
def whole() -> RecordingData:
    """Return the synthetic recording."""
    recording = read_bytes(whole_bytes())
    assert recording
    return recording


def is_start(part: Any, of: Any) -> bool:
    """Return whether one list or array is a prefix of another."""
    return list(map(repr, part)) == list(map(repr, of[: len(part)]))


def assert_prefix(part: RecordingData) -> None:
    """Every table of a damaged recording is a prefix of the original table."""
    full = whole()
    assert (part.command, part.sampling) == (full.command, full.sampling)
    assert is_start(part.processes, full.processes)
    assert is_start(part.snapshots, full.snapshots)
    for mine, theirs in (
        (part.nodes, full.nodes),
        (part.codes, full.codes),
        (part.modules, full.modules),
        (part.timeline, full.timeline),
    ):
        for index, table in mine.items():
            assert is_start(table, theirs[index])
    assert repr(part.totals) in {repr({}), repr({1: full.totals[1]}), repr(full.totals)}
    assert is_start(part.notes, full.notes)
    assert part.frames in ({}, full.frames)


@given(st.integers(0, 1 << 20))
def test_any_prefix_decodes_to_a_prefix(length: int) -> None:
    """A file cut anywhere is read as the recording up to an earlier time."""
    data = whole_bytes()
    length %= len(data)
    part = read_bytes(data[:length])
    if part:
        assert not part.complete
        assert_prefix(part)


@given(st.integers(0, 1 << 20), st.integers(1, 255))
def test_a_flipped_byte_never_invents_anything(position: int, flip: int) -> None:
    """A changed byte is refused or ends the recording there."""
    data = bytearray(whole_bytes())
    position %= len(data)
    data[position] ^= flip
    part = read_bytes(bytes(data))
    if part:
        assert_prefix(part)
        assert not part.complete or position in range(12, 16)  # the reserved word


@given(st.binary(max_size=200), st.integers(0, 1 << 20))
def test_bytes_put_in_anywhere_never_crash(noise: bytes, position: int) -> None:
    """Noise ends the recording before it."""
    data = whole_bytes()
    position %= len(data)
    part = read_bytes(data[:position] + noise + data[position:])
    if part:
        assert_prefix(part)
