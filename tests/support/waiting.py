"""Waits for a condition, so that no test depends on the speed of the machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S = 60.0


def wait_until(holds: Callable[[], object], what: str, every_s: float = 0.05) -> None:
    """Wait for a condition; fail with `what` after a minute."""
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end, f"not within {WAIT_S:.0f} s: {what}"
        time.sleep(every_s)
