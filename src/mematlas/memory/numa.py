"""NUMA placement of existing memory: policies of ranges and migration of pages, with the outcome.

Results count pages by outcome: "moved", "already there", "not moved", or the error of the kernel: ENOENT
not resident, EFAULT the zero page or no mapping, EBUSY in use by the kernel now, EACCES shared with other
processes, ENOMEM no memory on the node. See mbind(2), move_pages(2), migrate_pages(2).
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mematlas import _core
from mematlas.errors import AccessError, TargetError, UnsupportedError, UsageError
from mematlas.linux import numa_maps
from mematlas.linux.process import open_process

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PolicyName = Literal[
    "default", "preferred", "bind", "interleave", "local", "preferred-many", "weighted"
]
"""Policies of set_mempolicy(2). "weighted" needs Linux 6.9, "preferred-many" 5.15."""

POLICIES = {
    "default": 0,
    "preferred": 1,
    "bind": 2,
    "interleave": 3,
    "local": 4,
    "preferred-many": 5,
    "weighted": 6,
}
_NODES = Path("/sys/devices/system/node/has_memory")
_WITHOUT_NODES = ("default", "local")
_MOVE = 2  # MPOL_MF_MOVE
_CHUNK = 1 << 16

Counts = dict[str, int]


def check_policy(policy: str, nodes: Sequence[int]) -> tuple[int, list[int]]:
    """Return mode and nodes for the kernel. UsageError: no such policy or node, or no node given."""
    if policy not in POLICIES:
        raise UsageError(f"no such policy: {policy!r}; one of {', '.join(POLICIES)}")
    if policy in _WITHOUT_NODES:
        return POLICIES[policy], []
    if not nodes:
        raise UsageError(f"policy {policy!r} needs the node, or nodes, to allocate from")
    check_nodes(nodes)
    if policy == "preferred" and len(nodes) > 1:
        policy = "preferred-many"
    return POLICIES[policy], list(nodes)


def check_nodes(nodes: Iterable[int]) -> None:
    """Raise UsageError if one of the nodes does not exist or has no memory."""
    from mematlas.linux.cpulist import parse_list

    present = parse_list(_NODES.read_text()) if _NODES.exists() else [0]
    absent = sorted(set(nodes) - set(present))
    if absent:
        listed = ", ".join(map(str, absent))
        raise UsageError(
            f"no memory on node {listed}; nodes with memory here: {', '.join(map(str, present))}"
        )


def as_list(node: int | Sequence[int] | None) -> list[int]:
    """Return one node, several or none as a list."""
    return [] if node is None else [node] if isinstance(node, int) else list(node)


def where_pages(address: int, length: int) -> list[int]:
    """Return the node of each page of a range, or -errno."""
    return _in_parts(_pages(address, length), None)


def mbind(
    buffer: Any, policy: PolicyName, node: int | Sequence[int] | None = None, *, move: bool = False
) -> Counts:
    """Set the NUMA policy of the whole pages inside an array, or any contiguous buffer.

    With `move`, pages on other nodes are moved; without, the policy holds for pages faulted in later.
    Returns pages by outcome, as move_pages() does. See mbind(2).

    UsageError: no such policy or node, or no whole page. AccessError: CAP_SYS_NICE is needed.
    UnsupportedError: a kernel without NUMA, or too old for the policy.

    >>> import numpy as np
    >>> from mematlas.memory import mbind
    >>> sum(mbind(np.ones(10_000), "default").values()) >= 18
    True
    """
    address, length = inner_pages(buffer)
    return bind_range(address, length, policy, as_list(node), move=move)


def bind_range(
    address: int, length: int, policy: PolicyName, nodes: list[int], *, move: bool
) -> Counts:
    """Set the policy of whole pages at an address, and count the pages by outcome."""
    before = where_pages(address, length)
    set_range(address, length, policy, nodes, move=move)
    after = where_pages(address, length)
    allowed = set(nodes or before + after)
    return _count(
        one
        if one < 0
        else "moved"
        if one != old
        else "already there"
        if one in allowed
        else "not moved"
        for old, one in zip(before, after, strict=True)
    )


def set_range(
    address: int, length: int, policy: PolicyName, nodes: list[int], *, move: bool
) -> None:
    """Set the policy of whole pages at an address: mbind(2)."""
    mode, wanted = check_policy(policy, nodes)
    try:
        _core.bind_memory(address, length, mode, wanted, _MOVE if move else 0)
    except OSError as error:
        if not (move and error.errno == errno.EIO):  # EIO: some pages stayed where they were
            raise refusal(error, policy, wanted) from None


def move_pages(buffer: Any, node: int) -> Counts:
    """Move the pages of an array, or of any other contiguous buffer, to a node.

    Returns pages by outcome: "moved", "already there", "not moved", or the kernel's error: "ENOENT" not
    resident, "EFAULT" the zero page, "EBUSY" in use by the kernel, "EACCES" shared with other
    processes, "ENOMEM" no memory on the node.

    UsageError: no such node, or an empty buffer. AccessError: CAP_SYS_NICE is needed. See move_pages(2).

    >>> import numpy as np
    >>> from mematlas.memory import move_pages, where
    >>> array = np.ones(10_000)
    >>> nodes = where(array).by_node or {0: 80_000}  # None: a kernel without NUMA
    >>> sorted(nodes) == sorted(set(nodes))
    True
    """
    address, length = outer_pages(buffer)
    return move_range(address, length, node)


def move_range(address: int, length: int, node: int, step: int = _core.PAGE) -> Counts:
    """Move the pages of a range to a node: move_pages(2), with the status of every page."""
    check_nodes([node])
    pages = _pages(address, length, step)
    before = _in_parts(pages, None)
    try:
        status = _in_parts(pages, node)
    except OSError as error:
        raise refusal(error, "move_pages", [node]) from None
    return count_outcomes(before, status, node)


def count_outcomes(before: list[int], status: list[int], node: int) -> Counts:
    """Count pages by what move_pages(2) did: their node before, and their status after."""
    return _count(
        one
        if one < 0
        else "not moved"
        if one != node
        else "already there"
        if old == node
        else "moved"
        for old, one in zip(before, status, strict=True)
    )


def migrate_pages(pid: int, source: int | Sequence[int], target: int | Sequence[int]) -> Counts:
    """Move all pages of a process (0: this one) between nodes.

    Returns base pages by outcome, "moved" and "not moved". See migrate_pages(2).

    UsageError: no such node. TargetError: no such process. AccessError: another user's process without
    CAP_SYS_NICE. UnsupportedError: a kernel without NUMA.

    >>> from mematlas.memory import migrate_pages
    >>> migrate_pages(0, 63, 63)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    mematlas.UsageError: no memory on node 63; nodes with memory here: ...
    """
    source, target = as_list(source), as_list(target)
    check_nodes({*source, *target})
    number = pid or os.getpid()
    before = _count_on(number, source)
    try:
        left = _core.migrate_pages(number, source, target)
    except OSError as error:
        if error.errno == errno.ESRCH:
            raise TargetError(f"there is no process {pid}") from None
        raise refusal(error, "migrate_pages", target) from None
    counts = {"moved": max(0, before - _count_on(number, source)), "not moved": left}
    return {name: count for name, count in counts.items() if count}


@contextmanager
def mempolicy(policy: PolicyName, node: int | Sequence[int] | None = None) -> Iterator[None]:
    """Set the NUMA policy of this thread inside a `with` block: set_mempolicy(2).

    It holds for pages that the thread faults in, and is restored at the end.

    UsageError: no such policy or node. UnsupportedError: a kernel without NUMA.

    >>> from mematlas.memory import mempolicy
    >>> with mempolicy("local"):
    ...     data = bytearray(1 << 20)
    """
    mode, nodes = check_policy(policy, as_list(node))
    saved, saved_nodes = _core.policy()
    try:
        _core.set_policy(mode, nodes)
    except OSError as error:
        raise refusal(error, policy, nodes) from None
    try:
        yield
    finally:
        _core.set_policy(saved, saved_nodes)


def inner_pages(buffer: Any) -> tuple[int, int]:
    """Return address and length of the whole pages inside a buffer: none is shared with a neighbour."""
    address, length = _extent(buffer)
    start = -(-address // _core.PAGE) * _core.PAGE
    end = (address + length) // _core.PAGE * _core.PAGE
    if start >= end:
        raise UsageError("there is no whole page inside this buffer")
    return start, end - start


def outer_pages(buffer: Any) -> tuple[int, int]:
    """Return address and length of every page a buffer touches."""
    address, length = _extent(buffer)
    start = address // _core.PAGE * _core.PAGE
    return start, -(-(address + length - start) // _core.PAGE) * _core.PAGE


def _extent(buffer: Any) -> tuple[int, int]:
    view = memoryview(buffer)
    if not view.contiguous:
        raise UsageError("this array is not contiguous; pass the array it is a view of")
    view = view.cast("B") if view.nbytes else view
    if not view.nbytes:
        raise UsageError("there is no page in an empty buffer")
    return _core.address_of(view), view.nbytes


def _pages(address: int, length: int, step: int = _core.PAGE) -> list[int]:
    return list(range(address, address + length, step))


def _in_parts(pages: list[int], node: int | None) -> list[int]:
    status: list[int] = []
    for first in range(0, len(pages), _CHUNK):
        some = pages[first : first + _CHUNK]
        status += _core.move_pages(0, some, None if node is None else [node] * len(some))
    return status


def _count(outcomes: Iterable[int | str]) -> Counts:
    counts: Counts = {}
    for one in outcomes:
        name = errno.errorcode.get(-one, str(one)) if isinstance(one, int) else one
        counts[name] = counts.get(name, 0) + 1
    return counts


def _count_on(pid: int, nodes: Sequence[int]) -> int:
    """Count the base pages a process has on nodes."""
    if not Path("/proc/self/numa_maps").exists():
        raise UnsupportedError("this kernel was built without NUMA")
    with open_process(pid) as process:
        lines = numa_maps.parse(process.read("numa_maps").decode("utf-8", "replace"))
    return sum(line.nodes.get(node, 0) for line in lines for node in nodes) // _core.PAGE


def refusal(
    error: OSError, what: str, nodes: Sequence[int]
) -> AccessError | UnsupportedError | UsageError:
    """Return the exception, with the reason, for a policy or a migration that the kernel refuses."""
    listed = ", ".join(map(str, nodes))
    if error.errno == errno.EPERM:
        return AccessError(
            f"{what} to node {listed} is refused: another user's process, or nodes outside this "
            "process's cpuset, need CAP_SYS_NICE"
        )
    if error.errno == errno.ENOSYS:
        return UnsupportedError(f"{what}: this kernel was built without NUMA")
    if error.errno == errno.EINVAL and what == "weighted":
        return UnsupportedError("weighted interleaving needs kernel 6.9 or later")
    if error.errno == errno.EINVAL and what == "preferred":
        return UnsupportedError("preferring several nodes needs kernel 5.15 or later")
    return UsageError(f"{what} on node {listed} is refused: {error.strerror}")
