"""`leaks --fail-over`: of every size of leak against every limit, exit code 0 and 1 are rarely wrong.

The sampler is simulated: what a program allocates is known, and each block is a sample with the probability that the
tracer gives it. So the rate of wrong answers is counted, not derived from the formulas under test.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import synthetic_recording
from mematlas.recording.model import AgeMatrix, Frame, RecordingData, Sampling, Totals
from mematlas.recording.row_types import AGE_MATRIX_DTYPE, ALIVE, NODE_DTYPE, TOTALS_DTYPE
from mematlas.report.analyse.leaks import exceeds, find_leaks
from mematlas.report.model.leaks import LeakVerdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MEAN = 512 << 10
RUN_S, CELLS = 60.0, 300
RUNS = int(os.environ.get("LEAK_RUNS", "15"))  # of each size against each limit
WRONG = 0.05  # of runs: two standard errors of one side, and of the test that excludes growth


@dataclass(frozen=True)
class Blocks:
    """Blocks of one owner: size, and the cells of their birth and death."""

    size: Floats
    born: NDArray[np.int64]
    died: NDArray[np.int64]


def even_leak(rng: np.random.Generator, total: float, block: float, freed: float) -> Blocks:
    """Return blocks allocated evenly over the run, of which `freed` is freed soon and the rest never."""
    count = max(int(total / block / (1 - freed)), 1)
    born = np.sort(rng.integers(0, CELLS, count))
    soon = rng.random(count) < freed
    died = np.where(soon, np.minimum(born + rng.integers(1, 20, count), CELLS), ALIVE)
    return Blocks(np.full(count, block), born, np.where(died >= CELLS, ALIVE, died))


def start_up(rng: np.random.Generator, total: float, block: float) -> Blocks:
    """Return blocks allocated in the first tenth of the run and kept."""
    count = max(int(total / block), 1)
    return Blocks(np.full(count, block), rng.integers(0, CELLS // 10, count), np.full(count, ALIVE))


def cache(rng: np.random.Generator, total: float, block: float) -> Blocks:
    """Return blocks of a cache that is full after a tenth of the run, each of which lives for a fifth of it."""
    count, lives = max(int(total / block), 1), CELLS // 5
    first = np.sort(rng.integers(0, CELLS // 10, count))
    rounds = [first + number * lives for number in range(CELLS // lives + 1)]
    born = np.concatenate(rounds)
    born = born[born < CELLS]
    died = born + lives
    return Blocks(np.full(len(born), block), born, np.where(died >= CELLS, ALIVE, died))


def columns_of(
    owners: list[Blocks], rng: np.random.Generator | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the age matrix and the totals of one process with these owners; exact without a generator."""
    cells, rows = [], []
    for stack, blocks in enumerate(owners, 1):
        chance = 1 - np.exp(-blocks.size / MEAN) if rng else np.ones(len(blocks.size))
        seen = rng.random(len(chance)) < chance if rng else np.ones(len(chance), bool)
        size, weight = blocks.size[seen], 1 / chance[seen]
        variance = size**2 * (1 - chance[seen]) * weight**2
        born, died, total = blocks.born[seen], blocks.died[seen], size * weight
        live = died == ALIVE
        some = np.zeros(int(seen.sum()), AGE_MATRIX_DTYPE)
        some["stack"], some["kind"], some["born"], some["died"] = stack, 1, born, died
        some["bytes"], some["count"], some["variance"] = total, weight, variance
        cells.append(some)
        row = np.zeros(1, TOTALS_DTYPE)
        row["stack"], row["kind"] = stack, 1
        row["allocated_bytes"], row["allocations"] = total.sum(), weight.sum()
        row["freed_bytes"] = total[~live].sum()
        row["live_bytes"], row["live_count"] = total[live].sum(), weight[live].sum()
        row["live_variance"] = variance[live].sum()
        rows.append(row)
    return np.concatenate(cells), np.concatenate(rows)


def recording(rng: np.random.Generator | None, *processes: list[Blocks]) -> RecordingData:
    """Return what a run would record of the owners of each process; exact without a generator."""
    columns = [columns_of(owners, rng) for owners in processes]
    most = max(map(len, processes))
    nodes = np.zeros(most + 1, NODE_DTYPE)
    nodes["word"] = np.arange(most + 1)
    frames: dict[int, tuple[Frame, ...]] = {
        stack: (Frame(f"f{stack}", f"/srv/{stack}.c", 1, "/srv/app", "native"),)
        for stack in range(1, most + 1)
    }
    mode = Sampling("sampled", MEAN, 1.0) if rng else Sampling("exact", 0, 1.0)
    first = replace(synthetic_recording.PARENT, end_s=RUN_S)
    every = range(len(processes))
    return RecordingData(
        command=("service",),
        started="now",
        machine={},
        sampling=mode,
        processes=[replace(first, index=each, pid=first.pid + each) for each in every],
        nodes=dict.fromkeys(every, nodes),
        modules={},
        codes={},
        frames=dict.fromkeys(every, frames),
        snapshots=[],
        totals={each: Totals(each, RUN_S, RUN_S, 1.0, columns[each][1]) for each in every},
        timeline={},
        notes=[],
        complete=True,
        age_matrix={
            each: AgeMatrix(each, RUN_S, RUN_S / CELLS, columns[each][0]) for each in every
        },
    )


