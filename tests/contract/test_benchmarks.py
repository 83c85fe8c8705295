"""The benchmark suite: a peer that is missing, fails or hangs is named, and ends nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (BENCHMARKS / "memory", BENCHMARKS / "tracing", BENCHMARKS):
        monkeypatch.syspath_prepend(str(folder))


def failing(error: Exception) -> Callable[[], float]:
    """Return a runner that fails."""

    def run() -> float:
        raise error

    return run


def test_peers_that_fail_are_named_and_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By exit status, by time, by no output and by nonsense; the others are measured to the end."""
    from contest import hold, output, read_record

    records = tmp_path / "records"
    monkeypatch.setenv("BENCHMARK_RECORDS", str(records))
    later = iter([7.0])
    found = hold(
        "work",
        "ns",
        3,
        {
            "mematlas": lambda: 4.0,
            "peer": lambda: 5.0,
            "broken": failing(subprocess.CalledProcessError(3, "x", stderr="one\nbad option\n")),
            "hangs": lambda: float(output(["sleep", "60"], timeout=0.2)),
            "absent": lambda: float(output([tmp_path / "no program"])),
            "silent": lambda: float(output(["true"])),
            "lies": lambda: float("nan"),
            "once": lambda: next(later, None) or failing(ValueError("no figure found"))(),
        },
        ours=("mematlas",),
        lower=True,
        absent={"other": "not installed"},
    )
    reasons = {each.name: each.failure for each in found.outcomes}
    assert [reasons["mematlas"], reasons["peer"]] == [None, None]
    assert reasons["broken"] == "ended with status 3: bad option"
    assert reasons["hangs"] == "did not end within 0.2 s"
    assert "No such file" in str(reasons["absent"])
    assert "could not convert" in str(reasons["silent"])
    assert reasons["lies"] == "no figure: nan"
    assert reasons["other"] == "not installed"
    assert [(each.name, len(each.values)) for each in found.outcomes if each.values] == [
        ("mematlas", 3), ("peer", 3), ("once", 1)
    ]  # fmt: skip
    assert found.verdict() == "better than every peer, 1.25x over peer"
    shown = capsys.readouterr().out
    assert "bad option" in shown
    assert "then no figure found" in shown
    assert read_record(records.read_text()) == found


@pytest.mark.parametrize(
    ("lower", "mine", "peer", "said"),
    [
        (True, 4.0, 3.0, "a peer was better: peer 1.33x"),
        (False, 3.0, 4.0, "a peer was better: peer 1.33x"),
        (False, 4.0, 3.0, "better than every peer"),
        (True, 3.0, 3.03, "equal to the best peer, peer, within 2%"),
        (True, None, 3.0, "mematlas has no figure"),
        (True, 3.0, None, "no peer took part"),
    ],
)
def test_a_verdict_says_when_a_peer_was_better(
    lower: bool, mine: float | None, peer: float | None, said: str
) -> None:
    """The bound that is divided by is no peer."""
    from contest import Contest, Outcome

    outcomes = (
        Outcome("kernel", (1.0, 9.0)),
        Outcome("mematlas", (mine,) if mine else (), mine=True),
        Outcome("peer", (peer,) if peer else (), None if peer else "not installed"),
    )
    assert Contest("t", "ns", lower, outcomes, "kernel").verdict().startswith(said)


def test_a_tool_that_cannot_run_leaves_the_table(tmp_path: Path) -> None:
    """A profiler that fails under one workload is a row with its reason."""
    from compare import measure_all, record_all, table
    from plan import Mode, Workload

    works = [Workload("sleep", ("sleep", "0.01")), Workload("gone", (str(tmp_path / "gone"),))]
    chosen = [
        Mode("bare", lambda measure, work, _: [*measure, *work.command]),
        Mode("mematlas", lambda measure, work, _: [*measure, *work.command]),
        Mode("fake", lambda *_: ["sh", "-c", "echo no such | option >&2; exit 9"]),
        Mode("absent", lambda *_: [str(tmp_path / "absent")]),
    ]
    costs, failures = measure_all(tmp_path, chosen, works[:1], 2)
    assert {(cost.mode, cost.round) for cost in costs} == {
        (mode, number) for mode in ("bare", "mematlas") for number in range(2)
    }
    assert set(failures) == {("sleep", "fake"), ("sleep", "absent")}
    shown = table(costs, failures)
    assert "| sleep | mematlas |" in shown
    assert "| sleep | fake | did not run: " in shown
    assert len({line.count("|") for line in shown.splitlines()}) == 1
    record_all(costs, failures)


def test_every_workload_has_a_round_before_any_has_two(tmp_path: Path) -> None:
    """Where the time is over, what was measured is equal for all, and whole."""
    from compare import measure_all
    from plan import Mode, Workload

    works = [Workload(name, ("true",)) for name in ("first", "second")]
    bare = [Mode("bare", lambda measure, work, _: [*measure, *work.command])]
    costs, failures = measure_all(tmp_path, bare, works, 5, until_s=time.monotonic())
    assert failures == {}
    assert [(cost.workload, cost.round) for cost in costs] == [("first", 0), ("second", 0)]
    costs, _ = measure_all(tmp_path, bare, works, 2)
    assert [(cost.workload, cost.round) for cost in costs] == [
        (name, number) for number in range(2) for name in ("first", "second")
    ]


