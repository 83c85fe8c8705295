"""Two runs of one program with different sizes, compared."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from json_schemas import schema
from mematlas.recording import read
from mematlas.report.analyse.diff import compare

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
PROGRAM = """
import sys
from dataclasses import replace
more, fewer = int(sys.argv[1]), int(sys.argv[2])
def keep(n): return [bytearray(5000) for _ in range(n)]
def buffer(n): return bytearray(n)
kept, big = keep(more), buffer(fewer << 20)
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Record a run that keeps 5 MB in small blocks and 8 MiB in one, then 15 MB and 2 MiB."""
    folder = tmp_path_factory.mktemp("diff")
    program = folder / "program.py"
    program.write_text(PROGRAM)
    for name, more, fewer in (("a", 1000, 8), ("b", 3000, 2)):
        command = [
            sys.executable,
            "-m",
            "mematlas",
            "run",
            "--exact",
            "-o",
            f"{folder}/{name}.atlas",
        ]
        traced = ["--", sys.executable, "-I", "-S", str(program), str(more), str(fewer)]
        subprocess.run([*command, *traced], check=True, capture_output=True)
    return folder / "a.atlas", folder / "b.atlas"


def diff(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """Run the command and validate its JSON."""
    command = [sys.executable, "-m", "mematlas", "diff", "--json", *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(ran.stdout)
    jsonschema.validate(found, schema("diff"))
    return ran.returncode, found["data"]


def test_a_page_is_written(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """-o writes a page with both runs and the largest change, and prints no report."""
    page = tmp_path / "diff.html"
    command = [sys.executable, "-m", "mematlas", "diff", *map(str, pair), "-o", str(page)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    assert str(page) in ran.stderr
    text = page.read_text()
    assert "buffer" in text
    assert text.count("program.py") >= 2


def test_lines_and_stacks_add_up_to_the_change(pair: tuple[Path, Path]) -> None:
    """Growth comes first, shrinkage is negative, and the lines sum to the total."""
    _, found = diff(*pair, "--by", "allocated")
    changes = {each["frames"][0]["function"]: each["change_bytes"] for each in found["lines"][:3]}
    grew = next(size for name, size in changes.items() if name.startswith("keep"))
    assert 2000 * 5000 <= grew <= 2000 * 5200
    assert -6 * MIB - 200 <= changes["buffer"] <= -6 * MIB + 200
    total = found["total"]
    assert sum(each["change_bytes"] for each in found["lines"]) == total["change_bytes"]
    assert sum(each["change_bytes"] for each in found["stacks"]) == total["change_bytes"]
    assert all(each["certain"] for each in found["lines"])


def test_backwards_is_the_opposite(pair: tuple[Path, Path]) -> None:
    """Exchanging the recordings inverts every sign."""
    there = diff(*pair, "--by", "peak")[1]
    back = diff(*reversed(pair), "--by", "peak")[1]
    assert there["total"]["change_bytes"] == -back["total"]["change_bytes"]
    sizes = sorted(each["change_bytes"] for each in there["stacks"])
    assert sizes == sorted(-each["change_bytes"] for each in back["stacks"])


def test_a_recording_does_not_differ_from_itself(pair: tuple[Path, Path]) -> None:
    """A recording compared with itself has no changes."""
    _, found = diff(pair[0], pair[0])
    assert (found["total"]["change_bytes"], found["lines"], found["stacks"]) == (0, [], [])


def test_fail_over(pair: tuple[Path, Path]) -> None:
    """The exit code is 1 only if the total grew by more than the size."""
    assert diff(*pair, "--by", "allocated", "--fail-over", "1M")[0] == 1
    assert diff(*pair, "--by", "allocated", "--fail-over", "100M")[0] == 0
    assert diff(*reversed(pair), "--by", "allocated", "--fail-over", "1M")[0] == 0


def test_without_line_numbers_functions_match(pair: tuple[Path, Path]) -> None:
    """With --ignore-lines a moved function is unchanged; the total stays the same."""
    before, after = (read(each) for each in pair)
    with_lines, without = (
        compare(before, after, "live", ignore_lines=ignore) for ignore in (False, True)
    )
    assert with_lines.total == without.total
    assert len(without.lines) <= len(with_lines.lines)


def test_the_moment_of_a_mark(tmp_path: Path) -> None:
    """`--at MARK` compares the memory of that moment, and an unknown mark is an error in one line."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, mematlas\n"
        "def load(n): return bytearray(n << 20)\n"
        "held = load(int(sys.argv[1]))\n"
        "mematlas.mark('loaded')\n"
        "del held\n"
        "mematlas.mark('loaded')\n"
    )
    files = [tmp_path / "a.atlas", tmp_path / "b.atlas"]
    for file, size in zip(files, ("4", "9"), strict=True):
        command = [sys.executable, "-m", "mematlas", "run", "--exact", "-o", str(file), "--"]
        traced = [sys.executable, str(program), size]
        subprocess.run([*command, *traced], check=True, capture_output=True)
    status, found = diff(*files, "--by", "live", "--at", "loaded", "--fail-over", "4M")
    assert (status, found["at"], found["unlike"]) == (1, "loaded", "")
    assert all("at the mark loaded" in each["words"] for each in found["moments"])
    (line,) = (each for each in found["lines"] if each["frames"][0]["function"] == "load")
    assert abs(line["change_bytes"] - 5 * MIB) < 4096
    status, later = diff(*files, "--by", "live", "--at", "loaded#2", "--fail-over", "4M")
    assert status == 0
    assert abs(later["total"]["change_bytes"]) < MIB
    command = [sys.executable, "-m", "mematlas", "diff", *map(str, files), "--at", "served"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "set no mark 'served'; it set loaded, loaded#2" in ran.stderr


@pytest.mark.parametrize(
    ("grown", "error", "fails"),
    [
        (MIB, 0, False),  # not more than the limit
        (MIB + 1, 0, True),
        (-8 * MIB, 0, False),
        (int(1.5 * MIB), MIB // 2, False),  # within 1.35 standard errors of the limit
        (int(1.7 * MIB), MIB // 2, True),
        (6 * MIB, 2 * MIB, False),  # within 3.1 standard errors of nothing
        (int(6.3 * MIB), 2 * MIB, True),
    ],
)
def test_the_threshold(pair: tuple[Path, Path], grown: int, error: int, *, fails: bool) -> None:
    """A limit of 1 MiB is exceeded by growth beyond it and beyond chance."""
    one = compare(read(pair[0]), read(pair[1]))
    total = replace(one.total, before=20 * MIB, after=20 * MIB + grown, error_bytes=error)
    assert replace(one, total=total).exceeds(MIB) is fails


def test_lines_within_what_an_account_missed_are_not_certain(pair: tuple[Path, Path]) -> None:
    """An account below the peak is of another moment: lines count only beyond twice of what it missed."""
    before, after = map(read, pair)
    certain = sum(each.certain for each in compare(before, after).lines)
    process = before.processes[0]
    missed = (process.peak_rss_bytes or 0) + 64 * MIB
    before.processes[0] = replace(process, peak_rss_bytes=missed)
    found = compare(before, after)
    assert certain > 0
    assert sum(each.certain for each in found.lines) == 0
    assert any("lines count as changed only beyond twice of that" in each for each in found.notes)


FORKS = """
import os
kept = [bytearray(10000) for _ in range(2000)]
pids = []
for _ in range(2):
    pid = os.fork()
    if not pid:
        own = bytearray(4 << 20)
        own[::4096] = b"x" * 1024
        os._exit(0)
    pids.append(pid)
for pid in pids:
    os.waitpid(pid, 0)
"""


def test_the_flame_graph_of_forks_adds_up_to_the_lines(tmp_path: Path) -> None:
    """Pages that forks inherited count once in the stacks of the page too, as in the lines."""
    (tmp_path / "forks.py").write_text(FORKS)
    path = tmp_path / "a.atlas"
    traced = [sys.executable, "-I", "-S", str(tmp_path / "forks.py")]
    command = [sys.executable, "-m", "mematlas", "run", "--exact", "-o", str(path), "--", *traced]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    recording = read(path)
    found = compare(recording, read(path))
    inherited = sum(each.resident_bytes for each in found.reports[0].stacks)
    assert inherited == found.total.before - found.rest.before
    assert inherited < 20_000_000 + 3 * (8 << 20)  # 20 MB once, 4 MiB of each fork, and Python
