"""Waits for a condition, so that no test depends on the speed of the machine."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S = 60.0
# The numbers of nanosleep() and clock_nanosleep(), as /proc/PID/syscall begins.
_SLEEPS = {"x86_64": ("35 ", "230 "), "aarch64": ("101 ", "115 ")}


def wait_until(holds: Callable[[], object], what: str, every_s: float = 0.05) -> None:
    """Wait for a condition; fail with `what` after a minute."""
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end, f"not within {WAIT_S:.0f} s: {what}"
        time.sleep(every_s)


def wait_until_asleep(pid: int) -> None:
    """Wait until a new program has loaded its pages and is in its sleep()."""
    state = Path(f"/proc/{pid}/syscall")
    sleeps = _SLEEPS[platform.machine()]
    wait_until(lambda: state.read_text().startswith(sleeps), f"process {pid} to sleep")
