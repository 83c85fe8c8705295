"""Finding, reading, checking and writing knobs."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from mematlas.control.tune.model import Knob, KnobKind, Reading
from mematlas.control.tune.sysctls import action_of, find_sysctl, other_keys
from mematlas.control.tune.table import FIXED
from mematlas.errors import AccessError, MematlasError, TargetError, UnsupportedError, UsageError
from mematlas.linux.hugepages import folder_size
from mematlas.units import format_page_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MM = "sys/kernel/mm"
_THP = f"{_MM}/transparent_hugepage"
_BY_KEY = {knob.key: knob for knob in FIXED}

_UNITS = {"K": 1, "M": 1 << 10, "G": 1 << 20}  # in KiB
_NO_KNOB = "this kernel has no such knob"


def find(key: str) -> Knob:
    """Return the knob with a key; `vm.` may be left out if its meaning is known.

    Any other vm.NAME is a sysctl without a meaning. UsageError if there is none.
    """
    key = action_of(key)
    known = _BY_KEY.get(key) or _BY_KEY.get(f"vm.{key}") or _family(key) or find_sysctl(key)
    if known is None:
        raise UsageError(f"there is no knob {key!r}; `mematlas tune show` lists them")
    return known


def all_of(root: Path) -> Iterator[Knob]:
    """List the fixed knobs and those of this machine's sysctls, huge page sizes and nodes; not those of processes."""
    yield from FIXED
    fixed = {knob.path for knob in FIXED}
    names = (f"vm.{path.name}" for path in sorted((root / "proc/sys/vm").glob("*")))
    yield from (knob for key in (*names, *other_keys()) if (knob := find(key)).path not in fixed)
    for folder in sorted((root / _MM / "hugepages").glob("hugepages-*kB"), key=folder_size):
        yield find(f"hugepages.{format_page_size(folder_size(folder))}")
        yield find(f"hugepages.{format_page_size(folder_size(folder))}.overcommit")
    for folder in sorted((root / _THP).glob("hugepages-*kB"), key=folder_size):
        for name in ("enabled", "shmem"):
            if (folder / f"{name.replace('shmem', 'shmem_enabled')}").exists():
                yield find(f"thp.{format_page_size(folder_size(folder))}.{name}")
    for node in sorted((root / "sys/devices/system/node").glob("node[0-9]*")):
        for folder in sorted((node / "hugepages").glob("hugepages-*kB"), key=folder_size):
            yield find(f"hugepages.{format_page_size(folder_size(folder))}.{node.name}")
        yield find(f"compact.{node.name}")
        yield find(f"weight.{node.name}")


def read(root: Path, knob: Knob) -> Reading:
    """Read a knob's value; if it has none, the reading says why."""
    if knob.kind is KnobKind.ONE_SHOT:
        exists = (root / knob.path).exists()
        return Reading(knob, "" if exists else None, "" if exists else _NO_KNOB)
    try:
        return Reading(knob, value_of((root / knob.path).read_text()))
    except FileNotFoundError:
        return Reading(knob, None, _NO_KNOB)
    except OSError as error:
        return Reading(knob, None, error.strerror or str(error))


def value_of(text: str) -> str:
    """Return the value in a file's text: the word in brackets, or all words if it has none."""
    inside = re.search(r"\[(.*?)\]", text)
    return inside[1] if inside else " ".join(text.split())


