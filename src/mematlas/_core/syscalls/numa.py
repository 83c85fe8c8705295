"""NUMA policies and page migration."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence


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


def move_pages(
    pid: int, pages: Sequence[int], nodes: Sequence[int] | None, *, shared: bool = False
) -> list[int]:
    """Move pages to nodes, or query them with nodes None; return each page's node or -errno (move_pages).

    shared: move pages that other processes map, too (MPOL_MF_MOVE_ALL).
    """
    status = ffi.new("int[]", [-errno.EIO] * len(pages))
    wanted = ffi.NULL if nodes is None else ffi.new("int[]", nodes)
    addresses, flags = ffi.new("uint64_t[]", pages), 0 if nodes is None else 4 if shared else 2
    check(lib.mematlas_move_pages(pid, len(pages), addresses, wanted, status, flags))
    return list(status)


def migrate_pages(pid: int, source: Sequence[int], target: Sequence[int]) -> int:
    """Move all pages of a process between nodes; return how many were not moved (migrate_pages)."""
    bits = 64 * (max((*source, *target), default=0) // 64 + 1)
    masks = []
    for nodes in (source, target):
        mask = ffi.new("uint64_t[]", bits // 64)
        for node in nodes:
            mask[node // 64] |= 1 << node % 64
        masks.append(mask)
    return check(lib.mematlas_migrate_pages(pid, *masks, bits))
