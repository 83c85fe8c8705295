"""Typed facade over the C core: buffers in, buffers out, errors as OSError. Alone touches `_native`."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from mematlas._native import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]

if lib.mematlas_abi() != 1:
    message = "the compiled core is of another version; run scripts/setup"
    raise ImportError(message)

PAGE = os.sysconf("SC_PAGESIZE")


def check(result: int, name: str | None = None) -> int:
    """Pass a count through; turn -errno into the OSError that says it."""
    if result < 0:
        raise OSError(-result, os.strerror(-result), name)
    return result


# ---- scan: address spaces ------------------------------------------------------------------------

ABSENT = 2**64 - 1
"""In a column: the kernel did not print this field for this row."""

MAPS_COLUMNS = (
    "start",
    "end",
    "permissions",
    "offset",
    "device",
    "inode",
    "flags",
    "name_at",
    "name_length",
)
"""In the order of enum mematlas_maps_column."""


@dataclass(frozen=True, slots=True)
class MapsColumns:
    """What one pass over maps or smaps gave. The memoryviews (format "Q") keep their memory alive."""

    count: int
    overlaps: int
    ignored: int
    base: dict[str, memoryview]
    fields: dict[str, memoryview]
    flag_names: tuple[str, ...]
    names: memoryview


def read_maps(descriptor: int) -> MapsColumns:
    """Read an open maps or smaps to its end, straight into columns."""
    holder = ffi.new("struct mematlas_maps **")
    check(lib.mematlas_maps_create(descriptor, holder))
    maps = ffi.gc(holder[0], lib.mematlas_maps_destroy)
    sizes = ffi.new("struct mematlas_maps_sizes *")
    lib.mematlas_maps_sizes(maps, sizes)
    count = sizes.count
    return MapsColumns(
        count=count,
        overlaps=sizes.overlaps,
        ignored=sizes.ignored,
        base={
            name: _view(lib.mematlas_maps_base(maps, index), count * 8, maps).cast("Q")
            for index, name in enumerate(MAPS_COLUMNS)
        },
        fields={
            ffi.string(lib.mematlas_maps_key(maps, index)).decode("ascii", "replace"): _view(
                lib.mematlas_maps_values(maps, index), count * 8, maps
            ).cast("Q")
            for index in range(sizes.keys)
        },
        flag_names=tuple(
            ffi.string(lib.mematlas_maps_flag(maps, index)).decode("ascii", "replace")
            for index in range(sizes.flags)
        ),
        names=_view(lib.mematlas_maps_names(maps), sizes.names, maps),
    )


def _view(pointer: Any, size: int, owner: Any) -> memoryview:
    """Memory that C owns, as bytes that cannot be written and that keep `owner` alive."""
    if size == 0:
        return memoryview(b"")
    # A buffer keeps its cdata alive, and the cdata its destructor, which holds the owner.
    kept = ffi.gc(pointer, lambda _, owner=owner: owner)
    return memoryview(ffi.buffer(kept, size)).toreadonly()


# ---- scan: pages ---------------------------------------------------------------------------------


def _words(array: Words) -> Any:
    if array.dtype.str != "<u8" or not array.flags.c_contiguous:
        message = "expected a contiguous array of uint64"
        raise TypeError(message)
    return ffi.from_buffer("uint64_t[]", array)


def read_pagemap(descriptor: int, start: int, pages: int) -> Words:
    """Pagemap entries of `pages` pages from `start`; fewer where the address space ends."""
    import numpy as np

    entries = np.empty(pages, dtype=np.uint64)
    got = check(lib.mematlas_pagemap_read(descriptor, start, pages, _words(entries)))
    return entries[:got]


def scan_pagemap(
    descriptor: int, start: int, end: int, *, any_of: int, want: int
) -> list[tuple[int, int, int]]:
    """List (start, end, categories) of the pages in [start, end) that have one of `any_of`."""
    room = 4096
    runs = ffi.new("struct mematlas_page_run[]", room)
    at = ffi.new("uint64_t *", start)
    found: list[tuple[int, int, int]] = []
    while at[0] < end:
        got = check(lib.mematlas_pagemap_scan(descriptor, at, end, any_of, want, runs, room))
        found.extend((runs[i].start, runs[i].end, runs[i].categories) for i in range(got))
    return found


def join_frames(entries: Words, tables: Sequence[int]) -> tuple[list[Words], int]:
    """Each entry's frame in each open table (kpageflags, ...), and how many frames are distinct."""
    import numpy as np

    columns = [np.empty(len(entries), dtype=np.uint64) for _ in tables]
    pointers = [_words(column) for column in columns]
    frames = check(
        lib.mematlas_frames_join(_words(entries), len(entries), list(tables), pointers, len(tables))
    )
    return columns, frames


