"""Exports opened with independent readers; their sums equal those of the report."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import synthetic_recording
from chromium import started_chromium
from exports import decode_pprof, export, node_modules
from mematlas.report.export import pprof
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Run

PROGRAM = """
import json, os
def parse(text): return json.loads(text)
def keep(n): return [parse('{"id": %d, "tags": ["a", "b"]}' % i) for i in range(n)]
def churn(n):
    for i in range(n): bytearray(10_000)
kept = keep(20_000)
churn(5_000)
big = bytearray(8 << 20)
"""


MEASURED = [each for each in pprof.TYPES if each[2] != "idle_bytes"]  # without --idle


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record a small Python program once."""
    path = tmp_path_factory.mktemp("exports") / "run.atlas"
    command = [sys.executable, "-m", "mematlas", "run", "--exact", "-o", str(path), "--"]
    subprocess.run(
        [*command, sys.executable, "-I", "-S", "-c", PROGRAM], check=True, capture_output=True
    )
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start Chromium; skip without."""
    flags = (
        "--use-gl=swiftshader",
        "--enable-unsafe-swiftshader",
        "--allow-file-access-from-files",
    )
    with started_chromium(*flags) as started:
        yield started


def ran(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """Run a reader and return its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pprof_by_its_definition(recording: Path) -> None:
    """Google's protobuf reads every stack, leaf first, with all values."""
    path, table = export(recording, "pprof", "p.pb.gz")
    profile = decode_pprof(path)
    text = list(profile.string_table)
    assert text[0] == ""
    types = [(text[each.type], text[each.unit]) for each in profile.sample_type]
    assert types == [(name, unit) for name, unit, _ in MEASURED]
    assert text[profile.default_sample_type] == "resident_space"
    assert text[profile.period_type.type] == "space"
    assert 10**7 < profile.duration_nanos < 10**11
    functions = {each.id: text[each.name] for each in profile.function}
    lines = {
        each.id: [(functions[line.function_id], line.line) for line in each.line]
        for each in profile.location
    }
    mappings = {each.id: each for each in profile.mapping}
    for each in profile.location:
        if each.mapping_id:
            mapping = mappings[each.mapping_id]
            assert mapping.memory_start <= each.address <= mapping.memory_limit
    assert len(profile.sample) == len(table)
    for sample, stack in zip(profile.sample, table, strict=True):
        found = [place for each in sample.location_id for place in lines[each]]
        expected = [(frame.function, frame.line or 0) for frame in stack.frames]
        names = [(name.replace(".<locals>.", "."), line) for name, line in expected]
        assert found == (names or [("unknown stack", 0)])
    for number, (_, _, column) in enumerate(MEASURED):
        sums = sum(each.value[number] for each in profile.sample)
        assert sums == int(table.columns[column].sum())


def test_go_tool_pprof(recording: Path) -> None:
    """Go's own tool ranks the lines and prints the total of any metric."""
    if not shutil.which("go"):
        pytest.skip("go is not installed: apt-get install golang-go")
    path, table = export(recording, "pprof", "go.pb.gz")
    for name, metric in (("inuse_space", "live"), ("alloc_space", "allocated")):
        total = int(table.metric(metric).sum())
        shown = ran("go", "tool", "pprof", "-top", "-unit=B", f"-sample_index={name}", path)
        assert f"Type: {name}" in shown
        assert f"of {total}B total" in shown, shown[:400]
    tags = ran("go", "tool", "pprof", "-tags", "-sample_index=inuse_space", path)
    assert "kind" in tags
    assert "pyobject" in tags


def test_pprof_format(recording: Path) -> None:
    """Datadog's JavaScript reader gives the same sums."""
    modules = node_modules()
    path, table = export(recording, "pprof", "js.pb.gz")
    script = f"""
        const {{Profile}} = require({json.dumps(str(modules / "pprof-format"))});
        const data = require("zlib").gunzipSync(require("fs").readFileSync(process.argv[1]));
        const profile = Profile.decode(data);
        const sums = profile.sampleType.map((_, at) =>
            profile.sample.reduce((sum, each) => sum + BigInt(each.value[at]), 0n));
        console.log(JSON.stringify(sums.map(String)));
    """
    sums = [int(each) for each in json.loads(ran("node", "-e", script, path))]
    assert sums == [int(table.columns[column].sum()) for _, _, column in MEASURED]


