"""Source text in the page: what may be read, what is changed, what is bounded."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

from mematlas.recording.model import Frame
from mematlas.report.html.source_lines import read_source_lines

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

STARTED = "2026-11-23T10:00:00+00:00"
BEGAN = 1795428000


def written(path: Path, text: str, when: float = BEGAN - 100) -> Frame:
    """Write a file with a time of its own; return a frame of its second line."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, (when, when))
    return Frame("load", str(path), 2, None, "python")


def test_a_line_is_read_and_a_later_change_is_told(tmp_path: Path) -> None:
    """The text is stripped; a file written after the start of the run is marked."""
    old = written(tmp_path / "old.py", "def load():\n    return [0] * 100\n")
    new = written(tmp_path / "new.py", "def load():\n    return 1\n", BEGAN + 100)
    found = read_source_lines([old, new, "a process"], STARTED, only_of_root=True)
    assert found[old.file or "", 2] == ("return [0] * 100", False)
    assert found[new.file or "", 2] == ("return 1", True)


def test_only_source_code_is_read(tmp_path: Path) -> None:
    """No file without the suffix of source, no link to one, no FIFO, no folder, no binary, no line behind the end."""
    secret = tmp_path / "shadow"
    secret.write_text("root:\nhash\n", encoding="utf-8")
    (tmp_path / "link.py").symlink_to(secret)
    os.mkfifo(tmp_path / "fifo.py")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "binary.py").write_bytes(b"\xff\n\xfe\n")
    (tmp_path / "short.py").write_text("one", encoding="utf-8")
    (tmp_path / "large.py").write_bytes(b"x\ny\n" + b"z" * (5 << 20))
    names = (
        "shadow",
        "link.py",
        "fifo.py",
        "folder.py",
        "binary.py",
        "short.py",
        "large.py",
        "no.py",
    )
    frames = [Frame("f", str(tmp_path / name), 2, None, "python") for name in names]
    relative = Frame("f", "short.py", 1, None, "python")
    assert read_source_lines([*frames, relative], STARTED, only_of_root=True) == {}


def test_the_number_of_lines_is_bounded(tmp_path: Path) -> None:
    """The page carries some thousand lines at most, each cut to a width."""
    path = tmp_path / "long.py"
    path.write_text(
        "\n".join(f"x{number} = {'1' * 400}" for number in range(9000)), encoding="utf-8"
    )
    frames = [Frame("f", str(path), number, None, "python") for number in range(1, 9000)]
    found = read_source_lines(frames, STARTED, only_of_root=True)
    assert 1000 < len(found) <= 3000
    assert max(len(line.text) for line in found.values()) <= 160


def test_root_reads_for_others_what_is_public(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a program of another user, files and folders that are closed to others are not read by root."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pathlib.Path, "parents", property(lambda _: [tmp_path]))
    frame = written(tmp_path / "settings.py", "import os\nKEY = 1\n")
    for folder, file, seen in ((0o755, 0o644, 1), (0o700, 0o644, 0), (0o755, 0o600, 0)):
        tmp_path.chmod(folder)
        (tmp_path / "settings.py").chmod(file)
        assert len(read_source_lines([frame], STARTED, only_of_root=False)) == seen
        assert len(read_source_lines([frame], STARTED, only_of_root=True)) == 1
