"""What a type checker sees of the public API. Nothing runs; `test_typing.py` checks this file."""

# ruff: noqa: D103
# Every unused "type: ignore" is an error, so each one proves that the checker refuses the line.

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, assert_type

import mematlas
from mematlas import MematlasError, UsageError, errors

if TYPE_CHECKING:
    from mematlas.report.model.report import Report


def tracing() -> None:
    with mematlas.trace("x.atlas", exact=True, interval_s=0.5) as traced:
        assert_type(traced, mematlas.Trace)
    assert_type(traced.recording, mematlas.Recording)
    mematlas.trace(sample_bytes="many")  # type: ignore[arg-type]


def recordings(path: Path) -> Report:
    recording = mematlas.open(path)
    assert_type(recording, mematlas.Recording)
    assert_type(recording.duration_s, float)
    assert_type(recording.complete, bool)
    assert_type(recording.to("html"), bytes)
    assert_type(recording.to("csv", path, by="live", table="lines"), Path)
    recording.to("word")  # type: ignore[call-overload]
    recording.diff(recording, by="weight")  # type: ignore[arg-type]
    recording.window(0.5, 2)
    recording.window("0.5", 2)  # type: ignore[arg-type]
    return recording.report(pid=1)


def observing(pid: int) -> None:
    assert_type(mematlas.observe.faults(pid).minor, float)
    assert_type(mematlas.observe.faults(pid, where=True).lost, int)
    assert_type(mematlas.observe.faults(["make", "-j8"]).status, int)
    mematlas.observe.system("weather")  # type: ignore[arg-type]
    mematlas.observe.wss(pid, method="guess")  # type: ignore[arg-type]


def raising() -> None:
    error: MematlasError = UsageError("no")
    assert_type(error.exit_code, int)
    value_error: ValueError = errors.UsageError("no")
    lookup_error: LookupError = mematlas.TargetError("gone")
    raise value_error from lookup_error


def parts() -> None:
    assert_type(mematlas.__version__, str)
    mematlas.memory.Region("1M")
    mematlas.bench.run(["tlb"])
    mematlas.nothing  # type: ignore[attr-defined]  # noqa: B018


def allocating() -> None:
    mematlas.memory.Region("1M", huge="64K", fork="dont", lock="onfault", policy="bind", node=0)
    mematlas.memory.Region("1M", huge="3M")  # type: ignore[arg-type]
    mematlas.memory.Region("1M", fork="share")  # type: ignore[arg-type]
    mematlas.memory.Region("1M", lock="later")  # type: ignore[arg-type]
    mematlas.memory.Region("1M", policy="near")  # type: ignore[arg-type]
    mematlas.memory.Region("1M", fallback=["thp", "5K"])  # type: ignore[list-item]
    with mematlas.memory.Arena("1G", huge="thp") as arena, arena.alloc(100) as allocation:
        assert_type(allocation, mematlas.memory.Allocation)
    assert_type(mematlas.memory.Pool(64, 8).alloc(), mematlas.memory.Slot | None)


def measuring() -> None:
    settings = mematlas.bench.BenchSettings(pages=("4K", "thp"))
    assert_type(mematlas.bench.run(["tlb"], settings), mematlas.bench.Result)
    mematlas.bench.BenchSettings(pages=("9K",))  # type: ignore[arg-type]
