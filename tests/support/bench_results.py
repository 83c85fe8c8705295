"""Synthetic results of `mematlas bench`."""

from __future__ import annotations

import numpy as np

from mematlas.bench.model import Better, Cache, Figure, Fingerprint, Result, Section

MACHINE = Fingerprint(
    cpu="Test CPU",
    architecture="x86_64",
    cpus=2,
    usable_cpus=2,
    caches=(Cache(1, "data", 48 << 10, 1), Cache(2, "unified", 1 << 20, 1), Cache(3, "unified", 32 << 20, 2)),
    nodes=1,
    memory=8 << 30,
    page_size=4096,
    kernel="6.18",
    thp="madvise",
    thp_defrag="madvise",
    hugetlb={"2048kB": 0},
    hypervisor=None,
    governor=None,
    load=0.1,
)  # fmt: skip


def figure(
    middle: float, spread: float = 0.002, count: int = 30, seed: int = 1, **labels: str | int
) -> Figure:
    """Return a figure with samples around `middle`."""
    scatter = np.random.default_rng(seed).normal(1.0, spread, count)
    samples = tuple(float(each) for each in middle * scatter)
    return Figure(dict(labels), "ns", Better.LOWER, samples)


def result(*sections: Section) -> Result:
    """Return a result of the test machine."""
    return Result("0", "2026-01-01T00:00:00+00:00", MACHINE, {"quick": True}, sections)


def tlb(seed: int = 1, huge: float = 150.0) -> Section:
    """Return a section in which 4 KiB pages cost more from 64 MiB on."""
    costs = {
        64: (1.0, 1.0),
        1024: (5.0, 5.0),
        4096: (12.0, 11.0),
        16384: (80.0, 35.0),
        65536: (400.0, huge),
    }
    figures = [
        figure(cost, seed=seed + places + number, what="random", pages=kind, places=places)
        for places, pair in costs.items()
        for number, (kind, cost) in enumerate(zip(("4K", "thp"), pair, strict=True))
    ]  # fmt: skip
    figures += [
        figure(12.0, seed=seed, what="gather", pages="4K", places=65536),
        figure(8.0, seed=seed + 1, what="gather", pages="thp", places=65536),
    ]
    return Section(
        "tlb", tuple(figures), 3.0, {"1G": "1G: none free"}, {"thp": "256 MiB in 2 MiB pages"}
    )
