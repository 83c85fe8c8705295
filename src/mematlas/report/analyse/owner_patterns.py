"""Regular expressions by which a user decides through which functions owners look."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mematlas.recording.model import Frame


@dataclass(frozen=True, slots=True)
class Patterns:
    """Regular expressions of function names: looked through, and never looked through."""

    skip: tuple[re.Pattern[str], ...] = ()
    keep: tuple[re.Pattern[str], ...] = ()

    def marks(self, frame: Frame) -> bool:
        """Return whether the user wants owners to look through a frame."""
        return any(each.search(frame.function) for each in self.skip)

    def keeps(self, frame: Frame) -> bool:
        """Return whether the user wants owners not to look through a frame. It outweighs `marks`."""
        return any(each.search(frame.function) for each in self.keep)


def patterns(skip: Iterable[str] = (), keep: Iterable[str] = ()) -> Patterns:
    """Compile the expressions of the options and, in addition, of the user's file.

    Raises UsageError for a malformed expression, and for a file that is there but cannot be read.
    """
    return Patterns(
        (
            *(_compile(each, f"--skip {each!r}") for each in skip),
            *(_compile(each, f"{place}: {each!r}") for each, place in _of_file()),
        ),
        tuple(_compile(each, f"--keep {each!r}") for each in keep),
    )


def settings_file() -> Path:
    """Return the file with expressions that every command uses, one a line.

    Raises RuntimeError if the user has no home directory.
    """
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".config") / "mematlas" / "skip"


def _of_file() -> Iterator[tuple[str, str]]:
    """Yield the expressions of the user's file, and their places."""
    try:
        path = settings_file()
    except RuntimeError:  # no HOME, and no entry in passwd
        return
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        # A home of another user, as below `sudo -u`, may hold anything; it is not this user's file.
        if isinstance(error, PermissionError) and not os.access(path.parent, os.X_OK):
            return
        raise UsageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: no UTF-8 text ({error.reason})") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield line.strip(), f"{path}:{number}"


def _compile(text: str, place: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"{place} is no regular expression: {error}") from None
