"""Segments of a rolling recording: their names, changed totals, joining, thinning, moments."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mematlas.recording import Writer, decode, read, thinning
from mematlas.recording.format import MALFORMED
from mematlas.recording.join import join
from mematlas.recording.model import PYTHON, CodeObject, Module, Past, Process, Sampling, Segment
from mematlas.recording.prune import prune
from mematlas.recording.row_types import (
    AGE_MATRIX_DTYPE,
    ALIVE,
    NODE_DTYPE,
    TIMELINE_DTYPE,
    TOTALS_DTYPE,
)
from mematlas.recording.segments import joined_files, list_segments, segment_path
from mematlas.recording.thinning import Limits, thin, thin_folder

if TYPE_CHECKING:
    from pathlib import Path

    from mematlas.recording.model import RecordingData

MALLOC = 1


def totals(*rows: tuple[int, int, int, int, int]) -> bytes:
    """Return totals: stack, allocated, freed, peak and live blocks of 10 bytes."""
    found = np.zeros(len(rows), TOTALS_DTYPE)
    for row, (stack, allocated, freed, peak, live) in zip(found, rows, strict=True):
        row["stack"], row["kind"] = stack, MALLOC
        row["allocated_bytes"], row["allocations"] = 10 * allocated, allocated
        row["freed_bytes"] = 10 * freed
        row["peak_bytes"], row["peak_count"] = 10 * peak, peak
        row["live_bytes"], row["live_count"] = 10 * live, live
    return found.tobytes()


def begin(
    path: Path,
    number: int,
    words: list[tuple[int, int]],
    names: str = "",
    past: Past | None = None,
) -> Writer:
    """Begin a segment whose trie has these (parent, word), with code objects of these names."""
    writer = Writer(
        path,
        command=["x"],
        started="2026-11-30T10:00:00.000+00:00",
        machine={},
        sampling=Sampling("exact", 0, 1.0),
        segment=Segment(number, number, 10.0 * (number - 1), past=past or Past()),
    )
    writer.process(Process(0, 7, 1, None, "/x", ("x",), 0.0, None))
    writer.modules(0, [Module("/x", "", 0, 0x1000, 0x9000)])
    writer.codes(0, [CodeObject(name, f"{name}.py", 1, b"", 2) for name in names])
    nodes = np.zeros(len(words) + 1, NODE_DTYPE)
    for node, (parent, word) in zip(nodes[1:], words, strict=True):
        node["parent"], node["word"] = parent, word
    writer.nodes(0, nodes.tobytes())
    return writer


def change(writer: Writer, time_s: float, peak_time_s: float, peak: float, rows: bytes) -> None:
    """Write changed totals."""
    writer.totals(
        0, time_s=time_s, peak_time_s=peak_time_s, peak_live_bytes=peak, rows=rows, changed=True
    )


def counts(recording: RecordingData, column: str) -> dict[int, float]:
    """Return a column of the totals by the word of the leaf."""
    nodes, rows = recording.nodes[0], np.asarray(recording.totals[0].rows)
    words = np.asarray(nodes["word"])
    return {int(words[row["stack"]]): float(row[column]) for row in rows}


def test_names_of_segments(tmp_path: Path) -> None:
    """Segments are in the order of runs and numbers; what another file has joined is left out."""
    for run, first, last in ((2, 1, 1), (1, 1, 1), (1, 2, 2), (1, 1, 3), (1, 4, 4), (1, 2, 3)):
        segment_path(tmp_path, run, first, last).touch()
    (tmp_path / "look-1.atlas").touch()
    (tmp_path / "0001-000009.atlas.tmp").touch()
    found = [(each.run, each.first, each.last) for each in list_segments(tmp_path)]
    assert found == [(1, 1, 3), (1, 4, 4), (2, 1, 1)]
    names = {path.name for path in joined_files(tmp_path)}
    assert names == {"0001-000001.atlas", "0001-000002.atlas", "0001-000002-000003.atlas"}


def test_changed_totals(tmp_path: Path) -> None:
    """The last row of a stack holds. After a new peak, the share of unchanged rows is what they have live."""
    with begin(tmp_path / "a.atlas", 1, [(0, 0x1010), (0, 0x1020), (0, 0x1030)]) as writer:
        change(writer, 1, 0.5, 80, totals((1, 5, 0, 5, 5), (2, 9, 6, 3, 3), (3, 4, 4, 0, 0)))
        change(writer, 2, 0.5, 80, totals((2, 9, 9, 3, 0)))
        change(writer, 3, 2.5, 90, totals((3, 8, 4, 4, 4)))
    recording = read(tmp_path / "a.atlas")
    assert not recording.complete
    assert counts(recording, "allocations") == {0x1010: 5, 0x1020: 9, 0x1030: 8}
    assert counts(recording, "live_count") == {0x1010: 5, 0x1020: 0, 0x1030: 4}
    assert counts(recording, "peak_count") == {0x1010: 5, 0x1020: 0, 0x1030: 4}
    assert recording.totals[0].peak_live_bytes == 90
    early = read(tmp_path / "a.atlas", at_s=1796032800 + 2.2)
    assert counts(early, "peak_count") == {0x1010: 5, 0x1020: 3, 0x1030: 0}


def test_segments_are_joined(tmp_path: Path) -> None:
    """Stacks are matched by their frames, code by its content; sums add up, and the higher peak is told."""
    python = [PYTHON | 1 << 32 | 2, PYTHON | 2 << 32 | 2]
    with begin(tmp_path / "0001-000001.atlas", 1, [(0, 0x1010), (1, python[0])], "ab") as writer:
        change(writer, 9, 8, 50, totals((2, 7, 2, 5, 5)))
        rows = np.array(
            [(2, MALLOC, 1, 3, 20, 2, 0), (2, MALLOC, 1, ALIVE, 50, 5, 0)], AGE_MATRIX_DTYPE
        )
        writer.age_matrix(0, time_s=9, cell_s=1.0, rows=rows.tobytes())
        writer.end()
    words = [(0, 0x1030), (0, 0x1010), (2, python[1]), (2, python[0])]  # code 2 is now "a"
    with begin(tmp_path / "0001-000002.atlas", 2, words, "ca") as writer:
        change(writer, 19, 12, 40, totals((1, 2, 0, 0, 2), (3, 1, 4, 4, 2), (4, 6, 6, 0, 0)))
        rows = np.array(
            [
                (3, MALLOC, 2, 30, 40, 4, 0),
                (1, MALLOC, 24, ALIVE, 20, 2, 0),
                (3, MALLOC, 2, ALIVE, 20, 2, 0),
            ],
            AGE_MATRIX_DTYPE,
        )
        writer.age_matrix(0, time_s=19, cell_s=0.5, rows=rows.tobytes())
        writer.end()
    recording = read(tmp_path)
    assert recording.complete
    names = [code.name for code in recording.codes[0]]
    assert sorted(names) == ["a", "b", "c"]
    a, c = (PYTHON | (names.index(name) + 1) << 32 | 2 for name in "ac")
    assert counts(recording, "allocations") == {a: 8, 0x1030: 2, c: 6}
    assert counts(recording, "freed_bytes") == {a: 60, 0x1030: 0, c: 60}
    assert counts(recording, "live_count") == {a: 2, 0x1030: 2, c: 0}
    assert counts(recording, "peak_count") == {a: 5, 0x1030: 0, c: 0}
    assert recording.totals[0].peak_time_s == 8
    assert recording.age_matrix[0].cell_s == 1.0
    ages = {
        (int(row["born"]), int(row["died"])): float(row["count"])
        for row in recording.age_matrix[0].rows
    }
    assert ages == {(1, 3): 2, (1, 15): 4, (12, ALIVE): 2, (1, ALIVE): 2}
    assert recording.segment == Segment(1, 2, 0.0)


def test_sums_go_on_where_the_oldest_segment_goes(tmp_path: Path) -> None:
    """Counters never fall: a segment has the sums of those before, also when it is joined to others."""
    past = Past(100.0, 10.0, 3.0, 1.0)
    for number, sums in ((1, Past()), (2, past), (3, Past(170.0, 17.0, 3.0, 1.0))):
        path = segment_path(tmp_path, 1, number)
        with begin(path, number, [(0, 0x1010)], past=sums) as writer:
            change(writer, number, 1, 10, totals((1, 7, 0, 1, 1)))
            writer.end()
    segment_path(tmp_path, 1, 1).unlink()
    for _ in range(2):
        found = read(tmp_path)
        assert found.segment
        assert found.segment.past == past
        assert counts(found, "allocations") == {0x1010: 14}
        thin_folder(tmp_path, 1, 4, Limits(3600.0, 1 << 30))
    assert [each.path.name for each in list_segments(tmp_path)] == ["0001-000002-000003.atlas"]


@pytest.mark.parametrize("past", [[], None, 7, {"allocated_bytes": "x"}, {"allocated_bytes": -1.0}])
def test_malformed_sums_are_an_error_of_the_file(past: object) -> None:
    """Whatever a file says of the segments before, an error of the reader comes of it, or no sums."""
    segment = {"number": 1, "last": 1, "start_s": 0.0, "detail_s": 0.0, "past": past}
    with suppress(*MALFORMED):
        found = decode._segment_of({"segment": segment})
        assert found is None or found.past == Past()


def test_very_many_stacks_are_joined_in_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of who thins is bounded; sums are whole, and no file is joined twice with another."""
    monkeypatch.setattr(thinning, "_MOST_AT_ONCE", 2)
    for number in range(1, 6):
        path = segment_path(tmp_path, 1, number)
        with begin(path, number, [(0, 0x1010)]) as writer:
            change(writer, number, 1, 10, totals((1, number, 0, 1, 1)))
            writer.end()
    thin_folder(tmp_path, 1, 6, Limits(3600.0, 1 << 30))
    assert [(each.first, each.last) for each in list_segments(tmp_path)] == [(1, 2), (3, 4), (5, 5)]
    assert counts(read(tmp_path), "allocations") == {0x1010: 15}
    thin_folder(tmp_path, 1, 6, Limits(3600.0, 1 << 30))
    assert [(each.first, each.last) for each in list_segments(tmp_path)] == [(1, 4), (5, 5)]


