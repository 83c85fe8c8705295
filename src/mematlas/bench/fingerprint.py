"""Properties of the machine that figures depend on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from mematlas import _core
from mematlas.bench.model import Cache, Fingerprint
from mematlas.linux.cpulist import parse_list
from mematlas.linux.hugepages import THP, folder_name, read_choice, read_pools

_CPUS = Path("/sys/devices/system/cpu")
_NODES = Path("/sys/devices/system/node")


def read() -> Fingerprint:
    """Read the properties of this machine."""
    info = _text(Path("/proc/cpuinfo"))
    return Fingerprint(
        cpu=_field(info, "model name") or _field(info, "CPU part") or platform.processor(),
        architecture=platform.machine(),
        cpus=os.cpu_count() or 1,
        usable_cpus=len(os.sched_getaffinity(0)),
        caches=caches(),
        nodes=max(1, len(list(_NODES.glob("node[0-9]*")))),
        memory=os.sysconf("SC_PHYS_PAGES") * _core.PAGE,
        page_size=_core.PAGE,
        kernel=platform.release(),
        thp=read_choice(THP / "enabled") or "absent",
        thp_defrag=read_choice(THP / "defrag") or "absent",
        hugetlb={
            folder_name(pool.size).removeprefix("hugepages-"): pool.total for pool in read_pools()
        },
        hypervisor=_hypervisor(info),
        governor=_text(_CPUS / "cpu0/cpufreq/scaling_governor") or None,
        load=os.getloadavg()[0],
    )


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _field(info: str, name: str) -> str:
    for line in info.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _hypervisor(info: str) -> str | None:
    product = _text(Path("/sys/class/dmi/id/sys_vendor"))
    if "hypervisor" in _field(info, "flags").split():
        return product or "unnamed"
    return _text(Path("/sys/hypervisor/type")) or None


def caches() -> tuple[Cache, ...]:
    """Read the caches of the first CPU this process may use."""
    cpu = min(os.sched_getaffinity(0))
    found = []
    for index in sorted((_CPUS / f"cpu{cpu}/cache").glob("index*")):
        level, size = _text(index / "level"), _text(index / "size")
        if level and size.endswith("K"):
            found.append(
                Cache(
                    level=int(level),
                    kind=_text(index / "type").lower(),
                    size=int(size[:-1]) << 10,
                    shared_by=len(parse_list(_text(index / "shared_cpu_list") or "0")),
                )
            )
    return tuple(found)
