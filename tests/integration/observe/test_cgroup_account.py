"""The account of a memory cgroup, against a program that holds known amounts of each kind of memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mematlas import observe
from mematlas.cli import main
from mematlas.linux import cgroup_paths, machine
from mematlas.observe.cgroup_account.analyse import analyse_cgroup
from mematlas.observe.cgroup_account.model import UNACCOUNTED
from mematlas.observe.cgroup_account.read import read_cgroup
from nested_cgroups import Cgroup, nested

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.observe.cgroup_account.model import CgroupAccount

MIB = 1 << 20
HEAP, MAPPED, CLOSED, MEMFD, TMPFS = 40, 24, 12, 16, 8
THREADS, PIPES, STACK = 40, 60, 16 << 10
LITTLE = MIB  # what a Python program has besides

HOLD = f"""
import fcntl, mmap, os, sys, threading
folder, shm = sys.argv[1:]
block = b"x" * {MIB}
heap = mmap.mmap(-1, {HEAP * MIB}, mmap.MAP_PRIVATE)
heap.madvise(mmap.MADV_NOHUGEPAGE)
for at in range(0, len(heap), 4096):
    heap[at] = 1
def write(file, size):
    for _ in range(size):
        os.write(file, block)
mapped = os.open(folder + "/mapped", os.O_RDWR | os.O_CREAT)
write(mapped, {MAPPED})
kept = mmap.mmap(mapped, 0, mmap.MAP_SHARED, mmap.PROT_READ)
os.fsync(mapped)
os.close(mapped)
closed = os.open(folder + "/closed", os.O_RDWR | os.O_CREAT)
write(closed, {CLOSED})
os.fsync(closed)
os.close(closed)
held = os.memfd_create("held")
write(held, {MEMFD})
gone = os.open(shm, os.O_RDWR | os.O_CREAT)
write(gone, {TMPFS})
os.close(gone)
pipes = [os.pipe() for _ in range({PIPES})]
for _, end in pipes:
    os.set_blocking(end, False)
    os.write(end, b"y" * 65536)
