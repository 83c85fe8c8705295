"""Tests that apply a fix of the doctor, and measure that the figure it is for falls."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from mematlas.doctor import read, rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mematlas.doctor.model import Finding, Fix

Test = TypeVar("Test", bound="Callable[..., object]")
TESTS = Path(__file__).parents[1]
SHOWN = TESTS / "data/shown_fixes.txt"
WHERE = ("integration/doctor/test_fixes.py", "integration/doctor/test_fixes_of_allocators.py",
         "integration/doctor/test_fixes_of_pages.py", "integration/doctor/test_fixes_of_the_machine.py",
         "integration/doctor/test_processes.py", "guest/test_doctor_fixes.py")  # fmt: skip


def applies(*names: str) -> Callable[[Test], Test]:
    """Mark a test that applies the fixes of these names; `applied` reads the marks."""
    assert names
    mark: Callable[[Test], Test] = pytest.mark.applies(*names)
    return mark


def applied() -> dict[str, str]:
    """Return the test of each fix and the digest of that test's source: "FILE::TEST DIGEST".

    The marks are read from the source, so that no test needs to be imported.
    """
    found: dict[str, str] = {}
    for name in WHERE:
        path = TESTS / name
        if not path.exists():
            continue
        source = path.read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                body = ast.get_source_segment(source, node) or ""
                digest = hashlib.sha256(body.encode()).hexdigest()[:12]
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "applies":
                        found |= {
                            ast.literal_eval(each): f"{name}::{node.name} {digest}"
                            for each in mark.args
                        }
    return found


def shown() -> set[tuple[str, str]]:
    """Return the fixes that a test has shown to work, with that test as it was then."""
    rows = (line.split() for line in SHOWN.read_text().splitlines() if line[:1] != "#")
    return {(name, f"{test} {digest}") for name, test, digest, _ in rows}


def write_shown(item: pytest.Item, path: str) -> None:
    """Write a line for each fix of a test that passed, in the format of SHOWN."""
    tests = applied()
    for mark in item.iter_markers("applies"):
        chosen = getattr(item, "callspec", None)
        only = chosen.params.get("name") if chosen else None
        for name in [only] if only in mark.args else mark.args:
            with open(path, "a") as file:  # noqa: PTH123 - /dev/stdout too
                file.write(f"{name} {tests[str(name)]} {os.uname().release}\n")


@contextmanager
def running(
    command: str | Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a command, as words or for a shell, until it prints "ready"; its end is that of the block."""
    words = ["/bin/sh", "-c", f"exec env {command}"] if isinstance(command, str) else list(command)
    child = subprocess.Popen(
        words,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n", f"{command} did not become ready"
        yield child
    finally:
        child.kill()
        child.communicate()


def rss(pid: int) -> int:
    """Return the resident bytes of a process."""
    return size_of(pid, "VmRSS")


def size_of(pid: int, name: str) -> int:
    """Return a size of /proc/PID/status in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    return 0


def settled(measure: Callable[[], int], below: int, seconds: float = 60) -> int:
    """Return a figure once it is below a bound, or after a time: background threads return memory late."""
    until = time.monotonic() + seconds
    while (value := measure()) > below and time.monotonic() < until:
        time.sleep(0.1)
    return value


def on_machine(rule: str) -> Finding | None:
    """Return what a rule finds about the machine now; its fixes include those that no test has shown to work."""
    findings = rules.examine_host(read.read_host("/", 0)).findings
    return next((each for each in findings if each.rule == rule), None)


def finding(pid: int, rule: str) -> Finding | None:
    """Return what a rule finds about a process and its machine now."""
    findings = rules.examine_process(read.read_process(pid, "/", 0)).findings
    return next((each for each in findings if each.rule == rule), None)


def number(path: Path, name: str) -> int:
    """Return a number of a file with lines "name value" or "name: value kB"."""
    found = re.search(rf"^{name}:?\s+(\d+)", path.read_text(), re.MULTILINE)
    assert found, name
    return int(found[1])


def named(fixes: Sequence[Fix], name: str) -> Fix:
    """Return the fix of a name."""
    return next(each for each in fixes if each.name == name)
