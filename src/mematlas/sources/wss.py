"""/proc/PID/clear_refs and the Referenced field of smaps: which memory was used meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import UnsupportedError
from mematlas.sources import smaps
from mematlas.sources.process import open_process

if TYPE_CHECKING:
    from mematlas.model.mappings import Mappings, Outcome

_ALL_PAGES = b"1"


def read(pid: int, seconds: float) -> tuple[Mappings, Outcome, float]:
    """Clear the referenced bits, wait, and read them; with the time that really passed."""
    with open_process(pid) as process:
        try:
            descriptor = os.open("clear_refs", os.O_WRONLY, dir_fd=process.descriptor)
        except FileNotFoundError:
            raise UnsupportedError("this kernel has no clear_refs (PROC_PAGE_MONITOR)") from None
        try:
            os.write(descriptor, _ALL_PAGES)
        finally:
            os.close(descriptor)
        began = time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - began
        return (*smaps.read_from(process), passed)


def damon_runs(root: str = "/") -> bool:
    """Tell whether DAMON looks at the same bits. It is only looked at, never touched."""
    states = Path(root, "sys/kernel/mm/damon/admin/kdamonds").glob("*/state")
    try:
        return any(state.read_text().strip() == "on" for state in states)
    except OSError:
        return False
