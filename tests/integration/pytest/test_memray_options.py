"""A suite of pytest-memray's, run without it: what it asks for is done, or refused by the name that it has here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from commands import run_tests

if TYPE_CHECKING:
    from pathlib import Path

EMPTY = "def test_it():\n    pass\n"
START = "import mematlas, mematlas.observe, pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
OF_EDITABLE = "ignore:Module already imported so cannot be rewritten; _mematlas_editable_loader"


def test_options_of_pytest_memray_are_refused_by_their_names_here(tmp_path: Path) -> None:
    """One line names each of them, also those of the configuration."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --memray --most-allocations=3\n")
    done = run_tests(tmp_path, EMPTY, "--trace-python-allocators")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    assert done.stderr.strip() == (
        "ERROR: options of pytest-memray, which is not loaded: --memray: mematlas has --mematlas; "
        "--most-allocations: mematlas has --mematlas-top; --trace-python-allocators: mematlas has no "
        "such option, since Python objects always count"
    )


def test_options_that_a_plugin_has_are_its_own(tmp_path: Path) -> None:
    """An option or a marker of that name may be another plugin's."""
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--stacks')\n"
        "def pytest_configure(config):\n"
        "    config.addinivalue_line('markers', 'limit_leaked_objects(n): of another plugin')\n"
    )
    code = f"import pytest\n@pytest.mark.limit_leaked_objects(3)\n{EMPTY}"
    done = run_tests(tmp_path, code, "--stacks", "3")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_limit_that_cannot_be_judged_does_not_pass(tmp_path: Path) -> None:
    """limit_leaked_objects is left out; a test with that limit fails and says what there is."""
    code = f"import pytest\n@pytest.mark.limit_leaked_objects(filter_fn=callable)\n{EMPTY}def test_other(): pass\n"
    done = run_tests(tmp_path, code)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert (
        'limit_leaked_objects: mematlas judges bytes by call stack; write limit_leaks("1 KB")'
        in (done.stdout)
    )
    assert "1 failed, 1 passed" in done.stdout


@pytest.mark.parametrize("native", [True, False])
def test_native_frames_are_shown_if_asked(tmp_path: Path, *, native: bool) -> None:
    """--mematlas-native shows the functions of the interpreter above the line that called them."""
    code = f"import pytest\n@pytest.mark.limit_memory('100 KB')\n{EMPTY.replace('pass', 'bytes(300_000)')}"
    printed = run_tests(
        tmp_path, code, "--mematlas-stacks=9", *["--mematlas-native"] * native
    ).stdout
    shown = re.search(r"293 KiB allocated here:\n((?: {8}\S.*\n)+)", printed)
    assert shown, printed
    names = [line.strip().split(":")[0] for line in shown[1].splitlines()]
    assert "test_it" in names
    assert (names.index("test_it") > 0) is native


@pytest.mark.parametrize(
    ("option", "text"),
    [("--mematlas-stacks=0", "write a number, 1 or more"), ("--mematlas-top=x", "0 or more")],
)
def test_counts_are_checked(tmp_path: Path, option: str, text: str) -> None:
    """A count that makes no sense ends the run in one line."""
    done = run_tests(tmp_path, EMPTY, "--mematlas", option)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert text in done.stderr


def test_pytest_runs_in_a_program_that_has_imported_the_package(tmp_path: Path) -> None:
    """Where warnings are errors, the package's own rewriting, as an installed plugin asks for, is none."""
    (tmp_path / "conftest.py").write_text(
        "import pytest\npytest.register_assert_rewrite('mematlas')\n"
    )
    done = run_tests(tmp_path, EMPTY, "-W", "error", "-W", OF_EDITABLE, program=("-c", START))
    assert done.returncode == 0, done.stdout + done.stderr
