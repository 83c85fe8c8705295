"""Exports of several recordings, with the labels and origin of each; all figures are those of `report --json`."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from commands import run_mematlas, run_python
from exports import decode_pprof
from mematlas import open as open_recording
from mematlas.api.views import export_source
from mematlas.report.export import render_export
from perfetto_trace import HeapProfiles, decode

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import sys, time
def load(count): return [bytes(100_000) for _ in range(count)]
kept = load(int(sys.argv[1]))
freed = load(50)
del freed
time.sleep(0.05)
"""
RUNS = {"one": ("100", ("team=core", "v=1=2;x")), "two": ("40", ("team=web",))}
METRICS = ("live", "resident", "allocated")


def mematlas(folder: Path, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    done = run_mematlas(folder, *words)
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two recordings."""
    folder = tmp_path_factory.mktemp("several")
    (folder / "load.py").write_text(PROGRAM)
    for name, (count, labels) in RUNS.items():
        words = [word for each in labels for word in ("--label", each)]
        program = (sys.executable, "-I", "-S", "load.py", count)
        mematlas(folder, "run", *words, "-o", f"{name}.atlas", "--", *program)
    return folder


@pytest.fixture(scope="module")
def reports(folder: Path) -> dict[str, Any]:
    """Return what `report --json` prints of each."""
    return {
        name: json.loads(mematlas(folder, "report", f"{name}.atlas", "--json").stdout)["data"]
        for name in RUNS
    }


def total(report: Any, metric: str) -> int:
    """Return the sum of a metric."""
    name = f"{metric}_bytes"
    return int(sum(each[name] for each in report["stacks"]) + int(report["rest"][name]))


def exported(folder: Path, to: str, name: str, *more: str) -> Path:
    """Export both recordings and return the file."""
    mematlas(folder, "export", "one.atlas", "two.atlas", "--to", to, "-o", name, *more)
    return folder / name


def test_the_report_names_its_run(reports: dict[str, Any]) -> None:
    """Each recording has a run with an ID of its own, the host, and the labels as they were given."""
    runs = [each["runs"] for each in reports.values()]
    assert all(len(each) == 1 for each in runs)
    (one,), (two,) = runs
    assert one["labels"] == {"team": "core", "v": "1=2;x"}
    assert two["labels"] == {"team": "web"}
    assert re.fullmatch(r"[0-9a-f]{16}", one["id"])
    assert one["id"] != two["id"]
    assert one["host"] == two["host"] == __import__("platform").node()


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_carry_their_run(folder: Path, reports: dict[str, Any], form: str) -> None:
    """DuckDB sums by run to what each report says, and finds host, version, build ID and labels."""
    duckdb = pytest.importorskip("duckdb")
    if form == "parquet":
        pytest.importorskip("pyarrow")
    path = exported(folder, form, f"rows.{form}", "--label", "site=berlin")
    team = "labels['team']" if form == "parquet" else "labels->>'team'"
    site = "labels['site']" if form == "parquet" else "labels->>'site'"
    table = f"read_csv('{path}', max_line_size=10000000)" if form == "csv" else f"'{path}'"
    found = duckdb.sql(
        f"select run, {team}, {site}, min(host), min(version), min(build_id), "
        f"sum(live_bytes), sum(resident_bytes), sum(allocated_bytes) from {table} group by all"
    ).fetchall()
    assert len(found) == 2
    for name, report in reports.items():
        run = report["runs"][0]
        (row,) = (each for each in found if each[0] == run["id"])
        assert row[1:5] == (
            RUNS[name][1][0].removeprefix("team="),
            "berlin",
            run["host"],
            run["version"],
        )
        assert re.fullmatch(r"[0-9a-f]{16,}", row[5])
        assert row[6:] == tuple(total(report, each) for each in METRICS)


@pytest.mark.parametrize("rows", ["lines", "timeline"])
def test_other_tables_carry_their_run(folder: Path, reports: dict[str, Any], rows: str) -> None:
    """Lines and samples over time of both recordings stand in one table."""
    path = exported(folder, "csv", f"{rows}.csv", "--table", rows)
    with path.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file, strict=True))
    assert {each["run"] for each in found} == {each["runs"][0]["id"] for each in reports.values()}
    if rows == "lines":
        for report in reports.values():
            mine = [each for each in found if each["run"] == report["runs"][0]["id"]]
            assert sum(int(each["live_bytes"]) for each in mine) == total(report, "live")


def test_pprof_sums_by_recording(folder: Path, reports: dict[str, Any]) -> None:
    """Go's tool tells the recordings apart by labels; each sums to its report."""
    path = exported(folder, "pprof", "both.pb.gz")
    profile = decode_pprof(path)
    text = list(profile.string_table)
    column = [text[each.type] for each in profile.sample_type].index("inuse_space")
    sums: dict[str, int] = {}
    for sample in profile.sample:
        labels = {text[each.key]: text[each.str] for each in sample.label}
        sums[labels["recording"]] = sums.get(labels["recording"], 0) + sample.value[column]
        run = reports[labels["recording"]]["runs"][0]
        assert {**labels, **run["labels"]} == labels
        assert (labels["host"], labels["run"]) == (run["host"], run["id"])
    assert sums == {name: total(report, "live") for name, report in reports.items()}
    assert not profile.drop_frames
    if shutil.which("go"):
        command = ["go", "tool", "pprof", "-top", "-unit=B", "-sample_index=inuse_space"]
        command += ["-tagfocus=team=web", str(path)]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        web = total(reports["two"], "live")
        assert re.search(rf"accounting for {web}B, .* of {sum(sums.values())}B total", shown.stdout)


def test_pprof_hides_allocation_functions_of_all_frames(folder: Path) -> None:
    """With all frames, pprof is told which functions hide what they call: it drops a match and its callees."""
    path = exported(folder, "pprof", "all.pb.gz", "--frames", "all")
    profile = decode_pprof(path)
    pattern = re.compile(profile.string_table[profile.drop_frames])
    for name in (
        "malloc",
        "operator new(unsigned long)",
        "_PyObject_Malloc",
        "PyType_GenericAlloc",
    ):
        assert pattern.fullmatch(name)
    for name in (
        "load",
        "main",
        "malloc_report",
        "std::thread::run",
        "PyObject_Call",
        "mmap_index",
    ):
        assert not pattern.fullmatch(name)
    path.write_bytes(gzip.compress(profile.SerializeToString()))  # a reader may write it again


def test_speedscope_and_collapsed_have_a_root_per_recording(
    folder: Path, reports: dict[str, Any]
) -> None:
    """The outermost frame is the recording; below it the figures are those of its report."""
    found = json.loads(exported(folder, "speedscope", "s.json", "--by", "live").read_text())
    names = [each["name"] for each in found["shared"]["frames"]]
    live = found["profiles"][0]
    sums = dict.fromkeys(RUNS, 0)
    for stack, weight in zip(live["samples"], live["weights"], strict=True):
        sums[names[stack[0]]] += weight
    expected = {name: total(report, "live") for name, report in reports.items()}
    assert sums == expected
    assert live["endValue"] == sum(expected.values())
    lines = exported(folder, "collapsed", "c.txt", "--by", "live").read_text().splitlines()
    for name in RUNS:
        numbers = [int(each.rpartition(" ")[2]) for each in lines if each.startswith(f"{name};")]
        assert sum(numbers) == expected[name]
    assert len({each.rpartition(" ")[0] for each in lines}) == len(lines)


def test_dhat_sums_both(folder: Path, reports: dict[str, Any]) -> None:
    """No list of frames is twice; allocated bytes are those of both reports."""
    found = json.loads(exported(folder, "dhat", "d.json").read_text())
    stacks = [tuple(each["fs"]) for each in found["pps"]]
    assert len(set(stacks)) == len(stacks)
    allocated = sum(total(each, "allocated") for each in reports.values())
    assert sum(each["tb"] for each in found["pps"]) == allocated


def test_perfetto_heap_profiles(folder: Path, reports: dict[str, Any]) -> None:
    """Unreleased and total bytes of each heap are those of the reports; RSS is that of the kernel in KiB."""
    trace = decode(exported(folder, "perfetto", "p.pftrace"))
    profiles = HeapProfiles(trace)
    both = list(reports.values())
    assert profiles.unreleased["live"] == sum(total(each, "live") for each in both)
    assert profiles.total["live"] == sum(total(each, "allocated") for each in both)
    assert profiles.unreleased["resident"] == sum(total(each, "resident") for each in both)
    blocks = sum(stack["live_count"] for each in both for stack in each["stacks"])
    assert profiles.blocks["live"] == blocks
    largest = max(profiles.stacks["live"], key=lambda each: profiles.stacks["live"][each])
    assert largest[0] == "one"
    assert largest[-2:] == ("load (load.py:3)", "load.<listcomp> (load.py:3)") or (
        largest[-1] == "load (load.py:3)"  # Python 3.12 and later inline comprehensions
    )
    assert str(folder / "load.py") in profiles.files
    names = {
        process.cmdline[0] for packet in trace.packet for process in packet.process_tree.processes
    }
    assert {each.partition(":")[0] for each in names} == set(RUNS)
    rss = [p.vm_rss_kb for packet in trace.packet for p in packet.process_stats.processes]
    assert max(rss) << 10 == max(
        rss for each in both for line in each["timeline"] for rss in line["rss_bytes"]
    )
    clocks = {each.clock_id for each in trace.packet[0].clock_snapshot.clocks}
    assert clocks >= {4, 6}  # heap profiles are by the coarse clock, other packets by that of boot


def test_perfetto_tells_builds_apart(folder: Path) -> None:
    """A library that two recordings have in two builds is two mappings, each with its build ID; a malformed one has none."""
    recordings = [open_recording(folder / f"{name}.atlas") for name in RUNS]
    for recording, build_id in zip(recordings, ("11" * 20, "no number"), strict=True):
        modules = recording._data.modules
        for process, found in list(modules.items()):
            modules[process] = [replace(each, build_id=build_id) for each in found]
    sources = [export_source(each, "perfetto", frames="all") for each in recordings]
    path = folder / "builds.pftrace"
    path.write_bytes(b"".join(render_export(sources, "perfetto")))
    profiles = HeapProfiles(decode(path))
    paths = {number: each.str for number, each in profiles._known["mapping_paths"].items()}
    with_id = {
        tuple(paths[number] for number in each.path_string_ids): bool(each.build_id)
        for each in profiles._known["mappings"].values()
        if each.build_id
    }
    without = {
        tuple(paths[number] for number in each.path_string_ids)
        for each in profiles._known["mappings"].values()
        if not each.build_id
    }
    assert with_id
    assert with_id.keys() & without
    ids = {each.str for each in profiles._known["build_ids"].values()}
    assert ids == {bytes.fromhex("11" * 20)}


def test_chrome_keeps_processes_apart(folder: Path) -> None:
    """Processes of two recordings have two numbers, also where their PIDs are equal."""
    shutil.copy(folder / "one.atlas", folder / "copy.atlas")
    words = ("export", "one.atlas", "copy.atlas", "--to", "chrome", "-o", "t.json")
    mematlas(folder, *words)
    events = json.loads((folder / "t.json").read_text())["traceEvents"]
    names = {each["args"]["name"]: each["pid"] for each in events if each["ph"] == "M"}
    assert {each.partition(":")[0] for each in names} == {"one", "copy"}
    assert len(set(names.values())) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("one.atlas", "two.atlas", "--to", "csv"), "name the file for 2 recordings with -o FILE"),
        (("one.atlas", "one.atlas", "--to", "csv", "-o", "x.csv"), "one.atlas is named twice"),
        (("one.atlas", "--to", "csv", "-o", "one.atlas"), "one.atlas is one of the recordings"),
        (("one.atlas", "--to", "csv", "--label", "team"), "'team' is no label; write NAME=VALUE"),
        (("one.atlas", "--to", "csv", "--label", "a b=c"), "'a b' is no name of a label"),
        (
            ("one.atlas", "two.atlas", "--to", "csv", "-o", "x.csv", "--by", "idle"),
            "idle is unknown",
        ),
    ],
)
def test_refusals(folder: Path, words: tuple[str, ...], message: str) -> None:
    """What cannot be exported is refused in one line; nothing is written."""
    done = mematlas(folder, "export", *words, status=2)
    assert message in done.stderr
    assert not (folder / "x.csv").exists()


