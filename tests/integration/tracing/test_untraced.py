"""Programs that ran untraced are named with the kernel's figure of their memory, and nothing else is."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from mematlas.linux.exec_records import ExecRecords
from traced_runs import bare, trace

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Build, Run
    from traced_runs import Traced

LONG = "20", "700"  # MiB, and milliseconds: seen on a busy machine


@pytest.fixture(autouse=True)
def perf() -> None:
    """Skip where perf_event_open is refused."""
    try:
        ExecRecords().close()
    except OSError as error:
        pytest.skip(f"perf_event_open: {error}")


def untraced(run: Traced) -> list[str]:
    """Return the notes about programs that ran untraced, which standard error has too."""
    notes = [note for note in run.report["notes"] if note.startswith("ran untraced: ")]
    assert run.stderr.count("ran untraced: ") == len(notes)
    assert run.report["complete"] is not bool(notes)
    return notes


@pytest.mark.parametrize("first", [False, True], ids=["child", "first"])
def test_a_static_program_is_named(build: Build, tmp_path: Path, first: bool) -> None:
    """The note has PID, command, peak RSS and reason; text and JSON tell that memory was missed."""
    static = build("holds", "-static")
    command = (static, *LONG) if first else ("sh", "-c", f"{static} 20 700; exit 6")
    run = trace(tmp_path / "s.atlas", command)
    assert run.outcome == bare(command)
    (note,) = untraced(run)
    assert f"{static} 20 700: peak RSS 2" in note
    assert note.endswith("MiB; static: it loads no libraries")
    shown = subprocess.run(
        ["mematlas", "report", str(run.file)], capture_output=True, text=True, check=True
    ).stdout
    assert "The recording is not complete" in shown


def test_a_musl_program_is_named(tmp_path: Path) -> None:
    """A program of another C library is named as such, and the shell before it is not."""
    if not shutil.which("musl-gcc"):
        pytest.skip("musl-gcc is not installed")
    (tmp_path / "m.c").write_text(
        "#include <unistd.h>\nint main(void) { usleep(500000); return 3; }\n"
    )
    subprocess.run(["musl-gcc", "m.c", "-o", "musl"], cwd=tmp_path, check=True)
    run = trace(tmp_path / "m.atlas", ["sh", "-c", f"/bin/true; {tmp_path}/musl"])
    assert run.outcome.status == 3
    (note,) = untraced(run)
    assert f"{tmp_path}/musl: " in note
    assert "another C library" in note


def test_traced_programs_are_not_named(traced: Run, build: Build) -> None:
    """Forks, execs in turn, and programs with a cleared environment are all accounted for."""
    holds = build("holds")
    script = f"for i in 1 2 3 4 5; do (/bin/true); env -i {holds} 1 0; done; exec env {holds} 1 0"
    run = traced("sh", "-c", script)
    assert untraced(run) == []
