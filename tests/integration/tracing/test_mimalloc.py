"""Python with mimalloc: PYTHONMALLOC=mimalloc from CPython 3.13 on, and all free-threaded builds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from interpreters import with_mimalloc
from traced_runs import PROGRAMS, trace

if TYPE_CHECKING:
    from pathlib import Path

    from traced_runs import Traced

PROGRAM = PROGRAMS / "object_types.py"
FOUND = with_mimalloc()
NONE = pytest.param("", marks=pytest.mark.skip("no CPython from 3.13 on is here"))
FINE = ("--sample-bytes", "4K")  # by default the slack is no more than twice its standard error
BYTES = 500 * 4000  # kept by make_bytes(): larger than any block of pymalloc


def run(python: str, tmp_path: Path, *options: str) -> Traced:
    """Run the program with mimalloc."""
    command = ("env", "PYTHONMALLOC=mimalloc", python, PROGRAM)
    found = trace(tmp_path / "m.atlas", command, *options)
    assert found.outcome.status == 0, found.stderr
    return found


def parts(found: Traced, kind: str) -> dict[str, Any]:
    """Return the parts of one kind of the residency account, by name."""
    account = found.report["account"]["parts"]
    return {each["name"]: each["resident_bytes"] for each in account if each["kind"] == kind}


@pytest.mark.parametrize("python", FOUND or [NONE])
def test_blocks_of_all_sizes_are_seen(python: str, tmp_path: Path) -> None:
    """Each block is counted once, as the program counts it, also those too large for pymalloc."""
    found = run(python, tmp_path, "--exact")
    types = {each["name"]: each["live_count"] for each in found.report["objects"]}
    counts = json.loads(found.outcome.stdout)
    assert {name: types[name] for name in counts} == counts
    assert BYTES <= found.sum("live_bytes", "make_bytes", kind="pyobject") <= BYTES + 100_000


@pytest.mark.parametrize("python", FOUND or [NONE])
@pytest.mark.parametrize("options", [("--exact",), FINE], ids=["exact", "sampled"])
def test_its_own_memory_is_slack(python: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """Mimalloc's arena of 1 GiB is no block itself; its free memory is reported as slack."""
    found = run(python, tmp_path, *options)
    assert found.report["peak"]["live_bytes"] < 64 << 20
    assert parts(found, "slack")["mapping of an allocator"] > 0
    live = sum(parts(found, "live").values())
    assert live + 4 * found.report["account"]["parts"][0]["error_bytes"] > BYTES
