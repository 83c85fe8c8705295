"""Real programs under `mematlas run`: same output, same status, right lines."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mematlas.recording import read
from traced_runs import named

if TYPE_CHECKING:
    from conftest import Run

# Smaller than the default, because the programs are small and no test may fail by chance.
FINE = ("--sample-bytes", "16K")
both_modes = pytest.mark.parametrize("options", [FINE, ("--exact",)], ids=["sampled", "exact"])
EXAMPLES = Path(__file__).parents[3] / "examples"
PYTHON = getattr(sys, "_base_executable", sys.executable)
MIB = 1 << 20
TOP = 2000  # stacks; an interpreter that starts up has tens of thousands of small ones


def needs(program: str) -> str:
    """Return the path of a program; skip if it is missing."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


@both_modes
def test_json_tool_on_a_big_file(tmp_path: Path, traced: Run, options: tuple[str, ...]) -> None:
    """`python -m json.tool` prints the same, and the decoder owns the parsed document."""
    document = [{"id": i, "tags": [str(i)] * 3, "text": "x" * 100} for i in range(20_000)]
    file = tmp_path / "big.json"
    file.write_text(json.dumps(document))
    run = traced(PYTHON, "-m", "json.tool", file, options=options, top=TOP)
    assert run.outcome.status == 0
    assert run.sum("peak_bytes", "raw_decode") > 5 * MIB


@both_modes
def test_the_example_service(traced: Run, options: tuple[str, ...]) -> None:
    """The leak of examples/orders.py comes first; its bounded cache is not reported."""
    run = traced(
        PYTHON, EXAMPLES / "orders.py", "30000", options=("--interval", "0.05", *options), top=TOP
    )
    assert run.sum("peak_bytes", "reserve_archive", kind="mmap") == 256 * MIB
    written = 30_000 * 224
    resident = run.sum("resident_bytes", "reserve_archive", kind="mmap")
    # The account is of the peak, which is near the end.
    assert written * 0.7 <= resident <= written + 2 * MIB
    assert run.sum("peak_bytes", "audit") > 4 * MIB
    first = run.leaks["leaks"][0]
    assert any(named(frame, "audit") for frame in first["frames"])


def test_the_threads_of_a_service_have_their_own_stacks(traced: Run) -> None:
    """Allocations of the example's worker thread belong to its function."""
    run = traced(PYTHON, EXAMPLES / "orders.py", "5000", options=("--exact",), top=TOP)
    assert run.sum("allocated_bytes", "invoice_worker") > 0
    for stack in run.stacks("invoice_worker"):
        assert not any(named(frame, "serve") for frame in stack["frames"])


@both_modes
def test_python_lines(tmp_path: Path, traced: Run, options: tuple[str, ...]) -> None:
    """Python frames name the file and the line that allocates."""
    service = tmp_path / "service.py"
    service.write_text(
        "def outer():\n"
        "    kept = []\n"
        "    for _ in range(200):\n"
        "        kept.append(\n"
        "            bytes(100_000))\n"
        "    return kept\n"
        "\n"
        "held = outer()\n"
        "print(len(held))\n"
    )
    run = traced(PYTHON, service, options=options, top=TOP)
    stacks = [stack for stack in run.stacks("outer") if stack["peak_bytes"] > MIB]
    lines = {
        frame["line"] for stack in stacks for frame in stack["frames"] if named(frame, "outer")
    }
    assert lines == {5}
    total = sum(stack["peak_bytes"] for stack in stacks)
    true = 200 * 100_033
    if options == FINE:  # six standard errors of this sample
        assert abs(total - true) < 6 * math.sqrt((16 << 10) * true)
    else:
        assert total == true


@both_modes
def test_python_ends_in_every_way(traced: Run, options: tuple[str, ...]) -> None:
    """sys.exit, an exception, os._exit and a signal give the same status as untraced."""
    for code, status in [
        ("import sys; sys.exit(7)", 7),
        ("raise ValueError", 1),
        ("import os; os._exit(9)", 9),
        ("import os; os.kill(os.getpid(), 15)", 143),
    ]:
        assert traced(PYTHON, "-c", code, options=options).outcome.status == status


def test_spawned_programs_are_no_forks(traced: Run) -> None:
    """A program that was spawned, by vfork and exec, does not share its spawner's memory; a forked one does."""
    code = (
        "import os, subprocess, sys\n"
        "subprocess.run([sys.executable, '-S', '-c', '0'], check=True, close_fds=False)\n"
        "child = os.fork()\n"
        "os.waitpid(child, 0) if child else os._exit(0)\n"
    )
    run = traced(PYTHON, "-c", code)
    assert run.outcome.status == 0
    found = read(run.file).processes
    assert found[0].forked is False
    assert {each.forked for each in found if "-S" in each.command} == {False}
    forks = [each for each in found[1:] if each.forked]
    assert {each.parent_index for each in forks} == {0}
    assert any(each.ending == "exited 0" for each in forks)


