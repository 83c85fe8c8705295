"""The limits of the pytest plugin: the cases of pytest-memray's own tests, told of mematlas.

Python's objects count here with their own size, and the interpreter makes some for each call. So sizes are larger than
in pytest-memray's cases, where only what the allocators of Python ask for counts.
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from commands import run_tests
from mematlas.pytest.limits import parse_size
from mematlas.pytest.session import TestRecorder

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import threading, pytest
KB = 1024
kept = []

def alloc(size):
    return bytes(size)

def alloc_and_keep(size):
    kept.append(alloc(size))

def alloc_and_free(size):
    alloc(size)

def recursive(depth, size):
    if depth <= 1:
        return alloc_and_free(size)
    return recursive(depth - 1, size)

def spread(depth, found):
    found.append(alloc(100 * KB))
    if depth > 1:
        spread(depth - 1, found)

def leak():
    alloc_and_keep(100 * KB)

def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

def not_by_leak(stack):
    return not any(frame.function == "leak" for frame in stack.frames)
"""

SUITE = (
    BEGIN
    + """
@pytest.mark.parametrize("size", [400 * KB, 300 * KB])
@pytest.mark.limit_memory("300KB")
def test_fails_from_the_limit_on(size):
    alloc_and_free(size)

@pytest.mark.parametrize("size", [200 * KB, 260 * KB])
@pytest.mark.limit_memory("300KB")
def test_passes_below_the_limit(size):
    alloc_and_free(size)

@pytest.mark.limit_memory("10 MB")
def test_passes_though_all_calls_together_exceed_it():
    for _ in range(100):
        alloc_and_free(1000 * KB)

@pytest.mark.limit_memory("1 MB")
def test_fails_by_python_objects():
    data = [object() for _ in range(200_000)]

@pytest.mark.limit_memory("100 KB", current_thread_only=True)
def test_passes_as_another_thread_allocates():
    in_thread(lambda: alloc_and_keep(500 * KB))

@pytest.mark.limit_memory("100 KB")
def test_fails_as_another_thread_allocates():
    in_thread(lambda: alloc_and_keep(500 * KB))

@pytest.mark.limit_memory("300KB", current_thread_only=True)
def test_fails_as_this_thread_allocates():
    alloc_and_free(400 * KB)

@pytest.mark.parametrize("size", [40, 1, 102, 10 * KB])
@pytest.mark.limit_leaks("200KB")
def test_passes_as_it_leaks_little(size):
    for _ in range(10):
        alloc_and_keep(size)

@pytest.mark.parametrize("size", [20 * KB, 200 * KB])
@pytest.mark.limit_leaks("200KB")
def test_fails_as_calls_of_one_place_leak(size):
    for _ in range(10):
        alloc_and_keep(size)

@pytest.mark.limit_leaks("300 KB")
def test_passes_as_no_place_alone_leaks_much():
    kept.append(bytes(200 * KB))
    kept.append(bytes(200 * KB))
    kept.append(bytes(200 * KB))

@pytest.mark.limit_leaks("1 MB")
def test_fails_as_a_thread_leaks():
    in_thread(lambda: [alloc_and_keep(400 * KB) for _ in range(10)])

@pytest.mark.limit_leaks("1 MB", current_thread_only=True)
def test_passes_as_a_thread_leaks():
    in_thread(lambda: [alloc_and_keep(400 * KB) for _ in range(10)])

@pytest.mark.limit_leaks("200KB", filter_fn=not_by_leak)
def test_passes_as_the_filter_ignores_it():
    for _ in range(10):
        leak()

@pytest.mark.limit_leaks("200KB", filter_fn=lambda stack: True)
def test_fails_as_the_filter_reports_it():
    for _ in range(10):
        leak()

@pytest.mark.limit_leaks("1 MB")
def test_passes_as_cycles_are_garbage():
    class Node: pass
    for _ in range(20):
        node = Node()
        node.self, node.data = node, bytes(300 * KB)

@pytest.mark.limit_resident("8 MB")
def test_fails_as_pages_become_resident():
    data = bytearray(b"x") * (30 << 20)

@pytest.mark.limit_resident("8 MB")
def test_passes_as_pages_stay_untouched():
    data = bytes(100 << 20)

@pytest.mark.limit_resident("8 MB")
def test_passes_after_another_test_had_the_pages():
    pass

@pytest.mark.limit_memory("10 MB")
@pytest.mark.limit_leaks("200KB")
def test_fails_by_one_of_two_limits():
    alloc_and_keep(400 * KB)

@pytest.mark.limit_memory("1 KB")
def test_fails_by_its_own_assertion():
    alloc_and_free(400 * KB)
    assert 1 == 2, "its own"

@pytest.mark.limit_memory("a lot")
def test_fails_as_its_limit_is_malformed():
    pass

class TestOfAClass:
    @pytest.mark.limit_memory("300KB")
    def test_fails_in_a_class(self):
        alloc_and_free(400 * KB)

import unittest
class TestOfUnittest(unittest.TestCase):
    @pytest.mark.limit_memory("300KB")
    def test_fails_in_a_test_case(self):
        alloc_and_free(400 * KB)
"""
)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """Run the suite; return what it printed, and the failure of each test by name, "" of those that passed."""
    folder = tmp_path_factory.mktemp("suite")
    done = run_tests(folder, SUITE, "--junit-xml", "done.xml")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    found = {}
    for case in ET.parse(folder / "done.xml").getroot().iter("testcase"):
        failure = case.find("failure")
        found[case.attrib["name"]] = "" if failure is None else failure.text or "?"
    return done.stdout, found


