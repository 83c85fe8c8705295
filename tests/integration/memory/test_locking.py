"""mlockall(), its limit, and advice for locked pages."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from machine_state import as_nobody, in_child
from mematlas.errors import AccessError, MematlasError, UsageError
from mematlas.memory import Region, lock_limit, mlockall, munlockall
from mematlas.memory.locking import LockLimit

if TYPE_CHECKING:
    from collections.abc import Callable

KIB, MIB = 1 << 10, 1 << 20


def refused(act: Callable[[], object], *words: str) -> bool:
    """Return whether a call is refused with all of these words."""
    try:
        act()
    except AccessError as error:
        return all(word in str(error) for word in words)
    return False


def locked() -> int:
    """Read the locked bytes of this process."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmLck:")[2].split()[0]) << 10


def test_all_is_locked_and_unlocked() -> None:
    """mlockall() locks all mappings, as VmLck shows; munlockall() unlocks them."""

    def act() -> bool:
        amount = mlockall(onfault=True)
        right = amount == locked() > MIB
        return right and munlockall() == amount and locked() == 0

    assert in_child(act) == 0


def test_future_mappings_are_locked() -> None:
    """With future=True a later region is locked; with onfault only its touched pages."""

    def act() -> bool:
        mlockall(current=False, future=True, onfault=True)
        with Region("1M") as region:
            region.view[0] = 1
            return region.placement.locked == 4 * KIB

    assert in_child(act) == 0


def test_the_limit_is_checked_first() -> None:
    """Without CAP_IPC_LOCK the error names the limit and what would raise it."""

    def act() -> bool:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (64 * KIB, 128 * KIB))
        limit = lock_limit()
        said = limit.explain()
        return (
            (limit.soft, limit.hard, limit.exempt) == (64 * KIB, 128 * KIB, False)
            and "ulimit -l" in said
            and refused(mlockall, "64.0 KiB", "address space", "CAP_IPC_LOCK")
            and locked() == 0
        )

    assert as_nobody(act) == 0


def test_what_is_locked_already_counts() -> None:
    """The second of two regions that exceed the limit together is refused with the figures."""

    def act() -> bool:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (64 * KIB, 64 * KIB))
        with Region("40K", lock=True):
            left = lock_limit().left
            return left == 24 * KIB and refused(
                lambda: Region("40K", lock=True), "40.0 KiB", "limits.conf"
            )

    assert as_nobody(act) == 0


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (LockLimit(8 * MIB, None, 0, exempt=False, may_raise_hard=False), "to unlimited without"),
        (
            LockLimit(8 * MIB, 8 * MIB, 0, exempt=False, may_raise_hard=True),
            "CAP_SYS_RESOURCE allows",
        ),
        (LockLimit(8 * MIB, 8 * MIB, 0, exempt=False, may_raise_hard=False), "LimitMEMLOCK="),
        (LockLimit(8 * MIB, 8 * MIB, 0, exempt=True, may_raise_hard=False), "no limit holds"),
    ],
)
def test_remedies(limit: LockLimit, words: str) -> None:
    """The advice depends on the hard limit and on capabilities."""
    assert words in limit.explain()


def test_nothing_to_lock() -> None:
    """mlockall() for neither current nor future memory is a UsageError."""
    with pytest.raises(UsageError):
        mlockall(current=False)


def test_locked_pages_take_advice_of_their_own() -> None:
    """dontneed() on locked pages names unlock() and dontneed_locked(), which work."""
    with Region("64K", populate=True, lock=True) as region:
        region.view[0] = 7
        with pytest.raises(MematlasError, match=r"unlock\(\) first, or use dontneed_locked\(\)"):
            region.dontneed()
        region.dontneed_locked()
        assert region.view[0] == 0
