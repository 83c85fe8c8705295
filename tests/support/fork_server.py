"""Runs of `mematlas` in forks of a process that has its modules loaded.

A start of the interpreter and its imports are most of the cost of a short run. A test that is about the
start, or that changes what a start reads (variables of Python or of the loader, limits, users, cgroups),
gets a process of its own.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import resource
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from mematlas.cli.blas_threads import limit_blas_threads
from mematlas.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_READ_AT_START = ("PYTHON", "LD_", "GLIBC_", "MALLOC_", "OPENBLAS_", "OMP_")
_PATIENCE_S = 300.0  # for a run that has closed its output, longer than it may have it open
_LIMITS = tuple(getattr(resource, each) for each in dir(resource) if each.startswith("RLIMIT_"))


def _inherited() -> tuple[Any, ...]:
    """Return what a process inherits from this one, environment and directory apart."""
    limits = [resource.getrlimit(each) for each in _LIMITS]
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    ids = os.getresuid(), os.getresgid(), os.getgroups()
    affinity = os.sched_getaffinity(0)
    return limits, signals, ids, affinity, Path("/proc/self/cgroup").read_text(), os.nice(0)


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are read when a process starts."""
    return {name: text for name, text in environment.items() if name.startswith(_READ_AT_START)}


@dataclass(frozen=True)
class ForkServer:
    """A process with the modules of mematlas, which forks for each run."""

    owner: int  # the process that may use it
    inherited: tuple[Any, ...]
    at_start: dict[str, str]
    process: subprocess.Popen[bytes]
    channel: socket.socket

    @classmethod
    def start(cls) -> ForkServer:
        """Start the process; it ends with this one."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, cwd="/"
            )
        atexit.register(cls._end, os.getpid(), process, ours)
        return cls(os.getpid(), _inherited(), _at_start(os.environ), process, ours)

    @staticmethod
    def _end(owner: int, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        if os.getpid() == owner:
            channel.close()
            process.wait(60)

    def fits(self, environment: Mapping[str, str]) -> bool:
        """Return whether a fork is as a process that is started now."""
        return (
            os.getpid() == self.owner
            and self.process.poll() is None
            and _at_start(environment) == self.at_start
            and _inherited() == self.inherited
        )

    def start_run(
        self, words: Sequence[str], cwd: Path | None, environment: Mapping[str, str]
    ) -> ForkedRun:
        """Start `mematlas WORDS`, beside others of this process."""
        ours, theirs = _pipes()
        answer, answered = os.pipe()
        request = json.dumps([list(words), str(cwd or Path.cwd()), dict(environment)]).encode()
        self.channel.sendall(len(request).to_bytes(4, "little") + request)
        socket.send_fds(self.channel, [b"x"], [*theirs, answered])
        for each in (*theirs, answered):
            os.close(each)
        return ForkedRun(_number(answer), ours, answer)

    def run(
        self,
        words: Sequence[str],
        cwd: Path | None,
        environment: Mapping[str, str],
        stdin: bytes,
        timeout_s: float,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `mematlas WORDS` to its end; raise TimeoutExpired, and end it, if that takes too long."""
        with self.start_run(words, cwd, environment) as run:
            try:
                stdout, stderr = _exchange(run.pipes, stdin, time.monotonic() + timeout_s)
            except TimeoutError:
                raise subprocess.TimeoutExpired(list(words), timeout_s) from None
            return subprocess.CompletedProcess(list(words), run.wait(), stdout, stderr)


