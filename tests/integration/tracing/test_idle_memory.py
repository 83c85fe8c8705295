"""Idle memory by line: a program that uses one of its two blocks only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mematlas.errors import UnsupportedError
from mematlas.linux import idle_memory
from traced_runs import ask

if TYPE_CHECKING:
    from conftest import Build, Run

COLD, HOT, MIB = 24 << 20, 16 << 20, 1 << 20


@pytest.fixture(autouse=True)
def method() -> str:
    """Return the method; skip if this kernel has none."""
    try:
        return idle_memory.choose()
    except UnsupportedError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("options", [(), ("--exact",)])
def test_the_line_of_the_unused_block_is_named(
    build: Build, traced: Run, method: str, options: tuple[str, ...]
) -> None:
    """The unused block is idle, the other one is not."""
    run = traced(build("cold"), "6", options=("--idle", "1.5s", *options))
    assert run.sum("idle_bytes", "map_cold") == COLD
    assert run.sum("idle_bytes", "map_hot") <= MIB / 4  # accesses through the TLB set no bit
    idle = run.report["idle"]
    assert idle["method"] == method
    assert idle["seconds"] >= 1.5
    assert idle["bytes"] >= COLD
    assert idle["bytes"] <= run.report["account"]["rss_bytes"]
    assert ask("report", str(run.file), "--json", "--by", "idle")["by"] == "idle"


def test_what_cannot_be_told_apart_is_not_guessed(build: Build, traced: Run, method: str) -> None:
    """With both blocks in one mapping the figure is a lower bound."""
    run = traced(build("cold"), "6", "together", options=("--idle", "1.5s"))
    found = run.sum("idle_bytes", "map_cold")
    least = COLD if method == "idle" else COLD - HOT - MIB
    assert least <= found <= COLD
    assert run.sum("idle_bytes", "map_hot") <= MIB / 4
    assert run.report["idle"]["whole"] == (method == "idle")
    assert run.report["idle"]["bytes"] >= COLD


def test_without_being_asked_it_is_unknown(build: Build, traced: Run) -> None:
    """Without --idle there is no figure."""
    run = traced(build("cold"), "1")
    assert run.report["idle"] is None
