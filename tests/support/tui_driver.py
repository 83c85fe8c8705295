"""Terminal user interfaces without a terminal, driven by Textual's pilot."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from waiting import WAIT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from textual.app import App
    from textual.pilot import Pilot


def drive(
    app: App[Any],
    act: Callable[[Pilot[Any]], Coroutine[Any, Any, None]],
    size: tuple[int, int] = (110, 40),
) -> None:
    """Run an application and a test's actions on it."""

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await act(pilot)

    asyncio.run(run())


async def until(pilot: Pilot[Any], holds: Callable[[], object]) -> None:
    """Wait for a condition while the application runs."""
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end, f"not within {WAIT_S:.0f} s"
        await pilot.pause(0.05)