# ---- collector -----------------------------------------------------------------------------------


def _text(chars: Any) -> str:
    return bytes(ffi.string(chars)).decode("utf-8", "surrogateescape")


class Event(IntEnum):
    """What mematlas_collector_poll() tells; the numbers are those of enum mematlas_event_type."""

    NONE = lib.MEMATLAS_EVENT_NONE
    PROCESS = lib.MEMATLAS_EVENT_PROCESS
    INTERVAL = lib.MEMATLAS_EVENT_INTERVAL
    PEAK = lib.MEMATLAS_EVENT_PEAK
    STOPPED = lib.MEMATLAS_EVENT_STOPPED
    EXITING = lib.MEMATLAS_EVENT_EXITING
    ENDED = lib.MEMATLAS_EVENT_ENDED
    WATCHED = lib.MEMATLAS_EVENT_WATCHED


@dataclass(frozen=True, slots=True)
class Traced:
    """One traced image as the collector knows it; struct mematlas_traced tells more."""

    pid: int
    parent_pid: int
    parent: int
    execed: bool
    status: int | None  # as from wait()
    python_version: int
    disabled: bool
    reason: str
    inherited: bool
    start_s: float
    end_s: float
    live_bytes: float
    peak_bytes: float
    peak_s: float
    rss_bytes: int
    stalls: int
    untraced_threads: int
    events: int
    unknown_frees: int
    broken_rings: int
    nodes: int
    codes: int
    modules: int
    timeline: int
    executable: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Account:
    """The figures of one residency join, and its rows (SNAPSHOT_DTYPE)."""

    time_s: float
    cost_s: float
    rss_bytes: int
    statm_rss_bytes: int
    unexplained_bytes: int
    parts: list[tuple[int, str, int, float]]  # kind, name, resident bytes, standard error
    rows: bytes


