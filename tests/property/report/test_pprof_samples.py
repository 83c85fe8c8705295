"""Samples of pprof's format, encoded in C, against a plain encoder; and the stream they are packed in."""

from __future__ import annotations

import errno
import gzip
import os
import random
import threading
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mematlas
import synthetic_recording
from mematlas._core.columns.samples import SampleEncoder
from mematlas.api.views import export_source
from mematlas.errors import MematlasError
from mematlas.report.export import gzip_stream, render_export
from mematlas.report.export.protobuf import data, varint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NUMBERS = st.integers(1, 1 << 31) | st.integers(1, 300)
VALUES = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, 300)


@st.composite
def profiles(draw: st.DrawFn) -> tuple[list[int], list[int], list[bytes], list[tuple[int, int]]]:
    """Draw parents, locations, labels, and rows of (stack, labels)."""
    nodes = draw(st.integers(1, 60))
    parents = [0, *(draw(st.integers(0, node)) for node in range(nodes - 1))]
    locations = draw(st.lists(NUMBERS, min_size=nodes, max_size=nodes))
    labels = draw(st.lists(st.binary(max_size=20), min_size=1, max_size=3))
    row = st.tuples(st.integers(0, nodes - 1), st.integers(0, len(labels) - 1))
    return parents, locations, labels, draw(st.lists(row, max_size=20))


def plain(
    parents: list[int], locations: list[int], labels: bytes, stack: int, values: list[int]
) -> bytes:
    """Encode one sample."""
    path = [locations[stack]]
    while stack:
        stack = parents[stack]
        path += [locations[stack]] if stack else []
    fields = data(1, b"".join(map(varint, path))) + data(2, b"".join(map(varint, values)))
    return data(2, fields + labels)


@given(profiles(), st.data())
def test_samples_are_those_of_a_plain_encoder(
    profile: tuple[list[int], list[int], list[bytes], list[tuple[int, int]]], source: st.DataObject
) -> None:
    """Every byte is the same, whatever the trie, the numbers and the labels are."""
    parents, locations, labels, rows = profile
    one = st.lists(VALUES, min_size=3, max_size=3)
    values = source.draw(st.lists(one, min_size=len(rows), max_size=len(rows)))
    encoder = SampleEncoder(np.array(parents, np.uint32), np.array(locations, np.uint32), labels)
    found = encoder.encode(
        np.array([stack for stack, _ in rows], np.uint32),
        np.array([kind for _, kind in rows], np.uint8),
        np.array(values, np.int64).reshape(len(rows), 3),
    )
    assert b"".join(found) == b"".join(
        plain(parents, locations, labels[kind], stack, each)
        for (stack, kind), each in zip(rows, values, strict=True)
    )


@pytest.mark.parametrize("location", [1, 300, 1 << 31])
def test_paths_of_every_length_are_those_of_a_plain_encoder(location: int) -> None:
    """Short paths are written once, long ones are measured first; both have the same bytes."""
    parents = [0, *range(1299)]
    locations = [location] * len(parents)
    encoder = SampleEncoder(np.array(parents, np.uint32), np.array(locations, np.uint32), [b"x"])
    stacks = [0, 1, *range(90, 260), *range(400, 520), *range(950, 1040), 1299]
    found = encoder.encode(
        np.array(stacks, np.uint32),
        np.zeros(len(stacks), np.uint8),
        np.arange(len(stacks), dtype=np.int64).reshape(-1, 1),
    )
    assert b"".join(found) == b"".join(
        plain(parents, locations, b"x", stack, [value]) for value, stack in enumerate(stacks)
    )


def test_a_sample_larger_than_a_piece_is_encoded() -> None:
    """A path of two million nodes needs more room than a piece has at first."""
    nodes = 2_000_000
    parents = np.maximum(np.arange(nodes, dtype=np.int64) - 1, 0).astype(np.uint32)
    encoder = SampleEncoder(parents, np.full(nodes, 1 << 20, np.uint32), [b""])
    one = np.array([nodes - 1], np.uint32), np.zeros(1, np.uint8), np.zeros((1, 1), np.int64)
    assert 3 * (nodes - 1) < len(b"".join(encoder.encode(*one))) < 3 * nodes + 40


@pytest.mark.parametrize(
    ("parents", "stack", "kind"), [([0, 0], 2, 0), ([0, 0], 1, 1), ([0, 2, 1], 2, 0)]
)
def test_what_is_no_profile_is_refused(parents: list[int], stack: int, kind: int) -> None:
    """A stack, labels or a parent that do not exist are errors, not reads out of bounds."""
    encoder = SampleEncoder(np.array(parents, np.uint32), np.ones(len(parents), np.uint32), [b"x"])
    with pytest.raises(OSError, match="22"):
        list(
            encoder.encode(
                np.array([stack], np.uint32), np.array([kind], np.uint8), np.zeros((1, 2), np.int64)
            )
        )


def test_blocks_deflated_apart_are_one_stream() -> None:
    """Readers that stop after the first member of a gzip file read everything too."""
    pieces = [random.Random(7).randbytes(size) for size in (10, 700_000, 0, 900_000, 3_000_000, 1)]
    packed = b"".join(gzip_stream.compress(pieces, 1))
    assert gzip.decompress(packed) == b"".join(pieces)
    first = zlib.decompressobj(31)
    assert first.decompress(packed) == b"".join(pieces)
    assert first.eof
    assert not first.unused_data
    assert gzip.decompress(b"".join(gzip_stream.compress([], 1))) == b""


@pytest.mark.parametrize("started", [0, 1])
def test_blocks_are_deflated_without_threads_where_none_can_start(
    monkeypatch: pytest.MonkeyPatch, started: int
) -> None:
    """A limit on address space or on tasks makes an export slower, and no other."""
    left = [started]
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if not left[0]:
            message = "can't start new thread"
            raise RuntimeError(message)
        left[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3})
    pieces = [random.Random(7).randbytes(1 << 20) for _ in range(12)]
    assert gzip.decompress(b"".join(gzip_stream.compress(pieces, 1))) == b"".join(pieces)


def test_a_trie_that_is_none_is_a_malformed_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says so, and blames no output file."""
    path = tmp_path / "a.atlas"
    synthetic_recording.write(path)
    source = export_source(mematlas.open(path), "pprof", frames="all")

    def refuse(*_: object) -> Iterator[bytes]:
        yield b""
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(SampleEncoder, "encode", refuse)
    with pytest.raises(MematlasError, match="malformed"):
        list(render_export([source], "pprof"))
