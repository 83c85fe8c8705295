"""`mematlas wss`: accessed memory is counted, idle memory is not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# The kernel clears the referenced bits but not the TLB, and the CPU sets them only when it
# walks the page table: between two rounds, more pages are read than any TLB holds.
WSS = (sys.executable, "-m", "mematlas", "wss")
CODE = """
import ctypes, mmap
def fresh(pages):
    m = mmap.mmap(-1, pages * 4096, flags=34)
    m.madvise(mmap.MADV_NOHUGEPAGE)
    m.write(b"x" * len(m))
    return m, ctypes.addressof(ctypes.c_char.from_buffer(m))
(used, at), (idle, there) = fresh(1000), fresh(4000)
wide = mmap.mmap(-1, 16384 * 4096)
print(at, there, flush=True)
while True:
    for page in range(0, 500 * 4096, 4096): used[page]
    for page in range(0, len(wide), 4096): wide[page]
"""


HOT = """
import ctypes, mmap
area = mmap.mmap(-1, 4096 * 4096, flags=34)
area.madvise(mmap.MADV_NOHUGEPAGE)
area.write(b"x" * len(area))
print(ctypes.addressof(ctypes.c_char.from_buffer(area)), flush=True)
while True:
    for page in range(0, 40 * 4096, 4096): area[page]
"""


def test_few_hot_pages_are_all_seen_once_the_cpus_forget() -> None:
    """Forty pages fit the TLB: with a flush all are counted each time, otherwise at most that many."""
    with subprocess.Popen([sys.executable, "-c", HOT], stdout=subprocess.PIPE, text=True) as busy:
        assert busy.stdout is not None
        area = int(busy.stdout.readline())

        def hot(option: str) -> tuple[int, bool]:
            command = [
                *WSS,
                str(busy.pid),
                "--duration",
                "300ms",
                "--json",
                "--method",
                "referenced",
            ]
            found = json.loads(subprocess.check_output([*command, option]))["data"]
            rows = [row for row in found["mappings"] if row["start"] <= area < row["end"]]
            return sum(row["used"] for row in rows) // 4096, found["flushed"]

        try:
            if not hot("--flush")[0]:
                pytest.skip("this kernel tells no referenced pages")
            for _ in range(3):
                assert hot("--flush") == (40, True)
            pages, flushed = hot("--no-flush")
        finally:
            busy.kill()
    assert pages <= 40
    assert not flushed


def test_half_is_used() -> None:
    """Five hundred pages read repeatedly are the working set of their mapping; idle memory is not counted."""
    with subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE, text=True) as busy:
        assert busy.stdout is not None
        used, idle = map(int, busy.stdout.readline().split())
        try:
            answer = json.loads(
                subprocess.check_output([*WSS, str(busy.pid), "--duration", "300ms", "--json"])
            )
        finally:
            busy.kill()
    assert answer["schema"] == "mematlas/wss/1"
    found = answer["data"]
    if not found["used"]:
        pytest.skip("this kernel tells no referenced pages")

    def of(address: int) -> int:
        return sum(row["used"] for row in found["mappings"] if row["start"] <= address < row["end"])

    if of(used) == of(idle):  # the kernel merged the two mappings
        assert 500 * 4096 <= of(used) <= 520 * 4096
        return
    assert of(used) == 500 * 4096
    assert of(idle) == 0
