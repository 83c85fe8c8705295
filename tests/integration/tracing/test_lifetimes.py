"""Lifetimes of blocks, and windows of a run, against a program that knows its own times."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from json_schemas import schema
from mematlas.recording import read
from mematlas.report.analyse.spans import make_spans
from mematlas.report.analyse.window import make_window
from traced_runs import PROGRAMS, Traced, ask, named, run_text

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Build, Run

LIFETIMES = (
    *("lived_100us", "lived_1ms", "lived_10ms", "lived_100ms", "lived_1s", "lived_10s"),
    "lived_longer",
)


def of(window: dict[str, Any], function: str, figure: str = "bytes") -> int:
    """Sum a figure over the stacks that contain a function."""
    return sum(
        stack[figure]
        for stack in window["stacks"]
        if any(named(frame, function) for frame in stack["frames"])
    )


def window(run: Traced, *arguments: str) -> dict[str, Any]:
    """Return the data of `mematlas report --since --until --json`."""
    words: list[str | Path] = ["report", run.file, *arguments, "--json", "--top", "100000"]
    done = run_text(words, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(answer, schema("window"))
    data: dict[str, Any] = answer["data"]
    return data


def test_lifetimes_are_those_of_the_program(build: Build, traced: Run) -> None:
    """Blocks freed at once and blocks kept for 300 ms are counted in different lifetime classes."""
    run = traced(build("lives"), options=("--exact",))
    brief = {name: run.sum(name, "come_and_go") for name in LIFETIMES}
    assert sum(brief.values()) == 50_000
    assert brief["lived_100us"] > 45_000  # a few were interrupted
    assert 0.9 * 50_000_000 < run.sum("temporary_bytes", "come_and_go") <= 50_000_000
    kept = {name: run.sum(name, "keep_for_a_while") for name in LIFETIMES}
    assert sum(kept.values()) == 1000  # the other thousand is never freed
    assert kept["lived_1s"] + kept["lived_10s"] + kept["lived_longer"] == 1000
    assert run.sum("temporary_bytes", "keep_for_a_while") == 0
    for function in ("keep_early", "keep_late", "keep_in_child"):
        assert not any(run.sum(name, function) for name in LIFETIMES)


def test_objects_in_a_burst_have_its_timestamps(traced: Run) -> None:
    """In a burst one record in eight is timestamped: a pause misdates at most seven."""
    program = PROGRAMS / "object_times.py"
    run = traced(sys.executable, "-I", "-S", program, options=("--exact",))
    lives = {
        function: {name: run.sum(name, function) for name in LIFETIMES}
        for function in ("rush", "keep", "dawdle")
    }
    assert sum(lives["rush"].values()) >= 40_000
    assert lives["rush"]["lived_100us"] > 0.9 * sum(lives["rush"].values())
    longer = sum(lives["keep"][name] for name in LIFETIMES[3:])
    kept = 1000 + 2  # objects, their list and its array of pointers
    assert kept - 8 <= longer <= kept
    slow = sum(lives["dawdle"][name] for name in LIFETIMES[2:])
    assert 30 - 8 <= slow <= sum(lives["dawdle"].values())


COUNT_UNKNOWN = """
import sys
from mematlas.cli.main import main
from mematlas.tracing.process import ProcessRecorder

close = ProcessRecorder.close

def close_and_print(self, returncode):
    print("unknown frees", self._collector.process(self._index).unknown_frees)
    close(self, returncode)

ProcessRecorder.close = close_and_print
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("way", ["alone", "sharing"])
def test_blocks_handed_between_threads_keep_their_order(way: str, tmp_path: Path) -> None:
    """A block that one thread frees and another one reuses is freed first, whichever record is timestamped."""
    limit = ("prlimit", "--as=40000000") if way == "sharing" else ("env",)
    if not shutil.which(limit[0]):
        pytest.skip(f"{limit[0]} is not installed")
    options = ("run", "--exact", "--faults=off", "-o", str(tmp_path / "r.atlas"))
    command = (*limit, sys.executable, "-I", "-S", str(PROGRAMS / "handed_over.py"), "300")
    done = subprocess.run(
        [sys.executable, "-c", COUNT_UNKNOWN, *options, "--", *command],
        capture_output=True,
        text=True,
        check=True,
    )
    counts = [int(line.split()[-1]) for line in done.stdout.splitlines() if "unknown" in line]
    assert counts
    # When memory is short, the state of some blocks is unknown.
    assert sum(counts) <= (20 if way == "sharing" else 0)


