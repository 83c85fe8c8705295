"""What each exec preloads: programs that cannot load the tracer run as bare, and none sees its variables."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from traced_runs import MEMATLAS, PROGRAMS, TIMEOUT_S, Outcome, bare, run_mematlas, trace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from conftest import Build

both_modes = pytest.mark.parametrize("options", [(), ("--exact",)], ids=["sampled", "exact"])
HOLDS = "20", "0"
COMPILERS = {
    "static": ("gcc", "-static"),
    "static-pie": ("gcc", "-static-pie"),
    "musl": ("musl-gcc",),
    "musl-static": ("musl-gcc", "-static"),
    "asan": ("gcc", "-fsanitize=address"),
    "asan-static": ("gcc", "-fsanitize=address", "-static-libasan"),
    "tsan": ("gcc", "-fsanitize=thread"),
    "tsan-static": ("gcc", "-fsanitize=thread", "-static-libtsan"),
    "lsan": ("gcc", "-fsanitize=leak"),
    "ubsan": ("gcc", "-fsanitize=undefined"),
    "clang-asan": ("clang", "-fsanitize=address"),
    "clang-tsan": ("clang", "-fsanitize=thread"),
    "clang-msan": ("clang", "-fsanitize=memory"),
    "clang-hwasan": ("clang", "-fsanitize=hwaddress", "-Wl,--no-relax"),
}


@pytest.fixture(scope="module")
def holder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Compile tests/programs/holds.c in one of the ways of COMPILERS; skip where it is not installed."""
    folder, built = tmp_path_factory.mktemp("holders"), dict[str, bool]()

    def compile_as(way: str) -> Path:
        compiler, *flags = COMPILERS[way]
        if not shutil.which(compiler):
            pytest.skip(f"{compiler} is not installed")
        if way not in built:
            words = [compiler, "-g", "-O1", *flags, str(PROGRAMS / "holds.c"), "-o", way]
            built[way] = subprocess.run(words, cwd=folder, check=False).returncode == 0
        if not built[way]:
            pytest.skip(f"{' '.join(COMPILERS[way])} cannot link here")
        return folder / way

    return compile_as


def both_streams(command: Sequence[str | Path], cwd: Path) -> tuple[int, bytes, list[str]]:
    """Run a command; its status, output, and lines on standard error without mematlas' own."""
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, capture_output=True, timeout=TIMEOUT_S, check=False
    )
    return own_streams(done)


def own_streams(done: subprocess.CompletedProcess[bytes]) -> tuple[int, bytes, list[str]]:
    """Return the status, output, and lines on standard error without mematlas' own."""
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    summary = next((at for at, line in enumerate(lines) if line.startswith("mematlas: ")), None)
    return done.returncode, done.stdout, lines[:summary]


@pytest.mark.parametrize("way", COMPILERS)
def test_as_the_first_program(holder: Callable[[str], Path], tmp_path: Path, way: str) -> None:
    """Status, output and standard error are those of the bare program."""
    command = [str(holder(way)), *HOLDS]
    done = run_mematlas(["run", "-o", "r.atlas", "--", *command], b"", tmp_path, os.environ)
    assert own_streams(done) == both_streams(command, tmp_path)


@both_modes
@pytest.mark.parametrize("way", COMPILERS)
def test_as_a_child_of_make(
    holder: Callable[[str], Path], tmp_path: Path, way: str, options: tuple[str, ...]
) -> None:
    """A test of `make check` is not broken by tracing make."""
    (tmp_path / "Makefile").write_text(f"check:\n\t@{holder(way)} 20 0; test $$? -ge 17\n")
    command = ["make", "-s", "check"]
    words = ["run", *options, "-o", "r.atlas", "--", *command]
    assert own_streams(run_mematlas(words, b"", tmp_path, os.environ)) == both_streams(
        command, tmp_path
    )


@pytest.mark.parametrize("way", ["static", "static-pie", "musl-static"])
def test_a_static_program_passes_the_tracer_on(
    holder: Callable[[str], Path], build: Build, tmp_path: Path, way: str
) -> None:
    """A program that a static one starts is traced: tini, gosu and busybox are such."""
    command = (holder(way), *HOLDS, build("holds"), *HOLDS)
    run = trace(tmp_path / "r.atlas", command, "--exact")
    assert run.outcome == bare(command)
    assert run.sum("allocated_bytes", "hold") == 20 << 20


def test_a_static_program_starts_a_musl_program(
    holder: Callable[[str], Path], tmp_path: Path
) -> None:
    """No hook sees this exec, and musl's loader must not try to load the tracer."""
    command = (holder("static"), *HOLDS, holder("musl"), *HOLDS)
    assert trace(tmp_path / "r.atlas", command).outcome == bare(command)


