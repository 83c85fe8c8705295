"""When a memory cgroup reaches its limit: a line through its last readings, with the error of the line.

Neighbouring readings of memory are alike. So the error of the slope takes their correlation into account, and each
forecast is compared with what came.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

_LEAST = 10  # readings of a line
_ERRORS = 3.0  # standard errors from which a slope is one
_HORIZON_S = 7 * 86400.0  # beyond it nothing is forecast
_AHEAD_S = 60.0  # of the forecasts that are compared with what came
_KEPT = 60  # readings of a line
_SHORT_SPAN_S = 120.0  # of the line through the last readings: where no limit is near they are ten seconds apart
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


class Line:
    """The last readings (time, bytes), and the sums from which a line through them follows.

    A reading costs the same however many there are. The sums are of whole numbers (microseconds, bytes), so that what
    is taken away leaves no error.
    """

    def __init__(self, span_s: float) -> None:
        """Begin without a reading. None is kept that is older than `span_s`, and no more than _KEPT."""
        self._span_s = span_s
        self.samples: deque[tuple[float, float]] = deque()
        self._points: deque[tuple[int, int]] = deque()  # the same, from the first one on
        self._origin: tuple[float, float] | None = None
        self._sums = [0, 0, 0, 0, 0]  # t, v, tt, tv, vv
        self._pairs = [0, 0, 0]  # of neighbours a, b: ta tb, ta vb + tb va, va vb

    def add(self, at: float, value: float) -> None:
        """Add a reading, and forget those that are too old or too many."""
        if self._origin is None:
            self._origin = at, value
        point = round((at - self._origin[0]) * 1e6), int(value - self._origin[1])
        if self._points:
            self._count_pair(self._points[-1], point, 1)
        self._count(point, 1)
        self._points.append(point)
        self.samples.append((at, value))
        while len(self.samples) > _KEPT or at - self.samples[0][0] > self._span_s:
            self._drop()

    def _drop(self) -> None:
        self.samples.popleft()
        point = self._points.popleft()
        self._count(point, -1)
        if self._points:
            self._count_pair(point, self._points[0], -1)

    def _count(self, point: tuple[int, int], times: int) -> None:
        (t, v), sums = point, self._sums
        sums[0] += times * t
        sums[1] += times * v
        sums[2] += times * t * t
        sums[3] += times * t * v
        sums[4] += times * v * v

    def _count_pair(self, a: tuple[int, int], b: tuple[int, int], times: int) -> None:
        self._pairs[0] += times * a[0] * b[0]
        self._pairs[1] += times * (a[0] * b[1] + b[0] * a[1])
        self._pairs[2] += times * a[1] * b[1]

    def trend(self) -> Trend | None:
        """Fit a line by least squares; None for too few readings, or of one moment."""
        n = len(self._points)
        if n < _LEAST:
            return None
        t, v, tt, tv, vv = self._sums
        spread = n * tt - t * t  # n times the sum of squares around the mean, as the two below
        if spread <= 0:
            return None
        both, values = n * tv - t * v, n * vv - v * v
        span_s = self.samples[-1][0] - self.samples[0][0]
        slope = both / spread  # bytes a microsecond
        squares = (spread * values - both * both) / (n * spread)  # of what the line leaves
        if squares <= 0:
            return Trend(slope * 1e6, 0.0, span_s)
        alike = min(max(self._products(n, spread, both) / squares, 0.0), 0.95)
        variance = n * squares / (n - 2) / spread * (1 + alike) / (1 - alike)
        return Trend(slope * 1e6, math.sqrt(variance) * 1e6, span_s)

    def _products(self, n: int, spread: int, both: int) -> float:
        """Return the sum of the products of what the line leaves at neighbouring readings."""
        (t, v, *_), (first_t, first_v), (last_t, last_v) = (
            self._sums,
            self._points[0],
            self._points[-1],
        )
        ends_t, ends_v = 2 * t - first_t - last_t, 2 * v - first_v - last_v
        # Sums over pairs of neighbours, n times n times, around the means t/n and v/n.
        tt = n * (n * self._pairs[0] - t * ends_t) + (n - 1) * t * t
        tv = n * (n * self._pairs[1] - t * ends_v - v * ends_t) + (n - 1) * 2 * t * v
        vv = n * (n * self._pairs[2] - v * ends_v) + (n - 1) * v * v
        whole = vv * spread * spread - tv * both * spread + tt * both * both
        return whole / (n * n * spread * spread)


class Growth:
    """The readings of one group: a minute by seconds or two by ten seconds, and an hour by minutes."""

    def __init__(self) -> None:
        """Begin without a reading."""
        self._short, self._long = Line(_SHORT_SPAN_S), Line(math.inf)
        self._expected: deque[tuple[float, float]] = deque()  # (when, bytes)
        self._missed: deque[float] = deque(maxlen=_CHECKED)  # came minus forecast
        self._fitted: tuple[float, Trend | None] | None = None  # the last line, and its time

    def add(self, now: float, used: int) -> None:
        """Add a reading."""
        self._short.add(now, used)
        before = self._long.samples
        is_minute = not before or now - before[-1][0] >= _LONG_S
        if is_minute:
            self._long.add(now, used)
        self._fit(now)
        if is_minute:
            self._compare(now, used)

    def _fit(self, now: float) -> None:
        if self._fitted and self._fitted[1] and now - self._fitted[0] < _FIT_S:
            return
        found = [each for each in (self._short.trend(), self._long.trend()) if each]
        rising = next((each for each in found if each.rises), found[0] if found else None)
        self._fitted = (now, rising)

    def _compare(self, now: float, used: int) -> None:
        """Compare what was forecast for this moment, and forecast the next minute."""
        while self._expected and self._expected[0][0] <= now:
            when, size = self._expected.popleft()
            if now - when < _LONG_S / 2:  # else no reading came near that time
                self._missed.append(used - size)
        if (trend := self.trend()) is not None:
            rise = trend.slope * _AHEAD_S if trend.rises else 0.0
            self._expected.append((now + _AHEAD_S, used + rise))

    @property
    def at(self) -> float:
        """The time of the last reading; before the first one, long ago."""
        return self._short.samples[-1][0] if self._short.samples else -math.inf

    def recent(self) -> list[tuple[float, float]]:
        """Return the readings of the last minute or two, oldest first."""
        return list(self._short.samples)

    def trend(self) -> Trend | None:
        """Return the line of the last minute, else that of the last hour, whichever rises; None if neither is known."""
        return self._fitted[1] if self._fitted else None

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
