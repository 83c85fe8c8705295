"""The method of measuring: cases in turn, pass after pass, until precise enough or the time is over."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mematlas.bench.difference import drift_notes
from mematlas.bench.model import RUNS, Better, Figure, Section, median_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mematlas.bench.case import Case, Label
    from mematlas.linux.hugepages import PageKind, PageName

MIN_SAMPLES = 6  # fewer have no confidence interval
MAX_SAMPLES = 60
PRECISE = 0.01  # an interval this narrow, as a share of the median, needs no more samples
_ATTEMPTS = 40  # at one sample, each disturbed


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """Options of a run. None: the benchmark's default.

    quick: fewer sizes. seconds: for each benchmark, about. size: bytes to measure in (alloc: of an
    object). threads: numbers of threads. pages: kinds of pages, named as for memory.Region.

    >>> from mematlas import bench
    >>> bench.BenchSettings(quick=True, pages=("4K", "thp")).seconds
    10.0
    """

    quick: bool = False
    seconds: float = 10.0
    size: int | None = None
    threads: tuple[int, ...] | None = None
    pages: tuple[PageName | PageKind, ...] | None = None


@dataclass(slots=True)
class Meter:
    """Recorder of one benchmark's figures, which an interruption does not lose."""

    name: str
    seconds: float
    progress: Callable[[str, float], None] = lambda _name, _share: None
    figures: list[Figure] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)
    proofs: dict[str, str] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _series: int = 0
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.seconds = max(self.seconds, 1e-3)

    def measure(
        self, cases: Sequence[Case], until: float = 1.0, least: int = MIN_SAMPLES
    ) -> list[Figure]:
        """Measure cases in turn until the share `until` of the benchmark's time is over; return the figures."""
        samples = _Samples(list(cases), least)
        start, deadline = self._share(), self._began + until * self.seconds
        try:
            while not samples.enough(time.monotonic() - deadline, until * self.seconds):
                samples.sample_round()
                gone = time.monotonic() - self._began
                share = max(gone / (until * self.seconds), samples.rounds / MAX_SAMPLES)
                self.progress(self.name, start + (until - start) * min(1.0, share))
        finally:
            found = samples.figures(self._series)
            self._series += 1
            self.figures += found
            self.unavailable |= samples.starved_cases()
        return found

    def _share(self) -> float:
        return min(1.0, (time.monotonic() - self._began) / self.seconds)

    def section(self) -> Section:
        """Return the section of the result."""
        return Section(
            name=self.name,
            figures=tuple(self.figures),
            seconds=time.monotonic() - self._began,
            unavailable=self.unavailable,
            proofs=self.proofs,
            facts=self.facts,
            notes=(*self.notes, *drift_notes(self.figures)),
        )


class _Samples:
    """Samples of several cases, one of each in a round."""

    def __init__(self, cases: list[Case], least: int) -> None:
        self._cases = cases
        self._samples: list[list[float]] = [[] for _ in cases]
        self._disturbed = [0] * len(cases)
        self._least = least
        self.rounds = 0
        self.starved: set[int] = set()

    def enough(self, late_s: float, planned_s: float) -> bool:
        """Return whether every case is precise, or the time is over and each has the minimum of samples.

        Where the minimum would take half as long again as planned, three samples suffice: the machine
        is too busy for figures without noise.
        """
        if not self._cases or self.rounds >= MAX_SAMPLES:
            return True
        if self.rounds < (RUNS if late_s > 0.5 * planned_s else self._least):
            return False
        return late_s >= 0 or all(_is_precise(samples) for samples in self._samples if samples)

    def sample_round(self) -> None:
        for number, case in enumerate(self._cases):
            if number in self.starved:
                continue
            value = self._sample(number, case)
            if value is None:
                self.starved.add(number)
            else:
                self._samples[number].append(value)
        self.rounds += 1

    def _sample(self, number: int, case: Case) -> float | None:
        for _ in range(_ATTEMPTS):
            value = case.sample()
            if value is not None:
                return value
            self._disturbed[number] += 1
        return None

    def starved_cases(self) -> dict[str, str]:
        """Return the cases without a figure because every sample was disturbed, with the reason."""
        return {
            name_of(self._cases[number].labels): (
                f"other programs took the CPU in {_ATTEMPTS} passes in a row; measure on a "
                "quieter machine"
            )
            for number in sorted(self.starved)
        }

    def figures(self, series: int) -> list[Figure]:
        """Return the figures of the cases that have samples."""
        return [
            Figure(
                labels=dict(case.labels),
                unit=case.unit,
                better=Better.LOWER if case.lower_is_better else Better.HIGHER,
                samples=tuple(samples),
                disturbed=disturbed,
                series=series,
            )
            for number, (case, samples, disturbed) in enumerate(
                zip(self._cases, self._samples, self._disturbed, strict=True)
            )
            if samples and number not in self.starved
        ]


def name_of(labels: dict[str, Label]) -> str:
    """Format the labels of a case: "gather, pages thp"."""
    return ", ".join(
        str(value) if key == "what" else f"{key} {value}" for key, value in labels.items()
    )


def _is_precise(samples: list[float]) -> bool:
    low, high = median_interval(tuple(samples))
    return high - low <= PRECISE * abs(high)
