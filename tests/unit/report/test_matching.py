"""Which frames of two recordings are the same line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import synthetic_recording
from mematlas.recording import read
from mematlas.recording.model import CodeObject, Frame
from mematlas.report.analyse.matching import FrameMatcher, library_name, pair_paths

if TYPE_CHECKING:
    from pathlib import Path

    from mematlas.recording.model import RecordingData


def python(file: str, line: int, function: str = "load") -> Frame:
    """Return a frame of Python."""
    return Frame(function, file, line, None, "python")


def native(module: str, line: int | None = 7, function: str = "fill") -> Frame:
    """Return a frame of native code."""
    return Frame(function, "/src/fill.c", line, module, "native")


@pytest.fixture
def recordings(tmp_path: Path) -> tuple[RecordingData, RecordingData]:
    """Return two recordings without code objects."""
    synthetic_recording.write(tmp_path / "a.atlas")
    both = read(tmp_path / "a.atlas"), read(tmp_path / "a.atlas")
    for each in both:
        each.codes.clear()
    return both


def same(
    recordings: tuple[RecordingData, RecordingData],
    before: Frame,
    after: Frame,
    *others: tuple[Frame, Frame],
    ignore_lines: bool = False,
) -> bool:
    """Return whether two frames match; `others` are other frames of both recordings."""
    frames = [before, *(a for a, _ in others)], [after, *(b for _, b in others)]
    matcher = FrameMatcher(recordings, frames, ignore_lines=ignore_lines)
    return matcher.key(0, before) == matcher.key(1, after)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("/ci/1/src/app/db.py", "/home/me/app/db.py", True),
        ("app/db.py", "/home/me/app/db.py", True),
        ("./db.py", "/srv/db.py", True),
        ("/a/lib/python3.11/site-packages/rich/text.py", "/b/lib/python3.13/site-packages/rich/text.py", True),
        ("/usr/lib/python3/dist-packages/rich/text.py", "/v/lib64/python3.12/site-packages/rich/text.py", True),
        ("/usr/lib/python3.11/json/decoder.py", "/opt/lib/python3.12/json/decoder.py", True),
        ("/srv/app/db.py", "/srv/app/cache.py", False),
    ],
)  # fmt: skip
def test_files_match_by_relative_path(
    recordings: tuple[RecordingData, RecordingData], before: str, after: str, *, expected: bool
) -> None:
    """Checkouts, environments and minor versions of Python may lie anywhere; other files are others."""
    assert same(recordings, python(before, 3), python(after, 3)) is expected
    assert not same(recordings, python(before, 3), python(after, 3, "other"))


def test_a_file_of_the_same_name_elsewhere_stays_another() -> None:
    """Folders with most files in common are paired, and each file once."""
    before = ["/ci/src/app/a.py", "/ci/src/app/b.py", "/ci/src/lib/a.py"]
    after = ["/me/app/a.py", "/me/app/b.py", "/me/lib/a.py", "/me/new/a.py"]
    assert pair_paths(before, after) == {
        "/me/app/a.py": "/ci/src/app/a.py",
        "/me/app/b.py": "/ci/src/app/b.py",
        "/me/lib/a.py": "/ci/src/lib/a.py",
    }
    assert pair_paths(before, before) == {}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("/usr/lib/libfoo.so.1.2.3", "libfoo.so"),
        ("/usr/lib/libc.so.6 (deleted)", "libc.so"),
        ("/lib/libc-2.31.so", "libc.so"),
        ("/usr/lib/libpython3.12.so.1.0", "libpython.so"),
        ("/usr/bin/python3.12", "python"),
        ("_json.cpython-311-x86_64-linux-gnu.so", "_json.so"),
        ("_speedups.abi3.so", "_speedups.so"),
        ("numpy.libs/libopenblas64_p-r0-0cf96a72.3.23.dev.so", "libopenblas64_p-r0.so"),
        ("libgfortran-040039e1-0352e75f.so.5.0.0", "libgfortran.so"),
        ("/usr/lib/libgtk-3.so.0", "libgtk-3.so"),  # another library than libgtk-4
        ("/opt/1.2", "1.2"),
        ("/srv/a.out", "a.out"),
    ],
)
def test_library_name(module: str, name: str) -> None:
    """Folder, version, ABI tag and the hash of a wheel are not part of a library's name."""
    assert library_name(module) == name


def test_native_functions_match_by_library(
    recordings: tuple[RecordingData, RecordingData],
) -> None:
    """The version of a library does not count, but its name does."""
    old = native("/usr/lib/libfoo.so.1.2")
    assert same(recordings, old, native("/opt/lib/libfoo.so.2"))
    assert not same(recordings, old, native("/usr/lib/libbar.so.1.2"))
    assert not same(recordings, old, native("/usr/lib/libfoo.so.1.2", function="other"))


def test_a_function_that_moved_matches_line_by_line(
    recordings: tuple[RecordingData, RecordingData],
) -> None:
    """Lines of a Python function count from its first one, and the second recording's are shown."""
    for recording, first in zip(recordings, (10, 25), strict=True):
        recording.codes[0] = [CodeObject("load", "/srv/a.py", first, b"", 2)]
    old, new = (
        [python("/srv/a.py", n) for n in (12, 27)],
        [python("/srv/a.py", n) for n in (27, 42)],
    )
    matcher = FrameMatcher(recordings, (old, new))
    keys = [matcher.key(0, each) for each in old], [matcher.key(1, each) for each in new]
    assert keys[0] == keys[1]
    assert keys[0][0] != keys[0][1]  # line 27 of the second is not line 27 of the first
    assert matcher.shown(0, old[0]).line == matcher.shown(1, new[0]).line == 27


def test_a_native_function_that_moved_is_one(
    recordings: tuple[RecordingData, RecordingData],
) -> None:
    """Where the first line is unknown and no line is in both, all lines of a function are one."""
    old, new = native("libfoo.so.1", 7), native("libfoo.so.1", 90)
    assert same(recordings, old, new)
    other = native("libfoo.so.1", 8)
    assert not same(recordings, old, new, (other, other))  # line 8 is in both: nothing moved


def test_lines_are_ignored_if_asked(recordings: tuple[RecordingData, RecordingData]) -> None:
    """`ignore_lines` matches by function alone."""
    old, new, stays = python("/srv/a.py", 3), python("/srv/a.py", 9), python("/srv/a.py", 4)
    assert not same(recordings, old, new, (stays, stays))
    assert same(recordings, old, new, (stays, stays), ignore_lines=True)


def test_memory_of_unknown_stacks_is_one(
    recordings: tuple[RecordingData, RecordingData],
) -> None:
    """No frame matches no frame only."""
    frame = python("/srv/a.py", 3)
    matcher = FrameMatcher(recordings, ([frame], [frame]))
    assert matcher.key(0, None) is matcher.key(1, None) is None
