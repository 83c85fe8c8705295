"""The table of knobs, and their files: read, write, and what a refusal means."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from mematlas.errors import AccessError, MematlasError, TargetError, UnsupportedError, UsageError
from mematlas.model.tuning import Kind, Knob, Reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_VM = "proc/sys/vm"
_MM = "sys/kernel/mm"
_THP = f"{_MM}/transparent_hugepage"
_ZSWAP = "sys/module/zswap/parameters"
_CHOICE, _PLAIN, _PAIRED, _ONE_SHOT = Kind.CHOICE, Kind.PLAIN, Kind.PAIRED, Kind.ONE_SHOT
_YES_NO = ("Y", "N")


def _twins(one: str, other: str, meaning: str, risk: str, high: int) -> tuple[Knob, Knob]:
    size = f"{meaning}, as a size"
    first, second = f"{_VM}/{one}", f"{_VM}/{other}"
    return (
        Knob(f"vm.{one}", first, _PAIRED, f"{meaning}, in %", risk, 0, high, second),
        Knob(f"vm.{other}", second, _PAIRED, size, risk, 1, twin=first),
    )


_STALLS = "too low: writers wait for the disk; too high: long flushes, and more to lose in a crash"
FIXED = (
    Knob("thp.enabled", f"{_THP}/enabled", _CHOICE,
         "which anonymous memory gets 2 MiB pages", "always: sparse programs take more memory"),
    Knob("thp.defrag", f"{_THP}/defrag", _CHOICE,
         "whether a page fault compacts memory to find a huge page", "always: faults may stall for ms"),
    Knob("thp.shmem", f"{_THP}/shmem_enabled", _CHOICE,
         "which shared memory and memfds get huge pages", "force: every tmpfs file takes 2 MiB steps"),
    Knob("khugepaged.max_ptes_none", f"{_THP}/khugepaged/max_ptes_none", _PLAIN,
         "empty 4 KiB pages a huge page may fill", "high: memory grows behind a program's back", 0, 511),
    Knob("khugepaged.pages_to_scan", f"{_THP}/khugepaged/pages_to_scan", _PLAIN,
         "pages khugepaged looks at each time", "high: it takes CPU time", 1),
    Knob("khugepaged.scan_sleep_ms", f"{_THP}/khugepaged/scan_sleep_millisecs", _PLAIN,
         "pause between its rounds", "0: it takes a whole CPU"),
    Knob("vm.overcommit_memory", f"{_VM}/overcommit_memory", _PLAIN,
         "0 guesses, 1 grants all, 2 keeps to a limit", "2: fork and malloc may fail at once; 1: the OOM "
         "killer decides", 0, 2),
    *_twins("overcommit_ratio", "overcommit_kbytes", "limit in mode 2 beyond swap",
            "only read in mode 2", 1 << 20),
    Knob("vm.swappiness", f"{_VM}/swappiness", _PLAIN,
         "how readily anonymous memory is swapped, against dropping page cache",
         "0: no swapping until memory is nearly out", 0, 200),
    Knob("vm.min_free_kbytes", f"{_VM}/min_free_kbytes", _PLAIN,
         "memory kept free for the kernel, in KiB", "too high: constant reclaim, or the OOM killer at once",
         64),
    Knob("vm.watermark_scale_factor", f"{_VM}/watermark_scale_factor", _PLAIN,
         "how early kswapd wakes, in 1/10000 of memory", "high: less memory to use", 1, 3000),
    Knob("vm.watermark_boost_factor", f"{_VM}/watermark_boost_factor", _PLAIN,
         "extra reclaim after fragmentation, in 1/10000", "0: fragmentation grows"),
    Knob("vm.compaction_proactiveness", f"{_VM}/compaction_proactiveness", _PLAIN,
         "how eagerly memory is compacted ahead of need", "high: CPU time and latency", 0, 100),
    Knob("vm.vfs_cache_pressure", f"{_VM}/vfs_cache_pressure", _PLAIN,
         "how readily inode and name caches go, against page cache", "0: they never go: OOM"),
    Knob("vm.page-cluster", f"{_VM}/page-cluster", _PLAIN,
         "pages read from swap at once, as a power of 2", "0 suits zram, not disks", 0, 10),
    Knob("vm.zone_reclaim_mode", f"{_VM}/zone_reclaim_mode", _PLAIN,
         "whether a full node drops its own cache before others give memory",
         "not 0: file data is dropped while other nodes have room", 0, 7),
    Knob("vm.max_map_count", f"{_VM}/max_map_count", _PLAIN,
         "mappings a process may have", "low: mmap fails with ENOMEM", 1, (1 << 31) - 1),
    *_twins("dirty_ratio", "dirty_bytes", "unwritten file data at which writers wait", _STALLS, 100),
    *_twins("dirty_background_ratio", "dirty_background_bytes",
            "unwritten file data at which writing starts", _STALLS, 100),
    Knob("vm.dirty_expire_centisecs", f"{_VM}/dirty_expire_centisecs", _PLAIN,
         "age at which file data must be written, in 1/100 s", "high: more to lose in a crash"),
    Knob("zswap.enabled", f"{_ZSWAP}/enabled", _CHOICE,
         "compress pages in memory before they are swapped", "takes CPU time and memory", words=_YES_NO),
    Knob("zswap.max_pool_percent", f"{_ZSWAP}/max_pool_percent", _PLAIN,
         "memory its pool may take, in %", "high: less for programs", 0, 100),
    Knob("ksm.run", f"{_MM}/ksm/run", _PLAIN,
         "merge equal pages of programs that asked: 0 stop, 1 run, 2 unmerge",
         "2: merged memory is needed again at once; equal pages can be spied on by timing", 0, 2),
    Knob("ksm.pages_to_scan", f"{_MM}/ksm/pages_to_scan", _PLAIN,
         "pages looked at each time", "high: it takes CPU time", 1),
    Knob("compact", f"{_VM}/compact_memory", _ONE_SHOT,
         "compact all memory now, so that huge pages can be had", "programs stall meanwhile", 1, 1),
    Knob("drop_caches", f"{_VM}/drop_caches", _ONE_SHOT,
         "drop clean page cache (1), names and inodes (2), both (3)", "all is read again from disk", 1, 3),
)  # fmt: skip
_BY_KEY = {knob.key: knob for knob in FIXED}

_HUGEPAGES = re.compile(r"hugepages\.([0-9]+[KMG])(?:\.node([0-9]+))?")
_MTHP = re.compile(r"thp\.([0-9]+[KM])\.(enabled|shmem)")
_OOM = re.compile(r"oom_score_adj\.([0-9]+)")
_UNITS = {"K": 1, "M": 1 << 10, "G": 1 << 20}


def find(key: str) -> Knob:
    """Find a knob by its key; a sysctl's also without `vm.`."""
    known = _BY_KEY.get(key) or _BY_KEY.get(f"vm.{key}") or _family(key)
    if known is None:
        raise UsageError(f"there is no knob {key!r}; `mematlas tune show` lists them")
    return known


