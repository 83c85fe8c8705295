"""Processes that keep every CPU busy."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Ends by itself once its parent is gone, also if the parent was killed.
_SPIN = """
import os, sys
parent = int(sys.argv[1])
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def busy_cpus(processes: int) -> Iterator[None]:
    """Run busy processes meanwhile; 0 runs none."""
    spinning = [
        subprocess.Popen([sys.executable, "-S", "-c", _SPIN, str(os.getpid())])
        for _ in range(processes)
    ]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()
