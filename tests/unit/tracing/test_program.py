"""A program that cannot be traced is refused before it starts."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from mematlas.errors import AccessError, MematlasError, TargetError, UnsupportedError, UsageError
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
    ("content", "error", "word"),
    [
        (elf(interpreter=None), UsageError, "static"),
        (elf(interpreter=b"/lib/ld-musl-x86_64.so.1"), UnsupportedError, "musl"),
        (elf(machine=183), UnsupportedError, "another processor"),
        (elf(bits=1), UnsupportedError, "32-bit"),
        (b"echo no #! line\n", UsageError, "neither"),
        (b"#!\n", UsageError, "interpreter"),
        (b"#!/no/such/interpreter -x\n", TargetError, "interpreter"),
    ],
)
def test_programs_that_cannot_be_traced(
    tmp_path: Path, content: bytes, error: type[MematlasError], word: str
) -> None:
    """The error names the reason."""
    with pytest.raises(error, match=word):
        check_program(program(tmp_path, content))


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the ELF files below are of x86-64")
def test_programs_that_can(tmp_path: Path) -> None:
    """A dynamic program passes, and so does a script by its interpreter."""
    path = program(tmp_path, elf())
    check_program(path)
    script = tmp_path / "script"
    script.write_bytes(b"#! " + path.encode() + b" -u\nrest\n")
    check_program(str(script))


def test_a_setuid_program_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setuid program of another user is refused: the loader ignores LD_PRELOAD."""
    path = program(tmp_path, elf(), 0o4755)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(AccessError, match="setuid"):
        check_program(path)