def is_running(pid: str) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_part_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    """What a part recorded before its end is kept."""
    from suite import run_limited

    child = tmp_path / "child"
    script = f"sleep 600 & echo $! >{child}; echo begun; wait"
    with (tmp_path / "log").open("w") as log:
        ended = run_limited(("sh", "-c", script), log, 1.0, {})
    assert ended == "was ended after 1 s"
    if child.exists() and child.read_text().strip():  # a busy machine may not have begun it
        deadline = time.monotonic() + 60
        while is_running(child.read_text().strip()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not is_running(child.read_text().strip())
    with (tmp_path / "log").open("w") as log:
        assert run_limited(("sh", "-c", "exit 1"), log, 60, {}) is None  # a target was missed
        assert run_limited(("sh", "-c", "exit 3"), log, 60, {}) == "ended with status 3"


def test_a_part_that_an_exception_ended_is_no_result(tmp_path: Path) -> None:
    """Python's status of an exception is that of a missed target."""
    from suite import run_limited

    with (tmp_path / "log").open("w") as log:
        ended = run_limited(
            (sys.executable, "-c", "print(1); raise ValueError('no x')"), log, 60, {}
        )
    assert ended == "failed with ValueError: no x"


def test_an_allocator_that_fails_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that crashes, one that prints nonsense and one that prints too little are named, and recorded."""
    import allocators
    from contest import read_record

    scripts = {
        "arena": "echo 2 1 100 50", "glibc": "echo 3 2 100 50", "mimalloc": "kill -SEGV $$",
        "jemalloc": "echo usage: none", "tcmalloc": "echo 1 2",
    }  # fmt: skip
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    ways: dict[str, tuple[Path, dict[str, str]]] = {name: (tmp_path / name, {}) for name in scripts}
    monkeypatch.setattr(allocators, "build", lambda *_: ways)
    monkeypatch.setattr(sys, "argv", ["allocators.py", "--rounds", "2", "--only", "cache-scratch"])
    monkeypatch.setenv("BENCHMARK_RECORDS", str(tmp_path / "records"))
    assert allocators.main() == 0
    shown = capsys.readouterr().out
    assert "mimalloc: ended with status -11" in shown
    assert "jemalloc: could not convert" in shown
    assert "tcmalloc: " in shown
    assert "x glibc, the best peer: arena 0.50" in shown
    found = read_record((tmp_path / "records").read_text())
    assert {each.name: len(each.values) for each in found.outcomes} == {
        "arena": 2, "glibc": 2, "mimalloc": 0, "jemalloc": 0, "tcmalloc": 0
    }  # fmt: skip
    assert found.verdict() == "better than every peer, 2.00x over glibc"


def test_the_page_has_machine_command_and_reasons(tmp_path: Path) -> None:
    """A part that ended early, a peer that failed and one that was better all stand in the page."""
    from contest import Contest, Outcome
    from suite import PARTS, Ran, page, remember, show_history

    contest = Contest(
        "reading", "GB/s", False,
        (Outcome("mematlas", (9.0, 10.0), mine=True), Outcome("NumPy", (11.0,)),
         Outcome("likwid", (), "ended with status 1: no | perf")),
    )  # fmt: skip
    command = ("python", "benchmarks/bench/run.py", "--rounds", "5")
    ran = [
        Ran(PARTS[1], command, 12.0, "", (contest,), "was ended after 9 s"),
        Ran(PARTS[2], command, 3.0, "text of a part\n", (), None),
    ]
    facts = {"date": "2026-11-30", "CPU": "a CPU", "commit": "v1-2-gabc"}
    text = page(facts, ran, "benchmarks/all", quick=True)
    assert "| CPU | a CPU |" in text
    assert "`python benchmarks/bench/run.py --rounds 5`, 12 s." in text
    assert "**This part was ended after 9 s**" in text
    assert "| mematlas | 10 | 9.5 | 11% |" in text
    assert "| likwid | ended with status 1: no \\| perf |" in text
    assert "a peer was better: NumPy 1.10x." in text
    assert "text of a part" in text
    assert "Do not quote it" in text
    history = tmp_path / "history.jsonl"
    assert "no runs yet" in show_history(history)
    for _ in range(2):
        remember(history, facts, ran, quick=False)
    worse = json.loads(history.read_text().splitlines()[0])
    worse["figures"]["bench: reading"]["mematlas"][0] = 5.0
    with history.open("a") as file:
        file.write(json.dumps(worse) + "\n")
    assert "10 10 5   WORSE, 0.50 x of the median before" in show_history(history)


def test_a_fake_peer_on_the_path_ends_no_benchmark(tmp_path: Path) -> None:
    """The real program, with a likwid-bench that fails and without a compiler for STREAM."""
    for name, script in (("likwid-bench", "echo no permission >&2; exit 7"), ("gcc", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [
            sys.executable, BENCHMARKS / "bench" / "run.py",
            "--rounds", "1", "--mib", "2", "--only", "bandwidth",
        ],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout.count("ended with status 7: no permission") == 3
    assert done.stdout.count("STREAM, gcc -O3") == 3
    for operation in ("read", "copy", "triad"):
        assert f"bandwidth of {operation}" in done.stdout
    assert "NumPy" in done.stdout
