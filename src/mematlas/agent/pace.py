"""The agent's own cost, and how it keeps below its limits.

Work is paid from an account of CPU time, which fills at the rate of the limit. Work that can wait is done while there
is some left, so that the agent takes longer between two readings where they cost more, and never exceeds its share.
"""

from __future__ import annotations

import os
import resource
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PART = 0.8  # of the limit, that work is planned for; requests of scrapers come when they like
_MOST_S = 0.5  # CPU time that can be saved up
_MOST_DEBT_S = 30.0
_SPAN_S = 60.0  # of the share that is shown
_TICKS = os.sysconf("SC_CLK_TCK")


class Pace:
    """The account of CPU time of this process. `share` is that of one core."""

    def __init__(
        self,
        share: float,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        """Begin with the account full: what the start cost is not of the running agent."""
        self.share = share
        self._clock, self._cpu = clock, cpu
        self._saved_s = _MOST_S
        self._last = clock(), cpu()
        self._seen: deque[tuple[float, float]] = deque([self._last])

    def update(self, others_s: float = 0.0) -> None:
        """Take what was used since the last time from the account, and add what was earned.

        `others_s`: CPU time that processes of the agent used meanwhile.
        """
        now = self._clock(), self._cpu()
        earned = (now[0] - self._last[0]) * self.share * _PART
        self._saved_s += earned - (now[1] - self._last[1]) - others_s
        self._saved_s = max(-_MOST_DEBT_S, min(_MOST_S, self._saved_s))
        self._last = now
        self._seen.append(now)
        while now[0] - self._seen[0][0] > _SPAN_S and len(self._seen) > 2:
            self._seen.popleft()

    def has_time(self, cost_s: float = 0.0) -> bool:
        """Return whether work that can wait may be done now. What costs more than can be saved is done at the most saved."""
        used = self._cpu() - self._last[1]
        return self._saved_s - used > min(cost_s, _MOST_S / 2)

    @property
    def slowdown(self) -> float:
        """How many times longer than planned the agent takes now; 1: not slower."""
        if self._saved_s >= 0:
            return 1.0
        return 1.0 - self._saved_s / (self.share * _PART)

    @property
    def recent_share(self) -> float:
        """The share of one core that this process took in the last minute."""
        (first, begun), (last, used) = self._seen[0], self._seen[-1]
        return (used - begun) / (last - first) if last > first else 0.0


def read_cost(pid: int) -> tuple[float, int] | None:
    """Return CPU time in seconds and RSS in bytes of another process; None if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123
            text = file.read()
    except OSError:
        return None
    words = text[text.rindex(b")") + 2 :].split()
    used = sum(map(int, words[11:15]))  # utime, stime, cutime, cstime
    return used / _TICKS, int(words[21]) * resource.getpagesize()