def test_speedscope_schema(recording: Path, tmp_path: Path) -> None:
    """The file matches speedscope's own JSON Schema, and each profile adds up.

    The schema takes minutes for every stack of a real run, so a small recording is validated.
    """
    jsonschema = pytest.importorskip("jsonschema")
    schemas = list((node_modules() / "speedscope" / "dist").rglob("file-format-schema.json"))
    synthetic_recording.write(tmp_path / "small.atlas")
    small, _ = export(tmp_path / "small.atlas", "speedscope", "small.json", by="live")
    jsonschema.validate(json.loads(small.read_text()), json.loads(schemas[0].read_text()))
    path, table = export(recording, "speedscope", "s.json", by="live")
    found = json.loads(path.read_text())
    assert found["profiles"][0]["name"] == "live"
    frames = found["shared"]["frames"]
    for profile in found["profiles"]:
        assert sum(profile["weights"]) == profile["endValue"]
        assert len(profile["weights"]) == len(profile["samples"])
        assert all(0 <= each < len(frames) for stack in profile["samples"] for each in stack)
    assert found["profiles"][0]["endValue"] == int(table.metric("live").sum())
    outermost = {frames[stack[0]]["name"] for stack in found["profiles"][0]["samples"]}
    assert "_start" in outermost or "main" in " ".join(outermost)


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("speedscope", "a.speedscope.json"),
        ("pprof", "a.pb.gz"),
        ("collapsed", "a.collapsed.txt"),
    ],
)
def test_speedscope_opens(recording: Path, browser: Any, to: str, name: str) -> None:
    """Speedscope in Chromium imports the file and shows it."""
    import base64

    index = next((node_modules() / "speedscope" / "dist").rglob("index.html"))
    path, _ = export(recording, to, name, by="live")
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    loader = path.with_suffix(".js")  # as speedscope's command line passes a file
    data = base64.b64encode(path.read_bytes()).decode()
    loader.write_text(f"speedscope.loadFileFromBase64({json.dumps(name)}, {json.dumps(data)})")
    page.goto(f"{index.as_uri()}#localProfilePath={loader}", wait_until="commit")
    page.wait_for_function("document.title.includes(' - speedscope')", timeout=120_000)
    assert page.locator("canvas").count() >= 1
    assert not errors
    page.close()


def test_collapsed_stacks_add_up(recording: Path) -> None:
    """Each line is frames, a blank and a number; the numbers sum to the metric."""
    path, table = export(recording, "collapsed", "c.txt", by="allocated")
    lines = path.read_text().splitlines()
    found = [re.fullmatch(r".+ (\d+)", each) for each in lines]
    assert all(found)
    assert sum(int(each[1]) for each in found if each) == int(table.metric("allocated").sum())
    assert len({each.rpartition(" ")[0] for each in lines}) == len(lines)
    assert any(";parse (<string>:3);" in each for each in lines)
    pages, _ = export(recording, "collapsed", "p.txt", by="allocated", unit="KiB")
    counts = [int(each.rpartition(" ")[2]) for each in pages.read_text().splitlines()]
    assert abs(sum(counts) * 1024 - int(table.metric("allocated").sum())) < 512 * len(lines)


def test_dhat_in_valgrinds_viewer(recording: Path, browser: Any) -> None:
    """Valgrind's dh_view.html draws the tree and shows the totals."""
    from pathlib import Path

    viewer = Path("/usr/libexec/valgrind/dh_view.html")
    if not viewer.exists():
        pytest.skip("valgrind's dh_view.html is not installed: apt-get install valgrind")
    path, table = export(recording, "dhat", "d.json")
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(viewer.as_uri())
    page.set_input_files("input[type=file]", path)
    total = f"{int(table.columns['allocated_bytes'].sum()):,}"
    page.wait_for_function(
        "total => document.body.innerText.includes(total)", arg=total, timeout=120_000
    )
    text = page.inner_text("body")
    assert f"{int(table.columns['peak_bytes'].sum()):,} bytes" in text
    assert "At t-gmax" in text
    assert not errors
    page.close()