class ForkedRun:
    """A run of the fork server; the methods are those of `subprocess.Popen`."""

    def __init__(self, pid: int, pipes: list[int], answer: int) -> None:
        self.pid = pid
        self.pipes = pipes  # our ends of standard input, output and errors
        self._answer = answer
        self.returncode: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.poll() is None:
            self.kill()
            self.wait()
        for each in (*self.pipes, self._answer):
            with suppress(OSError):
                os.close(each)

    def open_errors(self) -> IO[str]:
        """Return what the run writes to its standard error, as a file to be closed."""
        return os.fdopen(self.pipes.pop(), encoding="utf-8")

    def poll(self) -> int | None:
        """Return the status if the run has ended."""
        if self.returncode is None and select.select([self._answer], [], [], 0)[0]:
            self.returncode = _number(self._answer)
        return self.returncode

    def wait(self, timeout: float = _PATIENCE_S) -> int:
        """Return the status at the end of the run. Raises TimeoutExpired."""
        select.select([self._answer], [], [], timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(f"run {self.pid}", timeout)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal to the run, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the run, unless it has ended."""
        self.send_signal(signal.SIGKILL)


def _pipes() -> tuple[list[int], list[int]]:
    """Return our ends of standard input, output and errors, and those of the run."""
    (his_in, our_in), (our_out, his_out), (our_errors, his_errors) = (os.pipe() for _ in range(3))
    return [our_in, our_out, our_errors], [his_in, his_out, his_errors]


def _exchange(pipes: list[int], stdin: bytes, end_s: float) -> tuple[bytes, bytes]:
    """Write the input and read both outputs to their ends, and remove those that are closed. Raises TimeoutError."""
    feed, *outputs = pipes
    read = {each: bytearray() for each in outputs}
    os.set_blocking(feed, False)
    with selectors.DefaultSelector() as selector:
        selector.register(feed, selectors.EVENT_WRITE)
        for each in outputs:
            selector.register(each, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0, end_s - time.monotonic()))
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                if key.fd == feed:
                    stdin = _fed(feed, stdin)
                    done = not stdin
                else:
                    piece = os.read(key.fd, 1 << 16)
                    read[key.fd] += piece
                    done = not piece
                if done:
                    selector.unregister(key.fd)
                    pipes.remove(key.fd)  # another thread may get the number
                    os.close(key.fd)
    stdout, stderr = read.values()
    return bytes(stdout), bytes(stderr)


def _fed(feed: int, stdin: bytes) -> bytes:
    """Write some of the input; return what is left: nothing if nobody reads any more."""
    try:
        return stdin[os.write(feed, stdin[: 1 << 16]) :]
    except BrokenPipeError:
        return b""


def _bytes(read: Callable[[int], bytes], count: int) -> bytes:
    """Read so many bytes; fewer at the end of the other side."""
    found = b""
    while len(found) < count and (piece := read(count - len(found))):
        found += piece
    return found


def _number(answer: int) -> int:
    found = _bytes(partial(os.read, answer), 4)
    if len(found) < 4:
        raise ConnectionError("the fork server has ended")
    return int.from_bytes(found, "little", signed=True)


def serve(channel: socket.socket) -> int:
    """Fork for each request until the other side ends; return the status of the run, in the fork."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    while size := _bytes(channel.recv, 4):
        request = json.loads(_bytes(channel.recv, int.from_bytes(size, "little")))
        _, descriptors, _, _ = socket.recv_fds(channel, 1, 4)
        if not os.fork():
            channel.close()
            return _supervise(descriptors[:3], descriptors[3], request)
        for each in descriptors:
            os.close(each)
    return 0


def _supervise(descriptors: list[int], answer: int, request: list[Any]) -> int:
    """Fork the run, and write its PID and its status; return the status of the run, in the fork."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        os.close(answer)
        return _run(descriptors, *request)
    for each in descriptors:
        os.close(each)
    with suppress(BrokenPipeError):
        os.write(answer, pid.to_bytes(4, "little"))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(answer, status.to_bytes(4, "little", signed=True))
    os._exit(0)


def _run(descriptors: list[int], words: list[str], cwd: str, environment: dict[str, str]) -> int:
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["mematlas", *words]
    return main(words)


def load_modules() -> None:
    """Import what a run imports; NumPy without threads of its own."""
    limit_blas_threads()
    for name in (
        "mematlas.api.load",
        "mematlas.api.recording",
        "mematlas.api.views",
        "mematlas.cli.attach",
        "mematlas.cli.run",
        "mematlas.report.analyse.leaks",
        "mematlas.report.analyse.report",
        "mematlas.report.text.summary",
        "mematlas.tracing.attach",
        "mematlas.tracing.loop",
        "rich.console",
    ):
        import_module(name)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    load_modules()
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1]))))
