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


def test_a_nodes_room_is_its_own() -> None:
    """What a node can give is its free memory, its page cache and free swap."""
    if not Path("/sys/devices/system/node/node0/meminfo").exists():
        pytest.skip("this kernel shows no nodes")

    def shown() -> int:
        text = Path("/sys/devices/system/node/node0/meminfo").read_text()
        names = r"(?:MemFree|Active\(file\)|Inactive\(file\)): +(\d+)"
        swap = re.search(r"SwapFree: +(\d+)", Path("/proc/meminfo").read_text())
        sizes = [*re.findall(names, text), swap[1] if swap else "0"]
        return sum(int(size) << 10 for size in sizes)

    before, found, after = shown(), headroom.read_node_headroom([0]), shown()
    assert found is not None
    assert min(before, after) - 512 * MIB <= found.size <= max(before, after) + 512 * MIB
    assert headroom.read_node_headroom([]) is None
    assert headroom.read_node_headroom([63]) is None


def test_a_full_node_is_no_death(monkeypatch: pytest.MonkeyPatch) -> None:
    """Populating more than the node of a binding has is refused; without populate, explain() says so."""
    room = headroom.Headroom(MIB, "node 0 can give")
    monkeypatch.setattr(headroom, "read_node_headroom", lambda nodes: room if nodes else None)
    with pytest.raises(
        MematlasError, match=r"8\.00 MiB could not be populated: .*1\.00 MiB node 0"
    ):
        Region("8M", node=0, populate=True)
    with Region("8M", populate=True) as region:
        assert "OOM" not in region.explain()
    with Region("8M", node=0, policy="preferred", populate=True) as region:
        assert "OOM" not in region.explain()
    with Region("8M", node=0) as region:
        said = region.explain()
        assert "8.00 MiB are not resident yet, and bound to node 0" in said
        assert "calls the OOM killer" in said
        region.view[: 8 * MIB] = bytes(8 * MIB)
        assert "OOM" not in region.explain()


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
