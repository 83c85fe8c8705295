"""Marks: moments that a program names, in C and in Python, under run, attach and mematlas.trace()."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from attachments import Obedient, attached
from mematlas.recording import read
from traced_runs import MEMATLAS

if TYPE_CHECKING:
    from conftest import Build, Run
    from mematlas.recording.model import RecordingData, Snapshot

HEADERS = f"-I{Path(__file__).parents[3] / 'native/include'}"
MIB = 1 << 20
PYTHON = """
import threading, mematlas
mematlas.mark("before")
held = bytearray(8 << 20)
mematlas.mark("held")
threads = [threading.Thread(target=mematlas.mark, args=("thread",)) for _ in range(4)]
[each.start() for each in threads]
[each.join() for each in threads]
del held
mematlas.mark("held")
"""


def account_at(recording: RecordingData, name: str, number: int = 0) -> Snapshot:
    """Return the snapshot that was taken for a mark."""
    mark = [each for each in recording.marks if each.name == name][number]
    (found,) = (
        each
        for each in recording.snapshots
        if each.process == mark.process and each.time_s == mark.account_s
    )
    assert found.trigger == "mark"
    assert found.time_s >= mark.time_s
    return found


def check_marks_of_c(recording: RecordingData) -> None:
    """Hold the marks of tests/programs/marks.c against what the program did."""
    names = Counter(each.name for each in recording.marks)
    assert names["before"] == names[""] == 1
    assert (names["loaded"], names["thread"]) == (2, 4)
    cut = [name for name in names if name.startswith("a name")]
    assert [len(name) for name in cut] == [63]
    live = [
        float(account_at(recording, *which).rows["live_bytes"].sum())
        for which in (("before", 0), ("loaded", 0), ("loaded", 1))
    ]
    assert live[1] - live[0] == 2 * MIB
    assert live[2] == live[0]
    first, second = account_at(recording, "before"), account_at(recording, "loaded")
    assert second.rss_bytes - first.rss_bytes >= 2 * MIB
    waited = [each for each in recording.marks if each.account_s is not None]
    assert sum(each.name == "loop" for each in waited) <= 32
    (process,) = recording.processes
    assert names["loop"] == 20000 or "marks not recorded" in process.note


def test_marks_of_a_native_program(build: Build, traced: Run) -> None:
    """A mark takes an account at its moment; a mark in a loop stops costing more than a record."""
    run = traced(build("marks", HEADERS), options=("--exact",))
    assert run.outcome.status == 0
    check_marks_of_c(read(run.file))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="attach works on x86-64 alone")
def test_marks_after_attach(build: Build, tmp_path: Path) -> None:
    """A program that is attached to has marks, too."""
    program, file = Obedient(build("marks", HEADERS), "waits"), tmp_path / "a.atlas"
    with attached(program.process.pid, file, "--exact"):
        assert program.tell("") == ""  # it ends
        program.kill()
    check_marks_of_c(read(file))


@pytest.mark.parametrize("how", ["run", "trace"])
def test_marks_of_python(tmp_path: Path, how: str) -> None:
    """mematlas.mark() works in threads, under run and inside mematlas.trace()."""
    file, script = tmp_path / "p.atlas", tmp_path / "program.py"
    if how == "run":
        script.write_text(PYTHON)
        command = [*MEMATLAS, "run", "--exact", "-o", str(file), "--", sys.executable, str(script)]
    else:
        body = "".join(f"    {line}\n" for line in PYTHON.splitlines())
        script.write_text(
            f"import mematlas\nwith mematlas.trace({str(file)!r}, exact=True):\n{body}"
            "mematlas.mark('after')\n"
        )
        command = [sys.executable, str(script)]
    subprocess.run(command, check=True, capture_output=True)
    recording = read(file)
    assert Counter(each.name for each in recording.marks) == {"before": 1, "held": 2, "thread": 4}
    before, held, after = (
        float(account_at(recording, *which).rows["live_bytes"].sum())
        for which in (("before", 0), ("held", 0), ("held", 1))
    )
    assert 8 * MIB <= held - before <= 8.5 * MIB
    assert after < before + MIB


def test_a_mark_of_a_program_that_is_not_traced(build: Build) -> None:
    """Nothing happens without the tracer."""
    assert subprocess.run([build("marks", HEADERS)], check=False).returncode == 0
    code = "import mematlas; mematlas.mark('x'); mematlas.mark('y' * 100)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_header_is_plain_c_and_cpp(tmp_path: Path) -> None:
    """The header compiles alone, strictly, in both languages."""
    for language, standard in (("c", "c99"), ("c++", "c++11")):
        command = ["gcc", "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Werror"]
        command += ["-pedantic", HEADERS, "-c", "-o", str(tmp_path / "out.o"), "-"]
        code = b'#include <mematlas_mark.h>\nvoid f(void) { mematlas_mark("x"); }\n'
        subprocess.run(command, input=code, check=True, capture_output=True)