def test_merged_recordings_keep_their_runs(folder: Path) -> None:
    """After `merge`, rows tell which run they are of."""
    duckdb = pytest.importorskip("duckdb")
    mematlas(folder, "merge", "one.atlas", "two.atlas", "-o", "merged.atlas")
    mematlas(folder, "export", "merged.atlas", "--to", "csv", "-o", "merged.csv")
    table = f"read_csv('{folder / 'merged.csv'}', max_line_size=10000000)"
    teams = duckdb.sql(f"select distinct labels->>'team' from {table} order by 1").fetchall()
    assert teams == [("core",), ("web",)]


def test_labels_of_a_trace(folder: Path) -> None:
    """mematlas.trace() takes labels, and refuses a name that is none."""
    code = (
        "import mematlas\n"
        "with mematlas.trace('t.atlas', labels={'team': 'api', 'n': 3}) as traced: x = bytes(1 << 20)\n"
        "try: mematlas.trace(labels={'a b': 'c'})\n"
        "except mematlas.UsageError as error: print(error)\n"
    )
    done = run_python(folder, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "'a b' is no name of a label" in done.stdout
    report = json.loads(mematlas(folder, "report", "t.atlas", "--json").stdout)["data"]
    assert report["runs"][0]["labels"] == {"n": "3", "team": "api"}
