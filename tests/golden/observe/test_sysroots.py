"""Captured trees of several kernels (scripts/capture-sysroot), and what mematlas reads from them.

`MEMATLAS_GOLDEN=write pytest tests/golden/observe/test_sysroots.py` writes the expected values anew.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from mematlas.linux import machine, processes, smaps
from mematlas.linux.mappings import ABSENT
from mematlas.observe.machine.topics import TOPICS

DATA = Path(__file__).parents[2] / "data" / "sysroots"
KERNELS = ("6.1", "6.12", "6.18")
PID = 4242
by_kernel = pytest.mark.parametrize("kernel", KERNELS)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack every captured tree."""
    folder = tmp_path_factory.mktemp("sysroots")
    for kernel in KERNELS:
        with tarfile.open(DATA / f"{kernel}.tar.gz") as archive:
            archive.extractall(folder / kernel, filter="data")
    return folder


def plain(value: Any) -> Any:
    """Return a model as plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)


def rollup(root: Path) -> dict[str, int]:
    """Return the fields of the captured smaps_rollup in bytes."""
    lines = (root / f"proc/{PID}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(size.split()[0]) << 10 for name, _, size in (x.partition(":") for x in lines)}


@by_kernel
def test_topics_are_what_they_were(unpacked: Path, kernel: str) -> None:
    """Every topic of `system` on a captured machine equals the golden data."""
    seen = machine.read(str(unpacked / kernel), free_lists=True)
    found = {name: plain(topic(seen)) for name, topic in sorted(TOPICS.items())}
    text = json.dumps(found, indent=1) + "\n"
    golden = DATA / f"{kernel}.json"
    if os.environ.get("MEMATLAS_GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text()


@by_kernel
def test_smaps_sum_to_the_rollup(unpacked: Path, kernel: str) -> None:
    """The sums of all smaps fields of a kernel equal its smaps_rollup, to the byte."""
    root = unpacked / kernel
    mappings, _ = smaps.read(PID, str(root))
    told = rollup(root)
    assert {"Rss", "Pss", "Swap"} <= set(told)
    for name in ("Rss", "Anonymous", "AnonHugePages", "Swap", "Locked"):
        total = sum(int(each) for each in mappings.fields[name] if each != ABSENT)
        assert total == told[name], name
    # The kernel truncates PSS to whole kB per mapping, and other processes changed between the reads.
    pss = sum(int(each) for each in mappings.fields["Pss"])
    assert abs(pss - told["Pss"]) <= 1 << 20
    assert set(told) <= set(mappings.fields) | {"Pss_Anon", "Pss_File", "Pss_Shmem"}


@by_kernel
def test_a_process_is_read(unpacked: Path, kernel: str) -> None:
    """RSS of stat, statm and smaps agree within the error of the per-CPU counters."""
    root = unpacked / kernel
    table = processes.read(str(root))
    (row,) = [each for each in table.processes if each.pid == PID]
    statm = int((root / f"proc/{PID}/statm").read_text().split()[1]) * 4096
    told = rollup(root)["Rss"]
    assert abs(statm - told) <= 256 << 10  # per-CPU counters are folded in batches
    assert abs(row.rss - told) <= 256 << 10
    assert row.threads == 1


@by_kernel
def test_memory_adds_up(unpacked: Path, kernel: str) -> None:
    """The parts of memory sum to MemTotal on each kernel."""
    seen = machine.read(str(unpacked / kernel), free_lists=True)
    parts = TOPICS["memory"](seen).sections[0].figures
    assert sum(int(each.value or 0) for each in parts) == seen.meminfo["MemTotal"]
