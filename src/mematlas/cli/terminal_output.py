"""Standard output in a terminal: what is longer than the screen goes through a pager, by git's rules."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO, cast

from mematlas.present import progress

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Iterator

_OPTIONS = {
    "LESS": "FRX",
    "LV": "-c",
}  # unless the user has set them: leave if one screen is enough
_NO_PAGER = {"", "cat"}
_SHELL_LETTERS = frozenset(" \t\n|&;<>()$`\\\"'*?[#~=%")


class TerminalOutput:
    """Standard output of a command. At the first write the progress line ends and the pager starts.

    Rich takes the object for the terminal that it stands for. What is written after the user has left
    the pager is dropped: the command still ends with its own exit code.
    """

    def __init__(self, terminal: TextIO, pager: str | None) -> None:
        """Write to a terminal, or through a pager to it."""
        self._terminal, self._pager = terminal, pager
        self._process: subprocess.Popen[str] | None = None
        self._has_begun = self._is_left = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._terminal, name)

    @property
    def buffer(self) -> Any:
        """The stream of bytes."""
        return self._stream().buffer

    def isatty(self) -> bool:
        """Return True: the text is for a terminal, whether or not a pager shows it."""
        return True

    def write(self, text: str) -> int:
        """Write text."""
        with self._until_left():
            self._stream().write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines; no more are made once the user has left the pager."""
        for line in lines:
            self.write(line)
            if self._is_left:
                break

    def flush(self) -> None:
        """Write out what is buffered."""
        if self._has_begun:
            with self._until_left():
                self._stream().flush()

    def close(self) -> None:
        """Close the pager's input and wait until the user leaves the pager. The terminal stays open."""
        self.flush()
        if self._process is None:
            return
        with suppress(BrokenPipeError):
            cast("TextIO", self._process.stdin).close()
        while True:
            try:
                self._process.wait()
            except KeyboardInterrupt:  # meant for the pager, which goes on
                continue
            return

    def _stream(self) -> TextIO:
        if not self._has_begun:
            self._has_begun = True
            progress.end()
            if self._pager is not None:
                self._process = _start(self._pager, self._terminal.encoding)
        if self._process is not None:
            return cast("TextIO", self._process.stdin)
        return self._terminal

    @contextmanager
    def _until_left(self) -> Iterator[None]:
        if self._is_left:
            with suppress(BrokenPipeError):
                yield
            return
        try:
            yield
        except BrokenPipeError:
            if self._process is None:
                raise
            self._is_left = True


def find_pager() -> str | None:
    """Return the pager's shell command, by $MEMATLAS_PAGER, $PAGER or less; None for output without one."""
    if os.environ.get("TERM", "dumb") == "dumb":
        return None
    for name in ("MEMATLAS_PAGER", "PAGER"):
        if (command := os.environ.get(name)) is not None:
            break
    else:
        command = "less"
    command = command.strip()
    if command in _NO_PAGER:
        return None
    if _SHELL_LETTERS.isdisjoint(command):
        import shutil  # not at the start of each command: most need no pager

        if shutil.which(command) is None:
            return None
    return command


@contextmanager
def terminal_output(*, paged: bool) -> Iterator[None]:
    """Pass standard output through a pager while the block runs, if it is a terminal."""
    terminal = sys.stdout
    if not terminal.isatty():
        yield
        return
    output = TerminalOutput(terminal, find_pager() if paged else None)
    sys.stdout = cast("TextIO", output)
    try:
        yield
    finally:
        sys.stdout = terminal
        output.close()


def _start(command: str, encoding: str) -> subprocess.Popen[str] | None:
    """Start the pager; None if that fails."""
    import subprocess

    options = {name: value for name, value in _OPTIONS.items() if name not in os.environ}
    with suppress(OSError):
        return subprocess.Popen(  # noqa: S602 - the user's own command, as git runs it
            command,
            shell=True,
            stdin=subprocess.PIPE,
            env={**os.environ, **options},
            text=True,
            encoding=encoding,
            errors="backslashreplace",
        )
    return None
