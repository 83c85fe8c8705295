"""What the quick commands import: most of the time of a command that reads little is imports."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

LISTING = """
import sys
from mematlas.cli import main
main(sys.argv[1:])
print(*sorted(sys.modules), file=sys.stderr)
"""
RUN_LISTING = """
import sys
from mematlas.cli import main
from mematlas.tracing import child
start = child.start
def listed(*arguments):
    print(*sorted(sys.modules))
    return start(*arguments)
child.start = listed
main(sys.argv[1:])
print(*sorted(sys.modules))
"""
OBSERVE, DOCTOR = {"cli", "linux", "observe", "present"}, {"cli", "doctor", "linux", "present"}
ALWAYS = {"_core", "_native", "_version", "errors", "units"}
HEAVY = {"numpy", "symbolic", "textual", "cffi", "jinja2", "asyncio"}


@pytest.mark.parametrize(
    ("command", "rooms", "core"),
    [
        ("ps", OBSERVE, {"binding", "syscalls"}),
        ("show self", OBSERVE, {"binding", "proc", "syscalls"}),
        ("system", OBSERVE, {"binding"}),
        ("doctor --duration 0s", DOCTOR, {"binding"}),
        ("doctor self --duration 0s", DOCTOR, {"binding", "proc", "syscalls"}),
    ],
)
def test_a_quick_command_imports_its_own_rooms(
    command: str, rooms: set[str], core: set[str]
) -> None:
    """Only the rooms that a command needs are imported, and of the C core only the parts that it calls."""
    done = subprocess.run(
        [sys.executable, "-c", LISTING, *command.split()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    names = [each.split(".") for each in done.stderr.split()]
    assert {each[1] for each in names if each[0] == "mematlas" and len(each) > 1} <= rooms | ALWAYS
    assert {each[2] for each in names if each[:2] == ["mematlas", "_core"] and each[2:]} <= core
    assert not {each[0] for each in names} & HEAVY


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_words_about_mematlas_import_the_command_line_only(word: str) -> None:
    """Neither reads anything."""
    done = subprocess.run(
        [sys.executable, "-c", LISTING, word],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    names = [each.split(".") for each in done.stderr.split()]
    rooms = {each[1] for each in names if each[0] == "mematlas" and len(each) > 1}
    assert rooms == {"cli", "present", "_version", "errors"}
    assert not {each[0] for each in names} & {*HEAVY, "rich"}


def test_a_run_imports_what_it_needs(tmp_path: Path) -> None:
    """A program starts before anything is imported that reads a recording or draws, and what is not asked for never is."""
    words = ["run", "-o", str(tmp_path / "true.atlas"), "--", "true"]
    done = subprocess.run(
        [sys.executable, "-c", RUN_LISTING, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    at_start, at_end = (set(line.split()) for line in done.stdout.splitlines())
    options = {"mematlas.serve", "mematlas.serve.publication"}  # what --serve and --push mean
    rooms = {each.split(".")[1] for each in at_start - options if each.startswith("mematlas.")}
    assert rooms <= {"cli", "linux", "present", "recording", "report", "tracing"} | ALWAYS
    assert not at_start & {*HEAVY, "rich"}
    reading = "mematlas.recording.reader", "mematlas.recording.frames", "mematlas.report.model"
    assert not {each for each in at_start if each.startswith(reading)}
    unasked = {"conditions", "graphs", "attach", "inject", "target", "seccomp"}
    assert not at_end & {f"mematlas.tracing.{each}" for each in unasked}
    unread = {"machine", "idle_memory", "idle_page", "references", "damon", "pagemap", "huge_use"}
    assert not at_end & {f"mematlas.linux.{each}" for each in unread}
    assert not {each for each in at_end if each.startswith(("mematlas.heap", "mematlas.observe"))}
    views = {"report", "leaks", "lines", "window", "heap", "curves"}
    assert not at_end & {f"mematlas.report.text.{each}" for each in views}


def test_the_core_has_a_module_for_each_name() -> None:
    """Each public name of the core is imported from the module that the table names."""
    from mematlas import _core

    assert sorted(_core._MODULE_OF) == sorted(_core.__all__)
    assert all(getattr(_core, name) is not None for name in _core.__all__)
