"""CPython's own tests pass as they do untraced; scripts/transparency runs more of them."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from traced_runs import MEMATLAS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.slow
TEST = re.compile(
    r"^(\w+ \([\w.]+\)).*?\.\.\. (ok|FAIL|ERROR|skipped|expected failure)", re.MULTILINE
)


def outcomes(command: Sequence[str | Path]) -> tuple[int, set[tuple[str, str]]]:
    """Return the status and the result of each test."""
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, set(TEST.findall(done.stdout + done.stderr))


@pytest.mark.parametrize("options", [("--exact",), ()], ids=["exact", "sampled"])
@pytest.mark.parametrize("name", ["test_mmap", "test_fork1"])
def test_cpython_tests(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    """Each test has the same result as without mematlas."""
    command = [sys.executable, "-m", "unittest", "-v", f"test.{name}"]
    bare = outcomes([*command])
    if not bare[1]:
        pytest.skip("this Python has no test package; Debian: libpython3.11-testsuite")
    run = [*MEMATLAS, "run", *options, "-o", str(tmp_path / "t.atlas"), "--", *command]
    assert outcomes(run) == bare