EXECS = {
    "execve": "execve(p, a, environ)",
    "execv": "execv(p, a)",
    "execvp": "execvp(p, a)",
    "execvpe": "execvpe(p, a, environ)",
    "execl": "execl(p, a[0], a[1], a[2], (char *)0)",
    "execle": "execle(p, a[0], a[1], a[2], (char *)0, environ)",
    "fexecve": "fexecve(open(p, O_RDONLY), a, environ)",
    "fexecve_path": "fexecve(open(p, O_PATH), a, environ)",
    "execveat": 'execveat(open(p, O_PATH), "", a, environ, AT_EMPTY_PATH)',
    "posix_spawn": "spawned(posix_spawn(&child, p, 0, 0, a, environ))",
    "posix_spawnp": "spawned(posix_spawnp(&child, p, 0, 0, a, environ))",
    "vfork": "vfork() ? spawned(0) : execv(p, a)",
    "system": "WEXITSTATUS(system(line))",
    "popen": 'WEXITSTATUS(pclose(popen(line, "r")))',
}


@pytest.mark.parametrize("call", EXECS)
def test_every_form_of_exec_reads_the_program(
    holder: Callable[[str], Path], build: Build, tmp_path: Path, call: str
) -> None:
    """A musl program runs as bare, and a glibc program is traced, whichever call starts it."""
    source = tmp_path / "starts.c"
    source.write_text(
        "#define _GNU_SOURCE\n#include <fcntl.h>\n#include <spawn.h>\n#include <stdio.h>\n"
        "#include <stdlib.h>\n#include <sys/wait.h>\n#include <unistd.h>\n"
        "static pid_t child;\n"
        "static int spawned(int error)\n{\n\tint status = 0;\n"
        "\tif (error) return 99;\n\twait(&status);\n\treturn WEXITSTATUS(status);\n}\n"
        "int main(int n, char **w)\n{\n"
        '\tchar *p = w[1], *a[] = {p, "20", "0", 0}, line[4096];\n'
        '\t(void)n, (void)child, (void)spawned, snprintf(line, sizeof line, "%s 20 0", p);\n'
        f"\treturn {EXECS[call]};\n}}\n"
    )
    starter = tmp_path / "starts"
    subprocess.run(["gcc", "-w", str(source), "-o", str(starter)], check=True)
    musl = (starter, holder("musl"))
    assert trace(tmp_path / "m.atlas", musl).outcome == bare(musl)
    glibc = (starter, build("holds"))
    run = trace(tmp_path / "g.atlas", glibc, "--exact")
    assert run.outcome == bare(glibc)
    assert run.sum("allocated_bytes", "hold") == 20 << 20


@both_modes
def test_no_program_sees_the_variables(
    build: Build, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """The environment is that of the bare program in every way of reading it, and so is its children's."""
    for environment in (["A=1", "B=two words"], ["LD_PRELOAD="], ["LD_PRELOAD=libm.so.6", "Z=1"]):
        command = ["env", "-i", *environment, str(build("tells_environment"))]
        assert trace(tmp_path / "e.atlas", command, *options).outcome == bare(command)


@both_modes
def test_popen_beside_other_threads(build: Build, tmp_path: Path, options: tuple[str, ...]) -> None:
    """A variable set, and a process forked, while another thread is in popen() are as in the bare program."""
    command = [str(build("changes_environment_in_popen", "-pthread"))]
    bare_run = bare(command)
    assert b"parent hidden 3 after" in bare_run.stdout
    assert trace(tmp_path / "p.atlas", command, *options).outcome == bare_run


def test_a_cleared_environment_stays_empty(tmp_path: Path) -> None:
    """`env -i env` prints nothing, whether mematlas itself has an environment or not."""
    file = str(tmp_path / "e.atlas")
    assert trace(tmp_path / "e.atlas", ["env", "-i", "env"]).outcome == Outcome(0, b"")
    run = ["env", "-i", *MEMATLAS, "run", "-o", file, "--", "/usr/bin/env"]
    done = subprocess.run(run, capture_output=True, check=False, timeout=TIMEOUT_S)
    assert (done.returncode, done.stdout) == (0, b"")


def test_the_children_of_shells_are_traced(build: Build, tmp_path: Path) -> None:
    """What system(), popen() and a cleared environment start is traced all the same."""
    holds = build("holds")
    code = f"import os; os.system('{holds} 20 0'); os.system('env -i {holds} 10 0')"
    run = trace(tmp_path / "c.atlas", [sys.executable, "-S", "-c", code], "--exact")
    assert run.sum("allocated_bytes", "hold") == 30 << 20


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_setuid_program_runs_for_a_normal_user(tmp_path: Path) -> None:
    """A program that gains privileges runs as bare, and is told as untraced."""
    command = ["setpriv", "--reuid=65534", "--clear-groups", "su", "--version"]
    if not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed")
    run = trace(tmp_path / "s.atlas", command)
    assert run.outcome == bare(command)
