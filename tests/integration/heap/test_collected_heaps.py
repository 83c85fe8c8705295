"""Heaps that the garbage collector takes."""

from __future__ import annotations

import subprocess
import sys

# In a program of its own, which a fault would end by a signal. The memoryview comes first, so it is cleared first.
KEEPS_AN_EXCEPTION = """
import gc
gc.disable()
from mematlas._core import HeapHandle, RawRange

class Kept: pass

def look():
    memory, kept = memoryview(bytearray(8192)), Kept()
    handle = HeapHandle([RawRange(0x10000, 1, memory, b"\\1\\1", 0)], 4096)
    kept.memory, kept.handle, kept.itself = memory, handle, kept
    try:
        1 / 0
    except ZeroDivisionError as error:
        kept.error = error

for _ in range(20):
    look()
print(gc.collect() > 0)
"""


def test_a_heap_in_a_cycle_is_collected() -> None:
    """As of a notebook that keeps an exception with its frames."""
    command = [sys.executable, "-c", KEEPS_AN_EXCEPTION]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == ("True\n", "")
