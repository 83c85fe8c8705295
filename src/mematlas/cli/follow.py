"""The terminal view of `run --follow` and `attach --follow`: a second mematlas records, this one reads along."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.api.growing import GrowingRecording
from mematlas.errors import MematlasError, UsageError
from mematlas.tracing.child import inherited_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.recording.model import RecordingData

_TAIL = 64 << 10


def check_terminal() -> None:
    """Raise UsageError if there is no terminal to draw on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("--follow needs a terminal on standard input and output")


class FollowedRun:
    """A mematlas process that records, its output kept in files until the view ends."""

    def __init__(
        self, arguments: Sequence[str], path: str, folder: Path, *, attached: bool = False
    ) -> None:
        """Start the process. `attached`: it traces a program that must not be interrupted."""
        self._growing = GrowingRecording(path)
        self._attached = attached
        self._program: int | None = None
        self._interrupted = False
        self._files = [folder / "out", folder / "err"]
        out, err = (each.open("wb") for each in self._files)
        with out, err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mematlas", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=inherited_environment(),
            )

    def read(self) -> RecordingData | None:
        """Read what is recorded so far, and resolve new symbols; None before the first chunk."""
        try:
            recording = self._growing.read()
        except MematlasError:
            if self.running:  # its first chunk is being written
                return None
            raise
        if recording is None:
            return None
        if self.running:  # unfinished, not cut short
            recording.complete = True
        if self._program is None and recording.processes:
            self._program = recording.processes[0].pid
            if self._interrupted:
                self.interrupt()
        return recording

    @property
    def running(self) -> bool:
        """True while the process records."""
        return self.process.poll() is None

    def output(self) -> str:
        """Return the end of what was written to both streams."""
        found = []
        for each in self._files:
            with each.open("rb") as file:
                file.seek(max(0, each.stat().st_size - _TAIL))
                found.append(file.read().decode(errors="replace"))
        return "\n".join(each for each in found if each)

    def interrupt(self) -> None:
        """Send SIGINT to the traced program once its PID is known; detach from one that was attached to."""
        self._interrupted = True
        target = self.process.pid if self._attached else self._program
        if target is not None:
            with suppress(OSError):
                os.kill(target, signal.SIGINT)

    def copy_output(self) -> None:
        """Copy the kept output to the standard streams of this process."""
        for each, stream in zip(self._files, (sys.stdout, sys.stderr), strict=True):
            with each.open("rb") as file:
                shutil.copyfileobj(file, stream.buffer)
            stream.flush()


def follow(arguments: Sequence[str], path: str, *, attached: bool = False) -> int:
    """Run mematlas with these arguments, and show its recording until it ends or the user quits.

    Quitting detaches from a program that was attached to, and waits for one that was started.
    """
    try:
        from mematlas.report.tui.app import RecordingApp
    except ImportError as error:
        raise MematlasError(
            f"--follow needs Textual ({error.name} is missing): pip install 'mematlas[top]'"
        ) from None
    from mematlas.cli.top import is_light

    with tempfile.TemporaryDirectory(prefix="mematlas-follow-") as folder:
        followed = FollowedRun(arguments, path, Path(folder), attached=attached)
        app = RecordingApp(followed, dark=not is_light())
        try:
            app.run()
        finally:
            status = _wait(followed, attached)
            _copy_output(followed)
    return status


def _copy_output(followed: FollowedRun) -> None:
    try:
        followed.copy_output()
    except OSError as error:
        if error.errno != errno.EIO:  # the terminal is gone
            raise


def _wait(followed: FollowedRun, attached: bool) -> int:
    if followed.running and attached:
        followed.process.send_signal(signal.SIGINT)
    elif followed.running:
        with suppress(OSError):  # a terminal that is gone does not end the program
            print("mematlas: the program runs on; Ctrl-C interrupts it", file=sys.stderr)
    while True:
        try:
            return followed.process.wait()
        except KeyboardInterrupt:  # the terminal interrupts the program as well
            continue
