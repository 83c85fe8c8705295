"""Guard of the unit tests: no live kernel, no socket, no child process."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

LIVE_FILES = ("/proc", "/sys", "/dev/shm")
FILE_EVENTS = {"open", "os.listdir", "os.scandir"}
REFUSED_EVENTS = {
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "subprocess.Popen",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.system",
}

_watching = False
_refused: list[str] = []


def _is_live(path: object) -> bool:
    if not isinstance(path, (str, bytes, os.PathLike)):
        return False
    text = "/" + os.path.abspath(os.fsdecode(path)).lstrip("/")  # noqa: PTH100  no links followed
    return any(text == root or text.startswith(f"{root}/") for root in LIVE_FILES)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event in REFUSED_EVENTS or (event in FILE_EVENTS and _is_live(arguments[0])):
        _refused.append(f"{event} {arguments[0]!r}")
        raise AssertionError(f"a unit test may not do this: {_refused[-1]}")


sys.addaudithook(_audit)  # cannot be removed, so a flag turns the hook on and off


@pytest.fixture(autouse=True)
def no_live_system() -> Iterator[None]:
    """Fail a unit test that reads the live kernel, opens a socket or starts a process.

    The check at the end finds attempts whose error the tested code has caught.
    """
    global _watching  # noqa: PLW0603
    _refused.clear()
    _watching = True
    yield
    _watching = False
    assert not _refused, f"a unit test may not do this: {'; '.join(_refused)}"
