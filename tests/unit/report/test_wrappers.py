"""Wrappers found in a recording, and those a user names."""

from __future__ import annotations

import errno
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mematlas.errors import UsageError
from mematlas.recording.model import Frame
from mematlas.recording.ownership import owning_frame
from mematlas.recording.reader import read
from mematlas.report.analyse import wrappers
from mematlas.report.analyse.owner_patterns import Patterns, patterns, settings_file
from synthetic_recording import nodes, totals_rows, write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mematlas.recording.model import RecordingData

MODULE = "/home/me/stripped"
NO_SETTINGS = Patterns()


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
    assert wrappers.mark_wrappers(recording, patterns(keep=[r"\+0x100$"])) == []
    assert marked(recording) == set()
    wrappers.mark_wrappers(recording, patterns(["0x1010$"], [r"\+0x100$"]))
    assert marked(recording) == {"stripped+0x1010"}
    settings = settings_file()
    settings.parent.mkdir(parents=True)
    settings.write_text("# mine\n\n0x1020$\n")
    wrappers.mark_wrappers(recording, patterns(keep=[r"\+0x100$"]))
    assert marked(recording) == {"stripped+0x1010", "stripped+0x1020"}
    settings.write_text("(\n")
    with pytest.raises(UsageError, match=r"skip:1: '\(' is no regular expression"):
        patterns()
    settings.unlink()
    with pytest.raises(UsageError, match=r"--keep '\['"):
        patterns(keep=["["])


@pytest.mark.parametrize("name", ["xmalloc", "my_grow", "stripped+0x100"])
def test_keep_holds_for_every_source(tmp_path: Path, name: str) -> None:
    """--keep outweighs the table of names, --skip, and what the recording shows."""
    leaf = Frame(name, None, None, MODULE, "native")
    stacks = [((leaf, unnamed(0x1000 + 16 * i), unnamed(0x9000)), 100 * i) for i in range(1, 31)]
    for keep, expected in (([], stacks[0][0][1]), ([f"^{re.escape(name)}$"], leaf)):
        recording = recording_of(tmp_path, stacks)
        notes = wrappers.mark_wrappers(recording, patterns([r"^my_"], keep))
        frames = {frame.function: frame for (frame,) in recording.frames[0].values()}
        path = tuple(frames[each.function] for each in stacks[0][0])
        assert owning_frame(path) == frames[expected.function]
        assert not (keep and any(name in note for note in notes))


def test_a_kept_function_of_the_runtime_is_no_owner(tmp_path: Path) -> None:
    """`--keep .` turns the rules on names off; libc is still not the program's own code."""
    libc = Frame("malloc", None, None, "/usr/lib/libc.so.6", "native")
    recording = recording_of(tmp_path, [((libc, unnamed(0x1000)), 100)])
    wrappers.mark_wrappers(recording, patterns(keep=["."]))
    path = tuple(frame for (frame,) in recording.frames[0].values())
    assert [frame.kept for frame in path] == [True, True]
    found = owning_frame(tuple(sorted(path, key=lambda frame: frame.function)))
    assert found is not None
    assert found.function == "stripped+0x1000"


@pytest.mark.parametrize("home", ["/dev/null", "/nonexistent"])
def test_without_a_usable_home_there_are_no_patterns(
    home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service account has no home directory, or one that is no directory."""
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    assert patterns() == Patterns()


def test_an_unknown_or_foreign_home_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a user without an entry in passwd nor the home of another user is an error; an unreadable file is."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    def denied(path: Path, **_: Any) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    with monkeypatch.context() as here:
        here.setattr("pathlib.Path.home", unknown)
        assert patterns() == Patterns()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("pathlib.Path.read_text", denied)
    assert patterns() == Patterns()
    settings_file().parent.mkdir()
    with pytest.raises(UsageError, match=r"skip: Permission denied"):
        patterns()


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory, or bytes that are no text, in place of the file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = settings_file()
    path.mkdir(parents=True)
    with pytest.raises(UsageError, match=f"^{re.escape(str(path))}: Is a directory"):
        patterns()
    path.rmdir()
    path.write_bytes(b"\xff\n")
    with pytest.raises(UsageError, match=f"^{re.escape(str(path))}: no UTF-8 text"):
        patterns()


def test_two_recordings_share_their_marks(tmp_path: Path) -> None:
    """What is looked through in one recording is looked through in the other, or a diff would mislead."""
    stacks = [((unnamed(0x100), unnamed(0x1000 + 16 * i)), 100 * i) for i in range(1, 31)]
    before, after = recording_of(tmp_path, stacks), recording_of(tmp_path, stacks[:3])
    wrappers.mark_wrappers(before, NO_SETTINGS)
    assert marked(after) == set()
    wrappers.share_marks(before, after)
    assert marked(after) == {"stripped+0x100"}