class Collector:
    """The reading side of a session; see native/include/mematlas_api.h."""

    def __init__(
        self,
        directory: str,
        *,
        exact: bool,
        ring_bytes: int,
        sample_bytes: int,
        seed: int,
        interval_s: float,
        budget: float,
    ) -> None:
        """Write the session's control page, from which programs can join it."""
        settings = ffi.new(
            "struct mematlas_trace_settings *",
            {
                "exact": exact,
                "ring_bytes": ring_bytes,
                "sample_bytes": sample_bytes,
                "seed": seed,
                "interval_s": interval_s,
                "budget": budget,
            },
        )
        out = ffi.new("struct mematlas_collector **")
        check(lib.mematlas_collector_create(os.fsencode(directory), settings, out))
        self._handle = ffi.gc(out[0], lib.mematlas_collector_destroy)
        self._event = ffi.new("struct mematlas_event *")

    def close(self) -> None:
        """Unmap everything; the object is of no use afterwards."""
        ffi.release(self._handle)

    def watch(self, pid: int) -> None:
        """Tell WATCHED when this process has ended."""
        check(lib.mematlas_collector_watch(self._handle, pid))

    def poll(self, timeout_s: float) -> tuple[Event, int]:
        """Read rings until there is something to tell; NONE when the time is over."""
        check(lib.mematlas_collector_poll(self._handle, int(timeout_s * 1000), self._event))
        return Event(self._event.type), self._event.process

    def now_s(self) -> float:
        """Seconds since the collector was made."""
        return float(lib.mematlas_collector_now(self._handle))

    def release(self, process: int) -> None:
        """Let a process that waits for its last snapshot exit."""
        check(lib.mematlas_collector_release(self._handle, process))

    def forget(self, process: int) -> None:
        """Free all but the facts of a process that has ENDED."""
        check(lib.mematlas_collector_forget(self._handle, process))

    def stop(self) -> None:
        """Turn tracing off in every traced process."""
        check(lib.mematlas_collector_stop(self._handle))

    def process(self, process: int) -> Traced:
        """Give all that is known of a process."""
        facts = ffi.new("struct mematlas_traced *")
        check(lib.mematlas_collector_process(self._handle, process, facts))
        command = bytes(ffi.buffer(facts.command)).split(b"\0\0", 1)[0].rstrip(b"\0")
        return Traced(
            pid=facts.pid,
            parent_pid=facts.parent_pid,
            parent=facts.parent,
            execed=facts.ending == lib.MEMATLAS_EXECED,
            status=facts.status if facts.status >= 0 else None,
            python_version=facts.python_version,
            disabled=bool(facts.disabled),
            reason=_text(facts.reason),
            inherited=bool(facts.inherited),
            start_s=facts.start_s,
            end_s=facts.end_s,
            live_bytes=facts.live_bytes,
            peak_bytes=facts.peak_bytes,
            peak_s=facts.peak_s,
            rss_bytes=facts.rss_bytes,
            stalls=facts.stalls,
            untraced_threads=facts.untraced_threads,
            events=facts.events,
            unknown_frees=facts.unknown_frees,
            broken_rings=facts.broken_rings,
            nodes=facts.nodes,
            codes=facts.codes,
            modules=facts.modules,
            timeline=facts.timeline,
            executable=_text(facts.executable),
            command=tuple(word.decode("utf-8", "surrogateescape") for word in command.split(b"\0")),
        )

    def nodes(self, process: int, first: int, count: int) -> bytes:
        """`count` trie nodes from number `first` on (NODE_DTYPE)."""
        rows = ffi.new("struct mematlas_node[]", max(count, 1))
        got = check(lib.mematlas_collector_nodes(self._handle, process, first, rows, count))
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_node")))

    def totals(self, process: int) -> bytes:
        """Give the sums of every (stack, kind) so far (TOTALS_DTYPE)."""
        facts = ffi.new("struct mematlas_traced *")
        check(lib.mematlas_collector_process(self._handle, process, facts))
        rows = ffi.new("struct mematlas_total[]", facts.totals + 1)
        got = lib.mematlas_collector_totals(self._handle, process, rows, facts.totals)
        return bytes(ffi.buffer(rows, check(got) * ffi.sizeof("struct mematlas_total")))

    def modules(
        self, process: int, first: int, end: int
    ) -> Iterator[tuple[str, str, int, int, int]]:
        """Path, build ID, bias, start and end of modules `first` to `end`."""
        module = ffi.new("struct mematlas_module *")
        for number in range(first, end):
            check(lib.mematlas_collector_module(self._handle, process, number, module))
            yield _text(module.path), _text(module.build_id), module.bias, module.start, module.end

    def codes(
        self, process: int, first: int, end: int
    ) -> Iterator[tuple[str, str, int, bytes, int]]:
        """Name, file, first line, line table and its format of code objects."""
        code = ffi.new("struct mematlas_code *")
        for number in range(first, end):
            check(lib.mematlas_collector_code(self._handle, process, number, code))
            name = bytes(ffi.buffer(code.name, code.name_length)).decode("utf-8", "replace")
            file = bytes(ffi.buffer(code.file, code.file_length)).decode("utf-8", "replace")
            table = bytes(ffi.buffer(code.table, code.table_length))
            yield name, file, code.first_line, table, code.format

    def timeline(self, process: int, count: int) -> bytes:
        """Take up to `count` rows gathered since the last call (TIMELINE_DTYPE)."""
        rows = ffi.new("struct mematlas_moment[]", max(count, 1))
        got = check(lib.mematlas_collector_timeline(self._handle, process, rows, count))
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_moment")))

    def snapshot(self, process: int) -> Account | None:
        """Join residency now; None if the process is gone."""
        account = ffi.new("struct mematlas_account *")
        result = lib.mematlas_collector_snapshot(self._handle, process, account)
        if result in {-errno.ESRCH, -errno.ENOENT}:
            return None
        check(result)
        return Account(
            time_s=account.time_s,
            cost_s=account.cost_s,
            rss_bytes=account.rss_bytes,
            statm_rss_bytes=account.statm_rss_bytes,
            unexplained_bytes=account.unexplained_bytes,
            parts=self._parts(account.parts),
            rows=self._rows(account.rows),
        )

    def _parts(self, count: int) -> list[tuple[int, str, int, float]]:
        parts = ffi.new("struct mematlas_part[]", count + 1)
        got = check(lib.mematlas_collector_parts(self._handle, parts, count))
        return [
            (part.kind, _text(part.name), part.resident_bytes, part.error_bytes)
            for part in parts[0:got]
        ]

    def _rows(self, count: int) -> bytes:
        rows = ffi.new("struct mematlas_held[]", count + 1)
        got = check(lib.mematlas_collector_rows(self._handle, rows, count))
        return bytes(ffi.buffer(rows, got * ffi.sizeof("struct mematlas_held")))


