"""Attaching to running programs and detaching: under load, while they die, and refusals."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from traced_runs import MEMATLAS, trace
from waiting import wait_until

if TYPE_CHECKING:
    from conftest import Build

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="attach works on x86-64 alone"),
]
OBEYS = """
import sys
kept, freed = [], 0
def allocate():
    for _ in range(1000): kept.append(bytes(3000))
    small.extend(object() for _ in range(1000))
small = []
print("ready", flush=True)
for line in sys.stdin:
    if line[0] == "q": break
    if line[0] == "a": allocate()
    if line[0] == "f":
        del kept[:500]
        freed += 500
    print("done", line[0], len(kept), freed, flush=True)
sys.exit(7)
"""


def is_announced(pid: int) -> bool:
    """Return whether a process is announced as attached to."""
    return f"@mematlas-attach.{pid}." in Path("/proc/net/unix").read_text(errors="replace")


def test_allocations_while_attached_are_recorded(build: Build, tmp_path: Path) -> None:
    """Every block that any thread allocates between attach and detach is recorded, and no other."""
    program, file = Obedient(build("obeys")), tmp_path / "a.atlas"
    program.tell("a")
    with attached(program.process.pid, file, "--exact"):
        program.tell("a")
        program.tell("t")
        assert program.tell("f") == "done f 6000 500\n"  # blocks from before the attachment
    assert program.tell("a") == "done a 7000 500\n"
    assert program.end() == (7, "")
    run = recorded(file)
    assert run.sum("allocations", "allocate", kind="malloc") == 5000
    assert run.sum("allocated_bytes", "keep_one", kind="malloc") == 500_000
    assert run.left("live_count", "keep_one") == 5000
    assert run.sum("allocations", "in_thread", kind="malloc") == 4000
    assert run.report["bad_frees"] == []
    (process,) = run.report["processes"]
    assert process["ending"] == "detached"
    assert "attached" in process["note"]
    account = run.report["account"]
    parts = sum(part["resident_bytes"] for part in account["parts"])
    assert parts + account["unexplained_bytes"] == account["rss_bytes"]


@pytest.mark.parametrize("flags", [(), ("-no-pie", "-fno-pic")], ids=["pie", "fixed address"])
def test_pointers_to_the_allocator(build: Build, flags: tuple[str, ...], tmp_path: Path) -> None:
    """Calls through pointers are recorded too; in a non-PIE program they point to its own PLT."""
    program, file = Obedient(build("obeys", *flags)), tmp_path / "a.atlas"
    with attached(program.process.pid, file, "--exact"):
        program.tell("a")
        program.tell("p")
    assert program.tell("p") == "done p 3000 0\n"
    assert program.end() == (7, "")
    run = recorded(file)
    assert run.sum("allocations", "allocate", kind="malloc") == 1000
    assert run.sum("allocations", "allocate_by_pointers", kind="malloc") == 1000
    assert "malloc() of its own" not in run.report["processes"][0]["note"]


def test_a_non_pie_program_has_no_malloc_of_its_own(build: Build, tmp_path: Path) -> None:
    """A non-PIE program with a pointer to malloc() uses libc's malloc()."""
    program = build("obeys", "-no-pie", "-fno-pic")
    run = trace(tmp_path / "a.atlas", ("sh", "-c", f"echo p | {program}"), "--exact")
    assert run.sum("allocations", "allocate_by_pointers", kind="malloc") == 1000
    assert not any("of its own" in each["note"] for each in run.report["processes"])


def test_repeated_attachments(build: Build, tmp_path: Path) -> None:
    """A program can be attached to repeatedly; each recording holds its own part."""
    program = Obedient(build("obeys"))
    for number in range(4):
        file = tmp_path / f"{number}.atlas"
        with attached(program.process.pid, file, "--exact"):
            program.tell("a" if number % 2 else "t")
        expected = 1000 if number % 2 else 4000
        assert recorded(file).sum("allocations", "keep_one", kind="malloc") == expected
    assert program.end() == (7, "")


def address_space(pid: int) -> tuple[int, int]:
    """Return the bytes of a process's address space and the number of its mappings."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE"), Path(f"/proc/{pid}/maps").read_text().count("\n")


@pytest.mark.parametrize(
    "limit", [(), ("prlimit", "--as=6000000000")], ids=["no limit", "address space limited"]
)
def test_attaching_costs_little_address_space(
    build: Build, tmp_path: Path, limit: tuple[str, ...]
) -> None:
    """All attachments together cost less than 10 MB, and none but the first costs any."""
    # libc keeps the stacks of threads, and adds arenas of 64 MB as threads meet.
    program = Obedient("env", "MALLOC_ARENA_MAX=1", *limit, build("obeys"))
    program.tell("t")
    sizes = [address_space(program.process.pid)]
    for number in range(4):
        with attached(program.process.pid, tmp_path / f"{number}.atlas"):
            program.tell("t" if number % 2 else "f")
        sizes.append(address_space(program.process.pid))
    assert program.end() == (7, "")
    bytes_after = [size for size, _ in sizes]
    assert bytes_after[-1] - bytes_after[0] < 10_000_000, sizes
    assert max(bytes_after[2:]) - bytes_after[1] <= 1_000_000, sizes
    assert sizes[-1][1] <= sizes[1][1] + 2, sizes  # the heap may have grown


def test_attaching_to_a_program_that_changes_all_the_time(build: Build, tmp_path: Path) -> None:
    """Threads end, children are forked and libraries are closed at any moment of an attachment or a detachment."""
    with subprocess.Popen(
        ["env", "MALLOC_ARENA_MAX=1", build("churns")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        sizes = []
        for number in range(int(os.environ.get("MEMATLAS_ATTACHMENTS", "4"))):
            options = ("--exact",) if number % 2 else ()
            file = tmp_path / f"{number % 2}.atlas"
            done = mematlas(
                "attach", str(program.pid), "--duration", "0.2", *options, "-o", str(file)
            )
            assert done.returncode == 0, done.stderr
            sizes.append(address_space(program.pid)[0])
        assert program.communicate(timeout=120)[0] == "0 wrong\n"
    assert program.returncode == 7
    assert recorded(file).sum("allocations", "exchange") > 0
    stacks = 4 * (8 << 20) + (4 << 20)  # a size may be read while threads live
    assert max(sizes[2:]) - max(sizes[:2]) <= stacks, sizes


def test_threads_of_an_earlier_session_end(build: Build, tmp_path: Path) -> None:
    """Threads that were traced in one session and allocate nothing in the next end in it."""
    program = Obedient(build("ends_threads"))
    with attached(program.process.pid, tmp_path / "1.atlas"):
        program.tell("a")
    assert program.tell("s") == "done s\n"
    with attached(program.process.pid, tmp_path / "2.atlas"):
        assert program.tell("e") == "done e\n"
    assert program.end() == (18, "")


def test_a_timed_wait_goes_on(tmp_path: Path) -> None:
    """A program stopped twice in a timed wait continues to wait for the rest of the time."""
    for seconds in (4, 16, 64):  # longer if two attachments take longer
        begun = time.monotonic()
        with subprocess.Popen(["sleep", str(seconds)]) as program:
            for number in range(2):
                file = str(tmp_path / f"{seconds}-{number}.atlas")
                done = mematlas("attach", str(program.pid), "-o", file, "--duration", "100ms")
            in_time = program.poll() is None
            assert program.wait(120) == 0
        assert time.monotonic() - begun >= seconds
        if in_time:
            break
    assert done.returncode == 0, done.stderr
    assert in_time


def test_python(tmp_path: Path) -> None:
    """Python's lines and objects are recorded, although its allocators were set long before."""
    program, file = Obedient(sys.executable, "-c", OBEYS), tmp_path / "a.atlas"
    program.tell("a")
    with attached(program.process.pid, file, "--exact"):
        # A thread of the tracer replaces the allocators once the interpreter lets the thread run.
        tasks = Path(f"/proc/{program.process.pid}/task")
        wait_until(lambda: len(list(tasks.iterdir())) == 1, "the end of the tracer's thread")
        program.tell("a")
        program.tell("f")
    assert program.tell("a") == "done a 2500 500\n"
    assert program.end() == (7, "")
    run = recorded(file)
    assert run.left("live_bytes", "allocate") >= 3_000_000
    assert run.left("live_bytes", "allocate") <= 3_000_000 + 200_000
    assert run.sum("allocations", "allocate", kind="pyobject") >= 1000
    assert run.report["bad_frees"] == []