def test_outcomes_are_those_of_the_names(suite: tuple[str, dict[str, str]]) -> None:
    """Tests with `fails` in their names fail, the others pass, without --mematlas."""
    printed, outcomes = suite
    wrong = {
        name: failure for name, failure in outcomes.items() if bool(failure) != ("_fails" in name)
    }
    assert wrong == {}, printed
    assert len(outcomes) > 25


def test_a_failure_names_sizes_and_the_line(suite: tuple[str, dict[str, str]]) -> None:
    """The message has the limit, what was allocated, and the line that allocated most of it."""
    printed, outcomes = suite
    text = outcomes["test_fails_from_the_limit_on[409600]"]
    assert re.search(r"limited to 300 KiB but allocated 40\d KiB at its peak", text)
    assert re.search(r"400 KiB of that in alloc \(.*test_it\.py:7\)", text)
    assert "MEMORY PROBLEMS" in printed
    assert "live at the peak of the test" in printed


def test_a_failure_of_the_test_itself_comes_first(suite: tuple[str, dict[str, str]]) -> None:
    """A limit is not judged in a test that failed by itself."""
    _, outcomes = suite
    assert "its own" in outcomes["test_fails_by_its_own_assertion"]
    assert "limited to" not in outcomes["test_fails_by_its_own_assertion"]
    assert "not a memory size" in outcomes["test_fails_as_its_limit_is_malformed"]


def test_resident_limit_tells_growth(suite: tuple[str, dict[str, str]]) -> None:
    """limit_resident judges by RSS, and its message has it."""
    _, outcomes = suite
    text = outcomes["test_fails_as_pages_become_resident"]
    assert re.search(r"RSS grew by (2[89]|30)\.\d MiB", text)


@pytest.mark.parametrize(
    ("options", "listed", "more"),
    [
        (["-v"], 10, True),
        (["-vv"], 15, False),
        (["-vv", "-o", "verbosity_mematlas=-1"], 0, False),
    ],
)
def test_lists_are_as_long_as_verbosity_asks(
    tmp_path: Path, options: list[str], listed: int, *, more: bool
) -> None:
    """Ten stacks are listed, all with -vv, none below 0."""
    code = f"{BEGIN}\n@pytest.mark.limit_memory('1 MB')\ndef test_it():\n    spread(15, [])\n"
    printed = run_tests(tmp_path, code, *options).stdout
    assert printed.count("100 KiB allocated here:") == listed
    assert ("...and" in printed) is more


@pytest.mark.parametrize("frames", [5, 100])
def test_stacks_are_as_deep_as_asked(tmp_path: Path, frames: int) -> None:
    """--mematlas-stacks N shows N frames, up to the test and none of pytest's."""
    code = f"{BEGIN}\n@pytest.mark.limit_memory('100 KB')\ndef test_it():\n    recursive(10, 200 * KB)\n"
    printed = run_tests(tmp_path, code, f"--mematlas-stacks={frames}").stdout
    shown = re.search(r"200 KiB allocated here:\n((?: {8}\S.*\n)+)", printed)
    assert shown
    names = [line.strip().split(":")[0] for line in shown[1].splitlines()]
    whole = ["alloc", "alloc_and_free", *["recursive"] * 10, "test_it"]
    assert names == whole[:frames] + (["..."] if frames < len(whole) else [])


