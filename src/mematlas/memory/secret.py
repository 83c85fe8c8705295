"""Secret memory: out of the reach of other processes where the kernel can do it, wiped at its end."""

from __future__ import annotations

import atexit
import errno
import mmap
import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from mematlas import _core
from mematlas.errors import MematlasError
from mematlas.linux.hugepages import BASE, PagesUnavailableError
from mematlas.linux.mman import Advice, MapFlag
from mematlas.memory.locking import check_lock_limit
from mematlas.memory.page_mapping import PageMapping
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

Protection = Literal["memfd_secret", "locked"]
Process = bytes
"""What tells a process from those it was forked from. A PID does not: nested PID namespaces repeat it."""

_TOKEN = 8  # bytes
_token_page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
with suppress(OSError):  # before Linux 4.14
    _token_page.madvise(Advice.WIPEONFORK)  # also in a child of a fork that Python does not see

_live: dict[int, tuple[int, Process]] = {}  # address: length and process of what is not wiped

EXPLANATIONS: dict[Protection, str] = {
    "memfd_secret": "secret by memfd_secret(2): other processes cannot read it by /proc/PID/mem, "
    "process_vm_readv(2) or PTRACE_PEEKDATA; not in core dumps, never swapped, not in children",
    "locked": "secret by mlock(2): not in core dumps, never swapped, not in children; a debugger with the "
    "right to attach can read it",
}


def map_secret(size: int, guard: int, *, require: bool) -> tuple[PageMapping, Protection, str]:
    """Map secret memory with `guard` free bytes on both sides; returns it, what protects it, and why not better.

    With `require`, MematlasError where the kernel has no memfd_secret. AccessError: RLIMIT_MEMLOCK.
    """
    length = BASE.round_up(size)
    check_lock_limit(length + 2 * guard, "secret memory is locked; this takes")
    descriptor, reason = _open_secret()
    if descriptor < 0 and require:
        raise MematlasError(f"secret memory: {reason}")
    try:
        if descriptor >= 0:
            os.ftruncate(descriptor, length + 2 * guard)
            address = _core.map_memory(length + 2 * guard, MapFlag.SHARED, descriptor)
        else:
            flags = MapFlag.PRIVATE | MapFlag.ANONYMOUS
            address = _core.map_memory(length + 2 * guard, flags)
    except OSError as error:
        message = f"{format_bytes(size)} of secret memory could not be mapped: {error.strerror}"
        raise PagesUnavailableError(message) from None
    finally:
        if descriptor >= 0:
            os.close(descriptor)  # the mapping keeps the file
    mapping = PageMapping(BASE, address, length + 2 * guard, address + guard)
    try:
        _protect(mapping, length, locked=descriptor >= 0)
    except BaseException:
        mapping.unmap()
        raise
    return mapping, "memfd_secret" if descriptor >= 0 else "locked", reason


def _open_secret() -> tuple[int, str]:
    """Open a memfd_secret; -1 with the reason where the kernel has none."""
    try:
        return _core.create_secret_memfd(), ""
    except OSError as error:
        reasons = {
            errno.ENOSYS: "memfd_secret(2) needs kernel 5.14 and CONFIG_SECRETMEM, and before 6.5 "
            "secretmem.enable=1 on the kernel's command line",
            errno.EPERM: "memfd_secret(2) is denied, by a seccomp filter or secretmem.enable=0",
        }
        return -1, reasons.get(error.errno or 0, f"memfd_secret(2): {error.strerror}")


def _protect(mapping: PageMapping, length: int, *, locked: bool) -> None:
    """Keep memory out of core dumps, children and swap. memfd_secret is locked by itself."""
    _core.advise(mapping.start, length, Advice.DONTDUMP)
    _core.advise(mapping.start, length, Advice.DONTFORK)
    if locked:
        _core.wipe_memory(mapping.start, length)  # faults every page in, which no advice does here
    else:
        try:
            _core.lock_memory(mapping.start, length, 0)
        except OSError as error:
            raise MematlasError(f"secret memory could not be locked: {error.strerror}") from None


def _this_process() -> Process:
    """Return the token of this process, a new one after a fork; what its parent has mapped is forgotten."""
    if not any(_token_page[:_TOKEN]):
        _begin_process()  # after a fork that Python does not see, in its only thread
    return _token_page[:_TOKEN]


def _begin_process() -> None:
    _token_page[:_TOKEN] = os.urandom(_TOKEN)
    _live.clear()


_begin_process()  # at once: of threads that draw a token each, one would forget what another has mapped


def wipe_at_end(buffer: Any, mapping: PageMapping, length: int) -> Callable[[], object]:
    """Wipe and unmap memory once the last view of it is gone, or by calling what is returned.

    At the end of the interpreter the memory is wiped, and stays mapped for views that are left.
    """
    owner = _this_process()
    _live[mapping.start] = length, owner
    end = weakref.finalize(buffer, _end, mapping, length, owner)
    end.atexit = False
    return end


def _end(mapping: PageMapping, length: int, owner: Process) -> None:
    # A forked child has no mapping there, or by now a new one of its own.
    if _this_process() == owner and mapping.start in _live:
        del _live[mapping.start]
        _core.wipe_memory(mapping.start, length)
        mapping.unmap()


def _wipe_all() -> None:
    this = _this_process()
    for address, (length, owner) in list(_live.items()):
        if this == owner:
            _core.wipe_memory(address, length)


atexit.register(_wipe_all)
os.register_at_fork(after_in_child=_begin_process)
