"""When a memory cgroup reaches its limit: a line through its last readings, with the error of the line.

Neighbouring readings of memory are alike. So the error of the slope takes their correlation into account, and each
forecast is compared with what came.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEAST = 10  # readings of a line
_ERRORS = 3.0  # standard errors from which a slope is one
_HORIZON_S = 7 * 86400.0  # beyond it nothing is forecast
_AHEAD_S = 60.0  # of the forecasts that are compared with what came
_KEPT = 60  # readings of each span
_CHECKED = 30  # forecasts that are compared
_LONG_S = 60.0  # between two readings of the long span
_FIT_S = 5.0  # for which a line holds: a fit costs more than a reading


@dataclass(frozen=True, slots=True)
class Trend:
    """A straight line through readings, in bytes a second, with one standard error."""

    slope: float
    error: float
    span_s: float

    @property
    def rises(self) -> bool:
        """Whether the slope is above zero by more than chance explains."""
        return self.slope > _ERRORS * self.error


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds until the limit, with one standard error."""

    seconds: float
    error_s: float
    slope: float  # bytes a second
    span_s: float  # of the readings


def fit(samples: Sequence[tuple[float, float]]) -> Trend | None:
    """Fit a line to readings (time, bytes) by least squares; None for too few, or of one moment."""
    count = len(samples)
    if count < _LEAST:
        return None
    middle = sum(each[0] for each in samples) / count
    mean = sum(each[1] for each in samples) / count
    spread = sum((at - middle) ** 2 for at, _ in samples)
    if spread <= 0:
        return None
    slope = sum((at - middle) * (value - mean) for at, value in samples) / spread
    rests = [value - mean - slope * (at - middle) for at, value in samples]
    squares = sum(each * each for each in rests)
    if squares <= 0:
        return Trend(slope, 0.0, samples[-1][0] - samples[0][0])
    alike = sum(a * b for a, b in pairwise(rests)) / squares
    alike = min(max(alike, 0.0), 0.95)
    variance = squares / (count - 2) / spread * (1 + alike) / (1 - alike)
    return Trend(slope, math.sqrt(variance), samples[-1][0] - samples[0][0])


class Growth:
    """The readings of one group: a minute by seconds, an hour by minutes."""

    def __init__(self) -> None:
        """Begin without a reading."""
        self._short: deque[tuple[float, float]] = deque(maxlen=_KEPT)
        self._long: deque[tuple[float, float]] = deque(maxlen=_KEPT)
        self._expected: deque[tuple[float, float]] = deque()  # (when, bytes)
        self._missed: deque[float] = deque(maxlen=_CHECKED)  # came minus forecast
        self._fitted: tuple[float, Trend | None] | None = None  # the last line, and its time

    def add(self, now: float, used: int) -> None:
        """Add a reading."""
        self._short.append((now, used))
        if self._long and now - self._long[-1][0] < _LONG_S:
            return
        self._long.append((now, used))
        while self._expected and self._expected[0][0] <= now:
            when, size = self._expected.popleft()
            if now - when < _LONG_S / 2:  # else no reading came near that time
                self._missed.append(used - size)
        trend = self.trend()
        if trend is not None:
            rise = trend.slope * _AHEAD_S if trend.rises else 0.0
            self._expected.append((now + _AHEAD_S, used + rise))

    def recent(self) -> list[tuple[float, float]]:
        """Return the readings of the last minute, oldest first."""
        return list(self._short)

    def trend(self) -> Trend | None:
        """Return the line of the last minute, else that of the last hour, whichever rises; None if neither is known."""
        at = self._short[-1][0] if self._short else 0.0
        if self._fitted is None or at - self._fitted[0] >= _FIT_S or self._fitted[1] is None:
            # Copies: a scraper's thread asks as well.
            lines = (fit(list(self._short)), fit(list(self._long)))
            found = [each for each in lines if each]
            rising = next((each for each in found if each.rises), found[0] if found else None)
            self._fitted = (at, rising)
        return self._fitted[1]

    def forecast(self, room: int) -> Forecast | None:
        """Return when `room` bytes are used up; None if nothing grows, or not within a week."""
        trend = self.trend()
        if trend is None or not trend.rises or room < 0:
            return None
        seconds = room / trend.slope
        if seconds > _HORIZON_S:
            return None
        return Forecast(seconds, seconds * trend.error / trend.slope, trend.slope, trend.span_s)

    @property
    def missed_bytes(self) -> float | None:
        """The root mean square by which forecasts for a minute ahead missed; None before the first came true or not."""
        missed = list(self._missed)
        return math.sqrt(sum(each * each for each in missed) / len(missed)) if missed else None
