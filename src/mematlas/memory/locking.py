"""Locked memory: mlockall(2), and RLIMIT_MEMLOCK, checked before the kernel refuses."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Literal

from mematlas import _core
from mematlas.errors import AccessError, MematlasError, UsageError
from mematlas.linux.status import read_status_of
from mematlas.units import format_bytes

_CAP_IPC_LOCK, _CAP_SYS_RESOURCE = 14, 24
_CURRENT, _FUTURE, _ONFAULT = 1, 2, 4  # MCL_*

LockMode = bool | Literal["onfault"]


@dataclass(frozen=True, slots=True)
class LockLimit:
    """RLIMIT_MEMLOCK of this process and what is locked, in bytes. None: unlimited.

    `exempt`: CAP_IPC_LOCK is effective, so that no limit holds. `may_raise_hard`: CAP_SYS_RESOURCE is.
    See getrlimit(2), mlock(2).

    >>> from mematlas.memory import LockLimit
    >>> LockLimit(soft=65536, hard=65536, locked=4096, exempt=False, may_raise_hard=False).left
    61440
    """

    soft: int | None
    hard: int | None
    locked: int
    exempt: bool
    may_raise_hard: bool

    @property
    def left(self) -> int | None:
        """Bytes that can still be locked; None: unlimited.

        >>> from mematlas.memory import LockLimit
        >>> LockLimit(soft=None, hard=None, locked=0, exempt=False, may_raise_hard=False).left is None
        True
        """
        if self.exempt or self.soft is None:
            return None
        return max(0, self.soft - self.locked)

    def explain(self) -> str:
        """Return a line with the limit, what is locked, and what would raise the limit.

        >>> from mematlas.memory import LockLimit
        >>> LockLimit(soft=65536, hard=None, locked=0, exempt=True, may_raise_hard=True).explain()
        'RLIMIT_MEMLOCK is 64.0 KiB (hard limit unlimited), 0 B locked; no limit holds with CAP_IPC_LOCK'
        """
        soft, hard = (_size(each) for each in (self.soft, self.hard))
        state = f"RLIMIT_MEMLOCK is {soft} (hard limit {hard}), {format_bytes(self.locked)} locked"
        if self.exempt:
            return f"{state}; no limit holds with CAP_IPC_LOCK"
        return f"{state}; {self.remedy()}"

    def remedy(self) -> str:
        """Return what would raise the limit.

        >>> from mematlas.memory import LockLimit
        >>> LockLimit(soft=65536, hard=None, locked=0, exempt=False, may_raise_hard=False).remedy()
        '`ulimit -l` raises it to unlimited without privilege, or grant CAP_IPC_LOCK'
        """
        ways = []
        if self.hard is None or (self.soft is not None and self.soft < self.hard):
            ways.append(f"`ulimit -l` raises it to {_size(self.hard)} without privilege")
        elif self.may_raise_hard:
            ways.append("raise both limits by setrlimit(2), which CAP_SYS_RESOURCE allows")
        else:
            ways.append(
                "raise the hard limit in /etc/security/limits.conf, by LimitMEMLOCK= of a service or "
                "--ulimit memlock= of a container"
            )
        ways.append("or grant CAP_IPC_LOCK")
        return ", ".join(ways)


def lock_limit() -> LockLimit:
    """Read RLIMIT_MEMLOCK of this process and how much is locked.

    >>> from mematlas.memory import lock_limit
    >>> lock_limit().explain()[:15]
    'RLIMIT_MEMLOCK '
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    status = read_status_of()
    return LockLimit(
        soft=None if soft == resource.RLIM_INFINITY else soft,
        hard=None if hard == resource.RLIM_INFINITY else hard,
        locked=status.sizes["VmLck"],
        exempt=status.has_capability(_CAP_IPC_LOCK),
        may_raise_hard=status.has_capability(_CAP_SYS_RESOURCE),
    )


def check_lock_mode(lock: object) -> None:
    """Raise UsageError unless `lock` is a LockMode."""
    if lock not in (False, True, "onfault"):
        raise UsageError(f"lock is True, False or 'onfault', not {lock!r}")


def check_lock_limit(length: int, what: str) -> None:
    """Raise AccessError if `length` more bytes exceed the limit, with what would raise it."""
    limit = lock_limit()
    if limit.left is not None and length > limit.left:
        raise AccessError(
            f"{what} {format_bytes(length)}, which exceeds the limit on locked memory: {limit.explain()}"
        )


def mlockall(*, current: bool = True, future: bool = False, onfault: bool = False) -> int:
    """Lock the memory of this process and return the bytes locked now. See mlockall in mlock(2).

    current: all that is mapped now. future: all later mappings, which are then populated at once and
    fail beyond the limit. onfault: lock pages when they are faulted in.

    UsageError: neither current nor future. AccessError: RLIMIT_MEMLOCK is too low. MematlasError: the
    kernel refuses, as for memory it cannot populate.

    >>> from mematlas.memory import mlockall
    >>> mlockall(current=False)
    Traceback (most recent call last):
    mematlas.UsageError: mlockall() takes current=True, future=True, or both
    """
    if not (current or future):
        raise UsageError("mlockall() takes current=True, future=True, or both")
    if current:
        limit = lock_limit()
        # The kernel compares all address space with the limit, not what is resident.
        space = read_status_of().sizes["VmSize"]
        if limit.left is not None and limit.soft is not None and space > limit.soft:
            raise AccessError(
                f"this process has {format_bytes(space)} of address space, which exceeds the limit on "
                f"locked memory: {limit.explain()}"
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
    """Unlock all memory of this process, and stop locking later mappings.

    Returns the bytes that were unlocked. See munlockall(2).

    >>> from mematlas.memory import munlockall
    >>> munlockall() >= 0
    True
    """
    before = read_status_of().sizes["VmLck"]
    _core.lock_all(0)
    return before - read_status_of().sizes["VmLck"]


def _size(value: int | None) -> str:
    return "unlimited" if value is None else format_bytes(value)
