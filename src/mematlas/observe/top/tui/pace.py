"""The time between two snapshots: the interval of a live feed, the speed of a replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.observe.top.model import MachineSnapshot

_INTERVALS = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
_SPEEDS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 100.0)
_SHORTEST_S = 0.05  # between two snapshots of a replay
_LONGEST_S = 60.0  # of recorded time between two snapshots of a replay


@dataclass(slots=True)
class Pace:
    """How fast snapshots follow each other."""

    replaying: bool
    interval_s: float = 2.0  # live
    speed: float = 1.0  # of a replay, in recorded seconds per second

    def __str__(self) -> str:
        return f"{self.speed:g}x" if self.replaying else f"every {self.interval_s:g} s"

    def change(self, by: int) -> None:
        """Select the next (1) or previous (-1) interval, or speed of a replay."""
        if self.replaying:
            self.speed = _step(_SPEEDS, self.speed, by)
        else:
            self.interval_s = _step(_INTERVALS, self.interval_s, by)

    def pause_s(self, before: MachineSnapshot | None, after: MachineSnapshot | None) -> float:
        """Return the seconds to wait before the next snapshot."""
        if not self.replaying:
            return self.interval_s
        if before is None or after is None:
            return _SHORTEST_S
        recorded = after.time_s - before.time_s
        return max(_SHORTEST_S, min(recorded, _LONGEST_S) / self.speed)


def _step(steps: tuple[float, ...], value: float, by: int) -> float:
    """Return the next step above (1) or below (-1) a value, which need not be a step itself."""
    if by > 0:
        return next((step for step in steps if step > value), value)
    return next((step for step in reversed(steps) if step < value), value)
