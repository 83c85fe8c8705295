"""Reports compared with the kernel and with the program's own counts."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from traced_runs import ask, named, stopped_snapshots, trace, trace_stopping

if TYPE_CHECKING:
    from conftest import Build


def rollup(pid: int) -> int:
    """Return the RSS of a process from smaps_rollup."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(pid)


@pytest.mark.parametrize("options", [("--exact",), ()], ids=["exact", "sampled"])
def test_parts_sum_to_the_kernels_figure(
    build: Build, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """On a stopped program the parts of the account sum to smaps_rollup, to the byte."""
    kernel = 0

    def look(pid: int) -> None:
        nonlocal kernel
        kernel = rollup(pid)

    run = trace_stopping(tmp_path / "stop.atlas", [build("counted"), "stop"], *options, look=look)
    snapshot = stopped_snapshots(run.file)[-1]
    assert snapshot.rss_bytes == kernel
    assert snapshot.unexplained_bytes == 0
    assert sum(part.resident_bytes for part in snapshot.parts) == kernel


def test_report_account_is_whole(build: Build, tmp_path: Path) -> None:
    """In the report, parts and unexplained bytes sum to RSS."""
    run = trace(tmp_path / "r.atlas", [build("touch_tenth")])
    account = run.report["account"]
    parts = sum(part["resident_bytes"] for part in account["parts"])
    assert parts + account["unexplained_bytes"] == account["rss_bytes"]
    assert abs(account["unexplained_bytes"]) <= account["rss_bytes"] // 100


SEEDS = 40
SAMPLE_BYTES = 16384


@pytest.mark.slow
def test_true_values_lie_within_the_stated_errors(build: Build, tmp_path: Path) -> None:
    """Over 40 seeds, about 95 % of the sites are within two standard errors of the truth."""
    program, file = build("counted"), tmp_path / "s.atlas"
    within: list[bool] = []
    estimates: dict[str, list[float]] = {}
    truth: dict[str, Any] = {}
    first = random.randrange(1, 1 << 30)
    for seed in range(first, first + SEEDS):
        options = ("--sample-bytes", str(SAMPLE_BYTES), "--seed", str(seed))
        run = trace(file, [program], *options)
        truth = json.loads(run.outcome.stdout)
        for function, true in truth.items():
            left = [
                stack
                for stack in run.leaks["leaks"]
                if any(named(frame, function) for frame in stack["frames"])
            ]
            live = sum(stack["live_bytes"] for stack in left)
            variance = sum(stack["error_bytes"] ** 2 for stack in left)
            within.append(abs(live - true["live"]) <= 2 * variance**0.5 + 1)
            estimates.setdefault(function, []).append(run.sum("allocated_bytes", function))
    assert sum(within) / len(within) >= 0.90, f"seeds from {first}"
    for function, values in estimates.items():
        mean, true = sum(values) / SEEDS, truth[function]["allocated"]
        bound = 4.5 * (SAMPLE_BYTES * true / SEEDS) ** 0.5  # variance of a sum of sizes < M * sum
        assert abs(mean - true) <= bound + 1, (function, mean, true, f"seeds from {first}")


def test_counts_equal_those_of_valgrind(build: Build, tmp_path: Path) -> None:
    """Totals of a program equal those of an independent tracer, if installed."""
    import shutil

    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    program = build("threads")
    output = tmp_path / "dhat.json"
    subprocess.run(
        ["valgrind", "--tool=dhat", f"--dhat-out-file={output}", str(program), "1"],
        capture_output=True,
        check=True,
    )
    points = json.loads(output.read_text())["pps"]
    run = trace(tmp_path / "v.atlas", [program, "1"], "--exact")
    own = [stack for stack in run.report["stacks"] if stack["kind"] == "malloc"]
    main = [stack for stack in own if any(f["function"] == "keep" for f in stack["frames"])]
    names = json.loads(output.read_text())["ftbl"]
    theirs = [p for p in points if any(" keep " in names[frame] for frame in p["fs"])]
    assert sum(s["allocated_bytes"] for s in main) == sum(p["tb"] for p in theirs) > 0
    assert sum(s["allocations"] for s in main) == sum(p["tbk"] for p in theirs)


def test_a_cut_recording_still_opens(build: Build, tmp_path: Path) -> None:
    """A recording cut anywhere after its first chunks opens and says it is incomplete."""
    run = trace(tmp_path / "whole.atlas", [build("killed")], "--exact")
    content = run.file.read_bytes()
    cut = tmp_path / "cut.atlas"
    cut.write_bytes(content[: len(content) * 3 // 4])
    assert ask("report", str(cut), "--json")["complete"] is False
