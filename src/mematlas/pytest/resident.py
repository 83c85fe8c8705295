"""The highest RSS of a part of this process's life, by the kernel."""

from __future__ import annotations

import os
from pathlib import Path

from mematlas.errors import UnsupportedError

_CLEAR_PEAK = "5"  # of /proc/PID/clear_refs: VmHWM becomes VmRSS


def reset_peak() -> int:
    """Make the present RSS the highest one, and return it in bytes.

    Raises:
        UnsupportedError: the kernel does not allow it.
    """
    try:
        Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK, encoding="ascii")
    except OSError as error:
        raise UnsupportedError(
            f"limit_resident needs /proc/self/clear_refs, which cannot be written: {error.strerror}"
        ) from None
    return _read("VmRSS")


def peak() -> int:
    """Return the highest RSS since reset_peak(), in bytes."""
    return max(_read("VmHWM"), _read("VmRSS"))


def _read(name: str) -> int:
    with open(f"/proc/{os.getpid()}/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123
        for line in status:
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    raise UnsupportedError(f"/proc/self/status has no {name}")
