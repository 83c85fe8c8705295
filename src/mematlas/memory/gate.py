"""Calls of many threads into an object that one of them closes."""

from __future__ import annotations

import os
import time
import weakref
from threading import Event, RLock
from typing import TYPE_CHECKING

from mematlas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_PATIENCE_S = 1.0
_gates: weakref.WeakSet[Gate] = weakref.WeakSet()


class Gate:
    """Lets calls in until the object is closed: `with gate:` around each call.

    A call that arrives while close() decides waits for the decision.

        open   <=>  calls may be inside
        closed  =>  no call is inside, and none ever will be
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._inside: list[None] = []  # append and pop are atomic; an integer's += is not
        self._open, self._closed = True, False
        self._lock, self._left = RLock(), Event()
        _gates.add(self)

    def __enter__(self) -> None:
        while True:
            self._inside.append(
                None
            )  # before `_open` is read, as close() does it the other way round
            if self._open:
                return
            self._inside.pop()
            self._left.set()
            with self._lock:
                if self._closed:
                    raise UsageError(f"the {self._name} is closed")
                if not self._open:  # this thread is in close(): a finalizer that frees memory
                    self._inside.append(None)
                    return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inside.pop()
        if not self._open:
            self._left.set()

    def close(self, release: Callable[[], None]) -> None:
        """Wait for the calls that are inside, and release the object once. If that raises, open again.

        BufferError: a call has not ended within a second.
        """
        with self._lock:
            if self._closed:
                return
            self._open = False
            try:
                self._drain()
                release()
            except BaseException:
                self._open = True
                raise
            self._closed = True

    def _drain(self) -> None:
        end = time.monotonic() + _PATIENCE_S
        while self._inside:
            self._left.clear()
            left = end - time.monotonic()
            if left <= 0:
                message = f"a call of another thread still uses the {self._name}"
                raise BufferError(message)
            if self._inside:
                self._left.wait(min(left, 0.05))

    def reset(self) -> None:
        """Forget the threads that a forked child lacks."""
        self._inside, self._open = [], not self._closed
        self._lock, self._left = RLock(), Event()


def _reset_all() -> None:
    for gate in list(_gates):
        gate.reset()


os.register_at_fork(after_in_child=_reset_all)
