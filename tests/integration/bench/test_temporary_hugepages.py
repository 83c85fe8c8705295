"""Temporary huge pages exist during a benchmark and are undone after it, however it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import machine_state
from mematlas.cli.temporary_hugepages import temporary_hugepages
from mematlas.errors import AccessError
from mematlas.linux.hugepages import parse_kind

COMMAND = (sys.executable, "-m", "mematlas", "bench", "faults", "--quick", "--duration", "100ms")


def pool() -> int:
    """Count the hugetlb pages of 2 MiB."""
    return int(machine_state.HUGEPAGES.read_text())


@pytest.fixture
def kept() -> None:
    """Require root and a pool that can grow; restore the pool."""
    before = pool() if machine_state.HUGEPAGES.exists() else 0
    with machine_state.hugepages(before + 8):
        pass


@pytest.mark.machine
@pytest.mark.usefixtures("kept")
def test_lent_and_taken_back() -> None:
    """With --reserve hugetlb pages are measured, and the pool is restored."""
    before = pool()
    done = subprocess.run(
        [*COMMAND, "--pages", "2M", "--size", "8M", "--reserve", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    section = json.loads(done.stdout)["data"]["sections"][0]
    assert section["proofs"] == {"2M": "8.00 MiB in 2.00 MiB pages (PAGEMAP_SCAN)"}
    assert pool() == before


@pytest.mark.machine
@pytest.mark.usefixtures("kept")
def test_taken_back_after_a_failure() -> None:
    """An error or Ctrl-C restores the pool too."""
    before = pool()
    for trouble in (ValueError, KeyboardInterrupt):
        with pytest.raises(trouble), temporary_hugepages({parse_kind("2M"): 8 << 20}):  # noqa: PT012 - seen inside
            assert pool() == before + 4
            raise trouble
        assert pool() == before


@pytest.mark.machine
@pytest.mark.usefixtures("kept")
def test_folios_are_lent() -> None:
    """An mTHP size that was off is enabled for the run only."""
    knob = Path("/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled")
    if not knob.exists():
        pytest.skip("this kernel has no mTHP")
    with machine_state.written(knob, "never"):
        with temporary_hugepages({parse_kind("64K"): 1 << 20}):
            assert "[madvise]" in knob.read_text()
        assert "[never]" in knob.read_text()


def test_needs_root() -> None:
    """Without the right to change settings the error is an AccessError."""
    if not machine_state.HUGEPAGES.exists():
        pytest.skip("this kernel has no hugetlb pages")
    with temporary_hugepages({}):
        pass  # imports what nobody may not be able to read

    def refused() -> bool:
        try:
            with temporary_hugepages({parse_kind("2M"): 8 << 20}):
                return False
        except AccessError:
            return True

    assert machine_state.as_nobody(refused) == 0
