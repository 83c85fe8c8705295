"""Fault samples that nobody reads: those that did not fit the ring buffers are counted as lost."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mematlas.observe.page_faults.sites import SiteCounter

PAGES = 30_000
TOUCH = (
    "import mmap\n"
    f"m = mmap.mmap(-1, {PAGES} * 4096, flags=34)\n"
    "m.madvise(mmap.MADV_NOHUGEPAGE)\n"
    "for at in range(0, len(m), 4096): m[at] = 1\n"
)


@pytest.mark.skipif(int(os.uname().release.split(".")[0]) < 6, reason="Linux 6.0")
def test_samples_without_room_are_counted() -> None:
    """Sampled and lost faults sum to all faults, although the rings stay full until the program ends."""
    try:
        counter = SiteCounter([os.getpid()], on_exec=False, period=1)
    except OSError as error:
        pytest.skip(f"perf events are refused here: {error.strerror}")
    subprocess.run([sys.executable, "-S", "-c", TOUCH], check=True)
    sites, lost = counter.finish()
    assert lost > 0
    taken = sum(site.faults for site in sites)
    assert PAGES <= taken + lost <= PAGES + 6000