def test_thinning_keeps_the_highest(tmp_path: Path) -> None:
    """Of each minute the highest snapshot and point are kept, and the last ones."""
    with begin(tmp_path / "a.atlas", 1, [(0, 0x1010)]) as writer:
        points = np.zeros(180, TIMELINE_DTYPE)
        points["time_s"] = np.arange(180)
        points["rss_bytes"] = [1000 + (at * 37) % 60 for at in range(180)]
        writer.timeline(0, points.tobytes())
        for at in range(0, 180, 5):
            writer.snapshot(
                *(0,),
                time_s=at,
                trigger="mark" if at == 50 else "interval",
                rss_bytes=at % 60,
                parts=[],
                unexplained_bytes=0,
                rows=b"",
            )
        writer.end()
    recording = read(tmp_path / "a.atlas")
    thin(recording, 60.0)
    assert [each.time_s for each in recording.snapshots] == [50, 55, 115, 175]
    assert recording.timeline[0]["rss_bytes"].tolist()[:3] == [1059, 1059, 1059]
    assert recording.timeline[0]["time_s"][-1] == 179


def test_pruning_keeps_sums(tmp_path: Path) -> None:
    """What small stacks hold counts for one of their callers; large ones stay."""
    words = [(0, 0x1010), *((1, 0x2000 + 16 * at) for at in range(1000))]
    with begin(tmp_path / "a.atlas", 1, words) as writer:
        rows = [(2 + at, 1000 if at == 500 else 1, 0, 1, 1) for at in range(1000)]
        change(writer, 1, 1, 1, totals(*rows))
        writer.end()
    recording = read(tmp_path / "a.atlas")
    before = np.asarray(recording.totals[0].rows)["allocations"].sum()
    prune(recording, 100)
    rows_left = np.asarray(recording.totals[0].rows)
    assert len(rows_left) <= 100
    assert rows_left["allocations"].sum() == before
    assert counts(recording, "allocations")[0x2000 + 16 * 500] == 1000
    assert counts(recording, "allocations")[0x1010] > 900
    assert any("summed up" in note for note in recording.notes)


