"""What the quick commands import: most of the time of a command that reads little is imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

LISTING = """
import sys
from mematlas.cli import main
main(sys.argv[1:])
print(*sorted(sys.modules), file=sys.stderr)
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


def test_the_core_has_a_module_for_each_name() -> None:
    """Each public name of the core is imported from the module that the table names."""
    from mematlas import _core

    assert sorted(_core._MODULE_OF) == sorted(_core.__all__)
    assert all(getattr(_core, name) is not None for name in _core.__all__)
