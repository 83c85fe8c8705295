"""Advice to the kernel about pages, by the names of madvise(2)."""

from __future__ import annotations

import errno
import os
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mematlas import _core
from mematlas.errors import MematlasError, UnsupportedError, UsageError
from mematlas.linux import machine
from mematlas.linux.hugepages import (
    THP,
    Mechanism,
    PagesUnavailableError,
    check_available,
    folder_size,
    is_enabled,
    parse_kind,
    pmd_size,
)
from mematlas.linux.mman import Advice
from mematlas.linux.status import read_status_of
from mematlas.units import format_bytes, format_page_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.linux.mappings import Mapping

AdviceName = Literal[
    "normal", "random", "sequential", "willneed", "dontneed", "free", "remove", "dontfork", "dofork",
    "mergeable", "unmergeable", "hugepage", "nohugepage", "dontdump", "dodump", "wipeonfork",
    "keeponfork", "cold", "pageout", "populate_read", "populate_write", "dontneed_locked", "collapse",
    "guard_install", "guard_remove",
]  # fmt: skip
"""MADV_* of madvise(2), in lower case."""

ADVICE = {each.name.lower(): each for each in Advice}
SINCE = {
    "free": "4.5",
    "wipeonfork": "4.14",
    "keeponfork": "4.14",
    "cold": "5.4",
    "pageout": "5.4",
    "populate_read": "5.14",
    "populate_write": "5.14",
    "dontneed_locked": "5.18",
    "collapse": "6.1",
    "guard_install": "6.13",
    "guard_remove": "6.13",
}
_PRIVATE_ONLY = ("free", "wipeonfork", "keeponfork", "mergeable")
_SHARED_ONLY = ("remove",)
_NOT_HUGETLB = (
    "cold", "pageout", "free", "mergeable", "hugepage", "nohugepage", "collapse", "guard_install",
)  # fmt: skip
_KSM = Path("/sys/kernel/mm/ksm/run")
_NOT_LOCKED = ("dontneed", "free", "remove", "pageout", "cold", "guard_install")


def check_advice(name: str, *, shared: bool) -> None:
    """Raise UsageError with the reason where the kernel would return a bare EINVAL."""
    if name not in ADVICE:
        message = f"no such advice: {name!r}; one of {', '.join(ADVICE)}"
        raise UsageError(message)
    if name in (_PRIVATE_ONLY if shared else _SHARED_ONLY):
        kind, other = ("shared", "private") if shared else ("private", "shared")
        hint = "; dontneed() drops private pages" if name == "remove" else ""
        message = f"{name}() is for {other} memory, this region is {kind}{hint}"
        raise UsageError(message)


def apply(
    address: int,
    length: int,
    name: str,
    *,
    shared: bool,
    hugetlb: bool = False,
    swapped: bool = True,
) -> None:
    """Advise whole pages. What the kernel refuses, or would accept and ignore, is an error with the reason.

    swapped: pages go to swap rather than to a file, if they go.
    """
    check_advice(name, shared=shared)
    _check_kind(name, shared=shared, hugetlb=hugetlb)
    resident = _resident(address, length) if name == "pageout" else 0
    try:
        _core.advise(address, length, ADVICE[name])
    except OSError as error:
        raise _refusal(error, address, length, name) from None
    # MADV_COLLAPSE accepts a range that ends on a boundary.
    if name == "collapse" and not _holds_huge(address, length):
        raise _refusal(OSError(errno.EINVAL, ""), address, length, name)
    if name == "hugepage":
        _check_room_for_huge(address, length)
    if resident:
        _check_paged_out(address, length, resident, swapped=swapped)


def _check_kind(name: str, *, shared: bool, hugetlb: bool) -> None:
    """Raise MematlasError where a setting, or the kind of memory, makes the kernel ignore the advice."""
    if hugetlb and name in _NOT_HUGETLB:
        message = f"{name}() does not work on hugetlb memory"
        raise UsageError(message)
    if name == "hugepage":
        _check_huge(shared=shared)
    if name == "mergeable":
        _check_merging()


