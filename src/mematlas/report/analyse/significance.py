"""Which differences of two sampled runs are more than the chance of sampling."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from mematlas.report.analyse import sums
from mematlas.report.analyse.table import FAULT_NUMBER
from mematlas.report.model.diff import SURE, StackChange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mematlas.recording.model import Frame, RecordingData
    from mematlas.report.analyse.table import StackTable

    Numbers = NDArray[np.int64]
    Floats = NDArray[np.float64]

_OF_TOTALS = {"peak": "peak_variance", "allocated": "allocated_variance"}
_CHANCE = 0.05  # that any of the lines and stacks said to have changed has not
_TABLES = 2  # lines and stacks, each with half of the chance
_CHANCE_OVER = 1 / 1000  # that the total of equal runs exceeds a limit
_SKEW = 1.5
"""Factor by which several missing blocks exceed one that is missing by the same chance.

Found by computation of all outcomes for up to 30 blocks of 0.5 to 8 means in 1 to 200 lines
(tests/property/report/test_missing_blocks.py).
"""


def missing(mean: int, blocks: Floats | float, chance: float) -> Floats:
    """Return the bytes that one of `blocks` blocks has at most if it is in a run without a sample, except by `chance`.

    A block of b bytes has no sample with exp(-b / mean). Then the run lacks the whole block, and the standard
    error of the difference, which is of sampled blocks, does not know of it.
    """
    return _SKEW * mean * np.log(np.maximum(blocks, 1.0) / chance)


def missing_in_total(mean: int, blocks: float) -> int:
    """Return the bytes that the total of one of two equal runs lacks at most, except by the chance of a false alarm."""
    return round(float(missing(mean, blocks, _CHANCE_OVER)))


def count_large(mean: int, sizes: Floats, counts: Floats) -> Floats:
    """Return how many blocks of at least half a mean there can be. Smaller ones are what the standard error is for."""
    return np.minimum(counts, 2 * sizes / mean) if mean else np.zeros_like(sizes)


def least_changes(variances: Floats, mean: int, blocks: Floats) -> Floats:
    """Return the change of each of many lines, or stacks, that is significant with as many compared at once."""
    compared = max(int((variances > 0).sum()), 1)
    chance = _CHANCE / _TABLES / (2 * compared)
    sure = max(SURE, NormalDist().inv_cdf(1 - chance))
    lacking = np.where(variances > 0, missing(mean, blocks, chance), 0.0)
    return np.hypot(sure * np.sqrt(np.maximum(variances, 0.0)), lacking)


def least_change(error: float, mean: int, blocks: float) -> float:
    """Return the change of the total that is significant."""
    if not error:
        return 0.0
    return math.hypot(SURE * error, float(missing(mean, blocks, _CHANCE / 2)))


def make_change(
    frames: tuple[Frame, ...],
    sizes: Sequence[int],
    error: float,
    *,
    known: bool,
    least: float,
) -> StackChange:
    """Return a change, which is certain if it exceeds `least` bytes and its error is known."""
    before, after = sizes
    certain = known and after != before and abs(after - before) > least
    return StackChange(frames, before, after, round(error) if known else None, certain)


def variance_of(recording: RecordingData, table: StackTable, by: str) -> Floats:
    """Return the variance of each row. Resident bytes inherit the relative error of the live bytes."""
    live = table.metric("live").astype(np.float64)
    found = table.columns["error_bytes"].astype(np.float64) ** 2
    if by in _OF_TOTALS:
        found = np.zeros(len(table))
        for index, totals in recording.totals.items():
            rows = np.flatnonzero((table.process == index) & (table.kind != FAULT_NUMBER))
            keys = table.keys(rows)
            name = _OF_TOTALS[by]
            found[rows] = sums.gather(totals.rows, keys, (name,))[name]
    elif by != "live":
        share = np.divide(table.metric(by), live, out=np.ones(len(table)), where=live > 0)
        # What was touched first is not live, and its error is of its resident bytes.
        found *= share**2
    return found
