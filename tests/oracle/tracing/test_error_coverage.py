"""Stated errors hold the truth about as often as two standard errors should: the short form of scripts/error-coverage."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from error_coverage import Coverage, build, measure

if TYPE_CHECKING:
    from pathlib import Path

SEEDS = range(1, 6)  # fixed, so that the estimates are the same in each run
SHAPES = ("mixed", "partly", "falls")


def test_two_standard_errors_hold_the_truth(tmp_path: Path) -> None:
    """Of 15 intervals of each figure, of fixed seeds, at least 11 hold the truth."""
    found: defaultdict[tuple[str, str], Coverage] = defaultdict(Coverage)
    commands = [each for each in build(tmp_path) if each[-1] in SHAPES]
    for seed in SEEDS:
        measure(seed, commands, tmp_path, found)
    for figure in ("live", "peak", "allocated", "resident"):
        some = [found[shape, figure] for shape in SHAPES]
        assert sum(len(each.estimates) for each in some) == len(SEEDS) * len(SHAPES)
        assert sum(each.held() for each in some) >= 11, figure  # fewer has a chance of 0.06 %