def _check_paged_out(address: int, length: int, resident: int, *, swapped: bool) -> None:
    """Raise MematlasError where the kernel accepted pageout() and kept all of the `resident` bytes."""
    if _resident(address, length) < resident:
        return
    info = machine.parse_meminfo(machine.Tree("/").text("proc/meminfo"))
    if swapped and not info.get("SwapFree"):
        why = "its swap is full" if info.get("SwapTotal") else "it has no swap; see swapon(8)"
        raise MematlasError(f"pageout() did nothing on this machine: {why}")
    raise MematlasError(
        f"pageout() had no effect: all {format_bytes(resident)} are still resident; pages that other "
        "processes map, that are pinned, or whose cgroup may not swap stay"
    )


def advise(buffer: Any, name: AdviceName) -> None:
    """Advise the kernel about the whole pages inside an array, or any other contiguous buffer.

    name: an advice of madvise(2) in lower case, such as "willneed", "cold" or "dontneed".

    UsageError: no such advice, no whole page, or not for this kind of memory. UnsupportedError: this
    kernel does not know the advice. MematlasError: the kernel refuses it now, or THP is off.

    >>> import numpy as np
    >>> from mematlas.memory import advise
    >>> advise(np.zeros(100_000), "willneed")
    """
    from mematlas.memory.numa import inner_pages

    address, length = inner_pages(buffer)
    mapping = _mapping_at(address)
    if mapping is None:
        raise UsageError("this buffer is not mapped any more")
    hugetlb = "ht" in mapping.flags
    if hugetlb:
        address, length = _inner_huge(address, length, mapping.fields["KernelPageSize"])
    apply(
        address,
        length,
        name,
        shared=bool(mapping.permissions & 8),
        hugetlb=hugetlb,
        swapped=_goes_to_swap(mapping),
    )


def collapse(buffer: Any) -> None:
    """Move the memory of an array into huge pages now: MADV_COLLAPSE of madvise(2), Linux 6.1.

    Only aligned, whole huge pages inside the array are collapsed; UsageError if there is none. Errors
    are those of advise().

    >>> from mematlas.errors import MematlasError
    >>> from mematlas.memory import Region, collapse
    >>> with Region("64K") as region:
    ...     try:
    ...         collapse(region.view)
    ...     except MematlasError:
    ...         print("smaller than a huge page")
    smaller than a huge page
    """
    advise(buffer, "collapse")


def is_known(name: str) -> bool:
    """Return whether this kernel knows an advice: with a length of 0 it refuses only unknown ones."""
    try:
        _core.advise(0, 0, ADVICE[name])
    except OSError:
        return False
    return True


