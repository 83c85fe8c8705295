"""Exact mode against valgrind's DHAT: the same blocks of the same program, to the byte."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from traced_runs import trace

if TYPE_CHECKING:
    from pathlib import Path

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