def write(root: Path, path: str, value: str) -> None:
    """Write a value to a file.

    Raises:
        AccessError: it takes root, or /proc and /sys are mounted read-only.
        TargetError: the process has ended.
        UnsupportedError: there is no such file.
        MematlasError: the kernel refuses the value.
    """
    try:
        descriptor = os.open(root / path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _refusal(path, value, error) from None


def check_value(root: Path, knob: Knob, text: str) -> str:
    """Return a value as the file will read it back: sizes in the file's unit, 1 as Y.

    Raises:
        UsageError: the value does not fit the knob; the message lists the values that do.
    """
    if knob.kind is KnobKind.CHOICE:
        return _check_word(root, knob, text)
    if knob.kind is KnobKind.NAME:
        return _check_name(root, knob, text)
    if knob.kind is KnobKind.TEXT:
        return _check_text(root, knob, text)
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
        raise UsageError(f"{knob.key}: {number} is out of range, {knob.low}{top or ' and up'}")
    return str(number)


def _check_name(root: Path, knob: Knob, text: str) -> str:
    if not re.fullmatch(r"[\w-]+", text):
        raise UsageError(f"{knob.key}: {text!r} is not a name, such as zstd")
    if knob.key == "zswap.compressor":
        _check_compressor(root, text)
    return text


def _check_text(root: Path, knob: Knob, text: str) -> str:
    """Return the words of a value. Where the file holds numbers, as many numbers are wanted."""
    words, now = text.split(), (root / knob.path).read_text().split()
    if not words:
        raise UsageError(f"{knob.key}: the value is empty")
    numbers = [each for each in now if each.lstrip("-").isdigit()]
    if numbers and len(numbers) == len(now):
        wrong = [each for each in words if not each.lstrip("-").isdigit()]
        if wrong:
            raise UsageError(f"{knob.key}: {wrong[0]!r} is not a whole number")
        if len(words) != len(now):
            raise UsageError(f"{knob.key}: {len(now)} numbers are wanted, not {len(words)}")
    return " ".join(words)


def _check_compressor(root: Path, name: str) -> None:
    """Refuse a compressor that the kernel lacks: while zswap is off, the kernel accepts any name."""
    try:
        crypto = (root / "proc/crypto").read_text()
    except OSError:
        return
    sections = (
        dict(re.findall(r"^(\w+) +: (.*)$", each, re.MULTILINE)) for each in crypto.split("\n\n")
    )
    known = {
        each["name"] for each in sections if each.get("type") in {"scomp", "acomp", "compression"}
    }
    aliases = f"lib/modules/{os.uname().release}/modules.alias"
    modules = (root / aliases).read_text() if (root / aliases).exists() else ""
    if name not in known and f"alias crypto-{name} " not in modules:
        raise UsageError(
            f"zswap.compressor: this kernel has no {name}, and would accept the name and compress "
            f"nothing; it has {', '.join(sorted(known))}"
        )


def _check_word(root: Path, knob: Knob, text: str) -> str:
    words = knob.words
    if words:
        text = {"1": "Y", "0": "N", "y": "Y", "n": "N"}.get(text, text)
    else:
        words = tuple((root / knob.path).read_text().replace("[", "").replace("]", "").split())
    if text not in words:
        raise UsageError(f"{knob.key}: {text!r} is not one of {', '.join(words)}")
    return text


def _family(key: str) -> Knob | None:
    for pattern, make in _FAMILIES:
        if match := pattern.fullmatch(key):
            return make(key, match)
    return None


def _pool(key: str, match: re.Match[str]) -> Knob:
    size, node = f"hugepages-{_size_of(match[1])}kB", match[2]
    if match[3]:
        return Knob(
            key, f"{_MM}/hugepages/{size}/nr_overcommit_hugepages", KnobKind.PLAIN,
            f"hugetlb pages of {match[1]} that may be allocated beyond the pool when it is empty",
            "high: programs can use up all memory",
        )  # fmt: skip
    folder = f"sys/devices/system/node/node{node}" if node else _MM
    return Knob(
        key, f"{folder}/hugepages/{size}/nr_hugepages", KnobKind.PARTIAL,
        f"hugetlb pages of {match[1]}" + (f" on node {node}" if node else ""),
        "reserves memory that nothing else can use",
    )  # fmt: skip


def _folio(key: str, match: re.Match[str]) -> Knob:
    name = "shmem_enabled" if match[2] == "shmem" else "enabled"
    path = f"{_THP}/hugepages-{_size_of(match[1])}kB/{name}"
    kind = "shared" if match[2] == "shmem" else "anonymous"
    return Knob(key, path, KnobKind.CHOICE, f"{kind} memory in folios of {match[1]}",
                "always: programs that use memory sparsely take more")  # fmt: skip


def _compact(key: str, match: re.Match[str]) -> Knob:
    return Knob(key, f"sys/devices/system/node/node{match[1]}/compact", KnobKind.ONE_SHOT,
                f"compact the memory of node {match[1]} now", "programs may stall while it runs", 1, 1)  # fmt: skip


def _weight(key: str, match: re.Match[str]) -> Knob:
    return Knob(key, f"{_MM}/mempolicy/weighted_interleave/node{match[1]}", KnobKind.PLAIN,
                f"weight of node {match[1]} in weighted interleaving: pages per turn",
                "not in proportion to the nodes' bandwidth: the slowest node is the bottleneck", 1, 255)  # fmt: skip


def _score(key: str, match: re.Match[str]) -> Knob:
    return Knob(key, f"proc/{match[1]}/oom_score_adj", KnobKind.PLAIN,
                f"how early the OOM killer kills process {match[1]}",
                "-1000: never, however much memory it takes", -1000, 1000)  # fmt: skip


_FAMILIES = (
    (re.compile(r"hugepages\.([0-9]+[KMG])(?:\.node([0-9]+)|\.(overcommit))?"), _pool),
    (re.compile(r"thp\.([0-9]+[KM])\.(enabled|shmem)"), _folio),
    (re.compile(r"compact\.node([0-9]+)"), _compact),
    (re.compile(r"weight\.node([0-9]+)"), _weight),
    (re.compile(r"oom_score_adj\.([0-9]+)"), _score),
)


def _size_of(text: str) -> int:
    return int(text[:-1]) * _UNITS[text[-1]]


def _refusal(path: str, value: str, error: OSError) -> MematlasError:
    what = f"/{path}: {value!r}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return AccessError(f"{what} is refused; run as root in the initial user namespace")
    if error.errno == errno.EROFS:
        return AccessError(
            f"{what} is refused: mounted read-only, as in containers; run on the host"
        )
    if error.errno in (errno.ENOENT, errno.ESRCH):
        return (TargetError if path.startswith("proc/") else UnsupportedError)(
            f"/{path} does not exist"
        )
    return MematlasError(f"{what} is refused by the kernel: {error.strerror}")