def _inner_huge(address: int, length: int, page: int) -> tuple[int, int]:
    """Return the whole hugetlb pages of a range. The kernel accepts and ignores advice for a part of one."""
    start = -(-address // page) * page
    end = (address + length) // page * page
    if end <= start:
        raise UsageError(f"there is no whole page of {format_bytes(page)} in these bytes")
    return start, end - start


def _goes_to_swap(mapping: Mapping) -> bool:
    """Return whether the pages of a mapping are anonymous or of a file in memory."""
    in_memory = (b"/memfd:", b"/dev/zero (deleted)", b"/SYSV", b"/dev/shm/")
    return not mapping.inode or mapping.name.startswith(in_memory)


def _resident(address: int, length: int) -> int:
    """Return the bytes of a range that are in memory, by pagemap."""
    from mematlas.memory.placement import placement_of

    return placement_of(address, length, nodes=False).resident


def _mapping_at(address: int) -> Mapping | None:
    from mematlas.linux import smaps

    mappings, _ = smaps.read(os.getpid())
    index = mappings.find(address)
    return None if index is None else mappings.row(index)


def _holds_huge(address: int, length: int) -> bool:
    page = pmd_size()
    return -(-address // page) * page + page <= address + length


def _check_merging() -> None:
    """Raise MematlasError where the kernel would accept the advice and nobody would merge: ksmd is off."""
    try:
        running = _KSM.read_text().strip()
    except OSError:
        return  # a kernel without KSM refuses by itself
    if running != "1":
        raise MematlasError(
            f"mergeable() would do nothing: KSM is off ({_KSM}: {running}); write 1 to it"
        )


def _check_room_for_huge(address: int, length: int) -> None:
    """Raise MematlasError if no huge page fits into the advised mapping, which may hold more than the range."""
    mapping = _mapping_at(address)
    if mapping is None or _holds_huge(mapping.start, mapping.size) or _has_smaller_sizes():
        return
    raise MematlasError(
        f"hugepage() does nothing: there is no whole, aligned {format_bytes(pmd_size())} in these "
        f"{length:,} bytes"
    )


def _has_smaller_sizes() -> bool:
    """Return whether the kernel gives transparent pages of any size below a PMD."""
    folders = THP.glob("hugepages-*kB")
    kinds = (parse_kind(format_page_size(folder_size(each))) for each in folders)
    return any(is_enabled(kind) for kind in kinds if kind.mechanism is Mechanism.MTHP)


def _check_huge(*, shared: bool) -> None:
    """Raise MematlasError where the kernel would accept the advice and ignore it: THP is off."""
    if read_status_of().lines.get("THP_enabled") == "0":
        raise MematlasError(
            "hugepage() would do nothing: transparent huge pages are off in this process "
            "(PR_SET_THP_DISABLE)"
        )
    try:
        check_available(parse_kind("thp"), shared=shared)
    except PagesUnavailableError as reason:
        raise MematlasError(f"hugepage() would do nothing: {reason}") from None


def _refusal(error: OSError, address: int, length: int, name: str) -> MematlasError:
    if error.errno == errno.EINVAL and not is_known(name):
        since = f"kernel {SINCE[name]}" if name in SINCE else "a kernel built with it"
        return UnsupportedError(
            f"{name}(): this kernel, {os.uname().release}, has no MADV_{name.upper()}; it needs {since}"
        )
    if error.errno == errno.EINVAL and name in _NOT_LOCKED:
        mapping = _mapping_at(address)
        if mapping is not None and "lo" in mapping.flags:
            other = ", or use dontneed_locked()" if name == "dontneed" else ""
            return MematlasError(f"{name}() does not work on locked pages; unlock() first{other}")
    if error.errno == errno.EINVAL:
        page = format_bytes(pmd_size())
        what = f"there is no whole, aligned {page} in these {length:,} bytes"
        where = what if name == "collapse" else "it is not for this kind of memory"
        return UsageError(f"the kernel refuses {name}(): {where}")
    if error.errno in (errno.ENOMEM, errno.EAGAIN, errno.EBUSY):
        return MematlasError(f"{name}() could not be done now: {error.strerror}")
    return MematlasError(f"{name}() failed: {error.strerror}")


_ALWAYS = (
    "normal", "random", "sequential", "willneed", "dontneed", "dontfork", "dofork", "dontdump", "dodump",
    "free", "cold", "wipeonfork", "keeponfork",
)  # fmt: skip
"""What every supported kernel does for private memory; the others need a setting or a newer kernel."""


def _method(name: AdviceName) -> Callable[..., None]:
    def method(self: Advisable, offset: int = 0, length: int | None = None) -> None:
        self._advise(name, offset, length)

    method.__name__ = name
    method.__qualname__ = f"Region.{name}"
    method.__doc__ = f"""Apply MADV_{name.upper()} of madvise(2) to the region, or to whole pages of it, in bytes.

        >>> from mematlas.memory import Region
        >>> with Region("4M") as region:
        ...     region.{name}(){"" if name in _ALWAYS else "  # doctest: +SKIP"}
        """
    return method


class Advisable:
    """Memory with a method for each advice, which takes offset and length in bytes, whole pages."""

    normal = _method("normal")
    random = _method("random")
    sequential = _method("sequential")
    willneed = _method("willneed")
    dontneed = _method("dontneed")
    free = _method("free")
    remove = _method("remove")
    dontfork = _method("dontfork")
    dofork = _method("dofork")
    mergeable = _method("mergeable")
    unmergeable = _method("unmergeable")
    hugepage = _method("hugepage")
    nohugepage = _method("nohugepage")
    dontdump = _method("dontdump")
    dodump = _method("dodump")
    wipeonfork = _method("wipeonfork")
    keeponfork = _method("keeponfork")
    cold = _method("cold")
    pageout = _method("pageout")
    populate_read = _method("populate_read")
    populate_write = _method("populate_write")
    dontneed_locked = _method("dontneed_locked")
    collapse = _method("collapse")
    guard_install = _method("guard_install")
    guard_remove = _method("guard_remove")

    @abstractmethod
    def _advise(self, name: AdviceName, offset: int, length: int | None) -> None:
        """Advise the kernel about a part of the memory."""
