"""Changes to the machine during a test, undone even if the test fails."""

from __future__ import annotations

import ctypes
import faulthandler
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lanes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HUGEPAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
NOBODY = 65534
_PR_SET_DUMPABLE = 4


@contextmanager
def written(path: Path, text: str) -> Iterator[None]:
    """Write a knob during the block; skip if it cannot be written."""
    assert lanes.is_alone(), "a test that changes the machine needs the mark `machine`"
    before = path.read_text().strip() if path.exists() else ""
    if "[" in before:
        before = before.partition("[")[2].partition("]")[0]
    if not before or not os.access(path, os.W_OK):
        pytest.skip(f"{path} cannot be written here")
    try:
        path.write_text(text)
        yield
    finally:
        path.write_text(before)


@contextmanager
def hugepages(count: int) -> Iterator[None]:
    """Reserve `count` hugetlb pages of 2 MiB during the block."""
    with written(HUGEPAGES, str(count)):
        if int(HUGEPAGES.read_text()) != count:
            pytest.skip(f"memory is too fragmented for {count} huge pages")
        yield


def in_child(act: Callable[[], bool]) -> int:
    """Run a function in a forked child; return 0 if true, 1 if false, 2 if it raised, -N for signal N."""
    child = os.fork()
    if child == 0:
        code = 2
        faulthandler.disable()  # a signal may be what the test is after
        try:
            code = int(not act())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def as_nobody(act: Callable[[], bool]) -> int:
    """Run a function in a forked child without capabilities."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become nobody")

    def drop_and_act() -> bool:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        # Having been root, it could not read its own /proc files.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        return act()

    return in_child(drop_and_act)
