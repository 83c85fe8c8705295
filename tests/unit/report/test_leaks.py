"""Leak analysis: leaks are distinguished from caches and set-up by their growth."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jsonschema
import numpy as np
import pytest
from rich.console import Console

import reports
import synthetic_recording
from json_schemas import schema
from mematlas.cli import main
from mematlas.recording import Writer, read
from mematlas.recording.model import AGE_MATRIX_DTYPE, ALIVE, AgeMatrix, Frame, Sampling
from mematlas.report import leaks as words
from mematlas.report import markdown
from mematlas.report.analyse.committed_heap import growing_heap
from mematlas.report.analyse.leak_table import LeakTable
from mematlas.report.analyse.leaks import exceeds, find_leaks
from mematlas.report.analyse.trend import find_trend, sample_times
from mematlas.report.model.leaks import LIKELY, HeapAtExit, LeakVerdict, VerdictSum
from mematlas.report.text.leaks import render_leaks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mematlas.recording.model import RecordingData

SNAPSHOTS = 20
RUN_S = 60.0
BLOCK = 1000.0

# Live blocks of each stack at a fraction of the run, and the fraction of its blocks ever freed.
SHAPES: dict[str, tuple[Callable[[float], float], float]] = {
    "leak": (lambda at: 1000 * at, 0.0),
    "leaky cache": (lambda at: 800 * at, 0.5),
    "late leak": (lambda at: 900 * max(0.0, at - 0.5), 0.0),
    "bounded cache": (lambda at: 5000 * min(1.0, 3 * at), 0.7),
    "setup": (lambda at: 4000 if at > 0 else 0, 0.0),
    "buffer": (lambda at: 2000 + 500 * np.sin(40 * at), 0.99),
    "import": (lambda at: 600 if at > 0 else 0, 0.0),
    "once": (lambda at: 1 if at > 0 else 0, 0.0),
    "gone": (lambda at: 100 * (1 - at), 0.5),
}
NAMES = list(SHAPES)


def record(path: Path, snapshots: int, noise: float = 0.0) -> RecordingData:
    """Write a recording in which each stack grows by its shape."""
    rng = np.random.default_rng(7)
    writer = Writer(
        path, command=["service"], started="now", machine={}, sampling=Sampling("sampled", 1, 1.0)
    )
    writer.process(replace(synthetic_recording.PARENT, end_s=RUN_S))
    writer.nodes(
        0, synthetic_recording.nodes([0] * (len(SHAPES) + 1), list(range(len(SHAPES) + 1)))
    )
    writer.frames(0, {n + 1: (frame(name),) for n, name in enumerate(NAMES)})

    def held(at: float) -> list[float]:
        return [BLOCK * max(0.0, shape(at) + noise * rng.normal()) for shape, _ in SHAPES.values()]

    for number in range(1, snapshots + 1):
        at = number / (snapshots + 1)
        rows = [
            (stack + 1, 1, size, size / BLOCK, (noise * BLOCK) ** 2, 0, 0, 0)
            for stack, size in enumerate(held(at))
        ]
        writer.snapshot(
            0,
            time_s=at * RUN_S,
            trigger="interval",
            rss_bytes=1,
            parts=[],
            unexplained_bytes=1,
            rows=synthetic_recording.snapshot_rows(*rows),
        )
    last = [
        {
            "stack": stack + 1,
            "kind": 1,
            "live_bytes": size,
            "live_count": size / BLOCK,
            "allocations": size / BLOCK / (1 - freed),
            "allocated_bytes": size / (1 - freed),
            "live_variance": (noise * BLOCK) ** 2,
        }
        for stack, ((_, freed), size) in enumerate(zip(SHAPES.values(), held(1.0), strict=True))
    ]
    rows_bytes = synthetic_recording.totals_rows(*last)
    writer.totals(0, time_s=RUN_S, peak_time_s=1, peak_live_bytes=1, rows=rows_bytes)
    writer.end()
    return read(path)


def frame(name: str) -> Frame:
    """Return the only frame of a stack."""
    file = "<frozen importlib._bootstrap>" if name == "import" else f"/srv/{name}.py"
    return Frame(name, file, 1, None, "python")


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


def leaks_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Run the command, validate its JSON and return the data."""
    assert main(["leaks", *arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    jsonschema.validate(answer, schema("leaks"))
    data: dict[str, Any] = answer["data"]
    return data


def test_json_keeps_to_its_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON matches its schema; --top cuts only the list."""
    path = tmp_path / "a.atlas"
    record(path, SNAPSHOTS)
    data = leaks_json(capsys, str(path), "--top", "2")
    assert [leak["verdict"] for leak in data["leaks"]] == ["growing", "growing"]
    assert data["leaks_total"] == len(SHAPES) - 1
    synthetic_recording.write(path)
    (bad,) = leaks_json(capsys, str(path))["bad_frees"]
    assert bad["count"] == 3
    assert bad["frames"]


def test_fail_over_counts_likely_leaks_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--fail-over returns 1 if likely leaks exceed the size, 0 if only caches do."""
    path = tmp_path / "a.atlas"
    record(path, SNAPSHOTS)
    assert main(["leaks", str(path), "--fail-over", "2M"]) == 1
    assert main(["leaks", str(path), "--fail-over", "3M"]) == 0
    out = capsys.readouterr().out
    assert "2.15 MiB" in out
    assert "none of 1,000 blocks freed" in " ".join(out.split())


def test_the_text_sums_up_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stacks beyond --top are summed."""
    path = tmp_path / "a.atlas"
    record(path, SNAPSHOTS)
    assert main(["leaks", str(path), "--top", "3"]) == 0
    out = capsys.readouterr().out
    assert "and in 5 more places (--top N)" in out


def test_a_cut_recording_says_what_it_means(tmp_path: Path) -> None:
    """The notes of a cut recording say that its live memory is not that of the exit."""
    path = tmp_path / "a.atlas"
    synthetic_recording.write(path, end=False)
    assert "cut short" in find_leaks(read(path)).notes[0]


def test_doubts_about_a_heap_are_told_where_nothing_is_lost(tmp_path: Path) -> None:
    """Memory that was not read may be lost, or hold what is not: no view says that nothing is lost."""
    doubt = "hoard serves malloc, and its blocks are not read"
    heap = HeapAtExit(lost=(), lost_bytes=0, lost_count=0, reachable_bytes=9, doubts=(doubt,))
    leaks = replace(find_leaks(record(tmp_path / "a.atlas", SNAPSHOTS)), heap=heap)
    console = Console(file=io.StringIO(), width=100)
    render_leaks(leaks, top=5, console=console)
    written = console.file.getvalue()  # type: ignore[attr-defined]
    for text in (written, "\n".join(markdown.render_leaks(leaks, top=5))):
        assert doubt in text
        assert "nothing that was read is lost" in text
    sure = "; ".join(
        phrase for phrase, _ in words.outline(replace(leaks, heap=replace(heap, doubts=())))
    )
    assert "nothing is lost" in sure


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


def committed(end_s: float, cell_s: float, rows: list[tuple[int, int, int]]) -> AgeMatrix:
    """Return committed memory: cell of birth, cell of death, bytes."""
    matrix = np.zeros(len(rows), AGE_MATRIX_DTYPE)
    matrix["kind"] = 6
    for name, column in zip(("born", "died", "bytes"), zip(*rows, strict=True), strict=True):
        matrix[name] = column
    return AgeMatrix(0, end_s, cell_s, matrix)


@pytest.mark.parametrize("start_s", [0.0, 1e6])
def test_committed_memory_is_compared_at_few_times(start_s: float) -> None:
    """The work does not grow with the cells since the start of a merged recording, nor does the result."""
    first, cells = round(start_s / 0.001), 100_000
    grows = [(first + 1000 * at, ALIVE, 1 << 20) for at in range(100)]
    heap = growing_heap(committed(start_s + 100, 0.001, grows), start_s + 100, start_s)
    assert heap is not None
    assert heap.bytes == 100 << 20
    assert heap.bytes_per_s == pytest.approx(1 << 20, rel=0.05)
    moves = [(born, born + 2000, size) for born, _, size in grows]
    moved = committed(start_s + 100, 0.001, moves)
    assert growing_heap(moved, start_s + 100, start_s) is None
    kept = committed(start_s + 100, 0.001, [(first, ALIVE, 9), *[(first, first + cells, 9)] * 9])
    assert growing_heap(kept, start_s + 100, start_s) is None


@pytest.mark.parametrize(
    ("start_s", "end_s", "cell_s"),
    [
        (0.0, 2.0**55, 1e-9),
        (2.0**55, 2.0**55 + 8, 1e-9),
        (-(2.0**55), 2.0**55, 1e-9),
        (9.0, 1.0, 1.0),
        (0.0, 1e-9, 2.0**55),
    ],
)
def test_a_hostile_matrix_costs_nothing(start_s: float, end_s: float, cell_s: float) -> None:
    """Times and cells that a valid file may hold neither exhaust memory nor fail."""
    rows = [(at, ALIVE if at % 2 else at, 1 << 40) for at in (0, 1, 1 << 20, ALIVE - 1, ALIVE)]
    found = growing_heap(committed(end_s, cell_s, rows), end_s, start_s)
    assert found is None or np.isfinite([found.bytes, found.bytes_per_s]).all()


@pytest.mark.parametrize(
    ("end_s", "cell_s", "time_s"),
    [(2.0**55, 1e-9, 2.0**55), (1.0, 1e-9, 2.0**55), (10.0, 0.0, 10.0), (1.0, 2.0**55, 1e-9)],
)
def test_commands_survive_hostile_cells(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    end_s: float,
    cell_s: float,
    time_s: float,
) -> None:
    """Every view of the age matrix ends in a result, or in one line."""
    path = tmp_path / "a.atlas"
    writer = Writer(
        path, command=["service"], started="now", machine={}, sampling=Sampling("sampled", 1, 1.0)
    )
    writer.process(replace(synthetic_recording.PARENT, end_s=end_s))
    writer.nodes(0, synthetic_recording.nodes([0, 0], [0, 1]))
    born = [0, 5, 1 << 31, ALIVE - 1, ALIVE]
    rows = committed(end_s, cell_s, [(each, ALIVE, 1 << 40) for each in born]).rows
    writer.age_matrix(0, time_s=time_s, cell_s=cell_s, rows=rows.tobytes())
    last: dict[str, float] = {
        "stack": 0,
        "kind": 6,
        "allocations": 5,
        "live_bytes": 5,
        "live_count": 5,
    }
    writer.totals(
        0,
        time_s=end_s,
        peak_time_s=end_s,
        peak_live_bytes=1,
        rows=synthetic_recording.totals_rows(last),
    )
    writer.end()
    for arguments in (
        ["report", str(path)],
        ["leaks", str(path)],
        ["report", str(path), "--since", "0s"],
        ["report", str(path), "--since", "0s", "--until", "1s"],
        ["report", str(path), "-o", str(tmp_path / "a.html")],
    ):
        status = main(arguments)
        written = capsys.readouterr().err
        assert status in {0, 2}
        assert len(written.splitlines()) <= 1


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


def test_what_is_unclear_is_not_called_nothing() -> None:
    """The outline says that nothing leaked only where all has a verdict."""
    few = {LeakVerdict.UNCLEAR: VerdictSum(1, 2 << 20, 1 << 20)}
    leaks = replace(reports.leaky(), sums=few, likely_bytes=0)
    text = [text for text, _ in words.outline(leaks)]
    assert text[1:] == ["2.00 MiB ± 1.00 MiB has too few samples or snapshots for a verdict"]
    text = [text for text, _ in words.outline(replace(leaks, sums={}))]
    assert text[1:] == ["nothing grew to the end or was never freed"]


def write_fork(path: Path) -> RecordingData:
    """Write a parent with two stacks of 1,000 blocks, and a child that keeps 50 more of one and none of the other."""
    writer = Writer(
        path, command=["pool"], started="now", machine={}, sampling=Sampling("exact", 0, 1.0)
    )
    for process, totals in (
        (synthetic_recording.PARENT, [(1000, 1000, 0), (1000, 1000, 0)]),
        (
            replace(synthetic_recording.CHILD, ending="exited 0"),
            [(1050, 50, 0), (1000, 100, 100)],
        ),
    ):
        writer.process(replace(process, end_s=RUN_S))
        writer.nodes(process.index, synthetic_recording.nodes([0, 0, 0], [0, 1, 2]))
        writer.frames(process.index, {1: (frame("kept"),), 2: (frame("in turn"),)})
        rows: list[dict[str, float]] = [
            {
                "stack": stack,
                "kind": 1,
                "live_bytes": live * BLOCK,
                "live_count": live,
                "allocations": made,
                "allocated_bytes": made * BLOCK,
                "freed_bytes": freed * BLOCK,
            }
            for stack, (live, made, freed) in enumerate(totals, 1)
        ]
        writer.totals(
            process.index,
            time_s=RUN_S,
            peak_time_s=1,
            peak_live_bytes=1,
            rows=synthetic_recording.totals_rows(*rows),
        )
    writer.end()
    return read(path)


def test_what_a_fork_inherited_is_its_parents(tmp_path: Path) -> None:
    """A forked process is judged by what it allocated and did not free; the sum has every block once."""
    leaks = find_leaks(write_fork(tmp_path / "a.atlas"))
    assert leaks.live_bytes == BLOCK * (1000 + 1000 + 50)
    found = {(leak.process, leak.frames[0].function): leak.live_count for leak in leaks.leaks}
    assert found == {(0, "kept"): 1000, (0, "in turn"): 1000, (1, "kept"): 50}


def test_totals_say_what_a_fork_inherited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Outstanding memory is more than the allocated one only where the text says why."""
    path = tmp_path / "a.atlas"
    write_fork(path)
    assert main(["report", str(path), "--by", "live"]) == 0
    assert "each process with what it inherited" in " ".join(capsys.readouterr().out.split())


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
