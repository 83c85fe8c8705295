"""Ends of an attachment: the program or mematlas is stopped, killed or interrupted."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from attachments import (
    Obedient,
    attached,
    mematlas,
    recorded,
    wait_until_recorded,
)
from traced_runs import MEMATLAS
from waiting import wait_until

if TYPE_CHECKING:
    from conftest import Build

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="attach works on x86-64 alone"),
]


def is_announced(pid: int) -> bool:
    """Return whether a process is announced as attached to."""
    return f"@mematlas-attach.{pid}." in Path("/proc/net/unix").read_text(errors="replace")


def test_a_stopped_process_stays_stopped(build: Build, tmp_path: Path) -> None:
    """A process that SIGSTOP stopped is attached to, stays stopped, and goes on at SIGCONT."""
    program, file = Obedient(build("obeys")), tmp_path / "a.atlas"
    pid = program.process.pid
    in_read = "0 "  # the number of the system call, on x86-64
    wait_until(lambda: Path(f"/proc/{pid}/syscall").read_text().startswith(in_read), "its read()")
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    with attached(pid, file, "--exact"):
        wait_until(lambda: " T " in Path(f"/proc/{pid}/stat").read_text(), "the group stop")
        os.kill(pid, signal.SIGCONT)
        program.tell("a")
    assert program.end() == (7, "")
    assert recorded(file).sum("allocations", "allocate", kind="malloc") == 1000


def test_the_program_is_killed(build: Build, tmp_path: Path) -> None:
    """After kill -9 the recording is complete and has the ending."""
    program, file = Obedient(build("obeys")), tmp_path / "a.atlas"
    with attached(program.process.pid, file, "--exact", "--interval", "100ms"):
        program.tell("a")
        program.kill()
    run = recorded(file)
    assert run.report["complete"]
    assert run.sum("allocations", "allocate", kind="malloc") == 1000
    assert run.report["processes"][0]["ending"] in {"killed by SIGKILL", "running", "ended"}


def test_mematlas_is_killed(build: Build, tmp_path: Path) -> None:
    """After mematlas is killed the program goes on; detach removes the hooks, and it can be attached to again."""
    program, file = Obedient(build("obeys")), tmp_path / "a.atlas"
    pid = program.process.pid
    attach = subprocess.Popen(
        [*MEMATLAS, "attach", str(pid), "-o", str(file), "--exact"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert attach.stderr is not None
    assert "attached to" in attach.stderr.readline()
    wait_until(lambda: is_announced(pid), "the announcement")
    program.tell("a")
    wait_until_recorded(file, 1000)
    attach.kill()
    attach.wait()
    attach.stderr.close()
    for _ in range(20):
        program.tell("t")
    done = mematlas("detach", str(pid))
    assert done.returncode == 0, done.stderr
    assert not is_announced(pid)
    with attached(pid, tmp_path / "b.atlas", "--exact"):
        program.tell("a")
    assert program.end() == (7, "")
    assert recorded(file).sum("allocations", "allocate", kind="malloc") == 1000
    assert recorded(tmp_path / "b.atlas").sum("allocations", "allocate", kind="malloc") == 1000


def test_interrupt_ends_the_recording_not_the_program(build: Build, tmp_path: Path) -> None:
    """Ctrl-C ends `mematlas attach`, not the program."""
    program, file = Obedient(build("obeys")), tmp_path / "a.atlas"
    with attached(program.process.pid, file, "--exact") as attach:
        program.tell("a")
        attach.send_signal(signal.SIGINT)
    assert program.tell("a") == "done a 2000 0\n"
    assert program.end() == (7, "")
    assert recorded(file).sum("allocations", "allocate", kind="malloc") == 1000
