"""Leak analysis: leaks are distinguished from caches and set-up by their growth."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import synthetic_recording
from leak_recordings import BLOCK, RUN_S, SNAPSHOTS, record, write_fork
from mematlas.recording import Writer, read
from mematlas.recording.model import Frame, Sampling
from mematlas.report import leaks as words
from mematlas.report.analyse.leak_table import LeakTable
from mematlas.report.analyse.leaks import exceeds, find_leaks
from mematlas.report.analyse.trend import find_trend, sample_times
from mematlas.report.model.leaks import LIKELY, LeakVerdict, VerdictSum

if TYPE_CHECKING:
    from pathlib import Path

    from mematlas.recording.model import RecordingData


def verdicts(recording: RecordingData) -> dict[str, LeakVerdict]:
    """Return the verdict of each stack, in listed order."""
    return {leak.frames[0].function: leak.verdict for leak in find_leaks(recording).leaks}


@pytest.mark.parametrize("noise", [0.0, 8.0])
def test_leaks_are_told_from_caches(tmp_path: Path, noise: float) -> None:
    """Stacks that grow to the end come first; caches, buffers and set-up are classified as such."""
    found = verdicts(record(tmp_path / "a.atlas", SNAPSHOTS, noise))
    assert list(found)[:3] == ["leak", "leaky cache", "late leak"]
    assert {found[name] for name in ("leak", "leaky cache", "late leak")} == {LeakVerdict.GROWING}
    assert found["bounded cache"] == LeakVerdict.STEADY
    assert found["buffer"] == LeakVerdict.STEADY
    assert found["setup"] == LeakVerdict.SETUP
    assert found["import"] == LeakVerdict.SETUP
    if not noise:
        assert found["once"] == LeakVerdict.SETUP
        assert "gone" not in found


@pytest.mark.parametrize("snapshots", [2, 3, 5])
def test_a_few_looks_suffice_for_what_grows_steadily(tmp_path: Path, snapshots: int) -> None:
    """Start, end and two snapshots suffice to distinguish a leak from a bounded cache."""
    found = verdicts(record(tmp_path / "a.atlas", snapshots))
    assert found["leak"] == LeakVerdict.GROWING
    assert found["bounded cache"] != LeakVerdict.GROWING
    assert found["setup"] == LeakVerdict.SETUP


def test_without_looks_only_freeing_tells(tmp_path: Path) -> None:
    """Many blocks with none freed are likely leaks; the evidence names what is unknown."""
    leaks = find_leaks(record(tmp_path / "a.atlas", 0)).leaks
    found = {leak.frames[0].function: leak for leak in leaks}
    assert found["leak"].verdict == LeakVerdict.UNFREED
    assert found["leak"].evidence == "none of 1,000 blocks freed; too few snapshots to tell growth"
    assert found["leak"].bytes_per_s is None
    assert found["leaky cache"].verdict == LeakVerdict.UNCLEAR
    assert found["once"].evidence == "allocated once, not freed"
    assert found["import"].verdict == LeakVerdict.SETUP


def test_the_evidence_is_in_words(tmp_path: Path) -> None:
    """The evidence of a growing stack has its growth rate and the fraction freed."""
    leak = find_leaks(record(tmp_path / "a.atlas", SNAPSHOTS)).leaks[0]
    assert leak.evidence == (
        "grew to the end by 16.3 KiB/s, now 977 KiB; none of 1,000 blocks freed"
    )
    assert leak.bytes_per_s == pytest.approx(1000 * BLOCK / RUN_S, rel=0.01)


def test_sums_are_those_of_the_rows(tmp_path: Path) -> None:
    """No live byte is lost or counted twice."""
    recording = record(tmp_path / "a.atlas", SNAPSHOTS)
    leaks = find_leaks(recording)
    assert leaks.live_bytes == pytest.approx(recording.totals[0].rows["live_bytes"].sum(), abs=9)
    assert leaks.likely_bytes == pytest.approx(BLOCK * (1000 + 800 + 450), abs=9)


def test_noise_alone_is_no_growth() -> None:
    """Rows of sampling noise almost never count as growing."""
    rng = np.random.default_rng(1)
    times = np.linspace(0, 60, 20)
    values = 1000 + 30 * rng.normal(size=(2000, 20))
    values[:, 0] = 0
    variances = np.full_like(values, 900.0)
    assert find_trend(times, values, variances).growing.mean() < 0.01


def test_moments_are_apart_and_few() -> None:
    """Of many snapshots some are compared, at distinct times."""
    times = np.sort(np.random.default_rng(1).uniform(0, 100, 10_000)).tolist()
    chosen = [times[index] for index in sample_times(times, 0, 100)]
    assert 30 < len(chosen) <= 48
    assert min(np.diff([0, *chosen, 100])) >= 100 / 48
    assert sample_times([], 0, 1) == []
    assert sample_times([0.0, 0.5, 0.5, 1.0], 0, 1) == [1]


def test_a_program_is_judged_at_its_exit(tmp_path: Path) -> None:
    """CPython frees globals after the exit snapshot: leaks are found in that snapshot."""
    recording = record(tmp_path / "a.atlas", SNAPSHOTS)
    last = replace(recording.snapshots[-1], trigger="exit")
    recording.snapshots[-1] = last
    rows = recording.totals[0].rows.copy()
    rows["live_bytes"] = rows["live_count"] = 0
    recording.totals[0] = replace(recording.totals[0], rows=rows)
    leaks = find_leaks(recording)
    assert leaks.leaks[0].frames[0].function == "leak"
    assert leaks.leaks[0].verdict == LeakVerdict.GROWING
    live = sum(leak.live_bytes for leak in leaks.leaks)
    assert live == pytest.approx(last.rows["live_bytes"].sum(), abs=9)


def test_leaks_are_a_sequence_however_they_are_cut(tmp_path: Path) -> None:
    """Sums by verdict and slices equal those of a list of leaks."""
    found = find_leaks(record(tmp_path / "a.atlas", SNAPSHOTS)).leaks
    assert isinstance(found, LeakTable)
    every = list(found)
    assert len(found) == len(every) > 5
    assert [found[at] for at in range(len(found))] == every
    assert list(found[2:5]) == every[2:5]
    assert found[-1] == every[-1]
    for some in (slice(None), slice(3, None)):
        for verdict, (leaks, size, _) in found[some].add_up().items():
            mine = [each.live_bytes for each in every[some] if each.verdict == verdict]
            assert (leaks, size) == (len(mine), sum(mine))
    assert every == sorted(every, key=lambda leak: (leak.verdict not in LIKELY, -leak.live_bytes))


def test_one_sample_is_no_verdict(tmp_path: Path) -> None:
    """What is within two standard errors of nothing is unclear, and counts for no limit."""
    noisy = record(tmp_path / "a.atlas", SNAPSHOTS, noise=500.0)
    leaks = find_leaks(noisy)
    assert leaks.sum_of(LeakVerdict.UNCLEAR).leaks > 0
    for leak in leaks.leaks:
        within = leak.live_bytes <= 2 * leak.error_bytes
        assert (leak.verdict == LeakVerdict.UNCLEAR) == within, leak


def test_a_limit_below_the_sampling_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sampled recording cannot pass a limit that it could not see exceeded."""
    path = tmp_path / "a.atlas"
    recording = record(path, SNAPSHOTS)
    recording.sampling = Sampling("sampled", 512 << 10, 1.0)
    leaks = find_leaks(recording)
    assert leaks.resolution_bytes == pytest.approx(3 * (512 << 10), rel=0.01)
    assert [exceeds(leaks, limit << 20) for limit in (1, 2, 3, 5)] == [True, True, None, False]
    small = replace(leaks, likely_bytes=0, likely_error_bytes=0)
    assert exceeds(small, 1 << 20) is None
    assert "--sample-bytes 64K or --exact" in words.cannot_tell(small, 1 << 20)
    assert "record with --exact" in words.cannot_tell(small, 100)
    uncertain = replace(leaks, likely_bytes=3 << 20, likely_error_bytes=1 << 20)
    assert [exceeds(uncertain, limit << 20) for limit in (1, 2, 7)] == [None, None, False]
    few = {LeakVerdict.UNCLEAR: VerdictSum(1, 2 << 20, 1 << 20)}
    unclear = replace(small, sums=few)
    assert [exceeds(unclear, limit << 20) for limit in (2, 3, 6)] == [None, None, False]


