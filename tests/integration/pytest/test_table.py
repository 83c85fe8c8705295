"""`pytest --mematlas`: the table of the heaviest tests, its recordings, and what is off unless asked for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import mematlas
from commands import run_python
from mematlas.pytest.measuring import file_name

if TYPE_CHECKING:
    from pathlib import Path

SUITE = """
import os, pytest

def load(megabytes):
    return [bytes(10_000) for _ in range(100 * megabytes)]

def test_heavy():
    assert load(40)

def test_lighter():
    assert load(15)

def test_light():
    pass

@pytest.mark.parametrize("value", ["a" * 300, "b/c"])
def test_of_values(value):
    assert load(8)

def test_in_a_child():
    pid = os.fork()
    if pid == 0:
        load(30)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

def test_that_fails():
    assert not load(10)
"""


def run(folder: Path, *options: str, code: str = SUITE) -> str:
    """Run the suite in a pytest of its own, and return what it printed."""
    (folder / "test_it.py").write_text(code)
    done = run_python(folder, "-m", "pytest", "test_it.py", *options, timeout_s=180)
    assert "INTERNALERROR" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.stdout


def peak_of(printed: str, test: str) -> float:
    """Return the peak of a test in the table, in MiB."""
    found = re.search(
        rf"^ *([\d.]+) MiB(?: ± \S+ \S+B)? .*::{re.escape(test)}$", printed, re.MULTILINE
    )
    assert found, printed
    return float(found[1])


def test_table_has_the_heaviest_tests_and_their_lines(tmp_path: Path) -> None:
    """The peaks are those of the tests, in order, each with the line that held it; recordings are kept on demand."""
    printed = run(
        tmp_path, "--mematlas", "--mematlas-exact", "--mematlas-top=3", "--mematlas-dir=kept"
    )
    assert re.search(r"=+ mematlas: 7 tests, [78]\d\.\d MiB allocated =+", printed)
    assert 38 < peak_of(printed, "test_heavy") < 39
    assert 14 < peak_of(printed, "test_lighter") < 15
    assert 9 < peak_of(printed, "test_that_fails") < 10
    assert printed.index("::test_heavy") < printed.index("::test_lighter")
    assert re.search(r"38\.\d MiB in load\S* \(test_it\.py:5\)", printed)
    assert "4 tests with lower peaks not shown" in printed
    assert "7 recordings in" in printed
    kept = {path.name for path in (tmp_path / "kept").iterdir()}
    assert "test_it.py-test_heavy.atlas" in kept
    assert "test_it.py-test_of_values[b-c].atlas" in kept
    report = mematlas.open(tmp_path / "kept" / "test_it.py-test_heavy.atlas").report()
    assert report.complete
    assert 38 << 20 < report.peak_live_bytes < 39 << 20
    assert report.account.rss_bytes > 10 << 20


def test_sampled_peaks_have_errors(tmp_path: Path) -> None:
    """Without --mematlas-exact figures are estimates; a test without a sample is not shown as zero."""
    printed = run(tmp_path, "--mematlas", "--mematlas-top=0")
    assert 30 < peak_of(printed, "test_heavy") < 47
    # What pytest allocates meanwhile is sampled once in some runs.
    rare = r"^ *(?:< \d+ KiB|[\d.]+ KiB ± [\d.]+ KiB) .*::test_light$"
    assert re.search(rare, printed, re.MULTILINE), printed
    assert "one in 128 KiB" in printed
    # The child's memory is not that of the test's process.
    assert not re.search(r"MiB.*::test_in_a_child", printed)


def test_workers_of_xdist_measure(tmp_path: Path) -> None:
    """With -n the workers measure, and the table is of all."""
    printed = run(tmp_path, "--mematlas", "--mematlas-exact", "-n2", "--mematlas-dir=kept")
    assert "mematlas: 7 tests" in printed
    assert 38 < peak_of(printed, "test_heavy") < 39
    assert re.search(r"38\.\d MiB in load\S* \(test_it\.py:5\)", printed)
    assert len(list((tmp_path / "kept").iterdir())) == 7


def test_default_limits_of_the_project(tmp_path: Path) -> None:
    """A limit in pyproject.toml holds for all tests without that marker, under --mematlas only."""
    (tmp_path / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\nmematlas_limit_memory = '20 MB'\n"
    )
    code = f"{SUITE}\n@pytest.mark.limit_memory('99 MB')\ndef test_allowed():\n    load(40)\n"
    printed = run(tmp_path, "--mematlas", code=code)
    assert re.search(r"MEMORY PROBLEMS .*test_heavy - Test was limited to 20\.0 MiB", printed)
    assert printed.count("MEMORY PROBLEMS test_it") == 1
    assert "2 failed, 6 passed" in printed
    assert "MEMORY PROBLEMS" not in run(tmp_path, code=code.replace("99 MB", "1 GB"))
    (tmp_path / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\nmematlas_limit_memory = 'much'\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--mematlas"],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert "mematlas_limit_memory: 'much' is not a memory size" in done.stdout + done.stderr


def test_nothing_is_imported_or_started_unless_asked(tmp_path: Path) -> None:
    """A run without the option and without markers imports neither the tracer nor anything it needs."""
    code = """
import json, sys
def test_it():
    loaded = sorted(name for name in sys.modules if name.split(".")[0] in ("mematlas", "numpy", "cffi", "rich"))
    open("loaded.json", "w").write(json.dumps(loaded))
"""
    printed = run(tmp_path, code=code)
    assert "mematlas:" not in printed
    assert json.loads((tmp_path / "loaded.json").read_text()) == [
        "mematlas",
        "mematlas._version",
        "mematlas.errors",
        "mematlas.pytest",
        "mematlas.pytest.plugin",
    ]


def test_a_run_that_is_traced_already_says_so(tmp_path: Path) -> None:
    """Tests that cannot be measured are counted with the reason, and limits that cannot be checked fail."""
    code = """
import mematlas, pytest
@pytest.fixture(scope="module")
def traced():
    with mematlas.trace("own.atlas"):
        yield
def test_in_a_block(traced):
    pass
@pytest.mark.limit_memory("1 MB")
def test_with_a_limit(traced):
    pass
"""
    printed = run(tmp_path, "--mematlas", code=code)
    assert "this process is traced already" in printed
    assert "the limits of this test cannot be checked: this process is traced already" in printed


def test_names_of_recordings_are_short_and_distinct() -> None:
    """A name has at most 255 bytes, and long ones end in a digest."""
    first, second = (file_name(f"test_it.py::test[{'ä' * 300}{end}]") for end in "12")
    assert first != second
    assert len(first.encode()) <= 255
    assert first.endswith(".atlas")
    assert file_name("a/test_b.py::test_c[1]") == "a-test_b.py-test_c[1].atlas"


def test_a_suite_that_loses_its_directory(tmp_path: Path) -> None:
    """A test that removes the working directory ends nothing but itself."""
    code = """
import os
def load():
    return [bytes(10_000) for _ in range(4000)]
def test_it(tmp_path):
    os.chdir(tmp_path)
    assert load()
    tmp_path.rmdir()
"""
    printed = run(tmp_path, "--mematlas", code=code)
    assert re.search(r"MiB in load\S* \(test_it\.py:4\)", printed), printed