threading.stack_size(65536)
for _ in range({THREADS}):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
"""


@contextmanager
def holding(group: Cgroup, folder: Path) -> Iterator[int]:
    """Run the program in a group; its PID."""
    shm = Path(f"/dev/shm/mematlas-account-{os.getpid()}")
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", HOLD, str(folder), str(shm)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=group.enter,  # noqa: PLW1509
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        yield child.pid
    finally:
        child.communicate(b"\n", timeout=60)
        shm.unlink(missing_ok=True)


def accounted(pid: int, *trees: str) -> CgroupAccount:
    """Return the account of the group of a process."""
    found = analyse_cgroup(read_cgroup(machine.read_levels(pid, None)[0], trees))
    assert found is not None
    return found


def test_every_kind_of_memory_is_found(tmp_path: Path) -> None:
    """Each part is what the program holds, the files are named with their holder, and nothing is left over."""
    with nested() as (_, group, _sibling), holding(group, tmp_path) as pid:
        account = accounted(pid)
        parts = {part.kind: part for part in account.parts}
        assert sum(part.bytes for part in account.parts) == account.usage
        assert abs(parts[UNACCOUNTED].bytes) <= max(account.usage // 100, 2 * MIB)
        own = dict((piece.name, piece.bytes) for piece in parts["anonymous"].pieces)  # noqa: C402
        assert HEAP * MIB <= max(own.values()) <= (HEAP + 12) * MIB
        assert abs(parts["shared"].bytes - (MEMFD + TMPFS) * MIB) < LITTLE
        assert parts["file"].bytes >= (MAPPED + CLOSED) * MIB
        files = {each.path: each for each in account.files}
        mapped = files[f"{tmp_path}/mapped"]
        assert (mapped.charged, mapped.holders, mapped.in_memory) == (MAPPED * MIB, (pid,), False)
        memfd = files["/memfd:held (deleted)"]
        assert (memfd.charged, memfd.holders, memfd.in_memory) == (MEMFD * MIB, (pid,), True)
        shm = files[f"/dev/shm/mematlas-account-{os.getpid()}"]
        assert (shm.charged, shm.holders, shm.in_memory) == (TMPFS * MIB, (), True)
        kernel = {piece.name: piece.bytes for piece in parts["kernel"].pieces}
        if group.version == 1:
            # The stack of the first thread is charged to the group of the process that forked.
            assert (
                THREADS * STACK
                <= kernel["kernel stacks, by the number of threads"]
                <= (THREADS + 1) * STACK
            )
            pipes = kernel["pipes, socket buffers and other pages"]
            assert PIPES * 65536 - STACK <= pipes <= PIPES * 65536 + LITTLE


def test_closed_files_are_found_below_a_directory(tmp_path: Path) -> None:
    """A file that nobody has open is part of the rest, or named where its directory is given."""
    with nested() as (_, group, _sibling), holding(group, tmp_path) as pid:
        rest = "files that no process of the group has open"
        without, with_tree = accounted(pid), accounted(pid, str(tmp_path))
        name = f"{tmp_path}/closed"
        assert name not in {each.path for each in without.files}
        found = {each.path: each.charged for each in with_tree.files}
        assert found[name] == CLOSED * MIB
        for account, closed in ((without, 1), (with_tree, 0)):
            pieces = next(part.pieces for part in account.parts if part.kind == "file")
            sizes = {piece.name: piece.bytes for piece in pieces}
            assert (sizes.get(rest, 0) >= CLOSED * MIB) == bool(closed)


def test_memory_of_a_moved_process_is_told(tmp_path: Path) -> None:
    """Pages stay charged to the group of their first use: both groups say so."""
    with nested() as (_, group, other), holding(group, tmp_path) as pid:
        (other.path / "cgroup.procs").write_text(str(pid))
        here = accounted(pid)
        assert here.path.endswith(other.path.name)
        if here.usage > HEAP * MIB:
            pytest.skip("this kernel moves the charge with the process")
        assert any("more than is charged here" in text for text in here.notes)
        path = cgroup_paths.resolve(str(group.path), None)
        there = analyse_cgroup(read_cgroup(machine.read_levels(None, path)[0]))
        assert there is not None
        (heap,) = (part for part in there.parts if part.kind == "anonymous")
        assert [piece.name for piece in heap.pieces] == ["held by no process of the group"]
        assert heap.bytes >= HEAP * MIB


def test_a_container_is_found_by_its_id(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The beginning of the ID is enough; the answer names the group; an unknown ID is one line."""
    identity = "3f29b1c0a7de" + f"{os.getpid():052x}"
    with nested() as (outer, _, _sibling):
        container = Cgroup(outer.path / f"docker-{identity}.scope", outer.version)
        container.path.mkdir()
        try:
            with holding(container, tmp_path):
                assert main(["system", "cgroup", "--container", identity[:12], "--json"]) == 0
                data = json.loads(capsys.readouterr().out)["data"]
                assert f"docker-{identity}.scope is charged" in data["answer"][0]
                assert data["sections"][0]["bar"]
                path = str(container.path)
                assert main(["system", "cgroup", path]) == 0
                shown = capsys.readouterr().out
                assert "Account of" in shown
                assert "/memfd:held (deleted)" in shown
        finally:
            container.path.rmdir()
    assert main(["system", "cgroup", "--container", "3f29b1c0a7de"]) != 0
    assert "no memory cgroup is named after" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["system", "memory", "/docker"],
        ["system", "cgroup", "/x", "--container", "abcdef"],
        ["system", "cgroup", "--pid", "1", "/x"],
    ],
)
def test_a_group_goes_with_its_topic(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One group at a time, and only where it means something."""
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_group_is_refused() -> None:
    """A path that is no group is an error, not the group above it."""
    with pytest.raises(Exception, match="there is no memory cgroup /no-such-group"):
        observe.system("cgroup", cgroup="/no-such-group")
