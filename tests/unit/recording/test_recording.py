"""Recordings are read as written; other files are refused in one line."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import synthetic_recording
from mematlas.errors import AccessError, MematlasError, TargetError, UnsupportedError
from mematlas.recording import Writer, read, reader
from mematlas.recording import format as atlas
from mematlas.recording.merge import write_merged
from mematlas.recording.model import Process, Sampling, Touched
from mematlas.recording.row_types import NODE_DTYPE, SNAPSHOT_DTYPE
from mematlas.report.analyse.report import make_report

if TYPE_CHECKING:
    from pathlib import Path


def test_a_copy_keeps_nothing_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that stay in the file remain readable after a pickled or deep copy was made and dropped."""
    monkeypatch.setattr(reader, "_LARGE", 64)
    rows = np.zeros(500, SNAPSHOT_DTYPE)
    rows["live_bytes"] = np.arange(500) ** 3 % 1009
    nodes = np.zeros(1, NODE_DTYPE)
    path = tmp_path / "a.atlas"
    with header_only(path) as writer:
        writer.process(synthetic_recording.PARENT)
        writer.nodes(synthetic_recording.PARENT.index, nodes.tobytes())
        writer.snapshot(
            synthetic_recording.PARENT.index,
            time_s=1.0,
            trigger="exit",
            rss_bytes=0,
            parts=[],
            unexplained_bytes=0,
            rows=rows.tobytes(),
        )
    recording = read(path)
    for copied in (pickle.loads(pickle.dumps(recording)), copy.deepcopy(recording)):
        assert copied.snapshots[0].rows["live_bytes"].tolist() == rows["live_bytes"].tolist()
        del copied
    assert recording.snapshots[0].rows["live_bytes"].tolist() == rows["live_bytes"].tolist()


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """A pipe is refused with the remedy in one line."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR)
    with pytest.raises(TargetError, match="save it to a file"):
        read(path)
    os.close(end)


def header_only(path: Path) -> Writer:
    """Start a recording in exact mode."""
    return Writer(
        path, command=["x"], started="now", machine={}, sampling=Sampling("exact", 0, 1.0)
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Every chunk is read as written, tables concatenated in order."""
    path = tmp_path / "a.atlas"
    synthetic_recording.write(path)
    recording = read(path)
    assert recording.complete
    assert recording.command == ("python3", "orders.py")
    assert recording.started == "2026-01-02T03:04:05Z"
    assert recording.machine == {"kernel": "6.1.0", "page_bytes": 4096}
    assert recording.sampling == Sampling("sampled", 65536, 1.0)
    assert recording.processes == [synthetic_recording.PARENT, synthetic_recording.CHILD]
    assert recording.modules == {0: synthetic_recording.MODULES}
    assert recording.codes == {0: synthetic_recording.CODES}
    assert recording.frames == {0: synthetic_recording.FRAMES}
    assert recording.nodes[0]["word"].tolist() == synthetic_recording.WORDS
    assert recording.nodes[0]["parent"].tolist() == synthetic_recording.PARENTS
    assert recording.timeline[0]["rss_bytes"].tolist() == [8e6, 9e6, 1e7]
    assert recording.notes == ["one thread was not traced"]
    assert np.isnan(recording.timeline[0]["swap_bytes"][1])
    assert [each.trigger for each in recording.snapshots] == ["interval", "exit"]
    last = recording.snapshots[-1]
    assert sum(part.resident_bytes for part in last.parts) + last.unexplained_bytes == 10_000_000
    assert last.rows["resident_bytes"].tolist() == [1_200_000, 300_000]
    assert recording.totals[0].rows["bad_frees"].tolist() == [0, 0, 3]
    assert recording.totals[1].rows.tolist() == []


def test_a_process_is_replaced_by_its_later_chunk(tmp_path: Path) -> None:
    """A process written twice is one process."""
    path = tmp_path / "a.atlas"
    with header_only(path) as writer:
        writer.process(synthetic_recording.PARENT)
        ended = dataclasses.replace(
            synthetic_recording.PARENT, end_s=2.0, ending="killed by SIGKILL"
        )
        writer.process(ended)
    assert read(path).processes == [ended]


def test_a_recording_without_its_end_is_incomplete(tmp_path: Path) -> None:
    """Without the END chunk everything else is read, and the recording is marked as cut."""
    path = tmp_path / "a.atlas"
    synthetic_recording.write(path, end=False)
    recording = read(path)
    assert not recording.complete
    assert len(recording.snapshots) == 2