@pytest.mark.parametrize(("to", "name"), [("dhat", "f.dhat.json"), ("chrome", "f.trace.json")])
def test_the_firefox_profiler_imports(recording: Path, to: str, name: str) -> None:
    """Mozilla's own command line for the Firefox Profiler loads the file."""
    cli = node_modules() / "@firefox-devtools" / "profiler-cli" / "dist" / "profiler-cli.js"
    path, _ = export(recording, to, name)
    shown = firefox(cli, path)
    assert ("Total Bytes" if to == "dhat" else "run.atlas") in shown or "python" in shown, shown


def firefox(cli: Path, path: Path) -> str:
    """Load a file into a session of its own and return its overview.

    The daemon is started here: `profiler-cli load` gives the daemon half a second to start.
    """
    with tempfile.TemporaryDirectory() as folder:  # a socket's path may have 107 bytes
        environment = os.environ | {"PROFILER_CLI_SESSION_DIR": folder}
        session = ("--session", "mematlas")
        with subprocess.Popen(
            ["node", cli, "--daemon", path, *session],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as daemon:
            try:
                wait_until(lambda: list(Path(folder).glob("*.json")), "the daemon's socket")
                return ran("node", cli, "profile", "info", *session, environment=environment)
            finally:
                daemon.kill()


def test_chrome_counters_are_the_timeline(recording: Path) -> None:
    """Every sample is a counter, in order of time; parts sum to RSS."""
    path, _ = export(recording, "chrome", "t.json")
    events = json.loads(path.read_text())["traceEvents"]
    rss = [each for each in events if each["name"] == "RSS (bytes)"]
    assert len(rss) >= 2
    assert [each["ts"] for each in rss] == sorted(each["ts"] for each in rss)
    assert all(each["ph"] in {"M", "C", "i"} for each in events)
    parts = [each for each in events if each["name"] == "resident by part (bytes)"]
    assert parts
    highest = max(each["args"]["bytes"] for each in rss)
    assert any(abs(sum(each["args"].values()) - highest) < 0.2 * highest for each in parts)


def test_duckdb_and_arrow_read_parquet(recording: Path) -> None:
    """DuckDB sums the columns as the report does; pyarrow reads types and metadata."""
    duckdb = pytest.importorskip("duckdb")
    parquet = pytest.importorskip("pyarrow.parquet")
    path, table = export(recording, "parquet", "t.parquet")
    query = "select sum(live_bytes), sum(allocations), count(*), max(len(frames)) from "
    live, allocations, count, depth = duckdb.sql(f"{query}'{path}'").fetchall()[0]
    assert (live, count) == (int(table.metric("live").sum()), len(table))
    assert allocations == int(table.columns["allocations"].sum())
    assert depth > 5
    schema = parquet.read_schema(path)
    assert str(schema.field("frames").type).startswith("list")
    assert schema.metadata[b"mematlas.table"] == b"mematlas/export-stacks/1"
    lines, _ = export(recording, "parquet", "l.parquet", rows="timeline")
    assert duckdb.sql(f"select max(rss_bytes) from '{lines}'").fetchall()[0][0] > 1 << 20


@pytest.mark.parametrize("rows", ["stacks", "lines", "timeline"])
def test_csv_reads_back(recording: Path, rows: str) -> None:
    """Python's csv module reads each table with equal numbers of cells."""
    path, table = export(recording, "csv", f"{rows}.csv", rows=rows)
    csv.field_size_limit(1 << 24)
    with path.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file, strict=True))
    assert all(None not in row and None not in row.values() for row in found)
    if rows == "timeline":
        assert max(int(row["rss_bytes"]) for row in found) > 1 << 20
        return
    assert sum(int(row["live_bytes"]) for row in found) == int(table.metric("live").sum())
    assert any(row["function"] == "parse" and row["line"] == "3" for row in found)


def test_a_run_of_several_processes(traced: Run, tmp_path: Path) -> None:
    """Stacks of several processes stay apart: each has its process as a root."""
    code = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-I', '-S', '-c', 'x = bytearray(1 << 22)'])"
    )
    traced(sys.executable, "-I", "-S", "-c", code, options=("--exact",))
    path, table = export(tmp_path / "run.atlas", "collapsed", "c.txt", by="allocated")
    roots = {line.split(";")[0] for line in path.read_text().splitlines()}
    assert len(roots) == len(table.processes()) == 2
