"""The machine that figures are of."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from mematlas import _core
from mematlas.bench.backing import chosen
from mematlas.bench.model import Cache, Machine

_CPUS = Path("/sys/devices/system/cpu")
_NODES = Path("/sys/devices/system/node")
_MM = Path("/sys/kernel/mm")


def read() -> Machine:
    """Describe this machine as it is now."""
    info = _text(Path("/proc/cpuinfo"))
    return Machine(
        cpu=_field(info, "model name") or _field(info, "CPU part") or platform.processor(),
        architecture=platform.machine(),
        cpus=os.cpu_count() or 1,
        usable_cpus=len(os.sched_getaffinity(0)),
        caches=caches(),
        nodes=max(1, len(list(_NODES.glob("node[0-9]*")))),
        memory=os.sysconf("SC_PHYS_PAGES") * _core.PAGE,
        page_size=_core.PAGE,
        kernel=platform.release(),
        thp=chosen(_MM / "transparent_hugepage" / "enabled") or "absent",
        thp_defrag=chosen(_MM / "transparent_hugepage" / "defrag") or "absent",
        hugetlb={
            pool.name.removeprefix("hugepages-"): int(_text(pool / "nr_hugepages") or 0)
            for pool in sorted((_MM / "hugepages").glob("hugepages-*"))
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
                    shared_by=_count_list(_text(index / "shared_cpu_list")),
                )
            )
    return tuple(found)


def _count_list(text: str) -> int:
    """Count the CPUs of a list such as 0-3,8."""
    count = 0
    for part in text.split(","):
        low, _, high = part.partition("-")
        if low.isdigit():
            count += int(high or low) - int(low) + 1
    return count
