"""Allocators inside of files, and files that are none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mematlas.linux import constants
from mematlas.tracing.private_allocators import (
    describe_private_allocators,
    find_private_allocators,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_mark_across_two_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark is found wherever it lies, and mimalloc inside of Python is not counted."""
    monkeypatch.setattr(constants, "_PIECE", 100)
    whole = bytes(95) + b"<jemalloc>: error" + bytes(400) + b"mimalloc: warning" + bytes(99)
    (tmp_path / "both").write_bytes(whole)
    (tmp_path / "python").write_bytes(b"mimalloc: x" + bytes(300) + b"PYTHONMALLOC")
    found = describe_private_allocators(
        find_private_allocators((str(path), "") for path in tmp_path.iterdir())
    )
    assert len(found) == 1
    assert found[0].startswith(f"{tmp_path / 'both'} contains jemalloc and mimalloc")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A program may name a pipe as its module."""
    os.mkfifo(tmp_path / "pipe")
    assert find_private_allocators([(str(tmp_path / "pipe"), ""), ("/dev/zero", "")]) == {}


def test_another_file_at_the_path_is_not_read(tmp_path: Path) -> None:
    """The module of a container, or a file that was replaced, has another build ID than the file here."""
    (tmp_path / "here").write_bytes(b"<jemalloc>: error")
    path = str(tmp_path / "here")
    assert find_private_allocators([(path, "0123abcd")]) == {}
    assert find_private_allocators([(path, "")]) == {path: ["jemalloc"]}