def test_an_increase_fails_if_asked(tmp_path: Path) -> None:
    """--mematlas-fail-on-increase fails a test that needs more than in its last good run."""
    code = (
        f"{BEGIN}\n@pytest.mark.limit_memory('100 MB')\ndef test_it():\n    alloc_and_free(SIZE)\n"
    )
    assert run_tests(tmp_path, code.replace("SIZE", "100 * KB")).returncode == 0
    assert run_tests(tmp_path, code.replace("SIZE", "100 * KB")).returncode == 0
    grown = run_tests(tmp_path, code.replace("SIZE", "900 * KB"), "--mematlas-fail-on-increase")
    assert grown.returncode == pytest.ExitCode.TESTS_FAILED
    assert re.search(r"previously used 10\d KiB but now uses 90\d KiB", grown.stdout)
    assert run_tests(tmp_path, code.replace("SIZE", "900 * KB")).returncode == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100 B", 100),
        ("100B", 100),
        ("100.0   B", 100),
        ("100 KB", 100 * 1024),
        ("3 MB", 3 * 1024**2),
        ("3.0 Gb", 3 * 1024**3),
        ("60.0 TB", 60 * 1024**4),
        ("+100 KB", 100 * 1024),
        (".5 MB", 1024**2 // 2),
        ("24 MiB", 24 * 1024**2),
    ],
)
def test_sizes_are_read_as_pytest_memray_reads_them(text: str, expected: int) -> None:
    """KB is 1024 bytes, whatever the case of its letters."""
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    "text",
    ["Some bad string", "100.0", "100", "100 NB", "100 K", "100 PK", "-100 B", "+100.0 K", ""],
)
def test_other_sizes_are_refused(text: str) -> None:
    """A unit has to be there, and no sign but a plus."""
    with pytest.raises(ValueError, match="not a memory size"):
        parse_size(text)


LOST = """
import pytest

@pytest.fixture
def recorder(request):
    return request.config.pluginmanager.get_plugin("mematlas_measuring")._recorder._process

@pytest.mark.limit_memory("1 GB")
def test_with_a_limit(recorder):
    recorder.kill()
    recorder.wait()

def test_without_one():
    pass
"""


def test_limits_that_cannot_be_judged_fail(tmp_path: Path) -> None:
    """A test is not taken to keep a limit because its records were lost."""
    done = run_tests(tmp_path, LOST, "--junit-xml", "done.xml")
    text = (tmp_path / "done.xml").read_text()
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "MEMORY PROBLEMS test_it.py::test_with_a_limit" in done.stdout
    assert "1 failed, 1 passed" in done.stdout
    assert "the limits of this test cannot be checked: the recorder of mematlas has ended" in text


BESIDE = """
import pytest

@pytest.mark.limit_memory("1 B")
def test_of_both():
    data = bytes(1000)

@pytest.mark.limit_resident("1 MB")
def test_of_ours():
    data = bytearray(b"x") * (9 << 20)
"""


def test_limits_of_pytest_memray_are_left_to_it(tmp_path: Path) -> None:
    """Beside pytest-memray a marker of both is judged by that, also where another one is ours."""
    (tmp_path / "conftest.py").write_text(
        "def pytest_configure(config):\n"
        "    config.pluginmanager.register(object(), 'memray_manager')\n"
    )
    printed = run_tests(tmp_path, BESIDE).stdout
    assert "MEMORY PROBLEMS test_it.py::test_of_ours" in printed, printed
    assert "test_of_both" not in printed
    assert (
        "MEMORY PROBLEMS test_it.py::test_of_both"
        in run_tests(tmp_path, BESIDE, "--mematlas").stdout
    )


def test_a_recorder_ends_though_a_child_has_its_pipe() -> None:
    """A forked child that outlives the run does not keep the recorder waiting, which is not killed."""
    found = TestRecorder()
    found.start()
    process = found._process
    assert process
    assert process.stdin
    copy = os.dup(process.stdin.fileno())
    try:
        found.close()
    finally:
        os.close(copy)
    assert process.returncode == 0
