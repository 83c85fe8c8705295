"""Idle memory by line: a program that uses one of its two blocks only."""

from __future__ import annotations

import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest

from mematlas.errors import MematlasError, UnsupportedError
from mematlas.linux import idle_memory
from mematlas.recording import read
from traced_runs import ALL, MEMATLAS, Outcome, Traced, ask
from waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Build

COLD, HOT, MIB = 24 << 20, 16 << 20, 1 << 20


@pytest.fixture(autouse=True)
def method() -> str:
    """Return the method; skip if this kernel has none."""
    try:
        return idle_memory.choose()
    except UnsupportedError as error:
        pytest.skip(str(error))


def run_cold(build: Build, file: Path, *words: str, options: tuple[str, ...] = ()) -> Traced:
    """Run the program until two scans have ended since it was ready: the second one began after that."""
    command = [*MEMATLAS, "run", "-o", str(file), "--interval", "200ms", *options, "--"]
    with subprocess.Popen(
        [*command, build("cold"), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        if "--idle" in options:
            for _ in range(2):
                wait_until(partial(scanned_after, last_scan(file), file), "a scan", every_s=0.3)
        assert run.communicate()[0] == b"1\n"  # closes standard input
    return Traced(Outcome(run.returncode, b""), "", file, ALL)


def last_scan(file: Path) -> float:
    """Return the time of the last scan in a recording that is being written; 0 if there is none."""
    try:
        return max((scan.time_s for scan in read(file).idle.values()), default=0.0)
    except MematlasError:  # no first chunk yet
        return 0.0


def scanned_after(time_s: float, file: Path) -> bool:
    """Return whether a recording has a scan that is newer than a time."""
    return last_scan(file) > time_s


@pytest.mark.parametrize("options", [(), ("--exact",)])
def test_the_line_of_the_unused_block_is_named(
    build: Build, tmp_path: Path, method: str, options: tuple[str, ...]
) -> None:
    """The unused block is idle, the other one is not."""
    run = run_cold(build, tmp_path / "c.atlas", options=("--idle", "1s", *options))
    assert run.sum("idle_bytes", "map_cold") == COLD
    assert run.sum("idle_bytes", "map_hot") <= MIB / 4  # accesses through the TLB set no bit
    idle = run.report["idle"]
    assert idle["method"] == method
    assert idle["seconds"] >= 1
    assert idle["bytes"] >= COLD
    assert idle["bytes"] <= run.report["account"]["rss_bytes"]
    assert ask("report", str(run.file), "--json", "--by", "idle")["by"] == "idle"


def test_what_cannot_be_told_apart_is_not_guessed(
    build: Build, tmp_path: Path, method: str
) -> None:
    """With both blocks in one mapping the figure is a lower bound."""
    run = run_cold(build, tmp_path / "c.atlas", "together", options=("--idle", "1s"))
    found = run.sum("idle_bytes", "map_cold")
    least = COLD if method == "idle" else COLD - HOT - MIB
    assert least <= found <= COLD
    assert run.sum("idle_bytes", "map_hot") <= MIB / 4
    assert run.report["idle"]["whole"] == (method == "idle")
    assert run.report["idle"]["bytes"] >= COLD


def test_without_being_asked_it_is_unknown(build: Build, tmp_path: Path) -> None:
    """Without --idle there is no figure."""
    run = run_cold(build, tmp_path / "c.atlas")
    assert run.report["idle"] is None
