"""Files that reports, exports and merges write: whole or not at all, and only in a file's place."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from traced_runs import MEMATLAS

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Build, Run


@pytest.fixture
def recording(build: Build, traced: Run) -> Path:
    """Return a recording whose exports have some hundred kilobytes."""
    return traced(build("small_blocks")).file


def write(how: str, recording: Path, out: Path | str, **more: object) -> tuple[int, str]:
    """Write it in one of the ways there are; the status, and what was said."""
    command = {
        "export": ["export", str(recording), "--to", "csv", "-o", str(out)],
        "page": ["report", str(recording), "-o", str(out)],
        "merge": ["merge", str(recording), str(recording), "-o", str(out)],
    }[how]
    done = subprocess.run(
        [*MEMATLAS, *command],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **more,  # type: ignore[call-overload]
    )
    return done.returncode, done.stderr


WAYS = pytest.mark.parametrize("how", ["export", "page", "merge"])


@WAYS
def test_links_stay_and_modes_too(how: str, recording: Path, tmp_path: Path) -> None:
    """What a link leads to is written anew, with the rights it had."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to("target")
    assert write(how, recording, link)[0] == 0
    assert link.is_symlink()
    assert target.stat().st_size > 1000
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert not list(tmp_path.glob("*.part"))


@WAYS
def test_a_failure_leaves_what_was(how: str, recording: Path, tmp_path: Path) -> None:
    """With no room for the whole, the old file is there still, and nothing else."""
    out = tmp_path / "out"
    out.write_text("old")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))

    status, said = write(how, recording, out, preexec_fn=limit)
    assert status == 1
    assert "cannot write" in said
    assert "out" in said
    assert out.read_text() == "old"
    assert not list(tmp_path.glob("*.part"))


@WAYS
def test_a_pipe_is_written_to(how: str, recording: Path, tmp_path: Path) -> None:
    """What is no regular file is not replaced by one."""
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    status, said = write(how, recording, pipe)
    reader.join(60)
    assert status == 0, said
    assert len(read[0]) > 1000
    assert pipe.is_fifo()


@WAYS
def test_a_device_stays_one(how: str, recording: Path) -> None:
    """/dev/full has no room, and is there afterwards."""
    status, said = write(how, recording, "/dev/full")
    assert status == 1
    assert "/dev/full" in said
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)  # noqa: PTH116