def all_of(root: Path) -> Iterator[Knob]:
    """Every knob of the table, and of each huge page size there is; processes' apart."""
    yield from FIXED
    for folder in sorted((root / _MM / "hugepages").glob("hugepages-*kB"), key=_kilobytes):
        yield find(f"hugepages.{_short(_kilobytes(folder))}")
    for folder in sorted((root / _THP).glob("hugepages-*kB"), key=_kilobytes):
        for name in ("enabled", "shmem"):
            if (folder / f"{name.replace('shmem', 'shmem_enabled')}").exists():
                yield find(f"thp.{_short(_kilobytes(folder))}.{name}")
    for node in sorted((root / "sys/devices/system/node").glob("node[0-9]*")):
        for folder in sorted((node / "hugepages").glob("hugepages-*kB"), key=_kilobytes):
            yield find(f"hugepages.{_short(_kilobytes(folder))}.{node.name}")


def read(root: Path, knob: Knob) -> Reading:
    """Read a knob's value, or why it has none."""
    if knob.kind is Kind.ONE_SHOT:
        there = (root / knob.path).exists()
        return Reading(knob, "" if there else None, "" if there else "this kernel has no such knob")
    try:
        return Reading(knob, value_of((root / knob.path).read_text()))
    except FileNotFoundError:
        return Reading(knob, None, "this kernel has no such knob")
    except OSError as error:
        return Reading(knob, None, error.strerror or str(error))