@pytest.mark.slow
def test_a_busy_program_is_not_disturbed(build: Build, tmp_path: Path) -> None:
    """Four threads allocate without a pause while a tracer attaches and detaches four times."""
    with subprocess.Popen(
        [build("busy")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as busy:
        for number in range(4):
            options = ("--exact",) if number % 2 else ()
            file = tmp_path / f"{number}.atlas"
            for seconds in ("0.3", "3", "30"):  # longer if the program was not scheduled
                done = mematlas(
                    "attach", str(busy.pid), "--duration", seconds, *options, "-o", str(file)
                )
                assert done.returncode == 0, done.stderr
                found = recorded(file).sum("allocations", "work")
                if found:
                    break
            assert found > 0
        assert busy.communicate(timeout=120)[0] == "0 wrong\n"  # closes standard input
    assert busy.returncode == 7


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


def test_a_stopped_process_stays_stopped(build: Build, tmp_path: Path) -> None:
    """A process that SIGSTOP stopped is attached to, stays stopped, and goes on at SIGCONT."""
    program, file = Obedient(build("obeys")), tmp_path / "a.atlas"
    pid = program.process.pid
    in_read = "0 "  # the number of the system call, on x86-64
    wait_until(lambda: Path(f"/proc/{pid}/syscall").read_text().startswith(in_read), "its read()")
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    with attached(pid, file, "--exact"):
        wait_until(lambda: " T " in Path(f"/proc/{pid}/stat").read_text(), "the group stop")
        os.kill(pid, signal.SIGCONT)
        program.tell("a")
    assert program.end() == (7, "")
    assert recorded(file).sum("allocations", "allocate", kind="malloc") == 1000


def test_the_program_is_killed(build: Build, tmp_path: Path) -> None:
    """After kill -9 the recording is complete and has the ending."""
    program, file = Obedient(build("obeys")), tmp_path / "a.atlas"
    with attached(program.process.pid, file, "--exact", "--interval", "100ms"):
        program.tell("a")
        program.kill()
    run = recorded(file)
    assert run.report["complete"]
    assert run.sum("allocations", "allocate", kind="malloc") == 1000
    assert run.report["processes"][0]["ending"] in {"killed by SIGKILL", "running", "ended"}


def test_mematlas_is_killed(build: Build, tmp_path: Path) -> None:
    """After mematlas is killed the program goes on; detach removes the hooks, and it can be attached to again."""
    program, file = Obedient(build("obeys")), tmp_path / "a.atlas"
    pid = program.process.pid
    attach = subprocess.Popen(
        [*MEMATLAS, "attach", str(pid), "-o", str(file), "--exact"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert attach.stderr is not None
    assert "attached to" in attach.stderr.readline()
    wait_until(lambda: is_announced(pid), "the announcement")
    program.tell("a")
    wait_until_recorded(file, 1000)
    attach.kill()
    attach.wait()
    attach.stderr.close()
    for _ in range(20):
        program.tell("t")
    done = mematlas("detach", str(pid))
    assert done.returncode == 0, done.stderr
    assert not is_announced(pid)
    with attached(pid, tmp_path / "b.atlas", "--exact"):
        program.tell("a")
    assert program.end() == (7, "")
    assert recorded(file).sum("allocations", "allocate", kind="malloc") == 1000
    assert recorded(tmp_path / "b.atlas").sum("allocations", "allocate", kind="malloc") == 1000


def test_interrupt_ends_the_recording_not_the_program(build: Build, tmp_path: Path) -> None:
    """Ctrl-C ends `mematlas attach`, not the program."""
    program, file = Obedient(build("obeys")), tmp_path / "a.atlas"
    with attached(program.process.pid, file, "--exact") as attach:
        program.tell("a")
        attach.send_signal(signal.SIGINT)
    assert program.tell("a") == "done a 2000 0\n"
    assert program.end() == (7, "")
    assert recorded(file).sum("allocations", "allocate", kind="malloc") == 1000


def test_forked_children_are_followed(tmp_path: Path) -> None:
    """A child forked while attached is a process of its own in the recording."""
    code = OBEYS.replace(
        'if line[0] == "f":',
        'if line[0] == "c":\n        import os\n        pid = os.fork()\n'
        "        if pid == 0:\n            allocate()\n            os._exit(3)\n"
        '        os.waitpid(pid, 0)\n    if line[0] == "f":',
    )
    program, file = Obedient(sys.executable, "-c", code), tmp_path / "a.atlas"
    with attached(program.process.pid, file, "--exact"):
        assert program.tell("c") == "done c 0 0\n"
    assert program.end() == (7, "")
    assert [each["ending"] for each in recorded(file).report["processes"]] == [
        "detached",
        "exited 3",
    ]


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


HELD = """
import sys
held = [bytes(200) + str(i).encode() for i in range(100000)]
large = bytearray(30 << 20)
print("ready", flush=True)
more = []
for line in sys.stdin:
    if line[0] == "q": break
    if line[0] == "d": large = None
    if line[0] == "a": more.append(bytearray(10 << 20))
    print("done", flush=True)
"""


def test_memory_from_before_is_a_part_of_its_own(tmp_path: Path) -> None:
    """What was there is neither slack nor a file's, and is gone from that part once it is given back."""
    program, file = Obedient(sys.executable, "-S", "-c", HELD), tmp_path / "a.atlas"
    try:
        with attached(program.process.pid, file, "--exact"):
            assert program.tell("a") == "done\n"
        first = recorded(file).report["account"]["parts"]
        with attached(program.process.pid, tmp_path / "b.atlas", "--exact"):
            assert program.tell("d") == "done\n"
        second = recorded(tmp_path / "b.atlas").report["last"]["parts"]
        assert program.end()[0] == 0
    finally:
        program.kill()

    def size(parts: list[dict[str, Any]], kind: str) -> int:
        return sum(part["resident_bytes"] for part in parts if part["kind"] == kind)

    held = 100_000 * 232 + (30 << 20)
    assert held < size(first, "before") < held + (16 << 20)
    assert size(first, "slack") < 2 << 20
    assert size(first, "copy") < 4 << 20
    assert size(first, "live") > 10 << 20
    assert abs(size(second, "before") - size(first, "before") + (20 << 20)) < 4 << 20


def test_memory_of_the_tracer_in_a_forked_child_is_no_block(tmp_path: Path) -> None:
    """What the tracer reserved in the parent is not taken for memory that the program reserved."""
    code = (
        "import os, signal, sys\n"
        "os.setpgid(0, 0)\n"
        "print('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    if line[0] == 'q': break\n"
        "    read, write = os.pipe()\n"
        "    if not os.fork():\n"
        "        held = bytearray(b'x') * (3 << 20)\n"
        "        os.write(write, b'.')\n"
        "        signal.alarm(60)\n"
        "        signal.pause()\n"
        "    os.read(read, 1)\n"
        "    print('done', flush=True)\n"
        "os.killpg(0, signal.SIGTERM)\n"
    )
    program, file = Obedient(sys.executable, "-S", "-c", code), tmp_path / "a.atlas"
    try:
        with attached(program.process.pid, file, "--exact"):
            assert program.tell("f") == "done\n"
        assert program.end()[0] == -signal.SIGTERM
    finally:
        program.kill()
    report = recorded(file).report
    assert len(report["processes"]) == 2
    unknown = [each for each in report["stacks"] if each["kind"] == "mmap" and not each["frames"]]
    assert not any(each["resident_bytes"] for each in unknown)


def test_a_program_with_memory_sanitizer_is_refused(tmp_path: Path) -> None:
    """Its runtime would take memory that the tracer wrote for uninitialised, and end the program."""
    source, program = tmp_path / "p.c", tmp_path / "p"
    source.write_text("#include <unistd.h>\nint main(void) { sleep(60); return 7; }\n")
    command = ["clang", "-fsanitize=memory", str(source), "-o", str(program)]
    if not shutil.which("clang") or subprocess.run(command, check=False).returncode:
        pytest.skip("no clang with MemorySanitizer")
    running = subprocess.Popen([program])
    try:
        wait_until(lambda: Path(f"/proc/{running.pid}/exe").resolve() == program, "the program")
        time.sleep(0.5)
        done = mematlas("attach", str(running.pid), "-o", str(tmp_path / "a.atlas"))
        assert (done.returncode, running.poll()) == (5, None)
        assert "MemorySanitizer" in done.stderr
    finally:
        running.kill()
        running.wait()