def test_chunks_of_an_unknown_type_are_passed_over(tmp_path: Path) -> None:
    """Unknown chunk types are skipped."""
    path = tmp_path / "a.atlas"
    synthetic_recording.write(path, end=False)
    with path.open("ab") as file:
        file.write(atlas.pack_chunk(b"NEWS", {"x": 1}, b"rows" * 1000))
        file.write(atlas.pack_chunk(atlas.END, {}))
    assert read(path).complete


@pytest.mark.parametrize(
    ("start", "error", "text"),
    [
        (b"", MematlasError, "not a mematlas recording; `mematlas run -o FILE.atlas` makes one"),
        (b"\x7fELF" + bytes(100), MematlasError, "not a mematlas recording"),
        (
            atlas.START.pack(atlas.MAGIC, atlas.VERSION + 1, 0),
            UnsupportedError,
            f"format version {atlas.VERSION + 1}",
        ),
        (atlas.START.pack(atlas.MAGIC, 1, 0), MematlasError, "ends before its first chunk"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, start: bytes, error: type[MematlasError], text: str
) -> None:
    """A foreign, newer or empty file is refused in one line that names it."""
    path = tmp_path / "other"
    path.write_bytes(start)
    with pytest.raises(error, match=text) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_a_missing_target(tmp_path: Path) -> None:
    """A missing file is exit status 3."""
    for path in (tmp_path / "none.atlas", tmp_path, tmp_path / "none" / "a.atlas"):
        with pytest.raises(TargetError, match=r"no such file|is a directory"):
            read(path)


def test_a_row_of_an_unwritten_stack_counts_as_damage(tmp_path: Path) -> None:
    """Rows may only refer to earlier nodes; reading stops at others."""
    path = tmp_path / "a.atlas"
    with header_only(path) as writer:
        writer.process(synthetic_recording.PARENT)
        writer.nodes(0, synthetic_recording.nodes([0, 0], [0, 0x1000]))
        rows = synthetic_recording.totals_rows({"stack": 2, "kind": 1})
        writer.totals(0, time_s=1, peak_time_s=1, peak_live_bytes=0, rows=rows)
        writer.end()
    recording = read(path)
    assert not recording.complete
    assert recording.totals == {}


def test_a_node_before_its_parent_counts_as_damage(tmp_path: Path) -> None:
    """Parents come before their children, so that walking to the root always ends."""
    path = tmp_path / "a.atlas"
    with header_only(path) as writer:
        writer.nodes(0, synthetic_recording.nodes([0, 1], [0, 0x1000]))
        writer.end()
    assert read(path).nodes == {}


def test_large_rows_are_compressed(tmp_path: Path) -> None:
    """A table of similar rows is stored in a fraction of its size."""
    path = tmp_path / "a.atlas"
    count = 10_000
    with header_only(path) as writer:
        writer.nodes(0, synthetic_recording.nodes([0, *range(count)], [0, *range(count)]))
        writer.end()
    assert len(read(path).nodes[0]) == count + 1
    assert path.stat().st_size < 16 * count / 2


def test_each_chunk_is_in_the_file_at_once(tmp_path: Path) -> None:
    """The data of a call is readable before the next call."""
    path = tmp_path / "a.atlas"
    with header_only(path) as writer:
        for number in range(3):
            writer.process(dataclasses.replace(synthetic_recording.PARENT, index=number))
            assert len(read(path).processes) == number + 1


def test_fields_of_a_process_all_come_back(tmp_path: Path) -> None:
    """All fields of Process are written."""
    path = tmp_path / "a.atlas"
    process = Process(7, 8, 9, 6, "/bin/x", ("x", "y"), 1.5, "3.12.1", 2.5, "exec", "no ring")
    with header_only(path) as writer:
        writer.process(process)
    assert read(path).processes == [process]


def test_a_file_that_may_not_be_read_is_an_access_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permission denied is exit status 4."""
    path = tmp_path / "a.atlas"
    synthetic_recording.write(path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(AccessError, match="permission denied"):
        read(path)


def test_a_long_run_keeps_some_snapshots(tmp_path: Path) -> None:
    """Of thousands of snapshots a bounded number is kept: evenly spread, the highest, the exit."""
    path = tmp_path / "a.atlas"
    count, highest = 3000, 1234
    with header_only(path) as writer:
        writer.process(synthetic_recording.PARENT)
        for number in range(count):
            writer.snapshot(
                0,
                time_s=float(number),
                trigger="exit" if number == count - 1 else "interval",
                rss_bytes=9000 if number == highest else 1000,
                parts=[],
                unexplained_bytes=0,
                rows=synthetic_recording.snapshot_rows((0, 1, number, 1, 0, 0, 0, 0)) * 20,
            )
        writer.end()
    recording = read(path)
    times = [each.time_s for each in recording.snapshots]
    assert 80 < len(times) <= 200
    assert times == sorted(times)
    assert {0, highest, count - 1} <= set(times)
    assert max(np.diff(times)) <= count / 40
    assert all((each.rows["live_bytes"] == each.time_s).all() for each in recording.snapshots)
    assert recording.complete


def test_a_frame_in_no_file_has_none(tmp_path: Path) -> None:
    """A file name that is not a string ends the recording there, even if it is 0."""
    path = tmp_path / "a.atlas"
    with header_only(path):
        pass
    facts = {"process": 0, "frames": [["f", 0, None, None, "native"]], "stacks": [[0]]}
    with path.open("ab") as file:
        file.write(atlas.pack_chunk(atlas.FRAMES, facts, bytes(8)))
        file.write(atlas.pack_chunk(atlas.END, {}))
    recording = read(path)
    assert not recording.complete
    assert not recording.frames.get(0)


def test_a_recording_that_lost_events_is_not_complete(tmp_path: Path) -> None:
    """A note on lost events makes a recording incomplete, also merged, and is the only one on that."""
    path, both = tmp_path / "a.atlas", tmp_path / "both.atlas"
    with header_only(path) as writer:
        writer.process(synthetic_recording.PARENT)
        writer.notes(["process 7: 12 events were lost"], lossy=True)
        writer.end()
    write_merged(both, [read(path), read(path)])
    for each in (path, both):
        recording = read(each)
        assert recording.lossy
        assert not recording.complete
        notes = make_report(recording).notes
        assert any("12 events were lost" in note for note in notes)
        assert not any("cut short" in note for note in notes)


def large(path: Path) -> np.ndarray:
    """Write a recording with nodes too large to be kept in memory; return the nodes."""
    nodes = np.zeros(200_000, NODE_DTYPE)
    nodes["parent"][1:] = np.arange(len(nodes) - 1)
    nodes["word"] = np.random.default_rng(3).integers(0, 1 << 63, len(nodes), np.uint64)
    with header_only(path) as writer:
        writer.process(synthetic_recording.PARENT)
        writer.nodes(0, nodes.tobytes())
        writer.end()
    return nodes


def test_what_stays_in_the_file_is_read_when_asked_for(tmp_path: Path) -> None:
    """A large chunk is readable after its file was unlinked."""
    path = tmp_path / "a.atlas"
    nodes = large(path)
    recording = read(path)
    path.unlink()
    assert recording.complete
    assert recording.nodes[0].tobytes() == nodes.tobytes()


def test_a_file_cut_since_it_was_read_is_told_of(tmp_path: Path) -> None:
    """A file truncated after it was read is an error in one line."""
    path = tmp_path / "a.atlas"
    large(path)
    recording = read(path)
    os.truncate(path, 1000)
    with pytest.raises(MematlasError, match="record the program again"):
        recording.nodes[0]["word"]


@pytest.mark.parametrize(
    ("row", "valid"),
    [
        (("0", "0", "2", "4096", "1"), True),
        ((0, 0, 2, "nan", 1.0), False),
        ((0, 0, 2, 1.0, "nan"), False),
        ((0, 0, 2, -1.0, 1.0), False),
        ((0, 0, 2, 1.0, -1.0), False),
        ((0, 0, 300, 1.0, 1.0), False),
        ((0, 9, 2, 1.0, 1.0), False),
        ((0, -1, 2, 1.0, 1.0), False),
        (([], 0, 2, 1.0, 1.0), False),
        ((0, 0, 2, 1e10, 1e20), True),
    ],
)
def test_touches_are_numbers_in_range(tmp_path: Path, row: tuple[Any, ...], valid: bool) -> None:
    """A snapshot with a malformed touch is dropped; others have numbers, whatever the file holds."""
    path = tmp_path / "a.atlas"
    with header_only(path) as writer:
        writer.process(synthetic_recording.PARENT)
        writer.nodes(synthetic_recording.PARENT.index, np.zeros(1, NODE_DTYPE).tobytes())
        writer.snapshot(
            synthetic_recording.PARENT.index,
            time_s=1.0,
            trigger="exit",
            rss_bytes=0,
            parts=[],
            unexplained_bytes=0,
            rows=b"",
            touched=[Touched(*row)],
        )
    recording = read(path)
    for snapshot in recording.snapshots:
        for each in snapshot.touched:
            assert isinstance(each.stack, int)
            assert isinstance(each.kind, int)
            assert 0 <= each.bytes < 2**56
            assert 0 <= each.variance < 2**112
    assert len(recording.snapshots) == valid
    make_report(recording)