def value_of(text: str) -> str:
    """Take the value from a file's text: the word in brackets, if there are any."""
    inside = re.search(r"\[(.*?)\]", text)
    return inside[1] if inside else text.strip()


def write(root: Path, path: str, value: str) -> None:
    """Write a value; a refusal is an error that says what would allow it."""
    try:
        descriptor = os.open(root / path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _refusal(path, value, error) from None


def check_value(root: Path, knob: Knob, text: str) -> str:
    """Turn what a person wrote into what the file reads back as; UsageError says what fits."""
    if knob.kind is Kind.CHOICE:
        return _check_word(root, knob, text)
    from mematlas.units import parse_bytes

    sized = knob.path.endswith("bytes")  # _bytes, _kbytes
    try:
        number = parse_bytes(text) if sized and not text.isdigit() else int(text)
    except ValueError:
        raise UsageError(f"{knob.key}: {text!r} is not a whole number") from None
    if knob.path.endswith("kbytes") and not text.isdigit():
        number >>= 10
    if not knob.low <= number <= knob.high:
        top = "" if knob.high > 1 << 62 else f" to {knob.high}"
        raise UsageError(f"{knob.key}: {number} is not in its range, {knob.low}{top or ' and up'}")
    return str(number)


def _check_word(root: Path, knob: Knob, text: str) -> str:
    words = knob.words
    if words:
        text = {"1": "Y", "0": "N", "y": "Y", "n": "N"}.get(text, text)
    else:
        words = tuple((root / knob.path).read_text().replace("[", "").replace("]", "").split())
    if text not in words:
        raise UsageError(f"{knob.key}: {text!r} is none of {', '.join(words)}")
    return text


def _family(key: str) -> Knob | None:
    if match := _HUGEPAGES.fullmatch(key):
        size, node = f"hugepages-{_size_of(match[1])}kB", match[2]
        folder = f"sys/devices/system/node/node{node}" if node else _MM
        return Knob(
            key, f"{folder}/hugepages/{size}/nr_hugepages", Kind.PARTIAL,
            f"hugetlb pages of {match[1]}" + (f" on node {node}" if node else ""),
            "memory that nothing else can use",
        )  # fmt: skip
    if match := _MTHP.fullmatch(key):
        name = "shmem_enabled" if match[2] == "shmem" else "enabled"
        path = f"{_THP}/hugepages-{_size_of(match[1])}kB/{name}"
        kind = "shared" if match[2] == "shmem" else "anonymous"
        return Knob(key, path, Kind.CHOICE, f"{kind} memory in folios of {match[1]}",
                    "always: more memory for sparse programs")  # fmt: skip
    if match := _OOM.fullmatch(key):
        return Knob(key, f"proc/{match[1]}/oom_score_adj", Kind.PLAIN,
                    f"how soon the OOM killer takes process {match[1]}",
                    "-1000: never, whatever it takes", -1000, 1000)  # fmt: skip
    return None


def _size_of(text: str) -> int:
    return int(text[:-1]) * _UNITS[text[-1]]


def _kilobytes(folder: Path) -> int:
    return int(folder.name.removeprefix("hugepages-").removesuffix("kB"))


def _short(kilobytes: int) -> str:
    if kilobytes >= 1 << 20:
        return f"{kilobytes >> 20}G"
    return f"{kilobytes >> 10}M" if kilobytes >= 1 << 10 else f"{kilobytes}K"


def _refusal(path: str, value: str, error: OSError) -> MematlasError:
    what = f"/{path}: {value!r}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return AccessError(f"{what} is refused: it takes root in the machine's own user namespace")
    if error.errno == errno.EROFS:
        return AccessError(
            f"{what} is refused: mounted read-only, as containers do; run on the host"
        )
    if error.errno in (errno.ENOENT, errno.ESRCH):
        return (TargetError if path.startswith("proc/") else UnsupportedError)(
            f"/{path} is not there"
        )
    return MematlasError(f"{what} is refused by the kernel: {error.strerror}")
