"""Attaching from the host into namespaces, other root directories and seccomp filters."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from attachments import attached, attaching, compiled, mematlas, recorded, tree, wait_until_recorded
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="attach works on x86-64 alone"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]
SERVER = """
#define _GNU_SOURCE
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
static char *volatile kept;
static __attribute__((noinline)) void allocate(void) { kept = malloc(5000); free(kept); }
static void refuse(unsigned number, unsigned action) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof code / sizeof *code, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) _exit(1);
}
int main(int count, char **arguments) {
    if (count > 1 && arguments[1][0] == 'm') refuse(SYS_mmap, SECCOMP_RET_KILL_PROCESS);
    if (count > 1 && arguments[1][0] == 'f') refuse(SYS_memfd_create, SECCOMP_RET_KILL_PROCESS);
    if (count > 1 && arguments[1][0] == 'o') refuse(SYS_openat, SECCOMP_RET_ERRNO | 13);
    for (;;) { allocate(); usleep(2000); }
}
"""


def in_new_root(program: Path, folder: Path, *others: str) -> Path:
    """Build a root directory that holds a program, its C library and loader, and nothing else."""
    root = folder / "root"
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    paths = [word for word in listed.split() if word.startswith("/")]
    for path in paths:
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for name in ("proc", *others):
        (root / name).mkdir()
    shutil.copy(program, root / "program")
    return root


@contextmanager
def running(command: Sequence[str | Path], program: str) -> Iterator[int]:
    """Run a command; yield the PID, as seen here, of the process that runs `program` in the end."""
    launcher = subprocess.Popen([*map(str, command)])
    found: list[int] = []

    def is_there() -> bool:
        found[:] = [pid for pid in tree(launcher.pid) if _program(pid) == program]
        return bool(found)

    try:
        wait_until(is_there, f"{program} to run")
        yield found[0]
        assert _program(found[0]) == program  # it lives
    finally:
        for pid in (*found, launcher.pid):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        launcher.wait()


def _program(pid: int) -> str:
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))  # noqa: PTH115, PTH119
    except OSError:
        return ""


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """Compile a program that allocates all the time."""
    return compiled(SERVER, tmp_path)


@pytest.mark.parametrize(
    ("needs", "command"),
    [
        ("unshare", ("unshare", "-pf", "--mount-proc")),
        ("unshare", ("unshare", "-Urnmpf", "--mount-proc")),
        (
            "bwrap",
            ("bwrap", "--unshare-all", "--uid", "1234", "--ro-bind", "/", "/", "--proc", "/proc"),
        ),
        ("setpriv", ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")),
    ],
    ids=["PID namespace", "all namespaces", "bwrap", "another user"],
)
def test_namespaces(needs: str, command: tuple[str, ...], server: Path, tmp_path: Path) -> None:
    """A process in other namespaces, or of another user, is recorded under its PID here, again and again."""
    if not shutil.which(needs):
        pytest.skip(f"no {needs}")
    probe = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"{needs} does not work here: {probe.stderr.strip()}")
    public = tmp_path
    while public != public.parent and command[0] == "setpriv":
        public.chmod(public.stat().st_mode | 0o055)
        public = public.parent
    with running([*command, server], server.name) as pid:
        for number in range(2):
            file = tmp_path / f"{number}.atlas"
            with attached(pid, file, "--exact"):
                wait_until_recorded(file, 4)
            assert [each["pid"] for each in recorded(file).report["processes"]] == [pid]


@pytest.mark.parametrize("with_proc", [True, False], ids=["memfd", "file"])
def test_another_root(with_proc: bool, server: Path, tmp_path: Path) -> None:
    """The library is loaded where no path leads to it, once, and no file of it stays."""
    root = in_new_root(server, tmp_path, "tmp")
    command: list[str | Path] = ["chroot", root, "/program"]
    if with_proc:
        command = ["unshare", "-mpf", f"--root={root}", "--mount-proc", "/program"]
    with running(command, "program") as pid:
        for number in range(2):
            file = tmp_path / f"{number}.atlas"
            with attached(pid, file, "--exact"):
                wait_until(partial(_has_allocations, file), "allocations")
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        copies = [line for line in maps if " r-xp " in line and "mematlas" in line]
        assert len(copies) == 1
        assert ("memfd:" in copies[0]) == with_proc
    assert not list((root / "tmp").iterdir())


def _has_allocations(file: Path) -> bool:
    return bool(sum(stack["allocations"] for stack in recorded(file).report["stacks"]) > 4)


def test_a_root_without_a_way_in(server: Path, tmp_path: Path) -> None:
    """Without /proc and a directory for a file, the loader's reason is given, and nothing is left."""
    root = in_new_root(server, tmp_path)
    with running(["chroot", root, "/program"], "program") as pid:
        done = mematlas("attach", str(pid), "-o", str(tmp_path / "a.atlas"))
        assert done.returncode == 1
        assert "cannot open shared object file" in done.stderr
        assert not (tmp_path / "a.atlas").exists()
        assert "mematlas" not in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.parametrize(
    ("filtered", "reason"),
    [("openat", ""), ("f", ""), ("m", "may end it for mmap()")],
    ids=["error for openat", "death for memfd_create", "death for mmap"],
)
def test_seccomp(filtered: str, reason: str, server: Path, tmp_path: Path) -> None:
    """A filter that lets the tracer work is no obstacle; one that would kill the program is named."""
    if "Seccomp:\t0" not in Path("/proc/self/status").read_text():
        pytest.skip("a process under seccomp may not lift the filter of another")
    with running([server, filtered], server.name) as pid:
        file = tmp_path / "a.atlas"
        if not reason:
            with attached(pid, file, "--exact"):
                wait_until_recorded(file, 4)
            return
        done = mematlas("attach", str(pid), "-o", str(file))
        assert done.returncode == 5
        assert reason in done.stderr
        assert not file.exists()


