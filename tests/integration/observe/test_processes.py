"""`mematlas ps`: every process once, denied access noted, sizes as in other tools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import memory_victim
from mematlas.linux import processes
from mematlas.observe.processes.analyse import build_tree, rank, sum_processes
from terminal import print_in_terminal

if TYPE_CHECKING:
    from conftest import Build
    from mematlas.linux.processes import ProcessRow, ProcessTable

PS = (sys.executable, "-m", "mematlas", "ps")


def row_of(table: ProcessTable, pid: int) -> ProcessRow:
    """Return the row of a process."""
    return next(row for row in table.processes if row.pid == pid)


def test_figures_are_those_of_psutil(build: Build) -> None:
    """RSS, swap and hugetlb agree with psutil; USS too once no other process maps the same files."""
    psutil = pytest.importorskip("psutil")
    with memory_victim.opened(build("memory_victim")) as victim:
        for _ in range(50):
            row = row_of(processes.read(), victim.pid)
            other = psutil.Process(victim.pid).memory_full_info()
            if row.uss == other.uss:
                break
    assert (row.rss, row.uss, row.swap) == (other.rss, other.uss, other.swap)
    assert row.command == str(build("memory_victim"))
    assert row.threads == 2


def test_twins_count_once(build: Build) -> None:
    """Two processes with one address space (CLONE_VM) count once in the sum."""
    with memory_victim.opened(build("memory_victim"), "twin") as victim:
        table = processes.read()
    pair = [row_of(table, victim.pid), row_of(table, victim.at["twin"][0])]
    assert [row.same_mm_as for row in pair] == [None, victim.pid]
    assert pair[0].rss == pair[1].rss
    assert sum_processes("pair", pair).rss == pair[0].rss


def test_zombies_are_named(tmp_path: Path) -> None:
    """A zombie has a note and no memory, and does not count as unknown in the sum."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    row = row_of(processes.read(), child)
    os.waitpid(child, 0)
    assert (row.pss, row.note.partition(":")[0]) == (None, "zombie")


def test_any_name_is_parsed() -> None:
    """Parentheses, spaces and newlines in a name do not shift the fields."""
    text = Path("/proc/self/stat").read_bytes()
    odd = b"12 (a) R (b\n c) " + text[text.rindex(b")") + 2 :]
    plain = processes.parse_stat(text)
    assert processes.parse_stat(odd) == plain._replace(name="a) R (b\n c")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
def test_refused_processes_stay_in_the_list() -> None:
    """As nobody, a process of root is listed with its RSS, without PSS, and with the reason."""
    parent, (reader, writer) = os.getpid(), os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        row = row_of(processes.read(), parent)
        os.write(writer, json.dumps([row.rss > 0, row.pss, row.note[:6]]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    assert json.loads(os.read(reader, 1000)) == [True, None, "denied"]
    os.close(reader)


def test_tree_and_order() -> None:
    """Children follow their parents one level deeper; sorted rows are in order."""
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        table = processes.read()
        sleeper.kill()
    tree = build_tree(table.processes, "pss")
    depths = {row.pid: depth for depth, row in tree}
    assert depths[sleeper.pid] == depths[os.getpid()] + 1
    assert len(tree) == len(table.processes)
    ranked = [row.rss for row in rank(table.processes, "rss")]
    assert ranked == sorted(ranked, reverse=True)


@pytest.mark.parametrize("options", [[], ["--tree"], ["--group", "user"], ["--group", "cgroup"]])
def test_text_fits(options: list[str]) -> None:
    """Every form of the output fits 80 columns."""
    text = print_in_terminal([*PS, *options])
    assert max(map(len, text.splitlines())) <= 80


def test_json() -> None:
    """JSON holds every process, this one with its cgroup."""
    answer = json.loads(subprocess.check_output([*PS, "--json"]))
    assert answer["schema"] == "mematlas/ps/1"
    (own,) = [row for row in answer["data"]["processes"] if row["pid"] == os.getpid()]
    assert own["cgroup"].startswith("/")
    assert own["pss"] > 0
