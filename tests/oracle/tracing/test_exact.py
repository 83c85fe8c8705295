"""Exact mode against valgrind's DHAT, and what programs count themselves: the same blocks, to the byte."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import error_coverage
from traced_runs import trace

if TYPE_CHECKING:
    from conftest import Build


def dhat(program: Path, file: Path, *arguments: str) -> dict[str, tuple[int, int]]:
    """Return bytes and blocks allocated under each function that DHAT names."""
    subprocess.run(
        ["valgrind", "--tool=dhat", f"--dhat-out-file={file}", str(program), *arguments],
        check=True,
        capture_output=True,
        timeout=300,
    )
    found = json.loads(file.read_text())
    sums: dict[str, tuple[int, int]] = {}
    for point in found["pps"]:
        functions = {found["ftbl"][frame].split(": ")[-1].split(" (")[0] for frame in point["fs"]}
        for function in functions:
            size, blocks = sums.get(function, (0, 0))
            sums[function] = (size + point["tb"], blocks + point["tbk"])
    return sums


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "functions"),
    [
        ("threads", ("8",), ("keep", "hand_over")),
        ("hostile", ("threads", "20"), ("keep", "hold")),
        ("hostile", ("until_refused", "10"), ("until_refused",)),
    ],
)
def test_every_byte_is_that_of_dhat(
    build: Build, tmp_path: Path, name: str, arguments: tuple[str, ...], functions: tuple[str, ...]
) -> None:
    """Bytes and blocks under each function are equal."""
    if not shutil.which("valgrind"):
        pytest.skip("valgrind is not installed")
    program = build(name, "-pthread")
    theirs = dhat(program, tmp_path / "dhat.out", *arguments)
    ours = trace(tmp_path / "ours.atlas", (program, *arguments), "--exact")
    for function in functions:
        allocated = ours.sum("allocated_bytes", function, kind="malloc")
        blocks = ours.sum("allocations", function, kind="malloc")
        assert (allocated, blocks) == theirs[function]


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["mixed", "falls", "grows", "strings"])
def test_the_program_dhat_and_mematlas_count_the_same(tmp_path: Path, shape: str) -> None:
    """Of blocks of all sizes, freed at random, reallocated, or made by operator new: three counts are one."""
    if not shutil.which("valgrind"):
        pytest.skip("valgrind is not installed")
    command = next(each for each in error_coverage.build(tmp_path) if each[-1].endswith(shape))
    truths = tmp_path / "truths"
    theirs = dhat(Path(command[0]), tmp_path / "dhat.out", *command[1:], str(truths))
    ours = trace(tmp_path / "ours.atlas", (*command, str(truths)), "--exact")
    mine, same = map(json.loads, truths.read_text().splitlines())
    functions = ("keep(unsigned long)", "keep") if shape == "strings" else ("keep", "regrow")
    for figure in ("allocated", "live", "peak"):
        assert mine[figure] == same[figure]
    counted = sum(ours.sum("allocated_bytes", each, kind="malloc") for each in functions)
    assert counted == mine["allocated"]
    assert sum(ours.sum("live_bytes", each, kind="malloc") for each in functions) in {
        mine["live"],
        mine["peak"],  # the account of the report is of the peak
    }
    assert sum(theirs.get(each, (0, 0))[0] for each in functions) == counted
    blocks = sum(ours.sum("allocations", each, kind="malloc") for each in functions)
    assert sum(theirs.get(each, (0, 0))[1] for each in functions) == blocks
