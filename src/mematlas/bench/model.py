"""What memory costs on a machine: figures with their samples, and the machine they are of."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, fields
from enum import StrEnum
from math import comb
from typing import Any, Self

Label = str | int

NOISY = 0.03
"""A figure is noisy if the medians of its runs differ by more than this share of the median."""
RUNS = 3


class Better(StrEnum):
    """Which way a figure improves."""

    LOWER = "lower"
    HIGHER = "higher"


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured. `labels` tell it from the others of its benchmark.

    `samples` are all passes in the order they were made; `disturbed` counts those left out because
    other programs took the CPU meanwhile.
    """

    labels: dict[str, Label]
    unit: str
    better: Better
    samples: tuple[float, ...]
    disturbed: int = 0

    @property
    def median(self) -> float:
        """The value to quote."""
        return statistics.median(self.samples)

    @property
    def best(self) -> float:
        """The ceiling: what the machine can do when nothing else does."""
        return min(self.samples) if self.better is Better.LOWER else max(self.samples)

    @property
    def interval(self) -> tuple[float, float]:
        """Where the median lies with 95 % confidence, whatever the distribution of the samples."""
        return median_interval(self.samples)

    @property
    def spread(self) -> float | None:
        """Differences between the medians of the runs, as a share of the median; None: too few samples."""
        return run_spread(self.samples)

    @property
    def noisy(self) -> bool:
        """Tell whether another run may well show another figure."""
        spread = self.spread
        return spread is None or spread > NOISY


def median_interval(samples: tuple[float, ...], confidence: float = 0.95) -> tuple[float, float]:
    """Interval between order statistics that holds the median with at least this confidence.

    With fewer than six samples no interval does; then it is from the least to the greatest.
    """
    ordered, count = sorted(samples), len(samples)
    outside, rank = 0.0, 0
    while rank < count // 2:
        more = outside + 2 * comb(count, rank) / 2**count
        if more > 1 - confidence:
            break
        outside, rank = more, rank + 1
    rank = max(rank, 1)
    return ordered[rank - 1], ordered[count - rank]


def run_spread(samples: tuple[float, ...]) -> float | None:
    """Cut samples into runs, one after the other, and compare the runs' medians."""
    if len(samples) < RUNS:
        return None
    size = len(samples) / RUNS
    runs = [samples[round(i * size) : round((i + 1) * size)] for i in range(RUNS)]
    medians = [statistics.median(run) for run in runs]
    middle = statistics.median(samples)
    return (max(medians) - min(medians)) / middle if middle else 0.0


@dataclass(frozen=True, slots=True)
class Section:
    """What one benchmark found. `unavailable` says of each variant that could not be measured, why."""

    name: str
    figures: tuple[Figure, ...]
    seconds: float
    unavailable: dict[str, str] = field(default_factory=dict)
    proofs: dict[str, str] = field(default_factory=dict)  # page size -> what the kernel says of it
    facts: dict[str, float] = field(default_factory=dict)  # counted or found, not timed
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cache:
    """One cache as the kernel describes it."""

    level: int
    kind: str
    size: int
    shared_by: int  # CPUs


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What figures depend on."""

    cpu: str
    architecture: str
    cpus: int
    usable_cpus: int
    caches: tuple[Cache, ...]
    nodes: int
    memory: int
    page_size: int
    kernel: str
    thp: str
    thp_defrag: str
    hugetlb: dict[str, int]
    hypervisor: str | None  # None: none is seen
    governor: str | None
    load: float  # runnable processes at the start, the last minute's mean


@dataclass(frozen=True, slots=True)
class Result:
    """One run of `mematlas bench`. Not complete: it was interrupted."""

    version: str
    started: str
    machine: Fingerprint
    settings: dict[str, Any]
    sections: tuple[Section, ...]
    complete: bool = True

    def section(self, name: str) -> Section | None:
        """Find a benchmark's part."""
        return next((each for each in self.sections if each.name == name), None)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what was written as JSON; ValueError or KeyError if it is something else."""
        machine = dict(data["machine"])
        machine["caches"] = tuple(Cache(**each) for each in machine["caches"])
        sections = tuple(_read_section(each) for each in data["sections"])
        own = {each.name: data[each.name] for each in fields(cls)}
        return cls(**own | {"machine": Fingerprint(**machine), "sections": sections})


def _read_section(data: dict[str, Any]) -> Section:
    figures = tuple(
        Figure(
            labels=each["labels"],
            unit=each["unit"],
            better=Better(each["better"]),
            samples=tuple(float(value) for value in each["samples"]),
            disturbed=each["disturbed"],
        )
        for each in data["figures"]
    )
    return Section(**data | {"figures": figures, "notes": tuple(data["notes"])})


def to_json(result: Result) -> dict[str, Any]:
    """Spell out a result, with what is computed from the samples, so that others need not."""
    return {
        **{each.name: getattr(result, each.name) for each in fields(result)},
        "sections": [
            {
                **{each.name: getattr(section, each.name) for each in fields(section)},
                "figures": [_figure_to_json(figure) for figure in section.figures],
            }
            for section in result.sections
        ],
    }


def _figure_to_json(figure: Figure) -> dict[str, Any]:
    low, high = figure.interval
    return {
        **{each.name: getattr(figure, each.name) for each in fields(figure)},
        "median": figure.median,
        "best": figure.best,
        "low": low,
        "high": high,
        "spread": figure.spread,
        "noisy": figure.noisy,
    }
