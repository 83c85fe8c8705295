"""Print a result of `mematlas bench` of a machine that becomes twice as slow during the run.

Measured in turn, random order with 4 KiB pages costs 3 times as much as with huge pages, and a gather
the same. Measured one after the other, many small mappings cost what one costs. The true factors are thus
3, 1 and unknown.
"""

import random
import sys

from mematlas.bench import run
from mematlas.bench.model import Better, Figure, Result, Section, to_json
from mematlas.present import json_writer

PASSES = 30
draw = random.Random(1)


def figure(level: float, series: int, begin: float, end: float, **labels: str | int) -> Figure:
    """Return a figure of a machine that is `begin` and then `end` times as slow as at first."""
    samples = tuple(
        level * (begin + (end - begin) * number / PASSES) * draw.gauss(1, 0.01)
        for number in range(PASSES)
    )
    return Figure(labels, "ns", Better.LOWER, samples, series=series)


figures = (
    figure(300.0, 0, 1.0, 1.5, what="random", pages="4K", places=65536),
    figure(100.0, 0, 1.0, 1.5, what="random", pages="thp", places=65536),
    figure(10.0, 1, 1.5, 1.6, what="gather", pages="4K", places=65536),
    figure(10.0, 1, 1.5, 1.6, what="gather", pages="thp", places=65536),
    figure(20.0, 2, 1.6, 1.8, what="mappings", layout="one mapping", places=16384),
    figure(20.0, 3, 1.8, 2.0, what="mappings", layout="one page each", places=16384),
)
empty = run([])
result = Result(empty.version, empty.started, empty.machine, {}, (Section("tlb", figures, 1.0),))
sys.stdout.write(json_writer.render("bench", to_json(result)))
