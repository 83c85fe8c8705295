"""Huge pages reserved and enabled while a benchmark runs, and released afterwards."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.linux.hugepages import PageKind

_ROOT = Path("/")


@contextmanager
def temporary_hugepages(needed: dict[PageKind, int]) -> Iterator[None]:
    """Reserve `needed` bytes in pages of each kind ("64K", "thp", "2M", "1G") for the block.

    The kernel may reserve less. The change is journalled: if this process is killed,
    `mematlas tune undo` restores the settings.
    """
    from mematlas.control.tune import apply, journal, plan

    made = plan.make(_ROOT, _wanted(needed))
    if not made.changes:
        yield
        return
    number, _ = apply.apply(_ROOT, made)
    try:
        yield
    finally:
        results = apply.undo(_ROOT, journal.find_applied(_ROOT, number), write=True)
        for each in results:
            if each.now != each.before:
                print(
                    f"mematlas: {each.key} is {each.now}, it was {each.before}: {each.detail}; "
                    f"see mematlas tune verify {number}",
                    file=sys.stderr,
                )


def _wanted(needed: dict[PageKind, int]) -> dict[str, str]:
    """Return the knobs that provide these pages, among those that this machine has."""
    from mematlas.control.tune import knobs
    from mematlas.linux.hugepages import is_enabled

    wanted = {}
    for kind, size in needed.items():
        if kind.is_hugetlb:
            knob = knobs.find(f"hugepages.{kind}")
            have = knobs.read(_ROOT, knob).value
            if have is not None:
                wanted[knob.key] = str(int(have) + kind.round_up(size) // kind.size)
        elif kind.is_transparent and not is_enabled(kind):
            knob = knobs.find("thp.enabled" if kind.name == "thp" else f"thp.{kind}.enabled")
            if knobs.read(_ROOT, knob).value is not None:
                wanted[knob.key] = "madvise"
    return wanted
