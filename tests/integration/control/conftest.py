"""Trees of knobs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lanes
from knob_tree import FILES, MM, VM

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Create a tree in which knobs are plain files."""
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Path]:
    """Create a tree that links to this machine's own knobs, with a journal of its own."""
    assert lanes.is_alone(), "a test that changes the machine needs the mark `machine`"
    kept = {}
    for path in (VM / "dirty_bytes", VM / "dirty_ratio", MM / "ksm/pages_to_scan"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).symlink_to(Path("/") / path)
        if not os.access(tmp_path / path, os.W_OK):
            pytest.skip(f"/{path} cannot be written here")
        kept[path] = (tmp_path / path).read_text()
    boot = tmp_path / "proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    boot.symlink_to("/proc/sys/kernel/random/boot_id")
    yield tmp_path
    for path, text in kept.items():
        if text.strip() != "0":  # of a pair: restored by writing its counterpart
            (Path("/") / path).write_text(text)
