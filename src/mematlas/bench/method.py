"""How figures are taken: cases in turn, pass after pass, until they are sure or the time is up."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mematlas.bench.model import RUNS, Better, Figure, Section, median_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mematlas.bench.case import Case, Label
    from mematlas.linux.hugepages import PageKind, PageName

LEAST = 6  # fewer samples have no confidence interval
MOST = 60
SURE = 0.01  # an interval this narrow, as a share of the median, needs no more samples
_ATTEMPTS = 40  # at one sample, each disturbed


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What to measure with; None leaves the choice to the benchmark."""

    quick: bool = False
    seconds: float = 10.0  # for each benchmark, about
    size: int | None = None
    threads: tuple[int, ...] | None = None
    pages: tuple[PageName | PageKind, ...] | None = None


@dataclass(slots=True)
class Meter:
    """Takes one benchmark's figures and holds them, so that an interruption loses none."""

    name: str
    seconds: float
    progress: Callable[[str, float], None] = lambda _name, _share: None
    figures: list[Figure] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)
    proofs: dict[str, str] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.seconds = max(self.seconds, 1e-3)

    def measure(
        self, cases: Sequence[Case], until: float = 1.0, least: int = LEAST
    ) -> list[Figure]:
        """Take the cases' figures, in turn, by the time the share `until` of the benchmark is over."""
        taken = _Taken(list(cases), least)
        start, deadline = self._share(), self._began + until * self.seconds
        try:
            while not taken.enough(time.monotonic() - deadline, until * self.seconds):
                taken.one_round()
                gone = time.monotonic() - self._began
                share = max(gone / (until * self.seconds), taken.rounds / MOST)
                self.progress(self.name, start + (until - start) * min(1.0, share))
        finally:
            found = taken.figures()
            self.figures += found
            self.unavailable |= taken.refusals()
        return found

    def _share(self) -> float:
        return min(1.0, (time.monotonic() - self._began) / self.seconds)

    def section(self) -> Section:
        """Sum up."""
        return Section(
            name=self.name,
            figures=tuple(self.figures),
            seconds=time.monotonic() - self._began,
            unavailable=self.unavailable,
            proofs=self.proofs,
            facts=self.facts,
            notes=tuple(self.notes),
        )


class _Taken:
    """Samples of several cases, one of each a round."""

    def __init__(self, cases: list[Case], least: int) -> None:
        self._cases = cases
        self._samples: list[list[float]] = [[] for _ in cases]
        self._disturbed = [0] * len(cases)
        self._least = least
        self.rounds = 0
        self.starved: set[int] = set()

    def enough(self, late_s: float, planned_s: float) -> bool:
        """Tell whether every case is sure, or the time is up and each has its least.

        Where even those take half as long again as was planned, three of each must do: the machine
        is too busy for figures without noise anyway.
        """
        if not self._cases or self.rounds >= MOST:
            return True
        if self.rounds < (RUNS if late_s > 0.5 * planned_s else self._least):
            return False
        return late_s >= 0 or all(_is_sure(samples) for samples in self._samples if samples)

    def one_round(self) -> None:
        for number, case in enumerate(self._cases):
            if number in self.starved:
                continue
            value = self._take(number, case)
            if value is None:
                self.starved.add(number)
            else:
                self._samples[number].append(value)
        self.rounds += 1

    def _take(self, number: int, case: Case) -> float | None:
        for _ in range(_ATTEMPTS):
            value = case.sample()
            if value is not None:
                return value
            self._disturbed[number] += 1
        return None

    def refusals(self) -> dict[str, str]:
        """Say what has no figure since it was disturbed time and again."""
        return {
            name_of(self._cases[number].labels): (
                f"other programs took the CPU in {_ATTEMPTS} passes running; measure when the machine "
                "is quieter"
            )
            for number in sorted(self.starved)
        }

    def figures(self) -> list[Figure]:
        """Give what there is; nothing of a case without a sample."""
        return [
            Figure(
                labels=dict(case.labels),
                unit=case.unit,
                better=Better.LOWER if case.lower_is_better else Better.HIGHER,
                samples=tuple(samples),
                disturbed=disturbed,
            )
            for number, (case, samples, disturbed) in enumerate(
                zip(self._cases, self._samples, self._disturbed, strict=True)
            )
            if samples and number not in self.starved
        ]


def name_of(labels: dict[str, Label]) -> str:
    """Name a case in words: "gather, pages thp"."""
    return ", ".join(
        str(value) if key == "what" else f"{key} {value}" for key, value in labels.items()
    )


def _is_sure(samples: list[float]) -> bool:
    low, high = median_interval(tuple(samples))
    return high - low <= SURE * abs(high)
