"""Sampling errors of page faults, of the sums of several sites.

A thread's faults are sampled at equal distances, so the samples of different sites are not independent: what one
site has too much, others have too little. The variance of a sum follows from how often the samples change between
the sites of the sum and all others, at most as often as the sites themselves change.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mematlas.recording.model import Rows

_SMALL = 4096.0 * 16  # bytes of a page below which the usual period applies: 4, 16 and 64 KiB


def bytes_variance(rows: Rows, some: NDArray[Any], period: int) -> float:
    """Return the variance of the bytes that the sites in `some` (a mask) made resident; 0 if all faults are known.

    Of n samples a share p is of the sum, in `turns` runs. A two-state process with such runs has the variance
    n * p * (1 - p) * g(a) in samples, where exp(-a) is the correlation of neighbouring samples and
    g(a) = coth(a / 2) - 2 / a: 1 where sites mix at random, a / 6 where they take long turns. Up to a period of
    faults after a thread's last sample is not seen.
    """
    chosen = rows[some]
    plain = float(chosen["bytes_variance"].sum())
    samples = float(rows["faults"].sum()) / max(period, 1)
    mine = float(chosen["faults"].sum())
    size = float(chosen["bytes"].sum()) / mine if mine else 0.0
    if period <= 1 or not mine or size > _SMALL:
        return plain
    unit = period * (period - 1.0)
    share = mine / period / samples
    turns = min(float(chosen["variance"].sum()), float(rows["variance"][~some].sum()) + unit) / unit
    # The number of turns is chance, too; by one error more, sites that mix at random are taken for such.
    turns += math.sqrt(turns)
    unseen = (share * size * period) ** 2 / 3
    return min(plain, unit * size**2 * samples * _mixed(share, turns / samples)) + unseen


def _mixed(share: float, turns: float) -> float:
    """Return the variance of a sample, for a share of the samples and the runs of each sample."""
    most = share * (1 - share)  # of the runs, and of the variance: sites that mix at random
    if most <= 0:
        return 0.0
    if turns >= most:
        return most
    distance = -math.log1p(-turns / most)
    if distance < 1e-3:
        return most * distance / 6
    return most * (1 / math.tanh(distance / 2) - 2 / distance)


def whole_error(rows: Rows, period: int) -> float:
    """Return one standard error of the bytes of all sites of a process."""
    return math.sqrt(max(bytes_variance(rows, np.ones(len(rows), bool), period), 0.0))
