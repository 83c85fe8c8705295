"""The CPU usage of mematlas itself."""

from __future__ import annotations

import time

_SHORTEST_S = 0.3


class OwnCost:
    """The CPU usage of this process between snapshots."""

    def __init__(self) -> None:
        """Start measuring."""
        self._last = (time.monotonic(), time.process_time())
        self.percent: float | None = None  # of one CPU; None: not measured yet

    def update(self) -> None:
        """Measure the usage since the last measurement, if that is long enough ago."""
        now = (time.monotonic(), time.process_time())
        passed = now[0] - self._last[0]
        if passed > _SHORTEST_S:
            self.percent = (now[1] - self._last[1]) * 100 / passed
            self._last = now