TREE = """
import os, sys, time
kept = []
def allocate():
    kept.append(bytes(30000))
def work():
    for _ in range(30000):
        allocate()
        time.sleep(0.01)
if os.fork() == 0:
    work()
time.sleep(0.3)
if len(sys.argv) > 1:
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
    os.execv(sys.executable, [sys.executable, "-c", "import time\\ndef later():\\n while 1: bytearray(20000); time.sleep(0.01)\\nlater()"])
work()
"""


def test_a_tree(tmp_path: Path) -> None:
    """All processes of a tree are in one recording, and stay unharmed."""
    begin, file = tmp_path / "begin", tmp_path / "a.atlas"
    program = subprocess.Popen([sys.executable, "-c", TREE, str(begin)])
    try:
        wait_until(lambda: len(tree(program.pid)) == 2, "its child")
        child = tree(program.pid)[1]
        with attaching("--tree", str(program.pid), "-o", str(file), "--exact") as (attach, said):
            assert "attached to 2 processes" in said.readline()
            begin.touch()
            wait_until(lambda: file.exists() and _has(file, "allocate"), "the lines")
            attach.send_signal(2)
            assert attach.wait(120) == 0
        run = recorded(file)
        assert {each["pid"] for each in run.report["processes"]} == {program.pid, child}
        assert run.sum("allocations", "allocate") > 0
        assert program.poll() is None
    finally:
        for pid in reversed(tree(program.pid)):
            os.kill(pid, 9)
        program.wait()


def _has(file: Path, function: str) -> bool:
    return recorded(file).sum("allocations", function) > 0


def test_what_is_not_entered_is_named(server: Path, tmp_path: Path) -> None:
    """A static program of the tree is named with its reason and memory; the others are recorded."""
    (tmp_path / "idle.c").write_text("#include <unistd.h>\nint main(void) { for (;;) pause(); }\n")
    static, file = tmp_path / "idle", tmp_path / "a.atlas"
    subprocess.run(["gcc", "-static", str(tmp_path / "idle.c"), "-o", str(static)], check=True)
    shell = subprocess.Popen(["sh", "-c", f"{static} & {server} & wait"])
    try:
        wait_until(
            lambda: {"idle", server.name} <= {_program(pid) for pid in tree(shell.pid)}, "both"
        )
        done = mematlas(
            "attach", "--tree", str(shell.pid), "--duration", "1s", "-o", str(file), "--exact"
        )
        assert done.returncode == 0, done.stderr
        (idle,) = (pid for pid in tree(shell.pid) if _program(pid) == "idle")
        start = f"not traced: PID {idle} (idle"
        notes = [each for each in done.stderr.splitlines() if start in each]
        assert all("resident): statically linked" in each for each in notes)
        assert notes[0].startswith(f"mematlas: {start}")  # at once, and again in the summary
        report = recorded(file).report
        assert sum(start in each for each in report["notes"]) == 1
        assert not report["complete"]
        assert recorded(file).sum("allocations", "allocate", kind="malloc") > 0
    finally:
        for pid in reversed(tree(shell.pid)):
            os.kill(pid, 9)
        shell.wait()


def removed(group: Path) -> bool:
    """Remove a cgroup; False while a process in it has not ended."""
    try:
        group.rmdir()
    except OSError:
        return False
    return True


def test_a_cgroup(server: Path, tmp_path: Path) -> None:
    """The processes of a cgroup are recorded, also one that joins it later; the recording ends with the last."""
    group = next(
        (
            Path(mount, f"mematlas-test-{os.getpid()}-{uuid4().hex}")
            for mount in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory")
            if Path(mount, "cgroup.procs").exists() and os.access(mount, os.W_OK)
        ),
        None,
    )
    if group is None:
        pytest.skip("no cgroup may be created")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup may be created: {error.strerror}")
    file = tmp_path / "a.atlas"
    programs = [subprocess.Popen([server])]
    try:
        (group / "cgroup.procs").write_text(str(programs[0].pid))
        with attaching("--cgroup", str(group), "-o", str(file), "--exact") as (attach, said):
            assert "attached to 1 process of cgroup" in said.readline()
            programs.append(subprocess.Popen([server]))
            (group / "cgroup.procs").write_text(str(programs[1].pid))
            wait_until(lambda: len(recorded(file).report["processes"]) == 2, "the second process")
            for program in programs:
                program.kill()
                program.wait()
            assert attach.wait(120) == 0
        pids = {each["pid"] for each in recorded(file).report["processes"]}
        assert pids == {program.pid for program in programs}
    finally:
        for program in programs:
            program.kill()
            program.wait()
        wait_until(lambda: removed(group), "the end of the processes in the group")
    assert mematlas("attach", "--cgroup", str(group)).returncode == 3
