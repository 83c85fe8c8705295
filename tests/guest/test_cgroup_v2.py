"""The account of a cgroup, and the reports of OOM kills, on a kernel with cgroup version 2 alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from integration.agent.test_oom import agent, test_the_report_names_limit_process_and_line
from integration.observe.test_cgroup_account import (
    test_closed_files_are_found_below_a_directory,
    test_every_kind_of_memory_is_found,
    test_memory_of_a_moved_process_is_told,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "agent",
    "test_closed_files_are_found_below_a_directory",
    "test_every_kind_of_memory_is_found",
    "test_memory_of_a_moved_process_is_told",
    "test_the_report_names_limit_process_and_line",
]


@pytest.fixture(autouse=True)
def version_2() -> None:
    """Skip where the memory controller is of version 1."""
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        pytest.skip("no cgroup version 2 here")


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Return a directory on a disk: the guest's /tmp is memory, whose files are no page cache."""
    image, folder = tmp_path / "disk", tmp_path / "files"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(200 << 20)
    modules = os.environ["MEMATLAS_MODULES"]
    for name in ("loop", "ext4"):
        subprocess.run(["modprobe", "-d", modules, name], check=True, timeout=120)
    subprocess.run(["mkfs.ext4", "-q", image], check=True, timeout=120)
    subprocess.run(["mount", "-o", "loop", image, folder], check=True, timeout=120)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True, timeout=120)
