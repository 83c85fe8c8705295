"""Allocators inside a program: their mappings belong to the lines that touched the memory first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from traced_runs import named

if TYPE_CHECKING:
    from conftest import Build, Run
    from traced_runs import Traced

MB = 1 << 20


def resident(run: Traced, function: str) -> int:
    """Return the resident bytes of stacks whose innermost function is this one, or a wrapper's callee."""
    return run.sum("resident_bytes", function)


def sampled(run: Traced) -> Traced:
    """Return the run; skip if this machine does not allow sampling page faults."""
    if not run.report["page_faults"]["samples"]:
        pytest.skip("page faults are not to be had here")
    return run


def stand_ins(run: Traced) -> list[dict[str, Any]]:
    """Return the stacks that stand for an allocator whose callers are unknown."""
    return [each for each in run.report["stacks"] if "(no line known)" in str(each["frames"])]


def test_every_touch_is_known(build: Build, traced: Run) -> None:
    """With every fault sampled, each line has what it touched and what is still resident, to the page."""
    run = sampled(traced(build("embedded"), options=("--faults", "1")))
    assert 40 * MB <= resident(run, "big_second") <= 40 * MB + 65536
    assert 8192 <= resident(run, "tiny_first") <= 65536
    assert resident(run, "given_back") <= 65536
    touched = [each for each in run.report["stacks"] if each["kind"] == "touched"]
    assert {each["error_bytes"] for each in touched} == {0}
    (stand_in,) = stand_ins(run)
    assert stand_in["live_bytes"] == 128 * MB


@pytest.mark.parametrize("options", [(), ("--exact",)], ids=["sampled", "exact"])
def test_the_headline_names_who_asked(build: Build, traced: Run, options: tuple[str, ...]) -> None:
    """The line that made the allocator map its first piece does not own all of it."""
    run = sampled(traced(build("embedded"), options=options))
    assert "largest owner is big_second" in run.stderr.replace("\n", " ")
    found = run.stacks("big_second", kind="touched")
    size = sum(each["resident_bytes"] for each in found)
    error = max(each["error_bytes"] for each in found)
    assert error > 0
    assert abs(size - 40 * MB) <= 5 * error
    assert resident(run, "tiny_first") <= 4 * MB
    account = run.report["account"]
    assert sum(each["resident_bytes"] for each in account["parts"]) <= account["rss_bytes"]
    assert (
        sum(each["resident_bytes"] for each in run.report["stacks"] if each["kind"] != "fault")
        <= account["rss_bytes"] + 2 * MB
    )


def test_without_symbols_and_touches(build: Build, traced: Run) -> None:
    """A stripped program has marks of its allocator: that is named, and no line in its place."""
    run = traced(build("embedded", "-s"), options=("--faults", "off"))
    (stand_in,) = stand_ins(run)
    assert "mimalloc" in str(stand_in["frames"])
    assert stand_in["resident_bytes"] == 40 * MB + 8192
    assert not any(named(frame, "main") for frame in stand_in["frames"])
