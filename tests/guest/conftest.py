"""Tests for an otherwise idle machine with two memory nodes: scripts/guest boots one."""

from __future__ import annotations

import faulthandler
import io
import os
import re
import signal
import sys
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
NODES = Path("/sys/devices/system/node")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests on any other machine."""
    if os.environ.get("MEMATLAS_GUEST"):
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="for a guest; run scripts/guest"))


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Restore the hugetlb pools after each test."""
    yield
    if not os.environ.get("MEMATLAS_GUEST"):
        return
    for pool in NODES.glob("node*/hugepages/hugepages-2048kB/nr_hugepages"):
        pool.write_text("0")


def mematlas(*words: object, status: int = 0) -> str:
    """Run mematlas in this process, because a start takes long here, and return its output."""
    from mematlas.cli import main

    said, complaint = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(complaint):
        code = main(list(map(str, words)))
    assert code == status, said.getvalue() + complaint.getvalue()
    return said.getvalue() + complaint.getvalue()


@dataclass(frozen=True, slots=True)
class Child:
    """A process that holds memory."""

    pid: int

    def end(self) -> int:
        """Wait for the end of the process and return its exit status: -N for signal N."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def holding(size: int, *options: str, more: tuple[str, ...] = ()) -> Iterator[Child]:
    """Run a process that holds touched memory, by `mematlas exec` if there are options."""
    from mematlas.cli import main

    reader, writer = os.pipe()
    command = [os.environ["MEMATLAS_HOLD"], str(size), *more]
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        os.dup2(writer, 1)
        try:
            if options:
                main(["exec", *options, "--", *command])
            os.execv(command[0], command)
        finally:
            os._exit(3)
    os.close(writer)
    try:
        with os.fdopen(reader) as pipe:
            assert pipe.readline() == "ready\n"
            yield Child(child)
    finally:
        try:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


@contextmanager
def full_node(node: int) -> Iterator[None]:
    """Leave less than 4 % of a node's memory free or in page cache."""
    from mematlas.memory import Region

    Path("/proc/sys/vm/drop_caches").write_text("3")
    with ExitStack() as stack:
        while (left := usable(node)) > 0.04:
            size = "8M" if left < 0.08 else "64M"
            stack.enter_context(Region(size, node=node, populate=True))
        yield


def usable(node: int) -> float:
    """Return the share of a node's memory that is free or page cache."""
    text = (NODES / f"node{node}" / "meminfo").read_text()
    found = {name: int(size) for name, size in re.findall(r"(\w+): +(\d+) kB", text)}
    return (found["MemFree"] + found["FilePages"]) / found["MemTotal"]
