"""The test of growth: against scipy's tests, and with figures whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is not installed")

from scipy import stats

from mematlas.errors import UsageError
from mematlas.lake.growth import (
    SMALL_BYTES,
    HostMeans,
    choose_test,
    false_discovery,
    find_growth,
    interval,
)


def group(means: np.ndarray, first_host: int = 0) -> HostMeans:
    """Return a group of hosts from a matrix of hosts and lines; a line of 0 bytes has no row."""
    host, line = np.nonzero(means)
    names = tuple(("web", f"h{number + first_host}") for number in range(len(means)))
    return HostMeans(names, host, line.astype(np.int64), means[host, line])


def fleet(
    seed: int, hosts: int, lines: int, planted: int = 0, effect: float = 0.2
) -> tuple[np.ndarray, np.ndarray]:
    """Return means of the same hosts before and after. Load moves all lines of a host; the first lines grow."""
    random = np.random.default_rng(seed)
    base = random.normal(13, 1, lines) + random.normal(0, 0.4, (hosts, lines))
    load = random.normal(0, 0.3, (hosts, 1))
    grow = np.where(np.arange(lines) < planted, np.log1p(effect), 0.0)
    before = base + random.normal(0, 0.1, (hosts, lines))
    after = base + load + grow + random.normal(0, 0.1, (hosts, lines))
    return np.exp(before), np.exp(after)


def test_paired_is_the_t_test_of_scipy() -> None:
    """With few lines nothing is taken off: p values are those of ttest_1samp on the differences of logarithms."""
    before, after = fleet(1, 30, 6)
    found = find_growth(group(before), group(after))
    change = np.log(after + SMALL_BYTES) - np.log(before + SMALL_BYTES)
    expected = stats.ttest_1samp(change, 0, alternative="greater")
    assert found.test == "paired"
    assert found.service_change is None
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.ratio == pytest.approx(after.sum(0) / before.sum(0))


def test_welch_is_the_t_test_of_scipy() -> None:
    """Two groups of other hosts, of different size."""
    before, _ = fleet(2, 12, 6)
    after, _ = fleet(3, 25, 6)
    found = find_growth(group(before), group(after, 100))
    logs = [np.log(each + SMALL_BYTES) for each in (after, before)]
    expected = stats.ttest_ind(*logs, equal_var=False, alternative="greater")
    assert found.test == "welch"
    assert found.hosts == 37
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.freedom == pytest.approx(expected.df)


def test_q_values_are_those_of_scipy() -> None:
    """Also for equal p values and for none."""
    p_values = np.random.default_rng(4).uniform(0, 1, 500) ** 3
    p_values[:5] = p_values[7]
    assert false_discovery(p_values) == pytest.approx(stats.false_discovery_control(p_values))
    assert len(false_discovery(np.zeros(0))) == 0


def test_load_of_hosts_is_no_growth_of_lines() -> None:
    """All lines of all hosts double: no line is listed, and the service is said to have doubled."""
    before, after = fleet(5, 40, 30)
    found = find_growth(group(before), group(after * 2))
    assert not (found.q_value <= 0.05).any()
    assert found.service_change == pytest.approx(np.log(2), abs=0.25)


def test_planted_lines_are_found_and_few_others() -> None:
    """Over 40 fleets of 100 hosts: nearly all of 10 lines with +10 %, and the stated rate of false ones holds."""
    power: list[float] = []
    false: list[float] = []
    for seed in range(40):
        before, after = fleet(seed, 100, 120, planted=10, effect=0.10)
        found = find_growth(group(before), group(after))
        listed = found.line[found.q_value <= 0.05]
        power.append(float(np.mean(np.isin(np.arange(10), listed))))
        false.append(float(np.mean(listed >= 10)) if len(listed) else 0.0)
    assert np.mean(power) > 0.95
    error = np.std(false) / len(false) ** 0.5
    assert np.mean(false) < 0.05 + 2 * error


@pytest.mark.parametrize("same_hosts", [True, False])
def test_intervals_have_the_truth(same_hosts: bool) -> None:
    """Over 100 fleets with 8 lines of +20 %: about 95 % of the intervals have the true ratio, in the load of the host."""
    inside = []
    for seed in range(100):
        before, after = fleet(seed, 60, 60, planted=8, effect=0.20)
        if not same_hosts:
            before = before[:30]
        found = find_growth(
            group(before), group(after[0 if same_hosts else 30 :], 0 if same_hosts else 30)
        )
        low, high = interval(found)
        inside += ((low[:8] <= 1.2) & (high[:8] >= 1.2)).tolist()
    assert 0.91 < np.mean(inside) < 0.985


def test_many_lines_that_grow_do_not_hide_each_other() -> None:
    """A third of all lines grows: the median is that of the others, and the ratios are right."""
    before, after = fleet(11, 100, 60, planted=20, effect=0.10)
    found = find_growth(group(before), group(after))
    listed = set(found.line[found.q_value <= 0.05].tolist())
    assert set(range(20)) <= listed
    assert len(listed) <= 23
    assert np.median(found.ratio[:20]) == pytest.approx(1.10, abs=0.01)


def test_without_growth_nothing_is_listed_19_times_of_20() -> None:
    """The null hypothesis is true for all lines: any finding is false."""
    wrong = 0
    for seed in range(100, 160):
        before, after = fleet(seed, 20, 60)
        wrong += bool((find_growth(group(before), group(after)).q_value <= 0.05).any())
    assert wrong <= 9  # of 60; 3 are expected, and more than 9 have a chance of 1 in 1,000


def test_growth_up_to_a_limit_is_no_finding() -> None:
    """+2 % on every host is sure, and no more than `over`."""
    before = np.full((50, 3), 1e6) * np.random.default_rng(6).uniform(0.9, 1.1, (50, 1))
    after = before * np.array([1.0, 1.02, 1.5])
    found = find_growth(group(before), group(after), over=0.05)
    assert list(found.line[found.q_value <= 0.05]) == [2]
    found = find_growth(group(before), group(after), over=0.01)
    assert list(found.line[found.q_value <= 0.05]) == [1, 2]


def test_a_new_line_is_found_and_one_of_few_hosts_is_not_tested() -> None:
    """A line that hosts lack is 0 there; a line of 4 hosts cannot be tested."""
    before, after = fleet(7, 20, 30)
    before[:, 0] = 0
    before[4:, 1] = after[4:, 1] = 0
    found = find_growth(group(before), group(after))
    assert 0 in found.line[found.q_value <= 0.05]
    assert 1 not in found.line
    assert found.untested == 1


def test_small_lines_are_left_out_before_the_test() -> None:
    """What is small on both sides costs no power. The limit looks at the sum of both sides alone."""
    before, after = fleet(8, 20, 30)
    before[:, :10] = after[:, :10] = 100.0
    found = find_growth(group(before), group(after), least_bytes=4096)
    assert found.small == 10
    assert len(found.line) == 20


def test_equal_figures_have_no_growth() -> None:
    """No spread at all: p values are numbers, and none is small."""
    means = np.full((8, 12), 1e6)
    found = find_growth(group(means), group(means.copy()))
    assert np.isfinite(found.p_value).all()
    assert (found.p_value >= 0.5).all()


def test_a_host_without_lines_counts() -> None:
    """A host whose recordings lack all lines is 0, and halves the mean."""
    hosts = tuple(("web", f"h{number}") for number in range(10))
    before = HostMeans(hosts, np.arange(5), np.zeros(5, np.int64), np.full(5, 1e6))
    found = find_growth(before, before)
    assert found.before[0] == pytest.approx(5e5)


@pytest.mark.parametrize(
    ("before", "after", "test"),
    [(100, 100, "paired"), (50, 50, "paired"), (5, 5, "paired")],
)
def test_the_same_hosts_are_paired(before: int, after: int, test: str) -> None:
    """Hosts of both sides are compared with themselves."""
    assert choose_test(range(before), range(after)) == test


def test_other_hosts_are_two_groups() -> None:
    """A few hosts of many on both sides do not outweigh the others; too few hosts are refused."""
    assert choose_test(range(100), range(95, 200)) == "welch"
    with pytest.raises(
        UsageError, match="a test needs 5 hosts of each group, and there are 4 and 9"
    ):
        choose_test(range(4), range(20, 29))
