"""Tests which lines grew from one group of hosts to another, against what differs from host to host.

The unit is the host, not the recording: recordings of one host are alike, and counting each of them would find growth
where two hosts differ. Of each line the logarithm of its mean on a host is compared.

- On hosts that are in both groups: a t test of the differences within the hosts (paired).
- On other hosts: Welch's t test of the two groups.

What moves all lines of a host together, such as its load, is taken off first: the median of its lines. Lines that
moved are left out of it in further passes, so that many that grew do not hide each other.

The null hypothesis is a growth of at most `over`. P values become q values by Benjamini and Hochberg: of the lines
reported, the expected share of false ones is at most `rate`, if the tests are independent or depend on each other
positively.

How much a line grew is estimated apart from the test: as the ratio of the sums over the hosts, with the error of a
ratio estimator. The mean of logarithms would be of another quantity, and be biased by what is added to small means.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mematlas._core.columns.distinct import distinct
from mematlas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Numbers = NDArray[np.int64]
    Flags = NDArray[np.bool_]

LEAST_HOSTS = 5  # of each line, or of each group
LEAST_LINES = 10  # whose median is taken off
SMALL_BYTES = 4096.0  # added to each mean, so that 0 has a logarithm
_MOST_CELLS = 200_000_000
_PAIRED_WORTH = 10  # differences within hosts need about a tenth of the hosts
_POWER = 0.8
_LEAST_ERROR = 1e-9
_PASSES = 2


@dataclass(frozen=True, slots=True)
class HostMeans:
    """Means by host and line of one group. Hosts without any line are in `hosts` alone."""

    hosts: tuple[tuple[str, str], ...]  # service and host, each once
    host: Numbers  # indexes `hosts`
    line: Numbers
    mean: Floats


@dataclass(frozen=True, slots=True)
class Growth:
    """Result of a test for all lines; arrays have one item for each line that was tested."""

    test: str
    hosts: int
    line: Numbers
    before: Floats  # bytes, mean of all hosts of the group
    after: Floats
    ratio: Floats  # of the bytes after to those before, load taken off; NaN: there were none before
    ratio_error: Floats  # its standard error
    freedom: Floats
    spread: Floats
    present: Numbers  # hosts that have the line
    p_value: Floats
    q_value: Floats
    untested: int
    small: int
    service_change: float | None  # of the logarithm; None: too few lines
    detectable: float | None  # change of the logarithm


@dataclass(frozen=True, slots=True)
class _Differences:
    change: Floats
    error: Floats
    freedom: Floats
    spread: Floats
    present: Numbers
    service: float | None
    hosts: int
    ratio: Floats
    ratio_error: Floats


def choose_test(before: Sequence[object], after: Sequence[object]) -> str:
    """Return "paired" where enough hosts are in both groups, else "welch"; UsageError if both have too few."""
    both, least = len(set(before) & set(after)), min(len(before), len(after))
    if both >= LEAST_HOSTS and both * _PAIRED_WORTH >= least:
        return "paired"
    if least < LEAST_HOSTS:
        raise UsageError(
            f"a test needs {LEAST_HOSTS} hosts of each group, and there are {len(before)} and"
            f" {len(after)}; `mematlas lake diff` compares without a test"
        )
    return "welch"


def find_growth(
    before: HostMeans,
    after: HostMeans,
    *,
    test: str | None = None,
    rate: float = 0.05,
    over: float = 0.0,
    least_bytes: float = 0.0,
    small_bytes: float = SMALL_BYTES,
) -> Growth:
    """Test all lines. `over` and `rate` are shares; `test` None: choose_test()."""
    chosen = test or choose_test(before.hosts, after.hosts)
    groups = [before, after]
    lines = distinct(np.concatenate([before.line, after.line]))
    sizes = [_sizes(each, lines) for each in groups]
    large = (sizes[0] + sizes[1]) / 2 >= least_bytes
    small = int((~large).sum())
    lines, sizes = lines[large], [each[large] for each in sizes]
    means = [_matrix(each, lines) for each in groups]
    compare = _welch
    if chosen == "paired":
        rows = _rows_of_both(before, after)
        means = [each[index] for each, index in zip(means, rows, strict=True)]
        compare = _paired
    steady = np.ones(len(lines), bool)
    found = compare(means[0], means[1], small_bytes, steady)
    for _ in range(_PASSES if found.service is not None else 0):
        steady = _steady(found, rate)
        found = compare(means[0], means[1], small_bytes, steady)
    tested = _testable(found)
    null = float(np.log1p(over))
    p_value = _upper_tail(found, null)[tested]
    q_value = false_discovery(p_value)
    alpha = rate * max(1, int((q_value <= rate).sum())) / max(1, len(p_value))
    return Growth(
        test=chosen,
        hosts=found.hosts,
        line=lines[tested],
        before=sizes[0][tested],
        after=sizes[1][tested],
        ratio=found.ratio[tested],
        ratio_error=found.ratio_error[tested],
        freedom=found.freedom[tested],
        spread=found.spread[tested],
        present=found.present[tested],
        p_value=p_value,
        q_value=q_value,
        untested=int((~tested).sum()),
        small=small,
        service_change=found.service,
        detectable=_detectable(found, tested, alpha, null),
    )


def false_discovery(p_values: Floats) -> Floats:
    """Return the q values of Benjamini and Hochberg: the least rate at which each test is a discovery."""
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * len(order) / np.arange(1, len(order) + 1)
    q_values = np.empty(len(order))
    q_values[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q_values


def interval(growth: Growth, share: float = 0.95) -> tuple[Floats, Floats]:
    """Return the bounds of the intervals of the ratios."""
    from scipy.special import stdtrit

    width = stdtrit(growth.freedom, (1 + share) / 2) * growth.ratio_error
    return growth.ratio - width, growth.ratio + width


def _testable(found: _Differences) -> Flags:
    return (found.present >= LEAST_HOSTS) & np.isfinite(found.error)


def _steady(found: _Differences, rate: float) -> Flags:
    """Return the lines that neither grew nor shrank; if most did, the half that moved least."""
    steady = _testable(found)
    tested = steady.copy()
    for each in (found, replace(found, change=-found.change)):
        steady[tested] &= false_discovery(_upper_tail(each, 0.0)[tested]) > rate
    if steady.sum() >= max(LEAST_LINES, tested.sum() / 2):
        return steady
    order = np.argsort(np.where(tested, np.abs(found.change), np.inf), kind="stable")
    steady[:] = False
    steady[order[: max(LEAST_LINES, int(tested.sum()) // 2)]] = True
    return steady


def _sizes(group: HostMeans, lines: Numbers) -> Floats:
    """Return the mean of all hosts by line."""
    at = np.searchsorted(lines, group.line)
    return np.bincount(at, group.mean, len(lines)) / max(1, len(group.hosts))


def _matrix(group: HostMeans, lines: Numbers) -> Floats:
    """Return the means as a matrix of hosts and lines; a line that a host lacks is 0."""
    if len(group.hosts) * len(lines) > _MOST_CELLS:
        raise UsageError(
            f"{len(group.hosts):,} hosts with {len(lines):,} lines are too many for one test;"
            " raise --least, or choose a --service"
        )
    found = np.zeros((len(group.hosts), len(lines)))
    at = np.minimum(np.searchsorted(lines, group.line), max(0, len(lines) - 1))
    kept = lines[at] == group.line if len(lines) else np.zeros(len(at), bool)
    found[group.host[kept], at[kept]] = group.mean[kept]
    return found


def _rows_of_both(before: HostMeans, after: HostMeans) -> tuple[Numbers, Numbers]:
    """Return the rows of hosts that both groups have, in one order."""
    place = {each: row for row, each in enumerate(after.hosts)}
    pairs = [(row, place[each]) for row, each in enumerate(before.hosts) if each in place]
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _paired(before: Floats, after: Floats, small: float, steady: Flags) -> _Differences:
    """Return the mean differences within hosts. A line counts on the hosts that have it in either group."""
    present = (before > 0) | (after > 0)
    change = np.log(after + small) - np.log(before + small)
    change[~present] = np.nan
    medians = _medians(change[:, steady])
    service = None if medians is None else float(np.mean(medians))
    if medians is not None:
        change -= medians[:, None]
        after = after * np.exp(-medians)[:, None]
    count = present.sum(0)
    mean = _mean(change, count)
    spread = _deviation(change, mean, count)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.maximum(spread / np.sqrt(count), _LEAST_ERROR)
        ratio = after.sum(0) / before.sum(0)
        rest = ((after - ratio * before) ** 2).sum(0) * count / (count - 1)
        ratio_error = np.sqrt(rest) / before.sum(0)
    ratio[~np.isfinite(ratio)] = np.nan
    freedom = np.maximum(count - 1.0, 1.0)
    hosts = len(before)
    return _Differences(mean, error, freedom, spread, count, service, hosts, ratio, ratio_error)


def _welch(before: Floats, after: Floats, small: float, steady: Flags) -> _Differences:
    """Return the differences between the means of two groups of hosts. A line that a host lacks is 0 there."""
    groups = [before, after]
    logs = [np.log(each + small) for each in groups]
    centre = (logs[0].sum(0) + logs[1].sum(0)) / (len(before) + len(after))
    medians = [
        _medians(np.where(each > 0, log - centre, np.nan)[:, steady])
        for each, log in zip(groups, logs, strict=True)
    ]
    service = None
    if medians[0] is not None and medians[1] is not None:
        logs = [log - row[:, None] for log, row in zip(logs, medians, strict=True)]  # type: ignore[index]
        service = float(np.mean(medians[1]) - np.mean(medians[0]))
        groups[1] = after * np.exp(-service)
    counts = [len(each) for each in groups]
    parts = [log.var(0, ddof=1) / count for log, count in zip(logs, counts, strict=True)]
    squared = np.maximum(parts[0] + parts[1], _LEAST_ERROR**2)
    freedom = squared**2 / np.maximum(
        sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True)),
        squared**2 / (sum(counts) - 2),
    )
    spread = np.sqrt((logs[0].var(0, ddof=1) + logs[1].var(0, ddof=1)) / 2)
    present = (before > 0).sum(0) + (after > 0).sum(0)
    change = logs[1].mean(0) - logs[0].mean(0)
    ratio, ratio_error = _ratio_of_groups(groups[0], groups[1])
    error, hosts = np.sqrt(squared), sum(counts)
    return _Differences(change, error, freedom, spread, present, service, hosts, ratio, ratio_error)


def _ratio_of_groups(before: Floats, after: Floats) -> tuple[Floats, Floats]:
    """Return the ratio of the means of two groups, and its standard error."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = after.mean(0) / before.mean(0)
        relative = [each.var(0, ddof=1) / len(each) / each.mean(0) ** 2 for each in (before, after)]
        error = ratio * np.sqrt(relative[0] + relative[1])
    ratio[~np.isfinite(ratio)] = np.nan
    return ratio, error


