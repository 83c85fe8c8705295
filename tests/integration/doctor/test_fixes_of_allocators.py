"""Fixes for memory that allocators keep: applied to a program in that state, its RSS falls as foretold."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from applied_fixes import applies, rss, running, settled
from mematlas.cli import main

if TYPE_CHECKING:
    from conftest import Build

JEMALLOC, TCMALLOC, MIMALLOC = "libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2.0"
PINNED = """
import sys, ctypes
class Node:
    __slots__ = ("value",)
    def __init__(self, value): self.value = value
batch = [Node(each) for each in range(1_000_000)]
kept = batch[::300]
del batch
if "trim" in sys.argv:
    from mematlas.memory import trim
    trim()
print("ready", flush=True)
sys.stdin.readline()
"""


def examine(path: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the finding about kept memory in a recording."""
    capsys.readouterr()
    assert main(["doctor", path, "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["data"]["findings"]
    found = [each for each in findings if each["rule"] == "malloc.slack"]
    assert found, findings
    return dict(found[0])


def record(tmp_path: Path, command: list[str]) -> str:
    """Record a program that ends at the end of its standard input."""
    path = str(tmp_path / "run.atlas")
    words = [sys.executable, "-m", "mematlas", "run", "--exact", "-o", path, "--", *command]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return path


def preload(library: str) -> list[str]:
    """Return the words that preload a library; skip the test where the library is missing."""
    if not library:
        return []
    words = ["env", f"LD_PRELOAD={library}"]
    done = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    if done.stderr:
        pytest.skip(f"no {library} here")
    return words


def compare(before: list[str], after: str, gain: int) -> None:
    """Run a program as it is and by a fix's command: RSS falls by about the gain foretold."""
    with running(before) as child:
        kept = rss(child.pid)
    with running(after) as child:
        left = settled(lambda: rss(child.pid), kept - gain * 9 // 10)
    assert kept - left >= gain * 8 // 10, (kept, left, gain)
    assert gain >= (kept - left) // 2, (kept, left, gain)


@applies("glibc.jemalloc", "glibc.trim-threshold", "glibc.arena-max", "jemalloc.decay",
         "tcmalloc.decommit", "mimalloc.reset-delay")  # fmt: skip
@pytest.mark.parametrize(
    ("library", "way", "name"),
    [
        ("", "holes", "glibc.jemalloc"),
        ("", "top", "glibc.trim-threshold"),
        ("", "arenas", "glibc.arena-max"),
        (JEMALLOC, "holes", "jemalloc.decay"),
        (TCMALLOC, "holes", "tcmalloc.decommit"),
        (MIMALLOC, "few", "mimalloc.reset-delay"),
    ],
)
def test_a_start_with_the_setting(
    build: Build,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    library: str,
    way: str,
    name: str,
) -> None:
    """The setting that a recording's finding names returns what it says."""
    command = [*preload(library), str(build("kept")), way]
    if name == "glibc.jemalloc":
        preload(JEMALLOC)
    found = examine(record(tmp_path, command), capsys)
    fix = next(each for each in found["fixes"] if each["name"] == name)
    compare(command, fix["command"], fix["gain"])


@applies("glibc.trim")
@pytest.mark.parametrize("way", ["holes", "top", "arenas"])
def test_a_call_of_malloc_trim(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    """malloc_trim() after the release returns what the chunk headers foretold."""
    command = [str(build("kept")), way]
    found = examine(record(tmp_path, command), capsys)
    fix = next(each for each in found["fixes"] if each["name"] == "glibc.trim")
    assert fix["command"] == "malloc_trim(0)"
    compare(command, shlex.join([*command, "trim"]), fix["gain"])


@applies("pymalloc.off")
def test_python_without_pymalloc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PYTHONMALLOC=malloc with trim() returns what pinned arenas of pymalloc keep; no other fix is named."""
    program = tmp_path / "pinned.py"
    program.write_text(PINNED)
    command = [sys.executable, str(program)]
    found = examine(record(tmp_path, command), capsys)
    assert "pymalloc" in found["headline"]
    names = [each["name"] for each in found["fixes"] if each["name"]]
    assert names == ["pymalloc.off"]
    fix = found["fixes"][0]
    assert "memory.trim()" in fix["note"]
    compare(command, f"{fix['command']} trim", fix["gain"])


@applies("mimalloc.purge-delay")
def test_mimalloc_2_1(build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Mimalloc 2.1 and later have another name for the setting."""
    found_in = [
        Path(each, "cmeel.prefix/lib/libmimalloc.so.3") for each in sys.path
    ]  # cmeel-mimalloc
    library = next(
        (str(each) for each in found_in if each.exists()), find_library("mimalloc") or ""
    )
    if not library or ".so.2.0" in library or library.endswith(".so.2"):
        pytest.skip("no mimalloc 2.1 or later here")
    command = [*preload(library), str(build("kept")), "few"]
    found = examine(record(tmp_path, command), capsys)
    fix = next(each for each in found["fixes"] if each["name"] == "mimalloc.purge-delay")
    compare(command, fix["command"], fix["gain"])


@pytest.mark.parametrize("library", [MIMALLOC])
def test_what_no_setting_returns(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str], library: str
) -> None:
    """Where live blocks lie on most pages of mimalloc, no setting helps, and none is named."""
    found = examine(record(tmp_path, [*preload(library), str(build("kept")), "holes"]), capsys)
    assert [each["name"] for each in found["fixes"] if each["name"]] == []
    assert "no setting is sure to return it" in " ".join(found["evidence"])
