"""A disk that is really full: the program is unharmed, the recording opens, and one line says it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import mematlas
from waiting import WAIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk"),
]
# Very many stacks, each of them new: some hundred bytes of the recording each.
PROGRAM = """
import random, sys
kept = []
def leaf():
    kept.append(bytearray(600))
functions = [leaf]
for number in range(1, 200):
    names = {"kept": kept, "functions": functions, "random": random}
    exec(f"def f{number}(n):\\n    functions[random.randrange(1, {number})](n - 1) if n and {number} > 1 else functions[0]()", names)
    functions.append(names[f"f{number}"])
for _ in range(30000):
    random.choice(functions[1:])(25)
print(len(kept))
"""


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of a size."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "mematlas-test", folder],
        check=False, capture_output=True, text=True, timeout=WAIT_S,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True, timeout=WAIT_S)


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Record the program, whose output and status must be its own."""
    program = folder.parent / "app.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mematlas", "run", "--exact", "-o", folder / "app.atlas", *options,
         "--", sys.executable, "-S", program],
        capture_output=True, text=True, check=False, timeout=4 * WAIT_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "30000\n"), done.stderr
    return done


def test_one_file(tmp_path: Path) -> None:
    """It is cut short: what was written before opens, and the sums say until when they are."""
    with small_disk(tmp_path / "disk", "400k") as disk:
        done = run(disk)
        lines = [line for line in done.stderr.splitlines() if "No space left" in line]
        assert lines == [f"mematlas: {disk}/app.atlas is cut short: No space left on device"]
        recording = mematlas.open(disk / "app.atlas")
        assert not recording.complete
        assert any("cut short" in note for note in recording.report().notes)


def test_a_rolling_recording(tmp_path: Path) -> None:
    """The oldest segments go; what is left opens, is not called complete, and each message stands once."""
    with small_disk(tmp_path / "disk", "400k") as disk:
        done = run(disk, "--keep", "1h", "--disk", "64M")
        lines = [line for line in done.stderr.splitlines() if "is full" in line]
        assert lines
        assert len(set(lines)) == len(lines) <= 2
        assert all(
            line.startswith(f"mematlas: the disk of {disk}/app.atlas is full") for line in lines
        )
        assert not mematlas.open(disk / "app.atlas").complete


def test_a_lake(tmp_path: Path) -> None:
    """What does not fit is not in it, and leaves no files; what was added before is read."""
    pytest.importorskip("duckdb", reason="duckdb is not installed")
    with small_disk(tmp_path / "disk", "64k") as disk:
        counts: list[tuple[int, int]] = []
        for number in range(4):
            path = tmp_path / f"{number}.atlas"
            words = [
                "run",
                "-o",
                str(path),
                "--",
                sys.executable,
                "-S",
                "-c",
                "x = bytearray(1 << 24)",
            ]
            mematlas_says(0, *words)
            done = subprocess.run(
                [sys.executable, "-m", "mematlas", "lake", "add", path, "--to", disk / "lake"],
                capture_output=True, text=True, check=False, timeout=WAIT_S,
            )  # fmt: skip
            counts.append((done.returncode, len(list(disk.rglob("*.parquet")))))
            if done.returncode:
                break
        assert done.stderr == f"mematlas: cannot write {disk}/lake: No space left on device\n"
        assert len(counts) > 1
        assert counts[-1] == (1, counts[-2][1])
        assert f"{len(counts) - 1} recording" in mematlas_says(0, "lake", "show", disk / "lake")


def mematlas_says(status: int, *words: str | Path) -> str:
    """Run mematlas and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "mematlas", *words],
        capture_output=True, text=True, check=False, timeout=WAIT_S,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout
