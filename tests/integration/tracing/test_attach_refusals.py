"""Refusals of `mematlas attach`, and threads that can be entered or not."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from attachments import (
    Obedient,
    attached,
    compiled,
    mematlas,
    recorded,
    wait_until_recorded,
)
from machine_state import NOBODY
from mematlas.tracing.child import library
from waiting import wait_until_asleep

if TYPE_CHECKING:
    from conftest import Build

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="attach works on x86-64 alone"),
]
HANDLER_OVER_MALLOC = """
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
static void *volatile kept;
static void handle(int n) { (void)n; for (;;) pause(); }
int main(void) {
    puts("ready");
    fflush(stdout);
    signal(SIGSEGV, handle);
    kept = malloc(4096);
    mprotect((void *)(((uintptr_t)sbrk(0) - 16384) & ~4095ul), 4096, PROT_READ);
    for (;;) kept = malloc(1000); /* writes to that page while it holds its lock */
}
"""
HANDLER_OVER_PAUSE = """
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static char *volatile kept;
static __attribute__((noinline)) void allocate(void) { kept = malloc(5000); free(kept); }
static void handle(int n) {
    (void)n;
    puts("ready");
    fflush(stdout);
    for (;;) { allocate(); usleep(2000); }
}
int main(void) { signal(SIGALRM, handle); alarm(1); for (;;) pause(); }
"""
STALE_WORD = """
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static char *volatile kept;
static __attribute__((noinline)) void allocate(void) { kept = malloc(5000); free(kept); }
static void handle(int n) { (void)n; }
static __attribute__((noinline)) void serve(void) {
    volatile char buffer[16384]; /* holds what sigaction() left on the stack */
    puts("ready");
    fflush(stdout);
    for (;;) { allocate(); usleep(2000); buffer[0]++; }
}
int main(void) { signal(SIGUSR1, handle); raise(SIGUSR1); serve(); }
"""
IN_MALLOC = """
#include <stdio.h>
#include <stdlib.h>
static char *volatile kept;
static __attribute__((noinline)) void allocate(void) { kept = malloc(5000); free(kept); }
int main(void) { puts("ready"); fflush(stdout); for (;;) allocate(); }
"""


def test_a_handler_over_the_allocator_is_refused(tmp_path: Path) -> None:
    """A thread whose handler interrupted malloc() is not entered; the reason is true, and no file is left."""
    program = Obedient(compiled(HANDLER_OVER_MALLOC, tmp_path))
    (tmp_path / "old.atlas").write_bytes(b"of before")
    try:
        for name in ("new.atlas", "old.atlas"):
            file = tmp_path / name
            done = mematlas("attach", str(program.process.pid), "-o", str(file))
            assert done.returncode == 1
            assert "a signal handler runs in its only thread over malloc() of libc" in done.stderr
            assert "try again" not in done.stderr
        assert not (tmp_path / "new.atlas").exists()
        assert (tmp_path / "old.atlas").read_bytes() == b"of before"
        assert not list(tmp_path.glob(".*"))
        assert "mematlas" not in Path(f"/proc/{program.process.pid}/maps").read_text()
        assert program.process.poll() is None
    finally:
        program.kill()


@pytest.mark.parametrize(
    "code",
    [HANDLER_OVER_PAUSE, STALE_WORD, IN_MALLOC],
    ids=["handler over pause", "stale word", "always in malloc"],
)
def test_a_thread_is_found(code: str, tmp_path: Path) -> None:
    """A handler over a wait, its remains on the stack, and a thread that is always in malloc() are no obstacle."""
    program = Obedient(compiled(code, tmp_path))
    try:
        for number in range(3):
            file = tmp_path / f"{number}.atlas"
            with attached(program.process.pid, file, "--exact"):
                wait_until_recorded(file, 4)
        assert program.process.poll() is None
    finally:
        program.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to have another user's process")
def test_another_users_process(build: Build, tmp_path: Path) -> None:
    """Root attaches to a process of another user."""
    for folder in Path(library()).parents:
        if not folder.stat().st_mode & 0o001:
            pytest.skip(f"{folder} is closed to other users")
    with tempfile.TemporaryDirectory() as public:
        os.chmod(public, 0o755)  # noqa: PTH101
        program = Obedient(shutil.copy(build("obeys"), public), user=NOBODY)
        file = tmp_path / "a.atlas"
        with attached(program.process.pid, file, "--exact"):
            program.tell("a")
        assert program.end() == (7, "")
    assert recorded(file).sum("allocations", "allocate", kind="malloc") == 1000


def test_refusals(build: Build, tmp_path: Path) -> None:
    """Each refusal is one line with the right status, and the process is unchanged."""
    static = tmp_path / "static"
    (tmp_path / "static.c").write_text(
        "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"
    )
    subprocess.run(["gcc", "-static", str(tmp_path / "static.c"), "-o", str(static)], check=True)
    waiting = subprocess.Popen([static])
    program = Obedient(build("obeys"))
    pid, out = str(program.process.pid), ("-o", str(tmp_path / "x.atlas"))
    try:
        cases = [
            (("attach", "999999999", *out), 3, "there is no process"),
            (("attach", str(waiting.pid), *out), 2, "static"),
            (("attach", "0"), 2, "above zero"),
            (("attach", pid, "-o", str(tmp_path / "no/such.atlas")), 1, "no/such.atlas"),
            (("detach", pid), 3, "is not traced by"),
        ]
        for arguments, status, reason in cases:
            done = mematlas(*arguments)
            assert done.returncode == status, done.stderr
            assert reason in done.stderr
            assert len(done.stderr.strip().splitlines()[-1]) < 200
        with attached(program.process.pid, tmp_path / "b.atlas"):
            program.tell("a")
        assert mematlas("detach", pid).returncode == 3  # no more
        with attached(program.process.pid, tmp_path / "a.atlas"):
            done = mematlas("attach", pid, *out)
            assert done.returncode == 2
            assert "traced already" in done.stderr
    finally:
        waiting.kill()
        waiting.wait()
    assert program.end() == (7, "")


def test_a_program_with_memory_sanitizer_is_refused(tmp_path: Path) -> None:
    """Its runtime would take memory that the tracer wrote for uninitialised, and end the program."""
    source, program = tmp_path / "p.c", tmp_path / "p"
    source.write_text("#include <unistd.h>\nint main(void) { sleep(60); return 7; }\n")
    command = ["clang", "-fsanitize=memory", str(source), "-o", str(program)]
    if not shutil.which("clang") or subprocess.run(command, check=False).returncode:
        pytest.skip("no clang with MemorySanitizer")
    running = subprocess.Popen([program])
    try:
        wait_until_asleep(running.pid)
        done = mematlas("attach", str(running.pid), "-o", str(tmp_path / "a.atlas"))
        assert (done.returncode, running.poll()) == (5, None)
        assert "MemorySanitizer" in done.stderr
    finally:
        running.kill()
        running.wait()
