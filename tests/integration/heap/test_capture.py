"""Images of real programs: what was copied equals what the program has, and the program goes on."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mematlas.errors import AccessError, TargetError
from mematlas.heap.model.image import RangeKind
from mematlas.heap.read.capture import capture
from mematlas.linux.process import open_process
from mematlas.linux.program import read_libraries

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAM = """
    import ctypes, sys, threading
    block = ctypes.create_string_buffer(b"held by the program" * 1000)
    threads = [threading.Thread(target=threading.Event().wait, daemon=True, name=f"t{i}") for i in range(3)]
    for each in threads:
        each.start()
    print(ctypes.addressof(block), flush=True)
    for line in sys.stdin:
        print(line, end="", flush=True)
"""


@pytest.fixture
def program() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a Python program that holds a block, and return its process and the block's address."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        yield process, int(process.stdout.readline())
        process.kill()


def _goes_on(process: subprocess.Popen[str]) -> bool:
    assert process.stdin
    assert process.stdout
    process.stdin.write("on\n")
    process.stdin.flush()
    return process.stdout.readline() == "on\n"


def test_image_has_memory_threads_and_registers(
    program: tuple[subprocess.Popen[str], int],
) -> None:
    """An image has the memory, threads and registers of its program."""
    process, address = program
    image = capture(process.pid)
    assert image.read(address, 19) == b"held by the program"
    assert image.pause_s
    assert image.way in {"stop", "copy-first"}
    assert len(image.threads) == 4
    assert all(each.stack and each.stack[0] <= each.sp < each.stack[1] for each in image.threads)
    assert all(each.registers["fs_base"] for each in image.threads)
    registers = [each for each in image.ranges if each.kind is RangeKind.REGISTERS]
    assert len(registers) == 4
    assert not image.notes
    assert _goes_on(process)


def test_ranges_ascend_and_are_of_one_kind(program: tuple[subprocess.Popen[str], int]) -> None:
    """Ranges do not overlap, and each has a byte for each page."""
    process, _ = program
    image = capture(process.pid)
    for before, after in zip(image.ranges, image.ranges[1:], strict=False):
        assert before.end <= after.start
    kinds = {each.kind for each in image.ranges}
    assert {RangeKind.BRK, RangeKind.ANONYMOUS, RangeKind.STACK, RangeKind.DATA} <= kinds
    for each in image.ranges:
        if each.pages is not None:
            assert len(each.pages) == -(-each.end // 4096) - each.start // 4096


def test_code_and_data_equal_the_memory_of_the_process(
    program: tuple[subprocess.Popen[str], int],
) -> None:
    """Memory that comes from files equals the memory of the process."""
    process, _ = program
    image = capture(process.pid)
    with open(f"/proc/{process.pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123
        for each in image.ranges:
            if each.kind is RangeKind.CODE:
                assert os.pread(memory.fileno(), len(each.memory), each.start) == each.memory
            elif each.kind is RangeKind.DATA:  # the program waits: its data is still the same
                there = os.pread(memory.fileno(), len(each.memory), each.start)
                differs = sum(a != b for a, b in zip(there, each.memory, strict=True))
                assert differs < 256


def test_bss_ends_where_the_file_says(program: tuple[subprocess.Popen[str], int]) -> None:
    """What the kernel merges with a .bss is no .bss."""
    process, _ = program
    image = capture(process.pid)
    with open_process(process.pid) as directory:
        libraries = read_libraries(directory, image.mappings)
    for library in libraries:
        for segment in library.segments:
            if segment.writable and segment.end - segment.file_end > 4096:
                found = image.find(segment.end - 8)
                assert found
                assert found.kind is RangeKind.DATA
                behind = image.find(-(-segment.end // 4096) * 4096)
                assert behind is None or behind.start >= segment.end


def test_traced_process_is_refused(program: tuple[subprocess.Popen[str], int]) -> None:
    """A process under a debugger is left alone."""
    process, _ = program
    libc = ctypes.CDLL(None, use_errno=True)
    seize, detach = 0x4206, 17
    assert libc.ptrace(seize, process.pid, None, None) == 0
    try:
        with pytest.raises(AccessError, match=f"traced by process {os.getpid()}"):
            capture(process.pid)
    finally:
        libc.ptrace(0x4207, process.pid, None, None)
        os.waitpid(process.pid, 0x40000000)
        assert libc.ptrace(detach, process.pid, None, None) == 0
    assert _goes_on(process)


def test_no_process_and_kernel_thread_are_refused() -> None:
    """What has no memory is refused with a reason."""
    with pytest.raises(TargetError, match="no process"):
        capture(2**22 + 1)
    if Path("/proc/2/comm").read_text() == "kthreadd\n":
        with pytest.raises(TargetError, match="no memory"):
            capture(2)
