"""Page faults and mapping calls, timed. A Cost is (nanoseconds, page faults of this thread)."""

from __future__ import annotations

from typing import Any

from mematlas._core.binding import check, ffi, lib

Cost = tuple[int, int]


def _new() -> Any:
    return ffi.new("struct mematlas_fault_cost *")


def _read(cost: Any) -> Cost:
    return int(cost.ns), int(cost.faults)


def touch_pages(address: int, length: int, step: int, *, write: bool = True) -> Cost:
    """Write, or read, a byte in every `step` bytes and return the cost."""
    cost = _new()
    lib.mematlas_fault_touch(address, length, step, write, cost)
    return _read(cost)


def map_timed(length: int, flags: int) -> tuple[int, Cost]:
    """Map memory (mmap) and return its address and the cost."""
    address, cost = ffi.new("uint64_t *"), _new()
    check(lib.mematlas_fault_map(length, flags, address, cost))
    return int(address[0]), _read(cost)


def advise_timed(address: int, length: int, advice: int) -> Cost:
    """Advise the kernel about pages (madvise) and return the cost."""
    cost = _new()
    check(lib.mematlas_fault_advise(address, length, advice, cost))
    return _read(cost)


def unmap_timed(address: int, length: int) -> Cost:
    """Unmap memory (munmap) and return the cost."""
    cost = _new()
    check(lib.mematlas_fault_unmap(address, length, cost))
    return _read(cost)


def fork_timed(address: int, length: int, step: int) -> tuple[Cost, Cost]:
    """Fork, then write to every `step` bytes, which copies the page; return both costs."""
    forked, copied = _new(), _new()
    check(lib.mematlas_fault_fork(address, length, step, forked, copied))
    return _read(forked), _read(copied)


def map_each(count: int, length: int) -> tuple[Any, Cost]:
    """Map `length` bytes of private memory in base pages `count` times; return the addresses and the cost."""
    addresses, cost = ffi.new("uint64_t[]", count), _new()
    check(lib.mematlas_fault_map_each(addresses, count, length, cost))
    return addresses, _read(cost)


def touch_each(addresses: Any, length: int, step: int) -> Cost:
    """Write a byte in every `step` bytes of each mapping and return the cost."""
    cost = _new()
    lib.mematlas_fault_touch_each(addresses, len(addresses), length, step, cost)
    return _read(cost)


def unmap_each(addresses: Any, length: int) -> Cost:
    """Unmap what map_each() mapped and return the cost."""
    cost = _new()
    check(lib.mematlas_fault_unmap_each(addresses, len(addresses), length, cost))
    return _read(cost)
