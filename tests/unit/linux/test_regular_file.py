"""Files whose names a program chose: only regular ones are opened."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from mematlas.linux.regular_file import open_regular

if TYPE_CHECKING:
    from pathlib import Path


def test_regular_files_only(tmp_path: Path) -> None:
    """A pipe without a writer, a device and a directory are refused at once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, "/dev/zero", tmp_path):
        with pytest.raises(OSError, match="not a regular file"):
            open_regular(path)
    (tmp_path / "file").write_bytes(b"content")
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"content"
