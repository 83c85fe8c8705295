"""`mematlas exec`: the program has the requested settings; the machine and the shell keep theirs."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from machine_state import NOBODY, as_nobody, hugepages, written
from mematlas.cli.main import main
from mematlas.control.exec import after_exec, steps
from mematlas.errors import MematlasError
from mematlas.linux.hugepages import is_enabled, parse_kind

EXEC = (sys.executable, "-m", "mematlas", "exec")
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def run(*words: str | Path, status: int = 0) -> str:
    """Run `mematlas exec` and return what it and the program print."""
    done = subprocess.run([*EXEC, *words], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_status_and_signals_are_the_programs() -> None:
    """Exit codes and fatal signals are the program's own: mematlas executes it in the same process."""
    run("--no-aslr", "--", "sh", "-c", "exit 41", status=41)
    run("--no-aslr", "--", "sh", "-c", "kill -9 $$", status=-signal.SIGKILL)
    with subprocess.Popen([*EXEC, "--", "sh", "-c", "echo $$"], stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert int(child.stdout.read()) == child.pid


def test_limits() -> None:
    """The program's own /proc/self/limits shows the limits."""
    text = run("--memlock", "1M", "--stack", "4M", "--as", "3G", "--", "cat", "/proc/self/limits")
    soft = {line[:25].strip(): line[25:].split()[0] for line in text.splitlines()}
    assert soft["Max locked memory"] == str(1 << 20)
    assert soft["Max stack size"] == str(4 << 20)
    assert soft["Max address space"] == str(3 << 30)


def test_no_aslr() -> None:
    """Two runs have the same addresses with --no-aslr, and different ones without."""
    words = ("--", "sh", "-c", "grep stack /proc/self/maps; sed -n 1p /proc/self/maps")
    assert run("--no-aslr", *words) == run("--no-aslr", *words)
    assert run(*words) != run(*words)


def test_oom_score_and_cpus() -> None:
    """The program reads the OOM score and the CPUs of the node."""
    own = Path("/proc/self/oom_score_adj").read_text()
    text = run("--oom-score", "321", "--", "cat", "/proc/self/oom_score_adj")
    assert text == "321\n"
    assert Path("/proc/self/oom_score_adj").read_text() == own
    cpus = run("--cpunodebind", "0", "--", "grep", "Cpus_allowed_list", "/proc/self/status")
    node = Path("/sys/devices/system/node/node0/cpulist").read_text()
    assert cpus.split()[1] == node.strip()


@pytest.mark.parametrize(
    ("option", "words"),
    [("membind", "bind:0"), ("preferred", "prefer"), ("interleave", "interleave:0")],
)
def test_numa_policy(option: str, words: str) -> None:
    """Every line of the program's numa_maps names the policy."""
    text = run(f"--{option}", "0", "--", "cat", "/proc/self/numa_maps")
    assert all(words in line for line in text.splitlines())


def test_thp_never() -> None:
    """Transparent huge pages are disabled in the program and in its children."""
    text = run("--huge", "never", "--", "sh", "-c", "sh -c 'grep THP_enabled /proc/self/status'")
    assert text.split() == ["THP_enabled:", "0"]


@pytest.mark.machine
def test_heap_in_huge_pages() -> None:
    """A large malloc block is in transparent huge pages, or in hugetlb pages."""
    script = "b = bytearray(32 << 20); print(open('/proc/self/smaps_rollup').read())"

    def figures(huge: str) -> dict[str, int]:
        text = run("--huge", huge, "--", sys.executable, "-c", script)
        lines = [line.split() for line in text.splitlines() if line.endswith("kB")]
        return {name: int(size) << 10 for name, size, _ in lines}

    with written(THP, "madvise"):
        assert figures("thp")["AnonHugePages:"] >= 28 << 20
    with hugepages(32):
        assert figures("2M")["Private_Hugetlb:"] >= 32 << 20
    with hugepages(0):
        assert "0 of 0 free" in run("--huge", "2M", "--", "true", status=1)


def test_lock_all() -> None:
    """The program's memory is locked; its children's is not."""
    grep = "grep VmLck /proc/self/status"
    assert int(run("--lock-all", "--", *grep.split()).split()[1]) > 0
    assert int(run("--lock-all", "--", "sh", "-c", f"{grep}; true").split()[1]) == 0


def test_verify_reads_back_after_exec() -> None:
    """A process reports its settings after exec, before the program runs."""
    words = ("--membind", "0", "--oom-score", "7", "--no-aslr", "--memlock", "2M", "--lock-all")
    text = run(*words, "--verify", "--json", "--", "true")
    answer = json.loads(text)
    assert answer["schema"] == "mematlas/exec/1"
    found = {each["name"]: each["found"] for each in answer["data"]["settings"]}
    assert found == {
        "policy": "membind 0",
        "aslr": "off",
        "oom-score": "7",
        "memlock": "2.00 MiB",
        "locked": "all",
    }
    shown = run(*words, "--verify", "--", "echo", "ran")
    assert shown.count("as requested") == 5
    assert shown.startswith("ran")


def test_dry_run_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run shows the plan, changes nothing in this process and starts nothing."""
    limits = resource.getrlimit(resource.RLIMIT_STACK)
    mark = tmp_path / "ran"
    assert main(["exec", "--stack", "9M", "--dry-run", "--", "touch", str(mark)]) == 0
    text = capsys.readouterr().out
    assert "9.00 MiB" in text
    assert "setrlimit(2)" in text
    assert not mark.exists()
    assert resource.getrlimit(resource.RLIMIT_STACK) == limits


def test_a_refused_setting_runs_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """As nobody, a limit above the hard one and a lower OOM score are refused before the program runs."""

    def act() -> bool:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 16, 1 << 16))
        codes = [
            main(["exec", *words, "--", "echo", "it ran"])
            for words in (["--memlock", "1M"], ["--oom-score", "-999"])
        ]
        return codes == [4, 4]

    assert as_nobody(act) == 0
    out, error = capfd.readouterr()
    assert out == ""
    assert "1.00 MiB is above the hard limit, 64.0 KiB" in error
    assert error.count("CAP_SYS_RESOURCE") == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--membind", "63", "--", "true"], 2, "node 63 has no memory here"),
        (["--membind", "x", "--", "true"], 2, "not a list of numbers"),
        (["--preferred", "0", "--membind", "0", "--", "true"], 2, "not allowed with"),
        (["--oom-score", "2000", "--", "true"], 2, "from -1000"),
        (["--stack", "big", "--", "true"], 2, "not a size"),
        (["--no-aslr"], 2, "name a command after"),
        (["--no-aslr", "--", "no-such-program"], 3, "command not found"),
    ],
)
def test_invalid_arguments(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Invalid arguments are refused in one line."""
    assert main(["exec", *words]) == code
    assert message in capsys.readouterr().err


@pytest.mark.machine
def test_environment_is_kept() -> None:
    """Other tunables are kept, and a tunable that was set before is replaced."""
    environment = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=2:glibc.malloc.check=0"}
    with written(THP, "madvise"), hugepages(0):  # mematlas itself runs without hugetlb pages
        text = subprocess.check_output(
            [*EXEC, "--huge", "thp", "--", "printenv", "GLIBC_TUNABLES"], env=environment, text=True
        )
    assert text == "glibc.malloc.check=0:glibc.malloc.hugetlb=1\n"


STATUS = r"""
#include <stdio.h>
int main(void)
{
	char line[256];
	FILE *file = fopen("/proc/self/status", "r");
	while (file && fgets(line, sizeof line, file))
		fputs(line, stdout);
	return 0;
}
"""


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile one program in several ways, with scripts beside it."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "status.c").write_text(STATUS)
    for name, flags in (
        ("dynamic", []),
        ("static", ["-static"]),
        ("static-pie", ["-static-pie"]),
        ("asan", ["-fsanitize=address"]),
    ):
        command = ["gcc", *flags, "-o", str(folder / name), str(folder / "status.c")]
        subprocess.run(command, check=True)
    shutil.copy(folder / "dynamic", folder / "privileged")
    if os.geteuid() == 0:
        os.chown(folder / "privileged", NOBODY, NOBODY)
    (folder / "privileged").chmod(0o4755)
    for name, line in (("script", "#!/bin/sh"), ("by-env", "#!/usr/bin/env sh")):
        (folder / name).write_text(f"{line}\ngrep -a . /proc/$$/status\n")
        (folder / name).chmod(0o755)
    return folder


def field(text: str, name: str) -> str:
    """Return one line of a status file."""
    return next(
        line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(name)
    )


@pytest.mark.parametrize("name", ["dynamic", "script", "by-env"])
@pytest.mark.parametrize("verify", [[], ["--verify"]])
def test_locked_programs(programs: Path, name: str, verify: list[str]) -> None:
    """Where --lock-all is said to have taken effect, the program finds its memory locked."""
    text = run("--lock-all", *verify, "--", str(programs / name))
    assert int(field(text, "VmLck").split()[0]) > 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("static", "it is static"),
        ("static-pie", "it is static"),
        ("asan", "built with a sanitizer"),
        ("privileged", "gains privileges"),
    ],
)
@pytest.mark.parametrize("verify", [[], ["--verify"]])
def test_programs_that_cannot_be_locked(
    programs: Path, name: str, words: str, verify: list[str]
) -> None:
    """A program that loads no library is refused before it runs, with the reason."""
    text = run("--lock-all", *verify, "--", str(programs / name), status=4)
    assert words in text
    assert "nothing was run" in text
    assert "VmLck" not in text


