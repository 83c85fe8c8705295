"""Conditions for looks that are kept: `rss > 2G or growth > 100M/10m or psi.some > 20%`."""

from __future__ import annotations

import re
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import UsageError
from mematlas.linux import cgroup
from mematlas.linux.machine import parse_pressure
from mematlas.units import parse_bytes, parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

_TERM = re.compile(r"\s*(rss|live|growth|psi\.some|psi\.full)\s*(>|<)\s*([0-9.]\S*?)\s*")
_GAP_S = 600.0  # between two looks
_CALM = 0.9  # a value falls below this share of the limit before it can become true again
_POINTS = 256  # of RSS in the longest stretch of growth


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison. `over_s`: of growth, the time in which it happens."""

    metric: str
    above: bool
    limit: float
    over_s: float = 0.0

    def holds(self, value: float | None, share: float = 1.0) -> bool:
        """Return whether the comparison is true of a value; of an unknown value it is not."""
        if value is None:
            return False
        return value > self.limit * share if self.above else value < self.limit / share


class Conditions:
    """Terms joined by `and` and `or`, of which `and` binds more strongly, and what was seen lately."""

    def __init__(self, text: str) -> None:
        """Parse conditions. UsageError if they are malformed."""
        self.text = " ".join(text.split())
        self._any = [
            [_parse_term(term, text) for term in re.split(r"\band\b", each)]
            for each in re.split(r"\bor\b", text)
        ]
        self._terms = [term for each in self._any for term in each]
        longest = max((term.over_s for term in self._terms), default=0.0)
        self._step_s = longest / _POINTS
        self._longest_s = longest
        self._rss: deque[tuple[float, float]] = deque()
        self._armed = True
        self._next_s = 0.0

    def became_true(
        self, now_s: float, *, rss_bytes: float, live_bytes: float, pid: int | None
    ) -> str | None:
        """Return what has become true, in words; None if nothing has, or too soon after the last time."""
        self._keep(now_s, rss_bytes)
        values = self._values(now_s, rss_bytes, live_bytes, pid)
        if not self._armed:
            self._armed = not self._holds(values, _CALM)
            return None
        if now_s < self._next_s or not self._holds(values):
            return None
        self._armed, self._next_s = False, now_s + _GAP_S
        return self.text

    def _keep(self, now_s: float, rss_bytes: float) -> None:
        if self._longest_s and (not self._rss or now_s >= self._rss[-1][0] + self._step_s):
            self._rss.append((now_s, rss_bytes))
            while len(self._rss) > 1 and self._rss[1][0] <= now_s - self._longest_s:
                self._rss.popleft()

    def _values(
        self, now_s: float, rss_bytes: float, live_bytes: float, pid: int | None
    ) -> dict[Term, float | None]:
        pressure: Mapping[str, float] = {}
        if any(term.metric.startswith("psi.") for term in self._terms):
            pressure = _read_pressure(pid)
        found: dict[Term, float | None] = {}
        for term in self._terms:
            if term.metric == "growth":
                found[term] = self._growth(now_s, rss_bytes, term.over_s)
            elif term.metric == "rss":
                found[term] = rss_bytes
            elif term.metric == "live":
                found[term] = live_bytes
            else:
                found[term] = pressure.get(term.metric)
        return found

    def _growth(self, now_s: float, rss_bytes: float, over_s: float) -> float | None:
        """Return by how much RSS is above the lowest of that time: what grew counts before the time is over."""
        lately = [rss for time_s, rss in self._rss if time_s >= now_s - over_s - self._step_s]
        return rss_bytes - min(lately) if lately else None

    def _holds(self, values: Mapping[Term, float | None], share: float = 1.0) -> bool:
        return any(all(term.holds(values[term], share) for term in each) for each in self._any)


def _parse_term(text: str, whole: str) -> Term:
    match = _TERM.fullmatch(text)
    try:
        if match is None:
            raise ValueError  # noqa: TRY301
        metric, sign, value = match.groups()
        above = sign == ">"
        if metric == "growth":
            size, slash, duration = value.partition("/")
            if not slash or not above:
                raise ValueError  # noqa: TRY301
            return Term(metric, above, parse_bytes(size), parse_duration(duration))
        if metric.startswith("psi."):
            return Term(metric, above, float(value.removesuffix("%")))
        return Term(metric, above, parse_bytes(value))
    except ValueError:
        raise UsageError(
            f"{text.strip() or whole!r} is no condition; write it as rss > 2G, live > 500M, "
            "growth > 100M/10m or psi.some > 20%, joined by and, or"
        ) from None


def _read_pressure(pid: int | None) -> dict[str, float]:
    """Read the percent of ten seconds in which memory was waited for: of the process's cgroup, else of the machine."""
    for path in (_cgroup_pressure(pid), Path("/proc/pressure/memory")):
        with suppress(OSError, ValueError):
            if path and (stalls := parse_pressure(path.read_text())):
                return {f"psi.{each.kind}": each.average10 for each in stalls}
    return {}


def _cgroup_pressure(pid: int | None) -> Path | None:
    with suppress(OSError, ValueError):
        levels = cgroup.read(lambda path: Path("/", path).read_text(), pid=pid)
        if levels and levels[0].directory:
            return Path(levels[0].directory, "memory.pressure")
    return None
