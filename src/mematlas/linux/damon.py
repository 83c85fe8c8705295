"""DAMON through its sysfs interface, for one process at a time.

Writing nr_kdamonds removes every kdamond that is set up, so DAMON is used only while there is none.
Source: Documentation/admin-guide/mm/damon/usage.rst.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mematlas.errors import MematlasError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class WorkingSetMethod:
    """A method to measure the working set: whether it works here, and the reason if it does not."""

    name: str
    works: bool
    reason: str


ADMIN = "sys/kernel/mm/damon/admin/kdamonds"
_SAMPLE_US = 5_000
_AGGREGATION_US = 100_000
_WARM_UP_S = 2.0
_SNAPSHOTS = 10
_REGIONS = (100, 2000)  # min and max of monitoring_attrs/nr_regions
_ALL = str(2**64 - 1)


class DamonRegion(NamedTuple):
    """A DAMON region. `accesses` is nr_accesses: the samples of one aggregation that found it accessed."""

    start: int
    end: int
    accesses: int


def is_running(root: str = "/") -> bool:
    """Return whether a kdamond is running."""
    states = Path(root, ADMIN).glob("*/state")
    try:
        return any(state.read_text().strip() == "on" for state in states)
    except OSError:
        return False


def try_damon(root: str = "/") -> WorkingSetMethod:
    """Return whether DAMON can monitor a process here without removing a kdamond of another user."""
    admin = Path(root, ADMIN)

    def no(reason: str) -> WorkingSetMethod:
        return WorkingSetMethod("damon", False, reason)

    try:
        number = int((admin / "nr_kdamonds").read_text())
    except FileNotFoundError:
        return no("not in this kernel (CONFIG_DAMON_SYSFS)")
    except OSError:
        return no("needs root")
    if number:
        return no(f"in use: {number} kdamond set up by another user")
    if not os.access(admin / "nr_kdamonds", os.W_OK):
        return no("needs root")
    if root == "/" and not _has_vaddr(admin):
        return no("cannot monitor processes in this kernel (CONFIG_DAMON_VADDR)")
    return WorkingSetMethod("damon", True, "")


def _has_vaddr(admin: Path) -> bool:
    """Return whether the operations include vaddr; the list can be read only from an existing kdamond."""
    try:
        with _set_up(admin) as context:
            return "vaddr" in (context / "avail_operations").read_text().split()
    except OSError:
        return False


def monitor(pid: int, seconds: float, root: str = "/") -> tuple[tuple[DamonRegion, ...], float]:
    """Monitor a process and return the regions of all snapshots, and the seconds that really passed.

    DAMON starts with few regions and splits them at every aggregation, so a warm-up precedes the time
    that counts. Raises MematlasError if the kernel denies access.
    """
    admin = Path(root, ADMIN)
    try:
        with _set_up(admin) as context:
            _configure(context, pid)
            state = admin / "0/state"
            state.write_text("on")
            try:
                time.sleep(_WARM_UP_S)
                return _collect(state, context, seconds)
            finally:
                with suppress(OSError):  # the kdamond stops by itself when the process ends
                    state.write_text("off")
    except OSError as error:
        raise MematlasError(f"DAMON failed ({error.strerror}); use --method referenced") from None


def _collect(state: Path, context: Path, seconds: float) -> tuple[tuple[DamonRegion, ...], float]:
    """Read the regions several times during the interval."""
    snapshots = max(1, min(_SNAPSHOTS, int(seconds * 1e6 / (2 * _AGGREGATION_US))))
    regions: list[DamonRegion] = []
    began = time.monotonic()
    for number in range(1, snapshots + 1):
        time.sleep(max(0.0, began + seconds * number / snapshots - time.monotonic()))
        passed = time.monotonic() - began
        state.write_text("update_schemes_tried_regions")
        regions += _regions(context)
    return tuple(regions), passed


@contextmanager
def _set_up(admin: Path) -> Iterator[Path]:
    """Set up one kdamond with one context, and remove it afterwards."""
    if int((admin / "nr_kdamonds").read_text()):
        raise MematlasError("DAMON is in use by another user")
    (admin / "nr_kdamonds").write_text("1")
    try:
        (admin / "0/contexts/nr_contexts").write_text("1")
        yield admin / "0/contexts/0"
    finally:
        (admin / "nr_kdamonds").write_text("0")


def _configure(context: Path, pid: int) -> None:
    """Set the process as the target, and a scheme that reports every region (action `stat`)."""
    (context / "operations").write_text("vaddr")
    intervals = context / "monitoring_attrs/intervals"
    for name, value in (
        ("sample_us", _SAMPLE_US),
        ("aggr_us", _AGGREGATION_US),
        ("update_us", 10 * _AGGREGATION_US),
    ):
        (intervals / name).write_text(str(value))
    for name, value in zip(("min", "max"), _REGIONS, strict=True):
        (context / "monitoring_attrs/nr_regions" / name).write_text(str(value))
    (context / "targets/nr_targets").write_text("1")
    (context / "targets/0/pid_target").write_text(str(pid))
    (context / "schemes/nr_schemes").write_text("1")
    scheme = context / "schemes/0"
    (scheme / "action").write_text("stat")
    for name in ("sz", "nr_accesses", "age"):
        (scheme / "access_pattern" / name / "min").write_text("0")
        highest = _ALL if name == "sz" else str(2**32 - 1)
        (scheme / "access_pattern" / name / "max").write_text(highest)


def _regions(context: Path) -> Iterator[DamonRegion]:
    for region in (context / "schemes/0/tried_regions").glob("[0-9]*"):
        start, end, accesses = (
            int((region / name).read_text()) for name in ("start", "end", "nr_accesses")
        )
        yield DamonRegion(start, end, accesses)
