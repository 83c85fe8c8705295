"""Results of benchmarks: figures with their samples, and the machine they were measured on."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, fields
from enum import StrEnum
from math import comb
from typing import Any, Self

from mematlas._core.bench.kernels import KernelChoice

Label = str | int

NOISY = 0.03
"""A figure is noisy if the medians of its runs differ by more than this share of the median."""
RUNS = 3


class Better(StrEnum):
    """The direction in which a figure improves.

    >>> from mematlas import bench
    >>> bench.Better("lower").value
    'lower'
    """

    LOWER = "lower"
    HIGHER = "higher"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity. `labels` distinguish it from the others of its benchmark.

    `samples` are all passes in `unit`, in order. `disturbed` counts the passes left out because other
    programs took the CPU. Figures of one `series` were measured in turn: the samples with one index are
    of the same time. None: not known, as in results of older versions.

    >>> from mematlas import bench
    >>> figure = bench.Figure({"what": "read"}, "ns", bench.Better.LOWER, (1.0, 1.1, 1.0, 1.2, 1.0, 1.1))
    >>> figure.median, figure.best, figure.interval
    (1.05, 1.0, (1.0, 1.2))
    """

    labels: dict[str, Label]
    unit: str
    better: Better
    samples: tuple[float, ...]
    disturbed: int = 0
    series: int | None = None

    @property
    def median(self) -> float:
        """The median of the samples: the value to quote.

        >>> from mematlas import bench
        >>> figure = bench.Figure({}, "ns", bench.Better.LOWER, (1.0, 2.0, 3.0))
        >>> figure.median
        2.0
        """
        return statistics.median(self.samples)

    @property
    def best(self) -> float:
        """The best sample: what the machine can do undisturbed.

        >>> from mematlas import bench
        >>> figure = bench.Figure({}, "ns", bench.Better.LOWER, (1.0, 2.0, 3.0))
        >>> figure.best
        1.0
        """
        return min(self.samples) if self.better is Better.LOWER else max(self.samples)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the median, for any distribution of the samples.

        >>> from mematlas import bench
        >>> figure = bench.Figure({}, "ns", bench.Better.LOWER, (1.0, 2.0, 3.0))
        >>> figure.interval
        (1.0, 3.0)
        """
        return median_interval(self.samples)

    @property
    def spread(self) -> float | None:
        """The difference between the medians of the runs, as a share of the median; None: too few samples.

        >>> from mematlas import bench
        >>> figure = bench.Figure({}, "ns", bench.Better.LOWER, (1.0, 2.0, 3.0))
        >>> figure.spread
        1.0
        """
        return run_spread(self.samples)

    @property
    def noisy(self) -> bool:
        """Whether another run may well show another value: the spread exceeds 3 %.

        >>> from mematlas import bench
        >>> figure = bench.Figure({}, "ns", bench.Better.LOWER, (1.0, 2.0, 3.0))
        >>> figure.noisy
        True
        """
        spread = self.spread
        return spread is None or spread > NOISY


def median_interval(samples: tuple[float, ...], confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of order statistics that holds the median with at least this confidence.

    With fewer than six samples there is none, and the interval is that of all samples.
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
    """Return the spread of the medians of consecutive runs of samples, as a share of the median."""
    if len(samples) < RUNS:
        return None
    size = len(samples) / RUNS
    runs = [samples[round(i * size) : round((i + 1) * size)] for i in range(RUNS)]
    medians = [statistics.median(run) for run in runs]
    middle = statistics.median(samples)
    return (max(medians) - min(medians)) / middle if middle else 0.0


@dataclass(frozen=True, slots=True)
class Section:
    """The result of one benchmark.

    `unavailable` has the reason for each variant that could not be measured, `proofs` what the kernel
    reports of each kind of pages, `facts` numbers that were counted instead of timed.

    >>> from mematlas import bench
    >>> bench.Section("tlb", (), 0.0, unavailable={"1G": "no such pages"}).unavailable
    {'1G': 'no such pages'}
    """

    name: str
    figures: tuple[Figure, ...]
    seconds: float
    unavailable: dict[str, str] = field(default_factory=dict)
    proofs: dict[str, str] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cache:
    """One CPU cache as the kernel describes it. Size in bytes."""

    level: int
    kind: str
    size: int
    shared_by: int  # CPUs


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Properties of the machine that figures depend on. Sizes in bytes, `hugetlb` in pages.

    >>> from mematlas import bench
    >>> result = bench.run([])
    >>> result.machine.page_size % 4096
    0
    """

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
    hypervisor: str | None  # None: not detected
    governor: str | None
    load: float  # load average of one minute, at the start


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one run. `complete` is False after an interruption.

    >>> from mematlas import bench
    >>> result = bench.run([])
    >>> result.complete, result.sections
    (True, ())
    """

    version: str
    started: str
    machine: Fingerprint
    settings: dict[str, Any]
    sections: tuple[Section, ...]
    complete: bool = True
    kernels: tuple[
        KernelChoice, ...
    ] = ()  # of the loops, measured in this run or in an earlier one
    kernels_file: str | None = None  # where they are kept

    def section(self, name: str) -> Section | None:
        """Return the section of a benchmark; None if it was not measured.

        >>> from mematlas import bench
        >>> bench.run([]).section("tlb") is None
        True
        """
        return next((each for each in self.sections if each.name == name), None)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Build a result from JSON data; ValueError or KeyError if it is not one.

        >>> import json
        >>> from mematlas import bench
        >>> from mematlas.bench.model import to_json
        >>> from mematlas.present import json_writer
        >>> written = json_writer.render("bench", to_json(bench.run([])))
        >>> bench.Result.from_json(json.loads(written)["data"]).complete
        True
        """
        machine = dict(data["machine"])
        machine["caches"] = tuple(Cache(**each) for each in machine["caches"])
        sections = tuple(_read_section(each) for each in data["sections"])
        own = {each.name: data[each.name] for each in fields(cls) if each.name in data}
        kernels = tuple(KernelChoice(**each) for each in data.get("kernels", ()))
        read = {"machine": Fingerprint(**machine), "sections": sections, "kernels": kernels}
        return cls(**own | read)


def _read_section(data: dict[str, Any]) -> Section:
    figures = tuple(
        Figure(
            labels=each["labels"],
            unit=each["unit"],
            better=Better(each["better"]),
            samples=tuple(float(value) for value in each["samples"]),
            disturbed=each["disturbed"],
            series=each.get("series"),
        )
        for each in data["figures"]
    )
    return Section(**data | {"figures": figures, "notes": tuple(data["notes"])})


def to_json(result: Result) -> dict[str, Any]:
    """Convert a result to JSON data, with the statistics that are computed from the samples."""
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
