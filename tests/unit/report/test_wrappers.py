"""Wrappers found in a recording, and those a user names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mematlas.errors import UsageError
from mematlas.recording.model import Frame
from mematlas.recording.ownership import owning_frame
from mematlas.recording.reader import read
from mematlas.report.analyse import wrappers
from synthetic_recording import nodes, totals_rows, write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mematlas.recording.model import RecordingData

MODULE = "/home/me/stripped"
NO_SETTINGS = wrappers.Patterns()


def unnamed(address: int, length: int | None = None) -> Frame:
    """Return a frame of a function without a name."""
    return Frame(f"stripped+{address:#x}", None, None, MODULE, "native", length)


def recording_of(tmp_path: Path, stacks: Sequence[tuple[tuple[Frame, ...], int]]) -> RecordingData:
    """Return a recording with stacks (leaf first), one block of the given size in each."""
    path = tmp_path / "a.atlas"
    write(path)
    recording = read(path)
    words: dict[Frame, int] = {}
    trie: dict[tuple[int, int], int] = {}
    rows: list[dict[str, float]] = []
    for frames, size in stacks:
        node = 0
        for frame in reversed(frames):
            word = words.setdefault(frame, len(words) + 1)
            node = trie.setdefault((node, word), len(trie) + 1)
        rows.append(
            {
                "stack": node,
                "kind": 1,
                "allocated_bytes": size,
                "allocations": 1,
                "live_bytes": size,
            }
        )
    columns = [[0, *(parent for parent, _ in trie)], [0, *(word for _, word in trie)]]
    recording.nodes = {0: _rows(nodes(*columns), recording.nodes[0].dtype)}
    recording.frames = {0: {word: (frame,) for frame, word in words.items()}}
    dtype = recording.totals[0].rows.dtype
    recording.totals = {0: replace(recording.totals[0], rows=_rows(totals_rows(*rows), dtype))}
    return recording


def _rows(data: bytes, dtype: Any) -> Any:
    return np.frombuffer(data, dtype)


def marked(recording: RecordingData) -> set[str]:
    """Return the names of the marked functions."""
    return {
        frame.function for stack in recording.frames[0].values() for frame in stack if frame.wrapper
    }


def test_many_callers_and_sizes_make_a_wrapper(tmp_path: Path) -> None:
    """A function without a name, called by many in many sizes, is looked through, and a note says so."""
    stacks = [
        ((unnamed(0x100), unnamed(0x1000 + 16 * i), unnamed(0x9000)), 100 * i) for i in range(1, 31)
    ]
    recording = recording_of(tmp_path, stacks)
    notes = wrappers.mark_wrappers(recording, NO_SETTINGS)
    assert marked(recording) == {"stripped+0x100"}
    assert "stripped+0x100" in notes[0]
    assert "--keep" in notes[0]
    first = recording.frames[0]
    frame = next(stack[0] for stack in first.values() if stack[0].wrapper)
    assert owning_frame((frame, *stacks[0][0][1:])) == stacks[0][0][1]


def test_one_size_makes_a_constructor(tmp_path: Path) -> None:
    """A function that allocates one size for many callers is an owner."""
    stacks = [((unnamed(0x100, 80), unnamed(0x1000 + 16 * i)), 48) for i in range(30)]
    recording = recording_of(tmp_path, stacks)
    assert wrappers.mark_wrappers(recording, NO_SETTINGS) == []
    assert marked(recording) == set()


def test_a_reader_with_few_callers_is_an_owner(tmp_path: Path) -> None:
    """A function that reads files of many sizes for two callers is an owner."""
    stacks = [
        ((unnamed(0x100, 900), unnamed(0x1000 + 16 * (i % 2)), unnamed(0x9000)), 100 * i)
        for i in range(1, 31)
    ]
    recording = recording_of(tmp_path, stacks)
    assert wrappers.mark_wrappers(recording, NO_SETTINGS) == []


def test_recursion_is_no_wrapper(tmp_path: Path) -> None:
    """A parser that calls itself has many stacks, and owns."""
    parser = unnamed(0x100, 900)
    stacks = [((parser,) * depth + (unnamed(0x9000),), 100 * depth) for depth in range(1, 31)]
    recording = recording_of(tmp_path, stacks)
    assert wrappers.mark_wrappers(recording, NO_SETTINGS) == []


def test_a_wrapper_of_a_wrapper(tmp_path: Path) -> None:
    """A short function that passes sizes on is looked through with few callers, and then its callers are."""
    stacks = [
        (
            (unnamed(0x100, 96), unnamed(0x200 + 16 * (i % 3), 64), unnamed(0x1000 + 16 * i, 700)),
            100 * i,
        )
        for i in range(1, 31)
    ]
    recording = recording_of(tmp_path, stacks)
    wrappers.mark_wrappers(recording, NO_SETTINGS)
    assert marked(recording) == {
        "stripped+0x100",
        "stripped+0x200",
        "stripped+0x210",
        "stripped+0x220",
    }


def test_the_user_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--skip marks, --keep prevents, and the user's file adds to --skip."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    stacks = [((unnamed(0x100), unnamed(0x1000 + 16 * i)), 100 * i) for i in range(1, 31)]
    recording = recording_of(tmp_path, stacks)
    assert wrappers.mark_wrappers(recording, wrappers.patterns(keep=[r"\+0x100$"])) == []
    assert marked(recording) == set()
    wrappers.mark_wrappers(recording, wrappers.patterns(["0x1010$"], [r"\+0x100$"]))
    assert marked(recording) == {"stripped+0x1010"}
    settings = wrappers.settings_file()
    settings.parent.mkdir(parents=True)
    settings.write_text("# mine\n\n0x1020$\n")
    wrappers.mark_wrappers(recording, wrappers.patterns(keep=[r"\+0x100$"]))
    assert marked(recording) == {"stripped+0x1010", "stripped+0x1020"}
    settings.write_text("(\n")
    with pytest.raises(UsageError, match="no regular expression"):
        wrappers.patterns()


def test_two_recordings_share_their_marks(tmp_path: Path) -> None:
    """What is looked through in one recording is looked through in the other, or a diff would mislead."""
    stacks = [((unnamed(0x100), unnamed(0x1000 + 16 * i)), 100 * i) for i in range(1, 31)]
    before, after = recording_of(tmp_path, stacks), recording_of(tmp_path, stacks[:3])
    wrappers.mark_wrappers(before, NO_SETTINGS)
    assert marked(after) == set()
    wrappers.share_marks(before, after)
    assert marked(after) == {"stripped+0x100"}
