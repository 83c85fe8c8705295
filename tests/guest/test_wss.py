"""The working set by DAMON, and by referenced bits on a kernel with soft-dirty bits."""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from guest.conftest import mematlas
from mematlas import _core
from mematlas.linux import damon
from mematlas.linux.pagemap import soft_dirty_works

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
PAGE = 4096
ADMIN = Path("/sys/kernel/mm/damon/admin/kdamonds")


@contextmanager
def hot_and_cold(hot: int, cold: int) -> Iterator[tuple[int, int]]:
    """Run a process that keeps reading its first `hot` bytes; return its PID and their address."""
    area = mmap.mmap(-1, hot + cold, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.madvise(mmap.MADV_NOHUGEPAGE)
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            area.write(b"x" * (hot + cold))
            os.write(writer, b"!")
            while True:
                for at in range(0, hot, PAGE):
                    area[at]
        finally:
            os._exit(3)
    try:
        os.read(reader, 1)
        yield child, _core.address_of(memoryview(area))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def used(pid: int, address: int, *options: str) -> tuple[int, dict[str, Any]]:
    """Measure; return the used bytes of the mapping at an address, and the whole answer."""
    found = json.loads(mematlas("wss", pid, "--duration", "3s", "--json", *options))["data"]
    rows = (row for row in found["mappings"] if row["start"] <= address < row["end"])
    return sum(row["used"] for row in rows), found


@pytest.fixture
def damon_here() -> None:
    """Skip if the kernel has no DAMON."""
    if not ADMIN.exists():
        pytest.skip("this kernel has no DAMON (CONFIG_DAMON_SYSFS)")


def test_damon_tells_hot_from_cold(damon_here: None) -> None:
    """Of 64 MiB the 16 that are read are found within a factor of two, and no kdamond is left."""
    with hot_and_cold(16 * MIB, 48 * MIB) as (pid, address):
        found, answer = used(pid, address, "--method", "damon")
    assert 8 * MIB <= found <= 32 * MIB
    assert answer["estimate"]
    assert answer["method"] == "DAMON"
    assert (ADMIN / "nr_kdamonds").read_text() == "0\n"


def test_somebody_elses_kdamond_is_left_alone(damon_here: None) -> None:
    """If a kdamond exists, even an inactive one, DAMON is refused and the kdamond is unchanged."""
    (ADMIN / "nr_kdamonds").write_text("1")
    try:
        (ADMIN / "0/contexts/nr_contexts").write_text("1")
        intervals = ADMIN / "0/contexts/0/monitoring_attrs/intervals/sample_us"
        intervals.write_text("4321")
        said = mematlas("wss", os.getpid(), "--method", "damon", status=5)
        assert "in use" in said
        assert intervals.read_text() == "4321\n"
    finally:
        (ADMIN / "nr_kdamonds").write_text("0")
    assert damon.try_damon().works


def test_flush_is_exact_and_left_to_the_user() -> None:
    """Soft-dirty bits are kept unless --flush is given, which is exact."""
    assert soft_dirty_works()
    with hot_and_cold(2 * MIB, 6 * MIB) as (pid, address):

        def written() -> int:
            found = json.loads(
                mematlas("pages", pid, "--json", "--range", f"{address:x}-{address + 8 * MIB:x}")
            )
            return int(found["data"]["sums"]["written"])

        before = written()
        bound, answer = used(pid, address)
        assert written() == before == 2048
        assert not answer["flushed"]
        assert any("lower bound" in note for note in answer["notes"])
        exact, answer = used(pid, address, "--flush")
        assert answer["flushed"]
        assert written() == 0
    assert bound <= exact == 2 * MIB
