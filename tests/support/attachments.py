"""Running `mematlas attach` on programs that obey."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from traced_runs import Outcome, Traced, fork_server, run_text
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fork_server import ForkedRun


class Obedient:
    """A program that answers each letter with a line."""

    def __init__(self, *command: str | Path, user: int | None = None) -> None:
        """Start the program and wait until it is ready."""
        self.process = subprocess.Popen(
            [*map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=user,
            bufsize=1,
        )
        assert self._stream(self.process.stdout).readline() == "ready\n"

    def tell(self, letter: str) -> str:
        """Send a command and return the answer."""
        self._stream(self.process.stdin).write(letter + "\n")
        return self._stream(self.process.stdout).readline()

    def end(self) -> tuple[int, str]:
        """End the program; return its status and its last output."""
        self._stream(self.process.stdin).write("q\n")
        rest = self._stream(self.process.stdout).read()
        status = self.process.wait(60)
        self.kill()
        return status, rest

    def kill(self) -> None:
        """Kill the program if it still runs."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            self._stream(pipe).close()

    @staticmethod
    def _stream(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream


@contextmanager
def attaching(*words: str) -> Iterator[tuple[ForkedRun, IO[str]]]:
    """Run `mematlas attach WORDS`, and return the run and what it writes to its standard error."""
    with (
        fork_server().start_run(["attach", *words], None, os.environ) as attach,
        attach.open_errors() as errors,
    ):
        yield attach, errors


@contextmanager
def attached(pid: int, file: Path, *options: str) -> Iterator[ForkedRun]:
    """Run `mematlas attach`; enter the block once it is attached, and detach at the end."""
    with attaching(str(pid), "-o", str(file), *options) as (attach, errors):
        first = errors.readline()
        assert "attached to" in first, first + errors.read()
        yield attach
        if attach.poll() is None:
            mematlas("detach", str(pid))
        said = errors.read()
        assert attach.wait(60) == 0, said


def recorded(file: Path) -> Traced:
    """Return a recording in the form of traced_runs."""
    return Traced(Outcome(0, b""), "", file, 1_000_000)


def wait_until_recorded(file: Path, allocations: int) -> None:
    """Wait until a recording that is being written has this many allocations."""
    wait_until(
        lambda: recorded(file).sum("allocations", "allocate", kind="malloc") >= allocations,
        f"{allocations} recorded allocations",
    )


def mematlas(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of mematlas."""
    return run_text(arguments)


def compiled(code: str, folder: Path) -> Path:
    """Compile a C program."""
    (folder / "program.c").write_text(code)
    command = ["gcc", "-O1", "-fno-builtin", str(folder / "program.c"), "-o"]
    subprocess.run([*command, str(folder / "program")], check=True)
    return folder / "program"


def tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for each in found:
        try:
            words = Path(f"/proc/{each}/task/{each}/children").read_text().split()
        except OSError:
            continue
        found += map(int, words)
    return found
