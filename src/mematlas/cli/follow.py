"""The live view of `run --live` and `attach --live`: mematlas runs as ever, and its recording is watched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError, UsageError
from mematlas.tracing.child import inherited_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.recording.frames import FrameCache
    from mematlas.recording.model import Recording

_TAIL = 64 << 10


def check_terminal() -> None:
    """Refuse where there is nothing to draw on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("--live needs a terminal on standard input and output")


class Watched:
    """A `mematlas run` or `attach` of its own process, its output kept in files."""

    def __init__(
        self, arguments: Sequence[str], path: str, folder: Path, *, attached: bool = False
    ) -> None:
        """Start it; `attached`: to a program that is not ours to interrupt."""
        self._path, self._attached = path, attached
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
        self._names: FrameCache | None = None

    def read(self) -> Recording | None:
        """Read what is recorded by now, and name what is new in it."""
        from mematlas.recording import read
        from mematlas.recording.frames import FrameCache

        if not Path(self._path).exists() or Path(self._path).stat().st_size == 0:
            return None
        try:
            recording = read(self._path)
        except MematlasError:
            if self.running:  # its first chunk is being written
                return None
            raise
        if self.running:  # not cut short, only not over
            recording.complete = True
        self._names = self._names or FrameCache()
        self._names.add_frames(recording)
        if self._program is None and recording.processes:
            self._program = recording.processes[0].pid
            if self._interrupted:
                self.interrupt()
        return recording

    @property
    def running(self) -> bool:
        """It is still recording."""
        return self.process.poll() is None

    def output(self) -> str:
        """Give the last of what was written to either stream."""
        found = []
        for each in self._files:
            with each.open("rb") as file:
                file.seek(max(0, each.stat().st_size - _TAIL))
                found.append(file.read().decode(errors="replace"))
        return "\n".join(each for each in found if each)

    def interrupt(self) -> None:
        """Send SIGINT to the program, once it is known; one that is attached to is let go instead."""
        self._interrupted = True
        target = self.process.pid if self._attached else self._program
        if target is not None:
            with suppress(OSError):
                os.kill(target, signal.SIGINT)

    def give_output(self) -> None:
        """Write to our own streams what was kept from them."""
        for each, stream in zip(self._files, (sys.stdout, sys.stderr), strict=True):
            with each.open("rb") as file:
                shutil.copyfileobj(file, stream.buffer)
            stream.flush()


def watch(arguments: Sequence[str], path: str, *, attached: bool = False) -> int:
    """Run mematlas with these arguments and show its recording until it ends, or one leaves the view.

    Leaving lets go of a program that is attached to; one that was started is waited for.
    """
    try:
        from mematlas.report.tui.app import RecordingApp
    except ImportError as error:
        raise MematlasError(
            f"--live needs Textual ({error.name} is missing): pip install 'mematlas[top]'"
        ) from None
    from mematlas.cli.top import is_light

    with tempfile.TemporaryDirectory(prefix="mematlas-live-") as folder:
        watched = Watched(arguments, path, Path(folder), attached=attached)
        app = RecordingApp(watched, dark=not is_light())
        try:
            app.run()
        finally:
            status = _wait(watched, attached)
            watched.give_output()
    return status


def _wait(watched: Watched, attached: bool) -> int:
    if watched.running and attached:
        watched.process.send_signal(signal.SIGINT)
    elif watched.running:
        print("mematlas: the program runs on; Ctrl-C interrupts it", file=sys.stderr)
    while True:
        try:
            return watched.process.wait()
        except KeyboardInterrupt:  # the terminal gave it to the program too
            continue
