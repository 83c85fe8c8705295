"""The traced program itself: started with the tracer preloaded, signals passed on, status kept."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING

from mematlas.errors import AccessError, MematlasError, TargetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import FrameType

LIBRARY = "libmematlas_trace.so"
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def library() -> str:
    """Path of the tracer."""
    found = str(os.fspath(resources.files("mematlas").joinpath(LIBRARY)))  # type: ignore[call-overload]
    if not os.path.exists(found):  # noqa: PTH110
        raise MematlasError(f"{found} is missing; install mematlas anew")
    return found


def _library_for(session: Path) -> str:
    """Path of the tracer, by way of the session where LD_PRELOAD could not hold it."""
    found = library()
    if not any(character in found for character in " :;"):
        return found
    link = session / LIBRARY
    link.symlink_to(found)
    return str(link)


def inherited() -> dict[str, str]:
    """Give the environment for a program: all of ours that has a name.

    Wine and Cygwin leave variables without one, which Python can hand to no program.
    """
    return {name: value for name, value in os.environ.items() if name}


def start(command: Sequence[str], program: str, session: Path) -> subprocess.Popen[bytes]:
    """Start the program; its standard streams and open files are ours."""
    environment = inherited()
    preloaded = environment.get("LD_PRELOAD", "")
    preload = _library_for(session)
    environment["LD_PRELOAD"] = f"{preload}:{preloaded}" if preloaded else preload
    environment["MEMATLAS_SESSION"] = str(session)
    try:
        return subprocess.Popen(list(command), executable=program, env=environment, close_fds=False)
    except FileNotFoundError:
        raise TargetError(f"{program}: it, or the loader it names, is not there") from None
    except PermissionError:
        raise AccessError(f"{program}: the kernel refuses to run it") from None
    except OSError as error:
        raise UsageError(f"{program}: cannot be run: {error.strerror}") from None


class Interrupts:
    """Counts Ctrl-C: the terminal gives it to the program, which decides; the second is for us."""

    def __init__(self) -> None:
        """Start with none, and no program."""
        self.count = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def pass_on(self, number: int) -> None:
        """Send a signal to the program, once there is one."""
        if self._child:
            self._child.send_signal(number)
        else:
            self._early.append(number)

    def started(self, child: subprocess.Popen[bytes]) -> None:
        """Take the program that signals are meant for."""
        self._child = child
        for number in self._early:
            child.send_signal(number)


@contextmanager
def signals_passed_on() -> Iterator[Interrupts]:
    """While inside, signals meant for the program reach it, and do not end the recording.

    To be entered before the program starts: it may be done, and signalled, before we are back.
    """
    interrupts = Interrupts()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        interrupts.count += 1

    def pass_on(number: int, _frame: FrameType | None) -> None:
        interrupts.pass_on(number)

    handlers = dict.fromkeys(_PASSED_ON, pass_on) | {
        signal.SIGINT: interrupt,
        signal.SIGQUIT: lambda *_: None,  # the terminal gives this one to the program too
    }
    ignored = {number for number in handlers if signal.getsignal(number) == signal.SIG_IGN}
    before = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if number not in ignored
    }
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_status(returncode: int) -> int:
    """Give the status as a shell does: 128 + N for signal N."""
    return returncode if returncode >= 0 else 128 - returncode


def ending(status: int) -> str:
    """Put a status from wait() in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:
            return f"killed by signal {number}"
    return f"exited {os.WEXITSTATUS(status)}"