def _medians(values: Floats) -> Floats | None:
    """Return the median of each host over the lines that it has; None where hosts have few lines."""
    lines = np.isfinite(values).sum(1)
    if not len(lines) or np.median(lines) < LEAST_LINES:
        return None
    medians = np.zeros(len(values))
    some = lines > 0
    medians[some] = np.nanmedian(values[some], axis=1)
    return medians


def _mean(values: Floats, count: Numbers) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(values, 0) / count)


def _deviation(values: Floats, mean: Floats, count: Numbers) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(np.nansum((values - mean) ** 2, 0) / (count - 1)))


def _upper_tail(found: _Differences, null: float) -> Floats:
    """Return the probability of such a change or a larger one if it is `null`."""
    from scipy.special import stdtr

    with np.errstate(invalid="ignore"):
        return np.asarray(stdtr(found.freedom, -(found.change - null) / found.error))


def _detectable(found: _Differences, tested: Flags, alpha: float, null: float) -> float | None:
    """Return the change that is found with _POWER, of a line with the median error."""
    from scipy.special import stdtrit

    if not tested.any():
        return None
    error = float(np.median(found.error[tested]))
    freedom = float(np.median(found.freedom[tested]))
    return null + float(stdtrit(freedom, 1 - alpha) + stdtrit(freedom, _POWER)) * error
