"""A tree in which the knobs of `mematlas tune` are files."""

from __future__ import annotations

from pathlib import Path

from mematlas.control.tune import apply, knobs, plan

VM = Path("proc/sys/vm")
MM = Path("sys/kernel/mm")
FILES = {
    VM / "swappiness": "60\n",
    VM / "dirty_ratio": "20\n",
    VM / "dirty_bytes": "0\n",
    VM / "overcommit_memory": "0\n",
    VM / "max_map_count": "65530\n",
    VM / "compact_memory": "",
    VM / "drop_caches": "",
    MM / "transparent_hugepage/enabled": "always [madvise] never\n",
    MM / "hugepages/hugepages-2048kB/nr_hugepages": "4\n",
    Path("sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"): "4\n",
    Path("sys/module/zswap/parameters/enabled"): "N\n",
    Path("proc/sys/kernel/random/boot_id"): "one\n",
    Path("proc/buddyinfo"): "Node 0, zone Normal 9 8 7 6 5 4 3 2 1 5 2\n",
}
WANTED = {"vm.swappiness": "10", "vm.overcommit_memory": "1", "vm.max_map_count": "100000"}


def values(root: Path) -> dict[str, str]:
    """Return every knob's value."""
    found = (knobs.read(root, knob) for knob in knobs.all_of(root))
    return {each.knob.key: each.value for each in found if each.value is not None}


def change(root: Path, wanted: dict[str, str] = WANTED) -> int:
    """Apply values and return the number of the change."""
    return apply.apply(root, plan.make(root, wanted))[0]
