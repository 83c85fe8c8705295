"""Trend test: which rows grow over a run, to its end. Rows are stacks, columns are samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

ENOUGH = 4  # samples, including the start; fewer show no growth
ENOUGH_IN_TURN = 5  # of memory that is freed and allocated again, of which the start says nothing
KEPT = 0.999  # fraction of the blocks live from which nothing was freed
_MOST = 48  # most samples used; more only cost time
_TAU = 0.6  # minimum rank correlation with time (Kendall's tau)
_SIGNIFICANT = 1.645  # one-sided 5 %
LATE = 0.1  # minimum fraction of the final value added in the last third of the run
ERRORS = 2.0  # and minimum of standard errors


@dataclass(frozen=True, slots=True)
class Trend:
    """Trend of each row.

    `late` is the fraction of the final value added in the last third of the time, `early` the fraction
    present after the first third.
    """

    growing: Bools
    slope: Floats
    early: Floats
    late: Floats
    known: Bools  # growing, or even growth from the start to the end is excluded by two standard errors


def sample_times(times: Sequence[float], start: float, end: float) -> list[int]:
    """Return indices of ascending times to use: at a distance from each other, before the end."""
    gap = max((end - start) / _MOST, 1e-9)
    chosen: list[int] = []
    last = start
    for index, time in enumerate(times):
        if time - last >= gap and end - time >= gap:
            chosen.append(index)
            last = time
    return chosen


def find_trend(
    times: Floats,
    values: Floats,
    variances: Floats,
    kept: Floats | None = None,
    gone: Floats | None = None,
    blocks: Floats | None = None,
) -> Trend:
    """Test each row of `values`, sampled at `times` with sampling variances `variances`.

    The first value is that of the start. `kept` is the fraction of each row's blocks that was never freed, at least:
    so much of a later sample is the same as an earlier one. By default the samples are independent. `gone` is the
    variance of what was live at two thirds of the time and is not at the end, where that is known. `blocks` is how many
    are live at the end: of a few large ones the times of birth are chance, too.
    """
    kept = np.zeros(len(values)) if kept is None else np.clip(kept, 0, 1)
    first, last = float(times[0]), float(times[-1])
    third = (last - first) / 3
    final = np.maximum(values[:, -1], 1e-9)
    before, noise = at(times, last - third, values), at(times, last - third, variances)
    added = values[:, -1] - before
    common = (
        kept * np.minimum(variances[:, -1], noise) if gone is None else np.maximum(noise - gone, 0)
    )
    error = np.sqrt(np.maximum(variances[:, -1] + noise - 2 * common, 0))
    late = added / final
    # All memory begins with nothing, so that of memory in turn the start is no evidence of a rise.
    rises = np.where(kept >= KEPT, _rises(values), _rises(values[:, 1:]))
    growing = (late >= LATE) & (added > ERRORS * error) & rises
    centred = times - times.mean()
    slope = (values @ centred) / float(centred @ centred)
    early, doubt = at(times, first + third, values), at(times, first + third, variances)
    even = values[:, -1] / 3  # what each third of the time adds of even growth
    turned = np.maximum(noise - common, 0)
    # A third of the blocks falls into a third of the time: a binomial count, of which each sample adds its square.
    squares = variances[:, -1] + values[:, -1] ** 2 / np.maximum(
        np.inf if blocks is None else blocks, 1.0
    )
    spread = squares * 2 / 9
    known = variances[:, -1] <= 0
    known |= added + ERRORS * np.sqrt(spread + turned) < even
    known |= early - ERRORS * np.sqrt(spread + doubt) > even
    return Trend(growing, slope, early / final, late, growing | known)


def grew(times: Floats, values: Floats, variances: Floats) -> Bools:
    """Return which rows rose to the end, of values above those of the first time. Samples are independent."""
    third = float(times[-1]) - float(times[-1] - times[0]) / 3
    before, noise = at(times, third, values), at(times, third, variances)
    added = values[:, -1] - before
    error = np.sqrt(variances[:, -1] + noise)
    last = np.maximum(values[:, -1], 1e-9)
    found: Bools = (added >= LATE * last) & (added > ERRORS * error) & _rises(values)
    return found


def at(times: Floats, when: float | Floats, values: Floats) -> Floats:
    """Interpolate every row at one time, or at each of several."""
    right = np.clip(np.searchsorted(times, when), 1, len(times) - 1)
    share = (when - times[right - 1]) / (times[right] - times[right - 1])
    found: Floats = values[:, right - 1] * (1 - share) + values[:, right] * share
    return found


def _rises(values: Floats) -> Bools:
    """Return which rows rise with time significantly (Mann-Kendall test)."""
    count = values.shape[1]
    score = np.zeros(len(values))
    for lag in range(1, count):
        score += np.sign(values[:, lag:] - values[:, :-lag]).sum(axis=1)
    pairs = count * (count - 1) / 2
    deviation = np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    rises: Bools = (score / pairs >= _TAU) & ((score - 1) / deviation >= _SIGNIFICANT)
    return rises