@pytest.mark.parametrize(
    "name", ["dynamic", "static", "static-pie", "privileged", "script", "asan"]
)
def test_settings_are_verified_in_the_program(programs: Path, name: str) -> None:
    """The settings that any program keeps over exec are read from the program itself."""
    own = [] if name == "privileged" else ["--no-aslr"]
    words = ("--membind", "0", "--oom-score", "7", "--memlock", "2M", "--huge", "never", *own)
    text = run(*words, "--verify", "--", str(programs / name))
    assert text.count("as requested") == 4 + len(own)
    assert field(text, "THP_enabled") == "0"


def test_a_privileged_program_has_its_addresses_randomised(programs: Path) -> None:
    """The kernel drops ADDR_NO_RANDOMIZE from a program that gains privileges."""
    text = run("--no-aslr", "--", str(programs / "privileged"), status=4)
    assert "--no-aslr has no effect on a program that gains privileges" in text


def test_malloc_that_cannot_be_seen_is_unknown(programs: Path) -> None:
    """Nobody sees from outside what malloc of a static program does, and --verify says so."""
    if not is_enabled(parse_kind("thp")):
        pytest.skip("no transparent huge pages here")
    text = run("--huge", "thp", "--verify", "--", str(programs / "static"), status=1)
    assert "unknown: the program does not load glibc" in text
    assert "thp, as requested" in run("--huge", "thp", "--verify", "--", str(programs / "dynamic"))


