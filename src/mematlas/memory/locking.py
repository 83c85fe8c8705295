"""Locked memory: the limit shown and checked before the kernel refuses in one word."""

from __future__ import annotations

import resource
from dataclasses import dataclass

from mematlas import _core
from mematlas.errors import AccessError, MematlasError, UsageError
from mematlas.linux.status import read_status_of
from mematlas.units import format_bytes

_CAP_IPC_LOCK, _CAP_SYS_RESOURCE = 14, 24
_CURRENT, _FUTURE, _ONFAULT = 1, 2, 4  # MCL_*


@dataclass(frozen=True, slots=True)
class LockLimit:
    """What this process may lock, in bytes; None: without limit. `exempt`: CAP_IPC_LOCK, no limit counts."""

    soft: int | None
    hard: int | None
    locked: int
    exempt: bool
    may_raise_hard: bool

    @property
    def left(self) -> int | None:
        """Bytes that can still be locked; None: any amount."""
        if self.exempt or self.soft is None:
            return None
        return max(0, self.soft - self.locked)

    def explain(self) -> str:
        """Say what the limit is, and what would raise it."""
        soft, hard = (_size(each) for each in (self.soft, self.hard))
        said = f"RLIMIT_MEMLOCK is {soft} (hard limit {hard}), {format_bytes(self.locked)} locked"
        if self.exempt:
            return f"{said}; CAP_IPC_LOCK: no limit counts"
        return f"{said}; {self.remedy()}"

    def remedy(self) -> str:
        """Say what would raise it."""
        ways = []
        if self.hard is None or (self.soft is not None and self.soft < self.hard):
            ways.append(f"`ulimit -l` raises it to {_size(self.hard)} without privilege")
        elif self.may_raise_hard:
            ways.append("raise both limits, CAP_SYS_RESOURCE is there")
        else:
            ways.append(
                "the hard limit takes an entry in /etc/security/limits.conf, LimitMEMLOCK= of a "
                "service, --ulimit memlock= of a container"
            )
        ways.append("or grant CAP_IPC_LOCK")
        return ", ".join(ways)


def lock_limit() -> LockLimit:
    """Read what this process may lock, and has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    status = read_status_of()
    return LockLimit(
        soft=None if soft == resource.RLIM_INFINITY else soft,
        hard=None if hard == resource.RLIM_INFINITY else hard,
        locked=status.sizes["VmLck"],
        exempt=status.has_capability(_CAP_IPC_LOCK),
        may_raise_hard=status.has_capability(_CAP_SYS_RESOURCE),
    )


def check_room(length: int, what: str) -> None:
    """AccessError, with the limit and what would raise it, if `length` bytes more cannot be locked."""
    limit = lock_limit()
    if limit.left is not None and length > limit.left:
        raise AccessError(
            f"{what} {format_bytes(length)}, which exceeds the limit on locked memory: {limit.explain()}"
        )


def mlockall(*, current: bool = True, future: bool = False, onfault: bool = False) -> int:
    """Lock this process's memory: what is mapped now, what will be, or each page once it is touched.

    Returns the bytes locked now. With `future` and without `onfault`, each later mapping is filled at
    once, and fails when it exceeds the limit: mlockall(2).
    """
    if not (current or future):
        raise UsageError("mlockall() takes current=True, future=True, or both")
    if current:
        limit = lock_limit()
        # The kernel compares all address space with the limit, not what is resident.
        space = read_status_of().sizes["VmSize"]
        if limit.left is not None and limit.soft is not None and space > limit.soft:
            raise AccessError(
                f"all of this process are {format_bytes(space)} of address space, which exceeds the "
                f"limit on locked memory: {limit.explain()}"
            )
    flags = current * _CURRENT | future * _FUTURE | onfault * _ONFAULT
    try:
        _core.lock_all(flags)
    except OSError as error:
        raise MematlasError(
            f"mlockall() was refused: {error.strerror}; {lock_limit().explain()}"
        ) from None
    return read_status_of().sizes["VmLck"]


def munlockall() -> int:
    """Unlock all memory of this process, later mappings too; returns the bytes that were locked."""
    before = read_status_of().sizes["VmLck"]
    _core.lock_all(0)
    return before - read_status_of().sizes["VmLck"]


def _size(value: int | None) -> str:
    return "unlimited" if value is None else format_bytes(value)