def test_files_of_tomorrow_are_thinned(tmp_path: Path) -> None:
    """The clock was set back, or that of a file server is ahead."""
    for number in (1, 2):
        with begin(tmp_path / f"0001-00000{number}.atlas", number, [(0, 0x1010)]) as writer:
            change(writer, number, 1, 1, totals((1, 1, 0, 1, 1)))
            writer.end()
        os.utime(tmp_path / f"0001-00000{number}.atlas", (2**32, 2**32))
    thin_folder(tmp_path, 1, 3, Limits(3600.0, 1 << 30))
    (joined,) = list_segments(tmp_path)
    assert (joined.first, joined.last) == (1, 2)
    assert counts(read(tmp_path), "allocations") == {0x1010: 2}


def test_a_file_of_a_later_version_stays(tmp_path: Path) -> None:
    """It cannot be joined, and what would be joined around it would take its place."""
    for number in (1, 2, 3):
        with begin(tmp_path / f"0001-00000{number}.atlas", number, [(0, 0x1010)]) as writer:
            writer.end()
    later = tmp_path / "0001-000002.atlas"
    content = bytearray(later.read_bytes())
    content[8] = 99
    later.write_bytes(content)
    thin_folder(tmp_path, 1, 4, Limits(3600.0, 1 << 30))
    assert later.read_bytes() == content
    assert [each.first for each in list_segments(tmp_path)] == [1, 2, 3]


