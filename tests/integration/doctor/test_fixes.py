"""Fixes for one process: applied to a real one in that state, the figure of the finding falls."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from applied_fixes import applies, finding, named, rss, running, settled, size_of
from machine_state import as_nobody
from mematlas.cli import main
from mematlas.doctor import read, rules

if TYPE_CHECKING:
    from conftest import Build
    from mematlas.doctor.model import Fix

MIB = 1 << 20
HELD = """
import os, sys
file = os.memfd_create("orphan")
os.ftruncate(file, 100 << 20)
for at in range(0, 100 << 20, 1 << 20):
    os.pwrite(file, b"x" * (1 << 20), at)
print("ready", flush=True)
while word := sys.stdin.readline().strip():
    os.close(file) if word == "close" else os.ftruncate(file, 0)
    print("done", flush=True)
"""
READS = """
import mmap, os, resource, sys
file = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
view = mmap.mmap(file, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
view.madvise(mmap.MADV_RANDOM)
if "willneed" in sys.argv:
    view.madvise(mmap.MADV_NORMAL)
    view.madvise(mmap.MADV_WILLNEED)
    while os.path.exists(sys.argv[1] + ".wait"): pass
sum(view[at] for at in range(0, len(view), 16 << 10))
print("ready", flush=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_majflt, flush=True)
sys.stdin.readline()
"""


def fix_of(pid: int, rule: str, name: str) -> Fix:
    """Return a fix of a finding about a process."""
    found = finding(pid, rule)
    assert found, f"{rule} found nothing"
    return named(found.fixes, name)


def by_our_python(command: str) -> str:
    """Return a command that runs the mematlas of this interpreter."""
    return command.replace("mematlas ", f"{shlex.quote(sys.executable)} -m mematlas ", 1)


def run_shell(command: str, user: int | None = None) -> None:
    """Run a fix's command; skip the test where this machine refuses it even to root."""
    words = shlex.split(command)
    if not shutil.which(words[0]):
        pytest.skip(f"no {words[0]} here")
    done = subprocess.run(words, capture_output=True, text=True, check=False, user=user, group=user)
    if "ermitted" in done.stderr or "ermission" in done.stderr:
        pytest.skip(f"refused: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


def soft_limit(pid: int, name: str) -> int:
    """Return a soft limit of a process in bytes."""
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith(name):
            word = line.removeprefix(name).split()[0]
            return 1 << 62 if word == "unlimited" else int(word)
    raise AssertionError(name)


@applies("memlock.now")
def test_more_memory_can_be_locked(build: Build) -> None:
    """The limit of a running process is raised, so that the finding is gone."""
    with running([str(build("faulty")), "memlock"]) as child:
        fix = fix_of(child.pid, "limit.memlock", "memlock.now")
        user = os.stat(f"/proc/{child.pid}").st_uid  # noqa: PTH116
        run_shell(fix.command, user or None)
        assert finding(child.pid, "limit.memlock") is None


def meets_its_limit(program: Path, what: str, limit: str, rule: str, name: str) -> None:
    """Run a program to its limit and beyond: it fails, and started again by the fix it does not."""
    limited = ["sh", "-c", f"ulimit -S {limit} || exit 77; exec {shlex.quote(str(program))} {what}"]
    try:
        with running(limited) as child:
            fix = fix_of(child.pid, rule, name)
            child.communicate("\n\n", timeout=60)
            assert child.returncode != 0, "the program does not meet its limit"
    except AssertionError as error:
        if "did not become ready" in str(error):
            pytest.skip("this limit cannot be set here")
        raise
    assert shlex.split(fix.command)[-2:] == [str(program), what]
    with running(["sh", "-c", f"ulimit -S {limit}; exec {by_our_python(fix.command)}"]) as child:
        child.communicate("\n\n", timeout=60)
        assert child.returncode == 0


@applies("memlock.restart")
def test_a_program_starts_with_a_limit_of_locked_memory(build: Build) -> None:
    """A program that may not lock as much as it needs does so after the restart."""
    meets_its_limit(build("faulty"), "needs-locked", "-l 4096", "limit.memlock", "memlock.restart")


@applies("address-space.now")
def test_more_address_space(build: Build) -> None:
    """The limit of the address space of a running program is raised."""
    with running([str(build("faulty")), "address-space"]) as child:
        run_shell(fix_of(child.pid, "limit.address-space", "address-space.now").command)
        assert finding(child.pid, "limit.address-space") is None


@applies("address-space.restart")
def test_more_address_space_by_a_restart(build: Build) -> None:
    """A program that fails at its limit of addresses maps what it needs after the restart."""
    rule, name = "limit.address-space", "address-space.restart"
    meets_its_limit(build("faulty"), "needs-addresses", f"-v {420 << 10}", rule, name)


@applies("stack.restart")
def test_more_stack(build: Build) -> None:
    """A program that overflows its stack does not after the restart."""
    meets_its_limit(build("faulty"), "needs-stack", "-s 8192", "limit.stack", "stack.restart")


@applies("oom.default", "oom.restart")
def test_no_preferred_victim(build: Build) -> None:
    """The score adjustment becomes 0, now and by a restart."""
    command = ["sh", "-c", f"echo 700 > /proc/$$/oom_score_adj; exec {build('faulty')} well"]
    with running(command) as child:
        again = fix_of(child.pid, "oom.first", "oom.restart")
        words = shlex.split(fix_of(child.pid, "oom.first", "oom.default").command)
        if main(words[1:]) == 4:
            pytest.skip("oom_score_adj cannot be lowered here")
        assert finding(child.pid, "oom.first") is None
    try:
        with running(by_our_python(again.command)) as child:
            assert Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip() == "0"
    except AssertionError:
        if int(Path("/proc/self/oom_score_adj").read_text()) > 0:
            pytest.skip("this process has an adjustment itself, and may not lower it")
        raise


@applies("overcommit.victim")
def test_a_chosen_victim(build: Build) -> None:
    """The program that is given is the first to be killed: its score rises by half of the scale."""
    command = f"mematlas exec --oom-score 500 -- {build('faulty')} well"
    with running([str(build("faulty")), "well"]) as child:
        usual = int(Path(f"/proc/{child.pid}/oom_score").read_text())
    with running(by_our_python(command)) as child:
        assert int(Path(f"/proc/{child.pid}/oom_score").read_text()) >= usual + 300


@applies("thp.never", "thp.no-advice")
def test_huge_pages_that_hold_little(build: Build) -> None:
    """Sparsely touched memory takes the pages touched, without huge pages or without the advice."""
    with running([str(build("faulty")), "sparse-huge"]) as child:
        if size_of(child.pid, "RssAnon") < 100 * MIB:
            pytest.skip("no huge pages are given here")
        found = finding(child.pid, "thp.bloat")
        assert found
        assert abs(found.cost - (128 * MIB - 64 * 4096)) < 2 * MIB
        never = named(found.fixes, "thp.never")
        assert "MADV_NOHUGEPAGE" in named(found.fixes, "thp.no-advice").command
        kept = rss(child.pid)
    for command in (by_our_python(never.command), f"{build('faulty')} sparse-small"):
        with running(command) as child:
            assert kept - rss(child.pid) > found.cost * 9 // 10
            assert finding(child.pid, "thp.bloat") is None


@applies("held.close", "held.truncate")
@pytest.mark.parametrize("word", ["close", "truncate"])
def test_memory_held_by_a_descriptor(word: str) -> None:
    """Closing or truncating the file frees the memory."""
    with running([sys.executable, "-c", HELD]) as child:
        fix = fix_of(child.pid, "memory.held", f"held.{word}")
        assert fix.gain == 100 * MIB
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{word}\n")
        child.stdin.flush()
        assert child.stdout.readline() == "done\n"
        assert finding(child.pid, "memory.held") is None


@applies("faults.willneed")
def test_pages_are_read_ahead(tmp_path: Path) -> None:
    """A hint takes the waits for single pages away."""
    file = tmp_path / "data"
    file.write_bytes(os.urandom(32 * MIB))
    os.sync()
    counts = []
    for more in ([], ["willneed"]):
        with running([sys.executable, "-c", READS, str(file), *more]) as child:
            assert child.stdout is not None
            counts.append(int(child.stdout.readline()))
    if counts[0] < 200:
        pytest.skip("the file is not read from a device here")
    assert counts[1] < counts[0] // 2


@applies("code.protect")
def test_code_that_is_not_writable(build: Build) -> None:
    """Code that is protected once written leaves nothing writable and executable."""
    with running([str(build("faulty")), "write-execute"]) as child:
        fix = fix_of(child.pid, "security.write-execute", "code.protect")
        assert "PROT_READ | PROT_EXEC" in fix.command
    with running([str(build("faulty")), "protected"]) as child:
        assert finding(child.pid, "security.write-execute") is None


@applies("stack.not-executable")
def test_a_stack_that_is_not_executable(tmp_path: Path) -> None:
    """The program is linked with the option, and has a stack without code."""
    source, program = tmp_path / "a.c", tmp_path / "a"
    source.write_text(
        '#include <stdio.h>\nint main(void){puts("ready");fflush(stdout);return getchar();}\n'
    )
    subprocess.run(
        ["gcc", "-z", "execstack", "-o", program, source], check=True, capture_output=True
    )
    with running([str(program)]) as child:
        fix = fix_of(child.pid, "security.write-execute", "stack.not-executable")
    subprocess.run(["gcc", "-z", "execstack", fix.command, "-o", program, source], check=True)
    with running([str(program)]) as child:
        assert finding(child.pid, "security.write-execute") is None


@applies("files.restart")
def test_a_replaced_program(build: Build, tmp_path: Path) -> None:
    """After the restart the code is that on disk."""
    program = tmp_path / "program"
    shutil.copy(build("faulty"), program)
    with running([str(program), "well"]) as child:
        program.unlink()
        shutil.copy(build("faulty"), program)
        fix = fix_of(child.pid, "files.replaced", "files.restart")
    with running(fix.command) as child:
        assert finding(child.pid, "files.replaced") is None


@applies("dirty.sync")
def test_dirty_pages_are_written(tmp_path: Path) -> None:
    """`sync` writes back what was dirty."""
    with (tmp_path / "dirty").open("wb") as file:
        file.write(os.urandom(48 * MIB))
        file.flush()
        before = meminfo("Dirty") + meminfo("Writeback")
        if before < 40 * MIB:
            pytest.skip("this file system writes at once")
        subprocess.run(["sync"], check=True)
        left = settled(lambda: meminfo("Dirty") + meminfo("Writeback"), before - 40 * MIB, 20)
    assert left <= before - 40 * MIB


def meminfo(name: str) -> int:
    """Return a size of /proc/meminfo in bytes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    return 0


@applies("frees.check")
def test_a_bad_free_ends_the_program(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With glibc's checks the program is aborted at the first bad free."""
    path = str(tmp_path / "run.atlas")
    command = [str(build("faulty")), "double-free"]
    words = [sys.executable, "-m", "mematlas", "run", "--exact", "-o", path, "--", *command]
    subprocess.run(words, check=False, stdin=subprocess.DEVNULL, capture_output=True)
    capsys.readouterr()
    main(["doctor", path, "--json"])
    findings = json.loads(capsys.readouterr().out)["data"]["findings"]
    bad = next(each for each in findings if each["rule"] == "bad-frees")
    fix = next(each for each in bad["fixes"] if each["name"] == "frees.check")
    done = subprocess.run(["sh", "-c", f"exec env {fix['command']}"], capture_output=True, check=False,
                          stdin=subprocess.DEVNULL)  # fmt: skip
    assert done.returncode == -signal.SIGABRT


@applies("tmpfs.grow")
@pytest.mark.machine
def test_a_full_file_system_in_memory(tmp_path: Path) -> None:
    """The mount that is full becomes larger; a mapping of its file can be written then."""
    folder = tmp_path / "memory"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        (folder / "file").write_bytes(bytes(8 * MIB))
        findings = rules.examine_host(read.read_host("/", 0)).findings
        found = next(each for each in findings if each.rule == "tmpfs.full")
        assert str(folder) in found.headline
        run_shell(named(found.fixes, "tmpfs.grow").command)
        (folder / "more").write_bytes(bytes(6 * MIB))
        findings = rules.examine_host(read.read_host("/", 0)).findings
        assert not any(str(folder) in each.headline for each in findings)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_another_user_may_not_be_examined(build: Build) -> None:
    """Nothing is read from a process that the kernel protects."""
    with running([str(build("faulty")), "sparse-huge"]) as child:
        assert main(["doctor", str(child.pid), "--duration", "0s"]) == 0
        assert as_nobody(lambda: main(["doctor", str(child.pid), "--duration", "0s"]) == 4) == 0


SHARED = """
import mmap, os
file = os.open("/dev/shm/block", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 24 << 20)
block = mmap.mmap(file, 24 << 20)
for at in range(0, 24 << 20, 4096):
    block[at] = 1
print("ready", flush=True)
"""
GROWING = """
kept = []
for _ in range(1800):
    kept.append(bytearray(1 << 20))
"""


def examine_run(
    path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> list[dict[str, Any]]:
    """Record a program by a command of a shell, and return the findings about the recording."""
    subprocess.run(words, check=False, stdin=subprocess.DEVNULL, capture_output=True)
    if not path.exists():
        pytest.skip("nothing can be mounted here")
    capsys.readouterr()
    assert main(["doctor", str(path), "--json"]) == 0
    return list(json.loads(capsys.readouterr().out)["data"]["findings"])


def recorded(path: Path, code: str) -> str:
    """Return the command that records a Python program."""
    return shlex.join(
        [sys.executable, "-m", "mematlas", "run", "-o", str(path), "--", sys.executable, "-c", code]
    )


def test_a_full_dev_shm_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program killed by SIGBUS in a full /dev/shm has that finding; with the size of the fix it ends well."""
    path = tmp_path / "run.atlas"
    mount = "mount -t tmpfs -o size=16m tmpfs /dev/shm"
    words = ["unshare", "-m", "sh", "-c", f"{mount} && {recorded(path, SHARED)}"]
    findings = examine_run(path, words, capsys)
    found = next((each for each in findings if each["rule"] == "ended.tmpfs"), None)
    assert found, findings
    assert "/dev/shm was full" in found["headline"]
    fix = found["fixes"][0]["command"]
    again = f"{mount} && {fix} && {shlex.join([sys.executable, '-c', SHARED])}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", again], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@applies("ended.limit")
def test_a_program_that_failed_at_its_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that ends with an error at RLIMIT_AS has that finding, and a restart with a higher one."""
    path = tmp_path / "run.atlas"
    prefix = "ulimit -S -v 1500000"
    findings = examine_run(path, ["sh", "-c", f"{prefix}; {recorded(path, GROWING)}"], capsys)
    found = next((each for each in findings if each["rule"] == "ended.limit"), None)
    assert found, findings
    assert "address space" in found["headline"]
    fix = next(each["command"] for each in found["fixes"] if each["name"] == "ended.limit")
    bare = shlex.join([sys.executable, "-c", GROWING])
    ended = [
        subprocess.run(
            ["bash", "-c", f"{prefix}; {words}"], capture_output=True, check=False
        ).returncode
        for words in (bare, by_our_python(fix))
    ]
    assert ended[0] != 0
    assert ended[1] == 0
