"""Core files of gcore and of the kernel, whole, cut and damaged."""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mematlas.errors import MematlasError, UsageError
from mematlas.heap.analyse.summary import sum_up
from mematlas.heap.model.image import RangeKind
from mematlas.heap.read.capture import capture
from mematlas.heap.read.content import CopiedContent
from mematlas.heap.read.core import read_core
from mematlas.heap.read.core_headers import is_core
from mematlas.heap.read.heap import read_heap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.heap.model.image import Image

_PROGRAM = """
    import ctypes, os, sys, threading
    class Order:
        pass
    orders = [Order() for _ in range(1000)]
    block = ctypes.create_string_buffer(b"held by the program" * 1000)
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    print(ctypes.addressof(block), flush=True)
    sys.stdin.readline()
    os.abort()
"""


def _run(folder: Path) -> subprocess.Popen[str]:
    endless = (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_CORE)[1])
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (endless[1], endless[1])),  # noqa: PLW1509
    )


@pytest.fixture(scope="module")
def cores(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, Path, Image, int]]:
    """Yield a core of gcore, one of the kernel, an image and a block's address, all of one process."""
    if not shutil.which("gcore"):
        pytest.skip("gcore is not installed: apt-get install gdb")
    if Path("/proc/sys/kernel/core_pattern").read_text().strip() != "core":
        pytest.skip("the kernel writes no core files to the working directory here")
    folder = tmp_path_factory.mktemp("cores")
    with _run(folder) as process:
        assert process.stdin
        assert process.stdout
        address = int(process.stdout.readline())
        image = capture(process.pid)
        subprocess.run(
            ["gcore", "-o", "gcore", str(process.pid)],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=60,
        )
        process.stdin.write("\n")
        process.stdin.flush()
        process.wait(60)
        kernel = next(path for path in folder.iterdir() if path.name.startswith("core"))
        yield folder / f"gcore.{process.pid}", kernel, image, address


def test_cores_equal_the_running_process(cores: tuple[Path, Path, Image, int]) -> None:
    """Memory, kinds, threads and Python's objects are those of the process when it ran."""
    *paths, image, address = cores
    live = read_heap(image)
    for path in paths:
        assert is_core(str(path))
        core = read_core(str(path))
        assert core.way == "core"
        assert core.read(address, 19) == b"held by the program"
        assert len(core.threads) == len(image.threads)
        assert {each.tid for each in core.threads} == {each.tid for each in image.threads}
        assert all(each.stack for each in core.threads)
        heaps = [each.start for each in core.ranges if each.kind is RangeKind.BRK]
        assert heaps == [each.start for each in image.ranges if each.kind is RangeKind.BRK]
        heap = read_heap(core)
        assert sum_up(heap).resident is None
        assert isinstance(heap.content, CopiedContent)
        assert heap.content.python is not None
        orders = list(heap.type_names).index("__main__.Order")
        assert (heap.type == orders).sum() == 1000
        assert abs(len(heap.address) - len(live.address)) < 500


def test_files_are_told_from_other_files(cores: tuple[Path, Path, Image, int]) -> None:
    """What a core leaves out equals the memory of the process: the files are the same."""
    *paths, image, _ = cores
    for path in paths:
        core = read_core(str(path))
        code = [each for each in core.ranges if each.kind is RangeKind.CODE]
        assert sum(len(each.memory) for each in code) > 1 << 20
        compared = 0
        for each in code:
            there = image.read(each.start, len(each.memory))
            if there is not None:
                assert there == each.memory
                compared += 1
        assert compared > 10


def test_cut_cores_are_read_or_refused(
    cores: tuple[Path, Path, Image, int], tmp_path: Path
) -> None:
    """A core that is cut anywhere gives an image with a remark, or one line that says why not."""
    data = cores[1].read_bytes()
    numbers = random.Random(1)
    sizes = [0, 1, 63, 64, 65, 1000, 5000, *(numbers.randrange(len(data)) for _ in range(25))]
    cut = tmp_path / "cut"
    for size in sizes:
        cut.write_bytes(data[:size])
        try:
            image = read_core(str(cut))
        except MematlasError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert any("is cut" in note for note in image.notes)
    cut.write_bytes(data[: len(data) * 9 // 10])
    assert len(read_heap(read_core(str(cut))).address) > 1000


def test_damaged_headers_and_notes(cores: tuple[Path, Path, Image, int], tmp_path: Path) -> None:
    """Whatever headers and notes say, the answer is an image or an error of mematlas."""
    whole = cores[1].read_bytes()
    numbers = random.Random(2)
    data = bytearray(whole[: 4 << 20])
    damaged = tmp_path / "damaged"
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(numbers.randrange(1, 20)):
            at = numbers.choice((64, 8000, 20000))
            changed[numbers.randrange(16, at)] = numbers.choice((0, 1, 0x7F, 0xFF))
        damaged.write_bytes(changed)
        try:
            image = read_core(str(damaged))
        except MematlasError:
            continue
        for before, after in zip(image.ranges, image.ranges[1:], strict=False):
            assert before.end <= after.start


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A program and a text are no core files."""
    text = tmp_path / "text"
    text.write_text("no core")
    assert not is_core(str(text))
    with pytest.raises(UsageError, match="not a core file"):
        read_core(str(text))
    with pytest.raises(UsageError, match="a program, not a core file"):
        read_core(sys.executable)
