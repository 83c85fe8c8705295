"""Errors for a process that cannot be read or stopped."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mematlas import AccessError, MematlasError, TargetError
from mematlas.tracing.child import library
from mematlas.tracing.inject import attach_tracer
from mematlas.tracing.target import Target, refusal


def test_an_error_of_the_kernel_names_the_process() -> None:
    """Each says what to do, or what the process did."""
    pid = os.getpid()
    denied = refusal(pid, PermissionError(errno.EACCES, "Permission denied"))
    assert isinstance(denied, AccessError)
    assert f"process {pid} may not be traced; run as its user" in str(denied)
    gone = refusal(pid, ProcessLookupError(errno.ESRCH, "No such process"))
    assert isinstance(gone, TargetError)
    other = refusal(pid, OSError(errno.EIO, "Input/output error"))
    assert type(other) is MematlasError
    assert str(other) == f"process {pid} cannot be traced: Input/output error"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="attach works on x86-64 alone")
def test_memory_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Yama forbids the memory of a process while its maps may be read; the hint tells the setting."""
    real_open, real_read = Path.open, Path.read_text

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "mem":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, *arguments, **options)

    def read(path: Path, *arguments: Any, **options: Any) -> str:
        return "1\n" if path.name == "ptrace_scope" else real_read(path, *arguments, **options)

    code = "print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == b"ready\n"
            monkeypatch.setattr(Path, "open", refuse)
            monkeypatch.setattr(Path, "read_text", read)
            with pytest.raises(AccessError, match=r"kernel\.yama\.ptrace_scope=0"):
                Target(program.pid)
        finally:
            monkeypatch.undo()
            program.kill()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="attach works on x86-64 alone")
def test_a_program_that_execs_before_the_attach() -> None:
    """Addresses of the program before are not used in the next one."""
    command = ["sh", "-c", "echo ready; read line; exec cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        target = Target(program.pid)
        target.check_same_program()
        program.stdin.write(b"go\nsaid by cat\n")
        program.stdin.flush()
        assert program.stdout.readline() == b"said by cat\n"
        with pytest.raises(TargetError, match=f"process {program.pid} started another program"):
            attach_tracer(target, library(), "none:")
        program.stdin.write(b"unharmed\n")
        program.stdin.flush()
        assert program.stdout.readline() == b"unharmed\n"
