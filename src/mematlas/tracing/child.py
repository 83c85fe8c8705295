"""The traced program as a child process: its environment, start, signals and exit status."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas._core import LeftKind
from mematlas.errors import AccessError, MematlasError, TargetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

LIBRARY = "libmematlas_trace.so"
# As in native/tracer/environment.c: glibc's loader expands $ORIGIN, musl's finds no such file and goes on.
_FROM_ORIGIN = "$ORIGIN" + "/.." * 32
_SANITIZERS = ("libasan.so", "libtsan.so", "liblsan.so", "libclang_rt.")
_HIGH_DESCRIPTOR = 900  # above those that programs expect to be given next
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def library() -> str:
    """Return the path of the tracer's library. MematlasError if the installation lacks it."""
    found = os.path.join(os.path.dirname(os.path.dirname(__file__)), LIBRARY)  # noqa: PTH118, PTH120
    if os.path.exists(found):  # noqa: PTH110
        return found
    from importlib import resources  # an editable install has its libraries elsewhere

    found = str(os.fspath(resources.files("mematlas").joinpath(LIBRARY)))  # type: ignore[call-overload]
    if not os.path.exists(found):  # noqa: PTH110
        raise MematlasError(f"{found} is missing; reinstall mematlas")
    return found


@contextmanager
def _preload_path() -> Iterator[str]:
    """Yield a path of the tracer for LD_PRELOAD, which separates its entries by spaces and colons.

    Where the path has such characters, programs inherit an open file instead.
    """
    found = library()
    if not any(character in found for character in " :;"):
        yield found
        return
    descriptor = os.open(found, os.O_RDONLY)
    try:
        moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD, _HIGH_DESCRIPTOR)
    finally:
        os.close(descriptor)
    try:
        yield f"/proc/self/fd/{moved}"
    finally:
        os.close(moved)


def inherited_environment() -> dict[str, str]:
    """Return this process's environment variables as it was started with them.

    Left out are those with an empty name, which Wine and Cygwin leave behind and subprocess refuses, and
    LC_CTYPE where Python has set it for itself (PEP 538).
    """
    found = {name: value for name, value in os.environ.items() if name}
    if "LC_CTYPE" in found and b"LC_CTYPE=" not in _initial_variables():
        del found["LC_CTYPE"]
    return found


def _initial_variables() -> set[bytes]:
    """Read the names of the variables this process was started with, each with its `=`."""
    try:
        text = Path("/proc/self/environ").read_bytes()
    except OSError:
        return {b"LC_CTYPE="}
    return {variable.partition(b"=")[0] + b"=" for variable in text.split(b"\0")}


def start(
    command: Sequence[str], program: str, session: str, left: LeftKind = LeftKind.NOT
) -> subprocess.Popen[bytes]:
    """Start a program with the tracer preloaded; it inherits the standard streams and open files.

    `session`: the text by which it joins. `left`: why the program cannot load the tracer. A static program passes the tracer on to the programs
    that it starts.

    Raises:
        TargetError: the program, or its loader, does not exist.
        AccessError: the kernel refuses to execute it.
        UsageError: execve(2) failed for another reason.
    """
    environment = inherited_environment()
    before = environment.get("LD_PRELOAD")
    try:
        with _preload_path() as path:
            if left in {LeftKind.NOT, LeftKind.STATIC} and not _preloads_sanitizer(before or ""):
                preload = path if left is LeftKind.NOT else _FROM_ORIGIN + path
                environment["LD_PRELOAD"] = preload if before is None else f"{preload}:{before}"
                environment["MEMATLAS_SESSION"] = session
            return subprocess.Popen(
                list(command), executable=program, env=environment, close_fds=False
            )
    except FileNotFoundError:
        raise TargetError(f"{program}: no such program, or no such loader as it names") from None
    except PermissionError:
        raise AccessError(f"{program}: permission denied") from None
    except OSError as error:
        raise UsageError(f"{program}: cannot be run: {error.strerror}") from None


def _preloads_sanitizer(preloaded: str) -> bool:
    """Return whether LD_PRELOAD names the runtime of a sanitizer, which must come first."""
    return any(f"/{name}" in preloaded for name in _SANITIZERS)


class SignalForwarder:
    """Signals on their way to the program.

    `interrupts` counts SIGINT, which the terminal sends to both.
    """

    def __init__(self) -> None:
        """Start without a program; signals are kept until there is one."""
        self.interrupts = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._pending: list[int] = []

    def forward(self, number: int) -> None:
        """Send a signal to the program, or keep it until the program has started."""
        if self._child:
            self._child.send_signal(number)
        else:
            self._pending.append(number)

    def set_child(self, child: subprocess.Popen[bytes]) -> None:
        """Set the program, and send it the signals that came before it."""
        self._child = child
        for number in self._pending:
            child.send_signal(number)


@contextmanager
def forward_signals() -> Iterator[SignalForwarder]:
    """Forward signals to the program while the block runs; they do not end the recording.

    Enter the block before the program starts: a signal may come before start() returns.
    """
    forwarder = SignalForwarder()

    def count_interrupt(_number: int, _frame: FrameType | None) -> None:
        forwarder.interrupts += 1

    def forward(number: int, _frame: FrameType | None) -> None:
        forwarder.forward(number)

    handlers = dict.fromkeys(_FORWARDED, forward) | {
        signal.SIGINT: count_interrupt,
        signal.SIGQUIT: lambda *_: None,  # the terminal sends it to the program as well
    }
    ignored = {number for number in handlers if signal.getsignal(number) == signal.SIG_IGN}
    before = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if number not in ignored
    }
    try:
        yield forwarder
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_status(returncode: int) -> int:
    """Return the exit status that a shell reports: 128 + N for signal N."""
    return returncode if returncode >= 0 else 128 - returncode


def format_wait_status(status: int) -> str:
    """Format a status of wait(2): "exited 0", "killed by SIGKILL"."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:
            return f"killed by signal {number}"
    return f"exited {os.WEXITSTATUS(status)}"
