"""Ends of runs: signals to either side, unwritable recordings, children that stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.recording import read
from traced_runs import MEMATLAS, trace

if TYPE_CHECKING:
    from conftest import Build

SLEEP = ("sh", "-c", "echo up; exec sleep 30")


def started(file: Path, *command: str) -> subprocess.Popen[bytes]:
    """Start a run in its own process group and wait for output of the program."""
    run = subprocess.Popen(
        [*MEMATLAS, "run", "-o", str(file), "--", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == b"up\n"
    return run


def test_ctrl_c_keeps_what_was_recorded(tmp_path: Path) -> None:
    """The terminal's SIGINT ends the program; the recording is complete and has the ending."""
    file = tmp_path / "c.atlas"
    code = "import time; print('up', flush=True); time.sleep(60)"  # no exec that SIGINT may meet
    run = started(file, sys.executable, "-I", "-S", "-c", code)
    os.killpg(run.pid, signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGINT
    recording = read(file)
    assert recording.complete
    assert "killed by SIGINT" in [process.ending for process in recording.processes]


def test_sigterm_is_forwarded(tmp_path: Path) -> None:
    """SIGTERM sent to mematlas alone is forwarded and ends the program."""
    run = started(tmp_path / "t.atlas", *SLEEP)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM


def test_kill_of_mematlas_leaves_the_program_alone(tmp_path: Path) -> None:
    """After kill -9 of mematlas the program runs on, and the recording can be read."""
    file = tmp_path / "k.atlas"
    run = started(file, "sh", "-c", "echo up; read line; echo $line", "sh")
    run.kill()
    run.communicate()
    assert not read(file).complete

    run = started(file, "sh", "-c", "echo up; read line; echo still here")
    run.kill()
    run.wait()
    said, _ = run.communicate(b"go\n")
    assert said == b"still here\n"


def test_a_full_disk_costs_the_recording_not_the_program(tmp_path: Path) -> None:
    """A recording that cannot be written is reported before the program starts."""
    mark = tmp_path / "ran"
    command = ("sh", "-c", f"touch {mark}")
    for bad in ("/dev/full", str(tmp_path / "no" / "folder.atlas")):
        run = trace(Path(bad), command)
        assert (run.outcome.status, mark.exists()) == (1, False)
        assert run.stderr.count("\n") == 1


def test_a_child_that_stays_is_noted(tmp_path: Path) -> None:
    """A daemon is not awaited; the recording says that it was still running."""
    file = tmp_path / "d.atlas"
    command = ("sh", "-c", "sleep 20 >/dev/null 2>&1 & echo $!; exit 3")
    run = trace(file, command)
    assert run.outcome.status == 3
    os.kill(int(run.outcome.stdout), signal.SIGKILL)
    endings = {process.ending for process in read(file).processes}
    assert "still running when recording ended" in endings
    assert "exited 3" in endings


def test_children_by_the_hundred(tmp_path: Path) -> None:
    """Each of many short-lived programs is recorded with its exit status."""
    file = tmp_path / "m.atlas"
    script = "i=0; while [ $i -lt 300 ]; do /bin/sh -c 'exit 4'; i=$((i+1)); done; exit 9"
    run = trace(file, ("sh", "-c", script))
    assert run.outcome.status == 9
    endings = [process.ending for process in read(file).processes]
    assert endings.count("exited 4") + endings.count("ended") >= 300


HELD_AT_THE_END = """
import ctypes, sys, threading
library = ctypes.CDLL(sys.argv[1])
def keep(): return [bytes(100_000) for _ in range(200)]
threading.Thread(target=library.frees_always, daemon=True).start()
kept = keep()
"""


def test_a_thread_that_frees_at_the_end_does_not_end_the_program(
    build: Build, tmp_path: Path
) -> None:
    """Whichever thread is the first to see that the interpreter ends, what was live is in the recording."""
    library = build("frees_always", "-shared", "-fPIC")
    command = (sys.executable, "-S", "-c", HELD_AT_THE_END, library)
    for number in range(5):
        run = trace(tmp_path / f"{number}.atlas", command, "--sample-bytes", "50000")
        assert run.left("live_bytes", "keep") > 15_000_000
