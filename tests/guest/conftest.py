"""Tests for a machine with two memory nodes and nobody else on it: scripts/guest boots one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
NODES = Path("/sys/devices/system/node")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip all of these anywhere else."""
    if os.environ.get("MEMATLAS_GUEST"):
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="for a guest; run scripts/guest"))


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Give hugetlb pages back after each test."""
    yield
    if not os.environ.get("MEMATLAS_GUEST"):
        return
    for pool in NODES.glob("node*/hugepages/hugepages-2048kB/nr_hugepages"):
        pool.write_text("0")


def mematlas(*words: object, status: int | None = 0) -> str:
    """Run mematlas as a user does, and give what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "mematlas", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert status is None or done.returncode == status, done.stdout + done.stderr
    return done.stdout
