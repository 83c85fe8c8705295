"""The account of a cgroup, and the reports of OOM kills, on a kernel with cgroup version 2 alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from integration.agent.test_agent import test_figures_are_the_kernels
from integration.agent.test_oom import agent, test_the_report_names_limit_process_and_line
from integration.observe.test_cgroup_account import (
    CLOSED,
    HEAP,
    LITTLE,
    MAPPED,
    MEMFD,
    MIB,
    STACK,
    THREADS,
    TMPFS,
    accounted,
    holding,
    test_memory_of_a_moved_process_is_told,
)
from mematlas.observe.cgroup_account.model import UNACCOUNTED
from nested_cgroups import nested

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "agent",
    "test_figures_are_the_kernels",
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


def test_every_kind_of_memory_is_found(tmp_path: Path) -> None:
    """Each part is what the program holds, and at most the pages charged ahead are left over.

    The guest's root is a file system of a server, so files in tmpfs that nobody has open have no name here.
    """
    with nested() as (_, group, _sibling), holding(group, tmp_path) as pid:
        account = accounted(pid, str(tmp_path))
        assert account.version == 2
        parts = {part.kind: part for part in account.parts}
        assert sum(part.bytes for part in account.parts) == account.usage
        assert abs(parts[UNACCOUNTED].bytes) <= account.usage // 100
        (heap,) = parts["anonymous"].pieces
        assert HEAP * MIB <= heap.bytes <= (HEAP + 12) * MIB
        assert abs(parts["shared"].bytes - (MEMFD + TMPFS) * MIB) < LITTLE
        cached = (MAPPED + CLOSED) * MIB
        assert cached <= parts["file"].bytes <= cached + LITTLE
        files = {each.path: each for each in account.files}
        mapped, closed = files[f"{tmp_path}/mapped"], files[f"{tmp_path}/closed"]
        assert (mapped.charged, mapped.holders) == (MAPPED * MIB, (pid,))
        assert (closed.charged, closed.holders) == (CLOSED * MIB, ())
        memfd = files["/memfd:held (deleted)"]
        assert (memfd.charged, memfd.holders, memfd.in_memory) == (MEMFD * MIB, (pid,), True)
        kernel = {piece.name: piece.bytes for piece in parts["kernel"].pieces}
        # The stack of the first thread is charged to the group of the process that forked.
        assert THREADS * STACK <= kernel["kernel stacks"] <= (THREADS + 1) * STACK
