"""Runs of one program: bare, sampled, exact, attached."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from .catalogue import ZOO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .catalogue import Program

MODES = ("bare", "sampled", "exact", "attached")
MEMATLAS = (sys.executable, "-m", "mematlas")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run left behind. `differences()` compares it with the bare run."""

    mode: str
    status: int | None  # None: it hung and was ended
    output: str  # stdout, `load` and `check`, without what is volatile
    cpu_s: float  # of the program and its children, without mematlas
    recording: Path | None = None
    tracer_stderr: str = field(default="", repr=False)
    attach_status: int | None = None

    def differences(self, bare: Outcome) -> list[str]:
        """List what differs from the bare run."""
        found = []
        if self.status is None:
            found.append("hangs")
        elif self.status != bare.status:
            found.append(f"status {self.status}, bare {bare.status}")
        if self.output != bare.output:
            found.append("output")
        if self.attach_status:
            found.append(f"attach failed: {self.tracer_stderr.strip().splitlines()[-1:]}")
        return found


def run(program: Program, mode: str, folder: Path, python: str) -> Outcome:
    """Run a program in an empty folder in one mode."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o777)  # servers drop to a user of their own
    names = {
        "work": str(ZOO / "workloads"),
        "tmp": str(folder),
        "python": python,
        "home": str(Path.home()),
        "port": str(_port()),
    }

    def fill(text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda match: names.get(match[1], match[0]), text)

    if program.prepare:
        _shell(fill(program.prepare), folder, program.timeout)
    recording = None if mode == "bare" else folder / "run.atlas"
    argv = ["bash", "-c", f"exec {fill(program.command)}"]
    if mode in {"sampled", "exact"}:
        exact = ["--exact"] if mode == "exact" else []
        argv = [*MEMATLAS, "run", *exact, "-o", str(recording), "--", *argv]
    with _Child(argv, folder) as child:
        text, attach_status = _serve(
            program, child, fill, recording if mode == "attached" else None
        )
        status, cpu_s = child.wait(program.timeout)
    output = [(folder / "stdout").read_text(errors="replace"), text]
    if program.check:
        output.append(_shell(fill(program.check), folder, program.timeout).stdout)
    output_text = "\n".join(output).replace(str(folder), "TMP").replace(names["port"], "PORT")
    if program.volatile:
        output_text = re.sub(program.volatile, "", output_text)
    log = "attach.stderr" if mode == "attached" else "stderr"
    stderr = (folder / log).read_text(errors="replace") if (folder / log).exists() else ""
    return Outcome(mode, status, output_text, cpu_s, recording, stderr, attach_status)


def _serve(
    program: Program, child: _Child, fill: Callable[[str], str], recording: Path | None
) -> tuple[str, int | None]:
    """Load a server and stop it; attach where `recording` is given. Return the load's output."""
    text = ""
    if program.ready:
        child.wait_ready(fill(program.ready), program.timeout)
    attaching = _attach(program, child, recording) if recording is not None else None
    if program.load:
        done = _shell(fill(program.load), child.folder, program.timeout)
        text = f"{done.stdout}\nload: status {done.returncode}"
    attach_status = None
    if attaching is not None:
        attach_status = attaching.wait(120)
    if program.ready:
        child.count_cpu()
        if program.stop:
            _shell(fill(program.stop), child.folder, program.timeout)
        else:
            child.signal(signal.SIGTERM)
    return text, attach_status


def _attach(program: Program, child: _Child, recording: Path) -> subprocess.Popen[bytes]:
    """Start to attach to the program, for three seconds or until it ends."""
    time.sleep(0 if program.ready else 0.7)
    pid = child.main_pid(program.main)
    with (child.folder / "attach.stderr").open("wb") as log:
        return subprocess.Popen(
            [*MEMATLAS, "attach", str(pid), "--duration", "3s", "-o", str(recording)],
            stderr=log,
            stdout=log,
        )


class _Child:
    """The program as a process group of its own, under mematlas or bare."""

    def __init__(self, argv: Sequence[str], folder: Path) -> None:
        self.folder = folder
        self._traced = argv[0] == MEMATLAS[0]
        self._cpu_s: float | None = None
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                start_new_session=True,
                env=dict(os.environ) | {"HOME": str(folder), "LC_ALL": "C.UTF-8"},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End what the program left behind in its session."""
        for pid in list(_descendants(self._process.pid)):
            _kill(pid)
        _kill(self._process.pid)
        self._process.wait()

    def root_pid(self) -> int:
        """Return the program's own PID: under `mematlas run` the child of mematlas."""
        if not self._traced:
            return self._process.pid
        return next(_children(self._process.pid), self._process.pid)

    def main_pid(self, pattern: str) -> int:
        """Return the first process whose command matches, else the root."""
        root = self.root_pid()
        if pattern:
            for pid in [root, *_descendants(root)]:
                if re.search(pattern, _command(pid)):
                    return pid
        return root

    def signal(self, number: int) -> None:
        """Send a signal to the program, not to mematlas."""
        pid = self.root_pid()
        if not (self._traced and pid == self._process.pid):
            os.kill(pid, number)

    def wait_ready(self, command: str, timeout: float) -> None:
        """Wait until a server answers. Raise TimeoutError where it does not."""
        end = time.monotonic() + min(timeout, 90)
        while _shell(command, self.folder, 60).returncode:
            if time.monotonic() > end or self._process.poll() is not None:
                raise TimeoutError(f"it never answered: {command}")
            time.sleep(0.2)

    def count_cpu(self) -> None:
        """Note the CPU seconds of a server before it is stopped."""
        root = self.root_pid()
        self._cpu_s = sum(map(_cpu_s, [root, *_descendants(root)]))

    def wait(self, timeout: float) -> tuple[int | None, float]:
        """Wait for the end. Return the status, None where it hung, and the CPU seconds."""
        end = time.monotonic() + timeout
        cpu_s = 0.0
        while self._process.poll() is None:
            if time.monotonic() > end:
                return None, cpu_s
            root = self.root_pid()
            if not self._traced or root != self._process.pid:
                cpu_s = max(cpu_s, sum(map(_cpu_s, [root, *_descendants(root)])))
            time.sleep(0.05)
        status = self._process.returncode
        status = status if status >= 0 else 128 - status  # as a shell and mematlas report a signal
        return status, cpu_s if self._cpu_s is None else self._cpu_s


def _shell(command: str, folder: Path, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a shell command with its output captured."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        env=dict(os.environ) | {"HOME": str(folder), "LC_ALL": "C.UTF-8"},
    )


def _port() -> int:
    """Return a free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _children(pid: int) -> Iterator[int]:
    """Return the children of all threads of a process."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        texts = [(task / "children").read_text() for task in tasks]
    except OSError:
        return
    yield from (int(word) for text in texts for word in text.split())


def _descendants(pid: int) -> Iterator[int]:
    """Return children, their children, and so on."""
    for child in _children(pid):
        yield child
        yield from _descendants(child)


def _command(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except OSError:
        return ""


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and of its children that it waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