# ---- system --------------------------------------------------------------------------------------


def same_address_space(first: int, second: int) -> bool:
    """Tell whether two processes are one to the memory manager (CLONE_VM, vfork)."""
    return check(lib.mematlas_kcmp_vm(first, second)) == 0


# ---- memory: mappings ----------------------------------------------------------------------------


def map_memory(length: int, flags: int, descriptor: int = -1) -> int:
    """Map readable, writable memory and give its address."""
    address = ffi.new("uint64_t *")
    check(lib.mematlas_map(length, flags, descriptor, address))
    return int(address[0])


def unmap_memory(address: int, length: int) -> None:
    """Give address space back (munmap)."""
    check(lib.mematlas_unmap(address, length))


def protect_memory(address: int, length: int, protection: int) -> None:
    """Change what pages allow (mprotect)."""
    check(lib.mematlas_protect(address, length, protection))


def advise(address: int, length: int, advice: int) -> None:
    """Tell the kernel what to do with pages (madvise)."""
    check(lib.mematlas_advise(address, length, advice))


def lock_memory(address: int, length: int, flags: int) -> None:
    """Keep pages in memory (mlock2)."""
    check(lib.mematlas_lock(address, length, flags))


def unlock_memory(address: int, length: int) -> None:
    """Let pages be reclaimed again (munlock)."""
    check(lib.mematlas_unlock(address, length))


def lock_all(flags: int) -> None:
    """Lock the whole address space (mlockall); 0 unlocks it."""
    check(lib.mematlas_lock_all(flags))


def name_memory(address: int, length: int, name: str) -> None:
    """Name an anonymous mapping in /proc/PID/maps (PR_SET_VMA_ANON_NAME)."""
    check(lib.mematlas_name_memory(address, length, name.encode()))


def create_memfd(name: str, flags: int) -> int:
    """Open an anonymous file in memory (memfd_create)."""
    return check(lib.mematlas_memfd(name.encode(), flags))