@both_modes
def test_python_that_forks(traced: Run, options: tuple[str, ...]) -> None:
    """Children of multiprocessing, forked while threads run, return their results."""
    code = (
        "import multiprocessing as m, sys\n"
        "m.set_start_method('fork')\n"
        "all_run = m.Barrier(3).wait\n"  # else Pool may kill a worker before it has begun
        "with m.Pool(3, all_run) as p: print(sum(p.map(len, ['x' * n for n in range(300)])))\n"
    )
    run = traced(PYTHON, "-W", "ignore", "-c", code, options=options, top=TOP)
    assert run.outcome.stdout == b"44850\n"
    assert len(run.report["processes"]) == 4


TEMPLATES = """
#include <map>
#include <string>
#include <vector>
template <int N> struct Record { std::map<std::string, std::vector<int>> fields; int a[N]; };
#define USE(N) int use##N(const std::string &s) { Record<N> r; r.fields[s].push_back(N); \\
    return int(r.fields.size()) + int(r.fields.count("a" #N "b")); }
USE(1) USE(2) USE(3) USE(4)
int main() { return use1("a") + use2("b") + use3("c") + use4("d"); }
"""


def test_forked_workers_draw_samples_of_their_own(traced: Run) -> None:
    """With one seed, workers that do the same differ in what is sampled."""
    script = """
import os
for worker in range(4):
    if os.fork() == 0:
        kept = [bytes(1000) for _ in range(4000)]
        os._exit(0)
    os.wait()
"""
    run = traced(sys.executable, "-c", script, options=("--sample-bytes", "64K", "--seed", "3"))
    totals = read(run.file).totals
    assert len(totals) == 5
    assert len({float(totals[each].rows["allocated_bytes"].sum()) for each in range(1, 5)}) > 1


@both_modes
def test_a_cpp_compile(tmp_path: Path, traced: Run, options: tuple[str, ...]) -> None:
    """g++ produces the same assembly, and its children cc1plus and as are processes of their own."""
    compiler = needs("g++")
    source = tmp_path / "templates.cpp"
    source.write_text(TEMPLATES)
    run = traced(compiler, "-O1", "-S", "-o", "-", source, options=options, top=TOP)
    assert run.outcome.status == 0
    assert run.outcome.stdout.count(b"\n") > 1000
    compilers = [p for p in run.report["processes"] if "cc1plus" in p["command"]]
    assert len(compilers) == 1
    assert compilers[0]["peak_rss_bytes"] > 20 * MIB


@both_modes
def test_sqlite(tmp_path: Path, traced: Run, options: tuple[str, ...]) -> None:
    """sqlite3 inserts 100,000 rows in memory, which are allocated by malloc."""
    shell = needs("sqlite3")
    script = (
        "create table t(a integer primary key, b text);"
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)"
        " insert into t select i, printf('%0100d', i) from n;"
        "select count(*), sum(length(b)) from t;"
    )
    run = traced(shell, ":memory:", script, options=options)
    assert run.outcome.stdout == b"100000|10000000\n"
    assert run.report["peak"]["live_bytes"] > 8 * MIB


@both_modes
def test_a_shell_pipeline(traced: Run, options: tuple[str, ...]) -> None:
    """A pipeline of many short programs prints the same, and every process is listed."""
    script = "seq 1 2000 | sort -rn | uniq | head -3; echo $(expr 3 + 4); exit 6"
    run = traced("bash", "-c", script, options=options)
    assert run.outcome.stdout == b"2000\n1999\n1998\n7\n"
    assert run.outcome.status == 6
    names = {Path(p["command"].split()[0]).name for p in run.report["processes"]}
    assert {"bash", "seq", "sort", "uniq", "head", "expr"} <= names


@both_modes
def test_closed_pipes_stay_quiet(traced: Run, options: tuple[str, ...]) -> None:
    """A writer whose reader ends dies of SIGPIPE as it does untraced."""
    script = "yes | head -1; echo ${PIPESTATUS[0]}"
    assert traced("bash", "-c", script, options=options).outcome.stdout == b"y\n141\n"


@pytest.mark.slow
def test_an_interpreter_with_another_malloc(traced: Run) -> None:
    """PYTHONMALLOC=malloc and =debug work, and objects are then malloc blocks."""
    code = "x = [str(i) * 10 for i in range(50000)]; print(len(x))"
    for allocator in ("malloc", "pymalloc", "malloc_debug", "debug"):
        run = traced(
            PYTHON, "-S", "-c", code, options=("--exact",), environment={"PYTHONMALLOC": allocator}
        )
        assert run.outcome.stdout == b"50000\n"


def test_a_library_preloaded_beneath(tmp_path: Path, traced: Run) -> None:
    """A program's own LD_PRELOAD stays in force."""
    source, library = tmp_path / "own.c", tmp_path / "own.so"
    source.write_text("int getuid(void) { return 4242; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", source, "-o", library], check=True)
    run = traced("id", "-ru", environment={"LD_PRELOAD": str(library)})
    assert run.outcome.stdout == b"4242\n"


def test_the_example_ends_at_ctrl_c() -> None:
    """Its second thread does not keep the program alive."""
    code = "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += f"runpy.run_path({str(EXAMPLES / 'orders.py')!r}, run_name='__main__')"
    program = subprocess.Popen(
        [PYTHON, "-u", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert program.stdout is not None
    program.stdout.readline()
    program.send_signal(signal.SIGINT)
    try:
        program.communicate(timeout=60)
    finally:
        program.kill()
    assert program.returncode == -signal.SIGINT
