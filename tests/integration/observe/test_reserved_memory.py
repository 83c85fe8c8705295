"""A look at the heaps of a process leaves its page tables as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mematlas.linux import glibc_heap, smaps
from mematlas.linux.glibc_heap import Heaps
from mematlas.linux.process import open_process

RESERVES = """
import mmap, sys, threading
reserved = mmap.mmap(-1, 64 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # MAP_NORESERVE
# An arena of a thread, which is read.
def wait():
    kept = bytearray(100_000)
    print("ready", flush=True)
    sys.stdin.read(1)
thread = threading.Thread(target=wait)
thread.start()
thread.join()
"""


def page_tables(pid: int) -> int:
    """Return VmPTE in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmPTE"))


def test_a_reserved_range_is_not_faulted_in() -> None:
    """Heaps of glibc are looked for in 64 GiB of which no page exists, and none exists then."""
    command = [sys.executable, "-c", RESERVES]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        before = page_tables(process.pid)
        with open_process(process.pid) as directory:
            mappings, _ = smaps.read_from(directory, fields=False)
            found = glibc_heap.read_heaps(directory, mappings)
        assert page_tables(process.pid) - before < 64 << 10
        process.stdin.close()
    assert isinstance(found, Heaps)
    assert any(not each.main for each in found.heaps)
