"""Lanes: `scripts/test` runs the tests in several processes, each of them one test at a time.

A test with the mark `machine` runs while no other test does, in any lane. The lanes agree by two
locks. Who holds `_turn` may wait for `_tests`, so that a test of its own does not wait forever for a
moment without others. A third lock does the same between the runs of two checkouts, for marked tests.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_alone = False


def is_alone() -> bool:
    """Return whether the running test has the machine for itself."""
    return _alone


@contextmanager
def _locked(path: Path, operation: int) -> Iterator[None]:
    """Hold a lock on a file; programs that a test starts do not inherit the descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # forked children may still have the descriptor
        os.close(descriptor)


@contextmanager
def among_others(folder: Path) -> Iterator[None]:
    """Run a test beside those of other lanes; `folder` is common to all lanes of a run."""
    with ExitStack() as held:
        with _locked(folder / "turn.lock", fcntl.LOCK_EX):
            held.enter_context(_locked(folder / "tests.lock", fcntl.LOCK_SH))
        yield


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Run a test that changes or measures the machine, while no other lane runs a test."""
    global _alone  # noqa: PLW0603 - one test at a time runs in a process
    checkouts = Path(tempfile.gettempdir()) / f"mematlas-tests-{os.getuid()}.lock"
    with (
        _locked(checkouts, fcntl.LOCK_EX),
        _locked(folder / "turn.lock", fcntl.LOCK_EX),
        _locked(folder / "tests.lock", fcntl.LOCK_EX),
    ):
        _alone = True
        try:
            yield
        finally:
            _alone = False
