"""Signals that end a server after its last push."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def end_signals(*numbers: signal.Signals) -> Iterator[Callable[[], object]]:
    """Yield a function that waits for one of some signals, which end nothing meanwhile. For the main thread.

    They are blocked in all threads that begin meanwhile: a handler of Python waits for the main thread, which
    sleeps on if the kernel gives the signal to another one. Threads that began earlier would end the process.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield lambda: signal.sigwait(numbers)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
