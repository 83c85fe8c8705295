"""A line on standard error that says what a command is doing. It appears after a second, and goes at the end."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mematlas.present.printable import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, TaskID

DELAY_S = 1.0
_PER_SECOND = 4  # how often the line is drawn


class _ProgressLine:
    """The line of one command. It is drawn by threads, because the command computes meanwhile.

    Invariant: `_drawn` is None, or draws on standard error until end() is called.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._began_s = time.monotonic()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._drawn: tuple[Progress, TaskID] | None = None
        with suppress(RuntimeError):  # no memory or no thread is left for it
            threading.Thread(target=self._wait, name="progress", daemon=True).start()

    def say(self, text: str) -> None:
        """Replace the text."""
        with self._lock:
            self._text = text
            if self._drawn is not None:
                progress, task = self._drawn
                progress.update(task, description=clean(text))

    def end(self) -> None:
        """Remove the line; it does not come back."""
        self._over.set()
        with self._lock:
            if self._drawn is not None:
                self._drawn[0].stop()
                self._drawn = None

    def _wait(self) -> None:
        if self._over.wait(DELAY_S):
            return
        progress, task = self._made()
        with self._lock:
            if not self._over.is_set():
                progress.update(task, description=clean(self._text))
                progress.start()
                self._drawn = progress, task

    def _made(self) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column

        progress = Progress(
            SpinnerColumn(),
            TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis"),
            ),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            refresh_per_second=_PER_SECOND,
            redirect_stdout=False,
            transient=True,
        )
        task = progress.add_task("", total=None)
        progress.tasks[0].start_time = self._began_s
        return progress, task


_current: _ProgressLine | None = None


def step(text: str) -> None:
    """Show what is being done now, such as "reading app.atlas"."""
    if _current is not None:
        _current.say(text)


def end() -> None:
    """Remove the line, because the result is printed from now on."""
    global _current  # noqa: PLW0603 - there is one terminal
    if _current is not None:
        _current.end()
        _current = None


@contextmanager
def progress_line(text: str) -> Iterator[None]:
    """Show a line while the block runs, if that takes over a second and standard error is a terminal."""
    global _current  # noqa: PLW0603 - there is one terminal
    if _current is None and sys.stderr.isatty():
        _current = _ProgressLine(text)
    try:
        yield
    finally:
        end()
