"""`mematlas doctor` on real processes: each has the finding of the fault it is started with."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

import synthetic_recording
from applied_fixes import applies, rss
from json_schemas import schema
from machine_state import as_nobody
from mematlas.cli import main
from mematlas.doctor import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Build

THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FOUND = {
    "small-pages": "thp.small-pages",
    "shared-small-pages": "thp.shared-small-pages",
    "write-execute": "security.write-execute",
    "bloat": "malloc.bloat",
    "memlock": "limit.memlock",
    "lazy": "rss.lazy",
}


@contextmanager
def faulty(build: Build, fault: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process with a fault."""
    command = [str(build("faulty")), fault]
    child = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            pytest.skip(f"{fault} cannot be had here")
        yield child
    finally:
        child.kill()
        child.communicate()


def examine(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Return the JSON answer, checked against its schema."""
    assert main(["doctor", *words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    jsonschema.validate(answer, schema("doctor"))
    data: dict[str, Any] = answer["data"]
    return data


def rules(data: dict[str, Any]) -> set[str]:
    """Return the rules that found something."""
    return {each["rule"] for each in data["findings"]}


@pytest.mark.parametrize("fault", FOUND)
def test_a_fault_is_found(build: Build, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    """A process with a fault has the finding of that fault and no other."""
    if fault == "small-pages" and "[always]" in THP.read_text():
        pytest.skip("all memory has huge pages here")
    with faulty(build, fault) as child:
        data = examine(capsys, str(child.pid), "--duration", "0s")
    others = set(FOUND.values()) - {FOUND[fault], "thp.small-pages"}
    assert FOUND[fault] in rules(data)
    assert not rules(data) & others


def test_a_well_process(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    """A process without a fault has no finding about itself."""
    with faulty(build, "well") as child:
        data = examine(capsys, str(child.pid), "--duration", "0s")
    assert not rules(data) & set(FOUND.values())


def test_what_trimming_gives_back_is_predicted(build: Build) -> None:
    """The heaps' chunk headers predict, to a few pages, the bytes that malloc_trim() returns."""
    with faulty(build, "bloat") as child:
        heaps = read.read_process(child.pid, "/", 0).heaps
        if isinstance(heaps, str):
            pytest.skip(heaps)
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("\n")
        child.stdin.flush()
        freed = int(child.stdout.readline())
    predicted = sum(each.trimmable for each in heaps.heaps)
    assert heaps.unread == ()
    assert freed > 100 << 20
    assert abs(predicted - freed) < 0.01 * freed


@applies("glibc.trim-now")
@pytest.mark.parametrize(("fault", "tool"), [("bloat", "gdb"), ("memlock", "prlimit")])
def test_the_suggested_command_fixes_the_fault(
    build: Build, capsys: pytest.CaptureFixture[str], fault: str, tool: str
) -> None:
    """After the finding's shell command is run, the finding is gone."""
    if not shutil.which(tool):
        pytest.skip(f"no {tool} here")
    rule = FOUND[fault]
    with faulty(build, fault) as child:
        words = [str(child.pid), "--duration", "0s"]
        finding = next(f for f in examine(capsys, *words)["findings"] if f["rule"] == rule)
        fix = next(each for each in finding["fixes"] if each["kind"] == "shell")
        command, before = fix["command"], rss(child.pid)
        assert command.startswith(tool)
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
        if done.returncode or "Operation not permitted" in done.stderr:
            pytest.skip(f"{tool} is refused: {done.stderr.strip()}")
        assert rule not in rules(examine(capsys, *words))
        if fix["gain"]:
            assert abs(before - rss(child.pid) - fix["gain"]) < fix["gain"] // 10


def test_growth_shows_over_time(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    """A growth of 10 MiB per second is found; in less than 5 s the rule is not checked."""
    with faulty(build, "growth") as child:
        data = examine(capsys, str(child.pid), "--duration", "5.5s")
    finding = next(each for each in data["findings"] if each["rule"] == "growth")
    assert "mematlas leaks" in finding["fixes"][0]["command"]
    with faulty(build, "well") as child:
        data = examine(capsys, str(child.pid), "--duration", "100ms")
    assert "growth" in {each["rule"] for each in data["unchecked"]}


def test_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a target the machine is examined by all rules."""
    from mematlas.doctor.rules import HOST_RULES

    data = examine(capsys, "--duration", "0s")
    answered = [each["rule"] for part in ("findings", "passed", "unchecked") for each in data[part]]
    assert sorted(answered) == sorted(rule.key for rule in HOST_RULES)
    assert main(["doctor", "--duration", "0s", "--all"]) == 0
    assert "checks passed" in capsys.readouterr().out


def test_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recording is examined by its report and leaks."""
    synthetic_recording.write(tmp_path / "run.atlas")
    data = examine(capsys, str(tmp_path / "run.atlas"))
    assert data["subject"].endswith("run.atlas")
    assert "bad-frees" in rules(data)


def test_exit_status(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    """--fail-over sets status 1 on findings of that severity or a higher one; a missing target is 3."""
    with faulty(build, "write-execute") as child:
        words = ["doctor", str(child.pid), "--duration", "0s"]
        assert main(words) == 0
        assert main([*words, "--fail-over", "warning"]) == 1
    assert main(["doctor", "/nonexistent.atlas"]) == 3
    assert main(["doctor", "999999999"]) == 3
    assert "neither a process ID nor a file" in capsys.readouterr().err


def test_without_privilege(build: Build, capfd: pytest.CaptureFixture[str]) -> None:
    """For another user's process the error names the capability needed."""
    with faulty(build, "well") as child:
        words = ["doctor", str(child.pid), "--duration", "0s"]
        assert main(words) == 0  # all modules are loaded now: they cannot be read as nobody
        assert as_nobody(lambda: main(words) == 4) == 0
    assert "CAP_SYS_PTRACE" in capfd.readouterr().err
