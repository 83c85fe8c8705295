"""Populating more memory than is available is refused, instead of ending in the OOM killer."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from machine_state import in_child
from mematlas.errors import MematlasError
from mematlas.memory import Region, headroom

MIB = 1 << 20


def test_more_than_the_machine_has() -> None:
    """A region of nearly all memory and swap is refused with the available bytes, also as a fallback."""
    text = Path("/proc/meminfo").read_text()
    total = sum(
        int(size) << 10 for size in re.findall(r"^(?:Mem|Swap)Total: +(\d+)", text, re.MULTILINE)
    )
    with pytest.raises(MematlasError, match=r"more than the .*(can give|has left of its limit)"):
        Region(total - 64 * MIB, populate=True)
    with pytest.raises(MematlasError, match="more than the"):
        Region(total - 64 * MIB, huge="thp", lock=True)


def test_room_is_about_what_is_available() -> None:
    """The machine's limit is MemAvailable and free swap, unless a cgroup's limit is lower."""

    def available() -> int:
        text = Path("/proc/meminfo").read_text()
        return sum(
            int(size) << 10
            for size in re.findall(r"^(?:MemAvailable|SwapFree): +(\d+)", text, re.MULTILINE)
        )

    before = available()
    now = headroom.read_headroom()
    assert now is not None
    assert now.size <= max(before, available()) + 256 * MIB


def test_a_cgroup_limit_is_no_death() -> None:
    """A region larger than the rest of its cgroup is an error instead of a SIGKILL."""
    group, limit = own_group()
    try:
        (group / limit).write_text(str(64 * MIB))

        def ask() -> bool:
            (group / "cgroup.procs").write_text(str(os.getpid()))
            try:
                Region("256M", populate=True)
            except MematlasError as error:
                return "the cgroup" in str(error) and "limit of 64.0 MiB" in str(error)
            return False

        assert in_child(ask) == 0
    finally:
        group.rmdir()


def own_group() -> tuple[Path, str]:
    """Create a cgroup below the process's own; skip the test without permission."""
    text = Path("/proc/self/cgroup").read_text()
    old = re.search(r"^\d+:memory:(.*)$", text, re.MULTILINE)
    new = re.search(r"^0::(.*)$", text, re.MULTILINE)
    for match, top, limit in (
        (old, "/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        (new, "/sys/fs/cgroup", "memory.max"),
    ):
        if match:
            group = Path(top + match[1]) / f"mematlas-{os.getpid()}"
            try:
                group.mkdir()
            except OSError:
                continue
            if (group / limit).exists():
                return group, limit
            group.rmdir()
    pytest.skip("no memory cgroup can be made here")