def test_verification_reads_the_process(programs: Path) -> None:
    """A setting that is not made is found missing, whatever the program is."""
    for name in ("dynamic", "static", "script"):
        path = str(programs / name)
        found = after_exec.look(path, [path], lambda: None)
        assert (found["locked"], found["aslr"], found["thp"]) == ("nothing", "on", "on")
        found = after_exec.look(path, [path], steps.no_aslr().apply)
        assert found["aslr"] == "off"


def test_a_program_that_never_gets_to_its_entry(tmp_path: Path) -> None:
    """A library whose constructor ends the process, or waits for ever, is an error, not a hang."""
    for name, body in (("ends", "_exit(0)"), ("waits", "for (;;) pause()")):
        source, library = tmp_path / f"{name}.c", tmp_path / f"{name}.so"
        source.write_text(
            "#include <unistd.h>\n"
            f"__attribute__((constructor)) static void begin(void) {{ {body}; }}\n"
        )
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(after_exec, "_PATIENCE_S", 1.0)
            patch.setenv("LD_PRELOAD", str(library))
            with pytest.raises(MematlasError, match="before its entry point"):
                after_exec.look("/bin/true", ["true"], lambda: None)


def test_no_pid_is_killed_after_its_child_was_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The PID of a child that was waited for may be another program's: only a pidfd is sent a signal."""
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    with pytest.raises(after_exec.NotReachedError):
        after_exec.look("/nonexistent", ["nonexistent"], lambda: None)
    assert not killed