def test_what_a_fork_inherited_is_its_parents(tmp_path: Path) -> None:
    """A forked process is judged by what it allocated and did not free; the sum has every block once."""
    leaks = find_leaks(write_fork(tmp_path / "a.atlas"))
    assert leaks.live_bytes == BLOCK * (1000 + 1000 + 50)
    found = {(leak.process, leak.frames[0].function): leak.live_count for leak in leaks.leaks}
    assert found == {(0, "kept"): 1000, (0, "in turn"): 1000, (1, "kept"): 50}


def test_memory_in_turn_is_no_growth() -> None:
    """Samples of memory that is freed and allocated again are independent, and the start is no evidence."""
    rng = np.random.default_rng(3)
    times = np.linspace(0, 60, 6)
    values = np.maximum(20 + 3 * rng.normal(size=(20_000, 6)), 0)
    values[:, 0] = 0
    variances = np.full_like(values, 9.0)
    variances[:, 0] = 0
    assert find_trend(times, values, variances, np.zeros(len(values))).growing.mean() < 0.01
    steps = np.linspace(0, 100, 6) + np.zeros((1, 6))
    assert find_trend(times, steps, np.zeros_like(steps), np.zeros(1)).growing.all()


def test_a_leak_is_listed_once_whatever_its_owner_calls(tmp_path: Path) -> None:
    """Rows of one owner and callers are one leak; other callers are another."""
    path = tmp_path / "a.atlas"
    writer = Writer(
        path, command=["a"], started="now", machine={}, sampling=Sampling("exact", 0, 1.0)
    )
    writer.process(replace(synthetic_recording.PARENT, end_s=RUN_S))
    # main calls one and two, which both call keep; keep calls list and string
    names = ["main", "one", "two", "keep", "list", "string"]
    parents, words_ = [0, 0, 1, 1, 2, 3, 4, 4, 5], [0, 1, 2, 3, 4, 4, 5, 6, 5]
    writer.nodes(0, synthetic_recording.nodes(parents, words_))
    writer.frames(
        0,
        {
            number + 1: (
                Frame(name, f"/srv/{name}.c", 1, "/srv/app", "native")
                if number < 4
                else Frame(name, None, None, "/usr/lib/libc.so.6", "native"),
            )
            for number, name in enumerate(names)
        },
    )
    rows: list[dict[str, float]] = [
        {"stack": stack, "kind": 1, "live_bytes": size, "live_count": 100, "allocations": 100}
        for stack, size in ((6, 5000), (7, 3000), (8, 1000))
    ]
    writer.totals(
        0,
        time_s=RUN_S,
        peak_time_s=1,
        peak_live_bytes=1,
        rows=synthetic_recording.totals_rows(*rows),
    )
    writer.end()
    found = [(leak.live_bytes, leak.stacks) for leak in find_leaks(read(path)).leaks]
    assert found == [(8000, 2), (1000, 1)]
