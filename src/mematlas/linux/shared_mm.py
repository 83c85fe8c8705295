"""Processes that share one address space (CLONE_VM, vfork): their memory must be counted once."""

from __future__ import annotations

import os

from mematlas import _core


def list_pids(root: str = "/") -> list[int]:
    """Return all PIDs in ascending order."""
    names = os.listdir(f"{root}/proc")  # noqa: PTH208
    return sorted(int(name) for name in names if name.isdigit())


def find_sharers(pid: int) -> tuple[int, ...] | None:
    """Return the other processes with the address space of `pid`, or None without kcmp(2)."""
    try:
        _core.same_address_space(pid, pid)
    except OSError:
        return None
    return tuple(other for other in list_pids() if other != pid and _same(pid, other))


def _same(first: int, second: int) -> bool:
    try:
        return _core.same_address_space(first, second)
    except OSError:  # the process ended, or ptrace access is denied
        return False