def test_one_segment_is_as_it_is(tmp_path: Path) -> None:
    """A single segment needs no joining."""
    with begin(tmp_path / "a.atlas", 1, [(0, 0x1010)]) as writer:
        writer.end()
    recording = read(tmp_path / "a.atlas")
    assert join([recording]) is recording


def test_a_file_without_a_header_is_skipped(tmp_path: Path) -> None:
    """A recorder that was killed as it began a segment leaves one."""
    with begin(tmp_path / "0001-000001.atlas", 1, [(0, 0x1010)]) as writer:
        change(writer, 1, 1, 10, totals((1, 1, 0, 1, 1)))
        writer.end()
    for size in (0, 8, 16, 30):
        whole = (tmp_path / "0001-000001.atlas").read_bytes()
        (tmp_path / "0001-000002.atlas").write_bytes(whole[:size])
        assert counts(read(tmp_path), "allocations") == {0x1010: 1}


def test_a_run_without_a_process_hides_no_other(tmp_path: Path) -> None:
    """A recorder that was killed before its program began leaves one."""
    with begin(tmp_path / "0001-000001.atlas", 1, [(0, 0x1010)]) as writer:
        change(writer, 1, 1, 10, totals((1, 1, 0, 1, 1)))
        writer.end()
    header = {"machine": {}, "sampling": Sampling("exact", 0, 1.0), "segment": Segment(1, 1, 0.0)}
    for run, command in ((2, "y"), (3, "z")):
        with Writer(
            tmp_path / f"000{run}-000001.atlas",
            command=[command],
            started="2026-11-30T10:00:00.000+00:00",
            **header,  # type: ignore[arg-type]
        ):
            pass
    assert read(tmp_path).command == ("x",)
    (tmp_path / "0001-000001.atlas").unlink()
    assert read(tmp_path).command == ("z",)


@pytest.mark.parametrize("at_s", [-5.0, 5.0])
def test_a_time_that_is_not_kept(tmp_path: Path, at_s: float) -> None:
    """The error tells what the oldest is."""
    with begin(tmp_path / "0001-000002.atlas", 2, [(0, 0x1010)]) as writer:
        writer.end()
    with pytest.raises(Exception, match="the oldest is of"):
        read(tmp_path, at_s=1796032800 + at_s)
