"""Terminal views without a terminal: Textual's pilot presses the keys."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from textual.app import App
    from textual.pilot import Pilot

WAIT_S = 60.0


def drive(
    app: App[Any],
    act: Callable[[Pilot[Any]], Coroutine[Any, Any, None]],
    size: tuple[int, int] = (110, 40),
) -> None:
    """Run a view, and act on it."""

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await act(pilot)

    asyncio.run(run())


async def until(pilot: Pilot[Any], holds: Callable[[], object]) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end, "it did not come to be"
        await pilot.pause(0.05)