def _node_mask(nodes: Sequence[int]) -> tuple[Any, int]:
    bits = 64 * (max(nodes, default=0) // 64 + 1)
    mask = ffi.new("uint64_t[]", bits // 64)
    for node in nodes:
        mask[node // 64] |= 1 << node % 64
    return mask, bits


def bind_memory(address: int, length: int, mode: int, nodes: Sequence[int], flags: int) -> None:
    """Set the NUMA policy of a range (mbind)."""
    mask, bits = _node_mask(nodes)
    check(lib.mematlas_bind(address, length, mode, mask if nodes else ffi.NULL, bits, flags))


def move_pages(pid: int, pages: Sequence[int], nodes: Sequence[int] | None) -> list[int]:
    """Move pages to nodes, or ask where they are; each page's node, or -errno (move_pages)."""
    status = ffi.new("int[]", [-errno.EIO] * len(pages))
    wanted = ffi.NULL if nodes is None else ffi.new("int[]", nodes)
    addresses, flags = ffi.new("uint64_t[]", pages), 0 if nodes is None else 2
    check(lib.mematlas_move_pages(pid, len(pages), addresses, wanted, status, flags))
    return list(status)


def lend_memory(address: int, length: int) -> Any:
    """Memory at an address as a writable buffer that takes weak references; to be kept mapped."""
    return ffi.buffer(ffi.cast("char *", address), length)


def address_of(buffer: memoryview) -> int:
    """Give the address of a contiguous buffer's first byte."""
    return int(ffi.cast("uintptr_t", ffi.from_buffer(buffer)))


def set_policy(mode: int, nodes: Sequence[int]) -> None:
    """Set the NUMA policy of this thread and what it execs (set_mempolicy)."""
    mask, bits = _node_mask(nodes)
    check(lib.mematlas_policy_set(mode, mask if nodes else ffi.NULL, bits))


def policy() -> tuple[int, list[int]]:
    """Read the NUMA policy of this thread: the mode and its nodes."""
    bits = 1024
    mode, mask = ffi.new("int *"), ffi.new("uint64_t[]", bits // 64)
    check(lib.mematlas_policy_get(mode, mask, bits))
    return mode[0], [node for node in range(bits) if mask[node // 64] >> node % 64 & 1]


def add_personality(flags: int) -> None:
    """Add flags of personality(2), in force from exec on."""
    check(lib.mematlas_personality_add(flags))


def disable_thp(*, disable: bool) -> None:
    """Switch transparent huge pages off or on for this process and what it execs."""
    check(lib.mematlas_thp_disable(disable))


def read_heap() -> tuple[str, int, int]:
    """Read malloc_info(3), and the number and bytes of blocks mapped on their own (mallinfo2)."""
    size, heap = 1 << 20, ffi.new("struct mematlas_heap *")
    address = map_memory(size, 0x22)  # not by malloc: that would change what is read
    buffer = ffi.cast("char *", address)
    try:
        lib.mematlas_heap_read(heap)
        check(lib.mematlas_heap_describe(buffer, size))
        return ffi.string(buffer).decode(), heap.mapped_blocks, heap.mapped_bytes
    finally:
        unmap_memory(address, size)


def trim_heap() -> bool:
    """Give free memory of malloc back (malloc_trim); False if there was none."""
    return check(lib.mematlas_heap_trim()) != 0


def add_to_counter(address: int, amount: int) -> int:
    """Add to the 64-bit number at an address, atomically, and give the sum; 0 reads it."""
    return int(lib.mematlas_counter_add(ffi.cast("int64_t *", address), amount))


# ---- memory: pool --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """What a pool has done and holds; bytes and objects."""

    object_size: int
    stride: int
    count: int
    in_use: int
    cached: int
    taken: int
    given: int
    refused: int
    mapping_bytes: int


class PoolHandle:
    """A pool of the C core; no thread may use it after close()."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    @classmethod
    def create(cls, size: int, count: int, alignment: int, descriptor: int) -> PoolHandle:
        """Make a pool, in an open file if `descriptor` is not -1."""
        handle = ffi.new("struct mematlas_pool **")
        check(lib.mematlas_pool_create(size, count, alignment, descriptor, handle))
        return cls(handle[0])

    @classmethod
    def open(cls, descriptor: int) -> PoolHandle:
        """Open another process's pool."""
        handle = ffi.new("struct mematlas_pool **")
        check(lib.mematlas_pool_open(descriptor, handle))
        return cls(handle[0])

    def close(self) -> None:
        """Unmap the pool."""
        lib.mematlas_pool_destroy(self._handle)
        self._handle = ffi.NULL

    def take(self) -> int:
        """Give the address of a free object; 0: there is none."""
        return int(ffi.cast("uintptr_t", lib.mematlas_pool_take(self._handle)))

    def give(self, address: int) -> None:
        """Take an object back. EFAULT: not of this pool; EINVAL: inside one; EALREADY: is free."""
        check(lib.mematlas_pool_give(self._handle, ffi.cast("void *", address)))

    def figures(self) -> PoolFigures:
        """Count."""
        stats = ffi.new("struct mematlas_pool_stats *")
        lib.mematlas_pool_read_stats(self._handle, stats)
        return PoolFigures(**{name: getattr(stats, name) for name in PoolFigures.__slots__})

    def is_sound(self) -> bool:
        """Walk every list; False if an invariant is broken."""
        return bool(lib.mematlas_pool_check(self._handle) == 0)


def cachestat(descriptor: int, offset: int = 0, length: int = 0) -> tuple[int, int, int, int, int]:
    """Pages (cached, dirty, under writeback, evicted, recently evicted) of a range of a file."""
    found = ffi.new("struct mematlas_cachestat *")
    check(lib.mematlas_cachestat(descriptor, offset, length, found))
    return found.cached, found.dirty, found.writeback, found.evicted, found.recently_evicted


def mincore_file(descriptor: int, length: int) -> tuple[int, bytearray]:
    """Resident pages of a file, and a byte for each page."""
    pages = bytearray((length + PAGE - 1) // PAGE)
    if not pages:
        return 0, pages
    found = lib.mematlas_mincore_file(descriptor, length, ffi.from_buffer("unsigned char[]", pages))
    return check(found), pages
