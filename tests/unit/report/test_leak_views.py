"""What text, JSON and exit codes tell of leaks."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jsonschema
from rich.console import Console

import reports
import synthetic_recording
from json_schemas import schema
from leak_recordings import SHAPES, SNAPSHOTS, record, write_fork
from mematlas.cli import main
from mematlas.recording import read
from mematlas.report import leaks as words
from mematlas.report import markdown
from mematlas.report.analyse.leaks import find_leaks
from mematlas.report.model.leaks import HeapAtExit, LeakVerdict, VerdictSum
from mematlas.report.text.leaks import render_leaks

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


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


def test_what_is_unclear_is_not_called_nothing() -> None:
    """The outline says that nothing leaked only where all has a verdict."""
    few = {LeakVerdict.UNCLEAR: VerdictSum(1, 2 << 20, 1 << 20)}
    leaks = replace(reports.leaky(), sums=few, likely_bytes=0)
    text = [text for text, _ in words.outline(leaks)]
    assert text[1:] == ["2.00 MiB ± 1.00 MiB has too few samples or snapshots for a verdict"]
    text = [text for text, _ in words.outline(replace(leaks, sums={}))]
    assert text[1:] == ["nothing grew to the end or was never freed"]


def test_growth_is_called_a_leak_or_data_and_not_in_a_short_run() -> None:
    """What grew to the end is not called leaked; a run too short for a rate of growth says nothing of it."""
    leaks = reports.leaky()
    assert words.told_bytes(leaks) >= leaks.sum_of(LeakVerdict.GROWING).live_bytes > 0
    assert " grew to the end (a leak, or data being built): " in words.sentence(leaks, 0, "")
    short = replace(leaks, leaks=[replace(each, bytes_per_s=None) for each in leaks.leaks])
    assert words.sentence(replace(short, growth=()), 0, "") == ""
    assert words.told_bytes(short) == short.grown_bytes


def test_totals_say_what_a_fork_inherited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Outstanding memory is more than the allocated one only where the text says why."""
    path = tmp_path / "a.atlas"
    write_fork(path)
    assert main(["report", str(path), "--by", "live"]) == 0
    assert "each process with what it inherited" in " ".join(capsys.readouterr().out.split())
