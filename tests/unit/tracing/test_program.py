"""A program that cannot be started is refused; one that cannot load the tracer is told from others."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from mematlas._core import LeftKind
from mematlas.errors import AccessError, MematlasError, TargetError, UsageError
from mematlas.tracing.program import check_program, find_program

if TYPE_CHECKING:
    from pathlib import Path


def elf(machine: int = 62, bits: int = 2, interpreter: bytes | None = b"/lib64/ld.so") -> bytes:
    """Build a minimal ELF program: its header, and one program header if it is dynamic."""
    content = (interpreter or b"") + b"\0"
    header = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH",
        *(b"\x7fELF", bits, 1, 1, 0, 3, machine, 1, 0, 64, 0, 0, 64, 56),
        *(0 if interpreter is None else 1, 0, 0, 0),
    )
    segment = struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(content), len(content), 1)
    return header + segment + content


def program(folder: Path, content: bytes, mode: int = 0o755) -> str:
    """Write an executable file."""
    path = folder / "program"
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ([], UsageError),
        ([""], UsageError),
        (["no-such-command-anywhere"], TargetError),
        (["/no/such/file"], TargetError),
        (["/etc/passwd/x"], TargetError),
        (["/etc"], UsageError),
        (["/etc/passwd"], AccessError),
    ],
)
def test_commands_that_cannot_be_found(command: list[str], error: type[MematlasError]) -> None:
    """Each command that cannot be run has its own error class, and so exit status."""
    with pytest.raises(error):
        find_program(command)


def test_a_command_is_found_on_the_path() -> None:
    """A name without a slash is searched in PATH."""
    assert find_program(["sh", "-c", "true"]).endswith("/sh")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the ELF files below are of x86-64")
@pytest.mark.parametrize(
    ("content", "left"),
    [
        (elf(), LeftKind.NOT),
        (elf(interpreter=None), LeftKind.STATIC),
        (elf(interpreter=b"/lib/ld-musl-x86_64.so.1"), LeftKind.OTHER_LIBC),
        (elf(interpreter=b"/system/bin/linker64"), LeftKind.OTHER_LIBC),
        (elf(machine=183), LeftKind.FOREIGN),
        (elf(bits=1), LeftKind.FOREIGN),
        (elf()[:70], LeftKind.STATIC),
    ],
)
def test_what_can_load_the_tracer(tmp_path: Path, content: bytes, left: LeftKind) -> None:
    """The loader's path and the ELF header decide, also for a script by its interpreter."""
    path = program(tmp_path, content)
    script = tmp_path / "script"
    script.write_bytes(b"#! " + path.encode() + b" -u\nrest\n")
    script.chmod(0o755)
    assert (check_program(path), check_program(str(script))) == (left, left)


@pytest.mark.parametrize(
    ("content", "error", "word"),
    [
        (b"echo no #! line\n", UsageError, "neither"),
        (b"#!\n", UsageError, "interpreter"),
        (b"#!/no/such/interpreter -x\n", TargetError, "interpreter"),
    ],
)
def test_files_that_are_no_programs(
    tmp_path: Path, content: bytes, error: type[MematlasError], word: str
) -> None:
    """The error names the reason."""
    with pytest.raises(error, match=word):
        check_program(program(tmp_path, content))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the ELF files below are of x86-64")
@pytest.mark.parametrize("mode", [0o4755, 0o2755])
def test_a_program_that_gains_privileges(tmp_path: Path, mode: int) -> None:
    """Of another user's setuid or setgid program, the loader ignores LD_PRELOAD."""
    path = program(tmp_path, elf())
    os.chown(path, 65534, 65534)
    os.chmod(path, mode)  # noqa: PTH101
    assert check_program(path) is LeftKind.PRIVILEGED
