"""Advice to the kernel, by the names of madvise(2)."""

from __future__ import annotations

import errno
import os
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from mematlas import _core
from mematlas.errors import MematlasError, UnsupportedError, UsageError
from mematlas.linux.hugepages import (
    PagesUnavailableError,
    check_available,
    parse_kind,
    pmd_size,
)
from mematlas.linux.mman import Advice
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

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
_PRIVATE_ONLY = ("free", "wipeonfork", "keeponfork")
_SHARED_ONLY = ("remove",)
_NOT_HUGETLB = (
    "cold", "pageout", "free", "mergeable", "hugepage", "nohugepage", "collapse", "guard_install",
)  # fmt: skip
_NOT_LOCKED = ("dontneed", "free", "remove", "pageout", "cold", "guard_install")


def check_advice(name: str, *, shared: bool) -> None:
    """Refuse, in words, what the kernel would answer with a bare EINVAL."""
    if name not in ADVICE:
        message = f"no such advice: {name!r}; one of {', '.join(ADVICE)}"
        raise UsageError(message)
    if name in (_PRIVATE_ONLY if shared else _SHARED_ONLY):
        kind, other = ("shared", "private") if shared else ("private", "shared")
        hint = "; dontneed() drops private pages" if name == "remove" else ""
        message = f"{name}() is for {other} memory, this region is {kind}{hint}"
        raise UsageError(message)


def give(address: int, length: int, name: str, *, shared: bool, hugetlb: bool = False) -> None:
    """Advise whole pages; what the kernel refuses, or would take and ignore, is an error that says why."""
    check_advice(name, shared=shared)
    if hugetlb and name in _NOT_HUGETLB:  # some the kernel takes and ignores
        message = f"{name}() does not work on hugetlb memory"
        raise UsageError(message)
    if name == "hugepage":
        _check_huge(shared=shared)
    try:
        _core.advise(address, length, ADVICE[name])
    except OSError as error:
        raise _refusal(error, address, length, name) from None
    if name == "collapse" and not _holds_huge(address, length):  # one that ends on a boundary
        raise _refusal(OSError(errno.EINVAL, ""), address, length, name)


def advise(buffer: Any, name: str) -> None:
    """Give one advice for the whole pages inside an array, or any other contiguous buffer."""
    from mematlas.memory.numa import inner_pages

    address, length = inner_pages(buffer)
    shared, hugetlb = _kind_at(address)
    give(address, length, name, shared=shared, hugetlb=hugetlb)


def collapse(buffer: Any) -> None:
    """Put the memory of an array into huge pages now, where it covers them: MADV_COLLAPSE."""
    advise(buffer, "collapse")


def is_known(name: str) -> bool:
    """Tell whether this kernel knows an advice: for no bytes at all it refuses only what it does not."""
    try:
        _core.advise(0, 0, ADVICE[name])
    except OSError:
        return False
    return True


def _kind_at(address: int) -> tuple[bool, bool]:
    """Shared, and hugetlb, of the mapping at an address."""
    mapping = _mapping_at(address)
    if mapping is None:
        return False, False
    return bool(mapping.permissions & 8), "ht" in mapping.flags


def _mapping_at(address: int) -> Any:
    from mematlas.linux import smaps

    mappings, _ = smaps.read(os.getpid())
    index = mappings.find(address)
    return None if index is None else mappings.row(index)


def _holds_huge(address: int, length: int) -> bool:
    page = pmd_size()
    return -(-address // page) * page + page <= address + length


def _check_huge(*, shared: bool) -> None:
    """Raise MematlasError where the kernel would accept the advice and ignore it: THP is off."""
    try:
        check_available(parse_kind("thp"), shared=shared)
    except PagesUnavailableError as reason:
        raise MematlasError(f"hugepage() would do nothing: {reason}") from None


def _refusal(error: OSError, address: int, length: int, name: str) -> MematlasError:
    if error.errno == errno.EINVAL and not is_known(name):
        since = f"kernel {SINCE[name]}" if name in SINCE else "a kernel built with it"
        return UnsupportedError(
            f"{name}(): this kernel, {os.uname().release}, has no MADV_{name.upper()}; it takes {since}"
        )
    if error.errno == errno.EINVAL and name in _NOT_LOCKED:
        mapping = _mapping_at(address)
        if mapping is not None and "lo" in mapping.flags:
            other = ", or use dontneed_locked()" if name == "dontneed" else ""
            return MematlasError(f"{name}() does not work on locked pages; unlock() first{other}")
    if error.errno == errno.EINVAL:
        page = format_bytes(pmd_size())
        what = f"in these {length:,} bytes is no whole, aligned {page} that may be huge"
        where = what if name == "collapse" else "it is not for this kind of memory"
        return UsageError(f"the kernel refuses {name}(): {where}")
    if error.errno in (errno.ENOMEM, errno.EAGAIN, errno.EBUSY):
        return MematlasError(f"{name}() could not be done now: {error.strerror}")
    return MematlasError(f"{name}() failed: {error.strerror}")


def _method(name: str) -> Callable[..., None]:
    def method(self: Advised, offset: int = 0, length: int | None = None) -> None:
        self._advise(name, offset, length)

    method.__name__ = name
    method.__qualname__ = f"Region.{name}"
    method.__doc__ = f"MADV_{name.upper()} of madvise(2), for the whole region or a part of it."
    return method


class Advised:
    """The methods; each takes an offset and a length in bytes, whole pages of the region."""

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
    def _advise(self, name: str, offset: int, length: int | None) -> None:
        """Give one advice for a part of the memory."""
