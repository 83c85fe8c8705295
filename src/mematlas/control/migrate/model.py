"""The pages of a process before and after a migration, and why some stayed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Migration:
    """A process, the node its pages were moved to, and what the kernel says about them, in bytes.

    `before` and `after` are resident bytes by node, from numa_maps. `outcomes` are bytes by outcome of
    move_pages(2): "moved", "already there", "not moved", or the kernel's error by its name. Pages that the
    process touches meanwhile are in `after` only. after None: nothing was moved (a dry run), and `outcomes`
    are empty.
    """

    pid: int
    name: str
    to: int
    before: dict[int, int]
    after: dict[int, int] | None
    outcomes: dict[str, int]
    room: int | None  # bytes that the node could take before; None: unknown
    shared: bool  # pages that other processes map were to be moved, too
    seconds: float

    @property
    def left(self) -> int:
        """Bytes that were to be moved and were not."""
        stayed = self.outcomes.items()
        return sum(size for name, size in stayed if name not in DONE)


DONE = ("moved", "already there", "ENOENT", "EFAULT")
"""Outcomes that leave nothing to move elsewhere: ENOENT was freed meanwhile, EFAULT is the zero page."""
