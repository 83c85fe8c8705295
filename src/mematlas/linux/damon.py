"""DAMON through sysfs, for one process at a time, and never where anybody else is using it.

Writing nr_kdamonds throws away every kdamond that is set up. So DAMON is used only while there is none.
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
    """A way to find the working set: whether it can be had here, and why not."""

    name: str
    works: bool
    reason: str


ADMIN = "sys/kernel/mm/damon/admin/kdamonds"
_SAMPLE_US = 5_000
_SUM_US = 100_000
_WARM_UP_S = 2.0
_LOOKS = 10
_REGIONS = (100, 2000)  # the fewest and the most that DAMON may tell apart
_ALL = str(2**64 - 1)


class DamonRegion(NamedTuple):
    """Addresses that DAMON holds to be used alike; `accesses` is in how many samples they were."""

    start: int
    end: int
    accesses: int


def runs(root: str = "/") -> bool:
    """Tell whether some kdamond is at work. It is only looked at, never touched."""
    states = Path(root, ADMIN).glob("*/state")
    try:
        return any(state.read_text().strip() == "on" for state in states)
    except OSError:
        return False


def try_damon(root: str = "/") -> WorkingSetMethod:
    """Tell whether DAMON can watch a process here without disturbing anybody."""
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
        return no(f"in use: {number} kdamond is set up by somebody else, and stays as it is")
    if not os.access(admin / "nr_kdamonds", os.W_OK):
        return no("needs root")
    if root == "/" and not _has_vaddr(admin):
        return no("cannot watch processes in this kernel (CONFIG_DAMON_VADDR)")
    return WorkingSetMethod("damon", True, "")


def _has_vaddr(admin: Path) -> bool:
    """Ask a kdamond made for the question; they tell nothing before they are there."""
    try:
        with _set_up(admin) as context:
            return "vaddr" in (context / "avail_operations").read_text().split()
    except OSError:
        return False


def watch(pid: int, seconds: float, root: str = "/") -> tuple[tuple[DamonRegion, ...], float]:
    """Watch a process for a time; regions of each look, and the time that really passed.

    DAMON begins with few regions and splits them at every sum, so a time goes before that counts.
    """
    admin = Path(root, ADMIN)
    try:
        with _set_up(admin) as context:
            _configure(context, pid)
            state = admin / "0/state"
            state.write_text("on")
            try:
                time.sleep(_WARM_UP_S)
                return _look(state, context, seconds)
            finally:
                with suppress(OSError):  # it ends by itself when the process does
                    state.write_text("off")
    except OSError as error:
        raise MematlasError(
            f"DAMON refused ({error.strerror}); --method referenced works without it"
        ) from None


def _look(state: Path, context: Path, seconds: float) -> tuple[tuple[DamonRegion, ...], float]:
    """Take what DAMON summed up, some times during the time; what was used in any is used."""
    looks = max(1, min(_LOOKS, int(seconds * 1e6 / (2 * _SUM_US))))
    regions: list[DamonRegion] = []
    began = time.monotonic()
    for number in range(1, looks + 1):
        time.sleep(max(0.0, began + seconds * number / looks - time.monotonic()))
        passed = time.monotonic() - began
        state.write_text("update_schemes_tried_regions")
        regions += _regions(context)
    return tuple(regions), passed


@contextmanager
def _set_up(admin: Path) -> Iterator[Path]:
    """Make one kdamond with one context, and take it away again."""
    if int((admin / "nr_kdamonds").read_text()):
        raise MematlasError("DAMON is in use by somebody else since just now")
    (admin / "nr_kdamonds").write_text("1")
    try:
        (admin / "0/contexts/nr_contexts").write_text("1")
        yield admin / "0/contexts/0"
    finally:
        (admin / "nr_kdamonds").write_text("0")


def _configure(context: Path, pid: int) -> None:
    """Watch one process, and ask for every region by a scheme that does nothing to it."""
    (context / "operations").write_text("vaddr")
    intervals = context / "monitoring_attrs/intervals"
    for name, value in (
        ("sample_us", _SAMPLE_US),
        ("aggr_us", _SUM_US),
        ("update_us", 10 * _SUM_US),
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
