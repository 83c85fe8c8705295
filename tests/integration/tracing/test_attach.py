"""Attaching to running programs and detaching, under load."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from attachments import (
    Obedient,
    attached,
    mematlas,
    recorded,
)
from traced_runs import trace
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
