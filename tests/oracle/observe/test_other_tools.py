"""The observing commands against other tools: psutil, pmap, smem, numastat, vmtouch."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import pytest

from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEMATLAS = (sys.executable, "-m", "mematlas")
PAGE = os.sysconf("SC_PAGESIZE")
CODE = """
import mmap, sys
private = mmap.mmap(-1, 48 << 20, flags=0x22)
private.madvise(mmap.MADV_NOHUGEPAGE)
for at in range(0, 20 << 20, 4096): private[at] = 1
shared = mmap.mmap(-1, 6 << 20)
shared[:] = b"x" * len(shared)
print("ready", flush=True)
sys.stdin.read()
"""


def need(tool: str) -> str:
    """Return the path of a tool, or skip with the name of its package."""
    found = shutil.which(tool)
    if found is None:
        packages = {"pmap": "procps", "numastat": "numactl"}
        pytest.skip(f"{tool} is not here; apt-get install {packages.get(tool, tool)}")
    return found


def ask(*arguments: str) -> Any:
    """Return the data of a mematlas command."""
    return json.loads(subprocess.check_output([*MEMATLAS, *arguments, "--json"]))["data"]


@pytest.fixture(scope="module")
def still() -> Iterator[int]:
    """Start a stopped process with private and shared memory."""
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        stopped = psutil.STATUS_STOPPED
        wait_until(lambda: psutil.Process(process.pid).status() == stopped, "the stop")
        try:
            yield process.pid
        finally:
            process.kill()


def row_of(pid: int) -> dict[str, Any]:
    """Return the row of one process in `ps`."""
    (row,) = [each for each in ask("ps")["processes"] if each["pid"] == pid]
    found: dict[str, Any] = row
    return found


def test_psutil_counts_the_same(still: int) -> None:
    """USS, PSS and RSS of 26 MiB agree, except for changes in other processes."""
    row, theirs = row_of(still), psutil.Process(still).memory_full_info()
    assert row["swap"] == theirs.swap
    # Other processes map the same libraries, and smem sums values truncated per mapping.
    assert abs(row["uss"] - theirs.uss) <= 1 << 20
    assert abs(row["pss"] - theirs.pss) <= 1 << 20
    assert abs(row["rss"] - theirs.rss) <= 64 * PAGE * (os.cpu_count() or 1)


def test_pmap_sums_the_same(still: int) -> None:
    """Each total of `pmap -XX` equals that of mematlas, in kilobytes."""
    lines = subprocess.check_output([need("pmap"), "-XX", str(still)], text=True).splitlines()
    heads = lines[1].split()
    totals = dict(
        zip(heads[5:], [int(word) for word in lines[-1].split() if word.isdigit()], strict=False)
    )
    shown = ask("show", str(still))
    told = shown.get("summary", shown)
    by_us = {name: sizes(told, name) for name in ("rss", "pss", "swap")}
    for ours, name in (("rss", "Rss"), ("pss", "Pss"), ("swap", "Swap")):
        slack = 1 << 20 if ours == "pss" else 0  # PSS is truncated to kB per mapping
        assert abs(by_us[ours] - (totals[name] << 10)) <= slack, name


def sizes(told: dict[str, Any], name: str) -> int:
    """Return a value of `show` by name."""
    for key, value in told.items():
        if key == name and isinstance(value, int):
            return value
        if isinstance(value, dict):
            try:
                return sizes(value, name)
            except KeyError:
                continue
    raise KeyError(name)


def test_smem_shares_the_same(still: int) -> None:
    """Return USS, PSS and RSS from smem, in kilobytes."""
    columns = "pid uss pss rss"
    text = subprocess.check_output([need("smem"), "-H", "-c", columns], text=True)
    theirs = next(line.split() for line in text.splitlines() if line.split()[0] == str(still))
    row = row_of(still)
    for name, kilobytes in zip(("uss", "pss", "rss"), theirs[1:], strict=True):
        assert abs((row[name] >> 10) - int(kilobytes)) <= 1024, name


def test_numastat_sees_the_same_nodes() -> None:
    """Return the memory of each node from `numastat -m`, in megabytes."""
    text = subprocess.check_output([need("numastat"), "-m"], text=True)
    total = re.search(r"^MemTotal +(.*)$", text, re.MULTILINE)
    if total is None:
        pytest.skip("numastat tells of no nodes here")
    theirs = [float(each) for each in total[1].split()][:-1]
    written = json.dumps(ask("system", "numa"))
    meminfo = [
        int(re.search(r"MemTotal: +(\d+)", node.read_text())[1]) << 10  # type: ignore[index]
        for node in sorted(_nodes())
    ]
    assert [round(size / (1 << 20), 1) for size in meminfo] == pytest.approx(theirs, abs=0.1)
    assert all(str(size) in written for size in meminfo)


def _nodes() -> list[Path]:
    from pathlib import Path

    return list(Path("/sys/devices/system/node").glob("node[0-9]*/meminfo"))


def test_vmtouch_finds_the_same_pages(tmp_path: Path) -> None:
    """The cached pages of a half-read file agree."""
    file = tmp_path / "half"
    file.write_bytes(os.urandom(4 << 20))
    text = subprocess.check_output([need("vmtouch"), str(file)], text=True)
    found = re.search(r"Resident Pages: (\d+)/(\d+)", text)
    assert found is not None
    ours = ask("cache", str(file))["files"][0]
    assert (ours["cached"], ours["pages"]) == (int(found[1]), int(found[2]))