def answers(make: list[tuple[object, ...]], limit: float, seed: int) -> dict[bool | None, float]:
    """Return how often each answer is given in RUNS runs of the owners that `make` describes."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(RUNS):
        owners = [which(rng, *sizes) for which, *sizes in make]  # type: ignore[operator]
        found.append(exceeds(find_leaks(recording(rng, owners)), round(limit)))
    return {answer: found.count(answer) / RUNS for answer in (True, False, None)}


LEAKS = (0.5, 1.5, 3, 6, 9, 14, 24, 48)  # in samples
LIMITS = (0.1, 0.9, 3, 6, 8.5, 13, 23, 45)
FORMS = ((200.0, 0.0), (100e3, 0.0), (600e3, 0.0), (5000.0, 0.5))  # block, part freed


def judge(answer: bool, form: tuple[float, float], sizes: list[tuple[float, float]]) -> None:
    """Assert that a wrong answer is rare for each size of leak against each limit, and for all together."""
    rates = {
        (size, limit): answers(
            [(even_leak, size * MEAN, *form)], limit * MEAN, seed=round(size * 100)
        )[answer]
        for size, limit in sizes
    }
    assert len(rates) >= 6
    assert sum(rates.values()) / len(rates) <= WRONG, rates
    assert max(rates.values()) <= WRONG + 3 * (WRONG / RUNS) ** 0.5, rates


@pytest.mark.parametrize("form", FORMS)
def test_a_leak_beyond_the_limit_does_not_pass(form: tuple[float, float]) -> None:
    """Of leaks larger than the limit, exit code 0 is given to no more than a few in a hundred."""
    judge(False, form, [(s, each) for s in LEAKS for each in LIMITS if s / 4 < each < s])


@pytest.mark.parametrize("form", FORMS)
def test_no_leak_within_the_limit_fails(form: tuple[float, float]) -> None:
    """Of leaks smaller than the limit, exit code 1 is given to no more than a few in a hundred."""
    judge(True, form, [(s, each) for s in LEAKS for each in LIMITS if s <= each < 4 * s])


def test_a_leak_is_found_where_samples_are_enough() -> None:
    """A leak of three times the limit, and of many samples, fails; it is not left untold."""
    found = answers([(even_leak, 60 * MEAN, 1000.0, 0.0)], 20 * MEAN, seed=1)
    assert found[True] > 0.97, found


@pytest.mark.parametrize("size", [2, 5, 12, 40, 100])
def test_start_up_and_caches_do_not_fail(size: float) -> None:
    """Memory allocated at the start, and a full cache, are never leaks, however few their samples are."""
    for kind in (start_up, cache):
        found = answers([(kind, size * MEAN, 3000.0)], 0.5 * MEAN, seed=round(size))
        assert found[True] <= WRONG, (kind, found)


def test_many_small_leaks_are_not_told_to_be_none() -> None:
    """Forty owners that leak one sample each leak forty: a limit of ten cannot pass."""
    found = answers([(even_leak, MEAN, 500.0, 0.0)] * 40, 10 * MEAN, seed=5)
    assert found[False] == 0, found


def test_an_exact_run_always_tells() -> None:
    """Without sampling each verdict is that of the program."""
    rng = np.random.default_rng(2)
    owners = [even_leak(rng, 4e6, 1000.0, 0.0), start_up(rng, 9e6, 1000.0), cache(rng, 9e6, 1000.0)]
    leaks = find_leaks(recording(None, owners))
    assert [each.verdict for each in leaks.leaks[:1]] == [LeakVerdict.GROWING]
    assert {each.verdict for each in leaks.leaks[1:]} == {LeakVerdict.SETUP, LeakVerdict.STEADY}
    assert exceeds(leaks, 3_900_000) is True
    assert exceeds(leaks, 4_100_000) is False


WORKERS = 8


def verdicts(make: object, *sizes: float, seed: int, workers: int = WORKERS) -> list[LeakVerdict]:
    """Return the verdict on most bytes of each of RUNS runs of workers with one owner each."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(RUNS):
        owners = [[make(rng, *sizes)] for _ in range(workers)]  # type: ignore[operator]
        sums = find_leaks(recording(rng, *owners)).sums
        found.append(max(sums, key=lambda each: sums[each].live_bytes, default=LeakVerdict.UNCLEAR))
    return found


@pytest.mark.parametrize("freed", [0.0, 0.5])
def test_a_leak_of_all_workers_is_found_where_none_alone_tells(freed: float) -> None:
    """Eight workers with four samples each tell what thirty-two of one process tell."""
    found = verdicts(even_leak, 4 * MEAN, 3000.0, freed, seed=1)
    assert found.count(LeakVerdict.GROWING) >= 0.8 * RUNS, found
    alone = verdicts(even_leak, 4 * MEAN, 3000.0, freed, seed=1, workers=1)
    assert alone.count(LeakVerdict.GROWING) <= 0.4 * RUNS, alone


@pytest.mark.parametrize("size", [0.5, 2, 5, 12])
@pytest.mark.parametrize("kind", [start_up, cache])
def test_start_up_and_caches_of_workers_do_not_grow(kind: object, size: float) -> None:
    """What each worker allocates once, or turns over, is no leak of all of them together."""
    found = verdicts(kind, size * MEAN, 3000.0, seed=round(size))
    assert found.count(LeakVerdict.GROWING) <= WRONG * RUNS, found


def test_a_leak_of_several_processes_is_one_finding() -> None:
    """The leak of eight workers is one row that names them, with the sum of their bytes."""
    rng = np.random.default_rng(3)
    found = recording(rng, *([even_leak(rng, 3 * MEAN, 3000.0, 0.5)] for _ in range(WORKERS)))
    (leak,) = find_leaks(found).leaks
    assert leak.processes == tuple(range(WORKERS))
    assert leak.evidence.endswith("in 8 processes together")
    live = sum(float(each.rows["live_bytes"].sum()) for each in found.totals.values())
    assert leak.live_bytes == round(live)