def test_lifetimes_are_estimated_without_bias(build: Build, traced: Run) -> None:
    """Sampled counts of 50,000 short lifetimes are within four standard errors."""
    mean = 20_000
    run = traced(build("lives"), options=("--sample-bytes", str(mean)))
    found = sum(run.sum(name, "come_and_go") for name in LIFETIMES)
    samples = 50_000 * 1000 / mean
    assert abs(found / 50_000 - 1) <= 4 / samples**0.5


def test_windows_hold_what_was_allocated_in_them(build: Build, traced: Run) -> None:
    """Each window has the memory that was allocated in it and outlived it; a child has its own."""
    run = traced(build("lives"), options=("--exact",))
    starts = [line["start_s"] for line in run.report["processes"]]
    begin, fork = starts[0], starts[1]
    after_first = window(run, "--since", f"{begin + 0.15}s", "--until", f"{begin + 0.5}s")
    assert of(after_first, "keep_for_a_while") == 2_000_000
    assert of(after_first, "keep_early") == 0
    assert of(after_first, "come_and_go") == 0  # all were freed
    assert of(after_first, "keep_for_a_while", "count") == 2000
    assert after_first["error_bytes"] == 0
    to_the_end = window(run, "--since", f"{begin + 0.15}s")
    assert of(to_the_end, "keep_for_a_while") == 1_000_000
    assert of(to_the_end, "keep_late") == 500_000  # once: the child's copy does not count
    assert of(to_the_end, "keep_in_child") == 300_000
    whole = window(run, "--since", "0", "--until", "100%")
    assert of(whole, "keep_early") == 1_000_000
    child = window(run, "--since", f"{fork + 0.05}s", "--until", f"{fork + 0.2}s")
    assert of(child, "keep_in_child") == 300_000
    assert of(child, "keep_late") == 0


def test_the_page_s_windows_are_those_of_the_report(build: Build, traced: Run) -> None:
    """Between any two edges the coarse spans sum up to the window of the report."""
    run = traced(build("lives"), options=("--exact",))
    recording = read(run.file)
    spans = make_spans(recording, {})
    assert spans is not None
    for start, end in ((0, 5), (3, 20), (10, spans.count - 1), (7, spans.count), (0, spans.count)):
        held = sum(
            span.bytes
            for span in spans.spans
            if span.born >= start
            and (span.held if end == spans.count else span.born < end <= span.died)
        )
        until = None if end == spans.count else end * spans.width_s
        expected = make_window(recording, start * spans.width_s, until)
        assert held == pytest.approx(expected.bytes, abs=spans.count * len(spans.lines))


def test_the_page_of_a_run_with_other_programs_tells_of_leaks(
    build: Build, traced: Run, tmp_path: Path
) -> None:
    """Forks that only exec a program are not listed."""
    run = traced("bash", "-c", f"/bin/true; {build('lives')}; /bin/true", options=("--exact",))
    assert len(run.report["processes"]) < len(read(run.file).processes)
    page = tmp_path / "page.html"
    for pid, expected in (([], True), (["--pid", str(run.report["processes"][0]["pid"])], False)):
        run_text(["report", run.file, "-o", page, *pid], check=True)
        assert ('id="leaks"' in page.read_text()) == expected


def test_a_python_program_ends_before_it_takes_itself_down(traced: Run) -> None:
    """Memory that a module holds at the end is live in the window, although the interpreter frees it at exit."""
    code = (
        "import time\ntime.sleep(0.2)\nkept = [bytes(5000) for _ in range(1000)]\ntime.sleep(0.2)\n"
    )
    run = traced(sys.executable, "-I", "-S", "-c", code, options=("--exact",))
    found = window(run, "--since", "1%")  # of a start that may be slow
    assert of(found, "<module>") >= 5_000_000


def test_bad_windows_are_refused(build: Build, traced: Run) -> None:
    """An invalid window is refused in one line."""
    run = traced(build("lives"), options=("--exact",))
    for arguments, reason in (
        (("--since", "9m"), "must start before"),
        (("--since", "50%", "--until", "40%"), "must start before"),
        (("--since", "120%"), "is not a percentage"),
        (("--since", "1s", "--by", "peak"), "take no"),
    ):
        done = run_text(["report", run.file, *arguments])
        assert done.returncode == 2
        assert reason in done.stderr
    assert ask("report", str(run.file), "--json", "--by", "temporary")["by"] == "temporary"
