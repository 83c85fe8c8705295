"""Hostile programs behave as without the tracer, and notes say what was not recorded."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from traced_runs import MEMATLAS, ask, bare, trace

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Build, Run
    from traced_runs import Traced

both_modes = pytest.mark.parametrize("options", [("--exact",), ()], ids=["exact", "sampled"])
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change its user or root")


@pytest.fixture
def hostile(build: Build) -> Path:
    """Build the program."""
    return build("hostile", "-pthread")


def notes(run: Traced) -> str:
    """Return the notes of all processes in one text, without what a busy machine alone causes."""
    general = [note for note in run.report["notes"] if "traced" in note]
    of_processes = (
        note
        for process in run.report["processes"]
        for note in process["note"].split("; ")
        if "before mematlas could read its pages" not in note
    )
    return "".join([*general, *of_processes])


@both_modes
@pytest.mark.parametrize(
    ("way", "count"),
    [("late_frees", 5000), ("clones", 5), ("handlers", 2000), ("until_refused", 10)],
)
def test_oddities(
    hostile: Path, traced: Run, way: str, count: int, options: tuple[str, ...]
) -> None:
    """The program behaves as untraced, and all its threads are recorded."""
    run = traced(hostile, way, str(count), options=options)
    assert notes(run).count("not traced") == 0
    assert "invalid records" not in notes(run)
    assert "cannot be read" not in notes(run)
    kept = {"late_frees": 5 * 2000, "handlers": 7 * 3000, "until_refused": 0, "clones": 5 * 70000}
    if options and way != "clones":
        assert run.left("live_bytes", "keep") == kept[way]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "options"),
    [(1000, ()), (1000, ("--exact",)), (5000, ("--exact",))],
    ids=["1000-sampled", "1000-exact", "5000-exact"],
)
def test_threads_by_the_thousand(
    hostile: Path, traced: Run, count: int, options: tuple[str, ...]
) -> None:
    """Threads beyond the number of rings share one ring, and their allocations are recorded."""
    if bare((hostile, "threads", str(count))).status:
        pytest.skip(f"this machine does not let a process have {count} threads")
    run = traced(hostile, "threads", str(count), options=options)
    assert notes(run) == ""
    if options:
        assert run.left("live_bytes", "keep") == 3 * count * 1000


@both_modes
@pytest.mark.parametrize(
    ("way", "said"), [("strict", "seccomp's strict mode"), ("filter", "entered a seccomp filter")]
)
def test_sandboxes(
    hostile: Path, traced: Run, way: str, said: str, options: tuple[str, ...]
) -> None:
    """The tracer makes no system call that the program's seccomp filter would kill it for."""
    if bare((hostile, way, "1000")).status == 77:
        pytest.skip("this kernel or container has no seccomp")
    run = traced(hostile, way, "100000", options=options)
    assert said in notes(run)
    if options and way == "filter":  # allocations after the filter are recorded too
        assert run.sum("allocations", "churn") == 100_000


@both_modes
@pytest.mark.parametrize(
    ("limit", "way"),
    [
        ("--as=300000000", "threads"),
        ("--as=60000000", "until_refused"),
        ("--fsize=1000", "until_refused"),
        ("--fsize=0", "until_refused"),
        ("--fsize=1000", "small_stack_forks"),
        ("--nofile=7", "until_refused"),
    ],
)
def test_limits(
    hostile: Path, tmp_path: Path, limit: str, way: str, options: tuple[str, ...]
) -> None:
    """Programs under limits on address space, file size and descriptors run and are traced."""
    if not shutil.which("prlimit"):
        pytest.skip("prlimit is not installed")
    command = ("prlimit", limit, hostile, way, "20")
    plain = bare(command)
    run = trace(tmp_path / "l.atlas", command, *options)
    assert run.outcome == plain
    assert notes(run) == ""
    assert run.report["processes"][-1]["ending"] == "exited 0"
    if options and way == "threads":
        assert run.left("live_bytes", "keep") == 20 * 3 * 1000


def test_the_last_descriptor(hostile: Path, tmp_path: Path) -> None:
    """Joining takes four descriptors at once. A program with fewer runs as bare, and a note says so."""
    if not shutil.which("prlimit"):
        pytest.skip("prlimit is not installed")
    command = ("prlimit", "--nofile=6", hostile, "until_refused", "20")
    run = trace(tmp_path / "d.atlas", command)
    assert run.outcome == bare(command)
    assert any("no file descriptor was left" in note for note in run.report["notes"])


def test_a_limit_the_program_sets_itself(hostile: Path, traced: Run) -> None:
    """The tracer releases its reserved address space; otherwise malloc would fail."""
    traced(hostile, "own_limit", "256", options=("--exact",))
    traced(hostile, "own_limit", "256")


def test_a_limit_on_our_own_address_space(hostile: Path, tmp_path: Path) -> None:
    """Programs do not wait for a collector that cannot map their rings."""
    if not shutil.which("prlimit"):
        pytest.skip("prlimit is not installed")
    file = tmp_path / "m.atlas"
    command = ("prlimit", "--as=1500000000", *MEMATLAS, "run", "--exact", "-o", file, "--")
    assert bare((*command, hostile, "threads", "20")).stdout == b"fine\n"


@as_root
@both_modes
def test_rights_given_up(hostile: Path, traced: Run, options: tuple[str, ...]) -> None:
    """After it drops privileges the program is traced on, and so are its child and a program it starts."""
    run = traced(hostile, "drop_rights", options=options)
    assert notes(run) == ""
    assert "ld.so" not in run.stderr
    started = [process["command"].split()[0] for process in run.report["processes"]]
    assert len(started) == 3
    assert started[-1].endswith("true")
    if options:
        assert run.left("live_bytes", "keep") == 100_000 + 20 * 50_000 + 10 * 50_000


@as_root
@both_modes
def test_another_root(hostile: Path, traced: Run, options: tuple[str, ...]) -> None:
    """After chroot() the program is traced on, and so is its child."""
    run = traced(hostile, "new_root", options=options)
    assert notes(run) == ""
    if options:
        assert run.left("live_bytes", "keep") == 100_000 + 20 * 50_000 + 10 * 50_000


@as_root
@both_modes
def test_su(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A shell of another user runs without output on standard error."""
    if not shutil.which("su"):
        pytest.skip("su is not installed")
    command = ("su", "nobody", "-s", "/bin/sh", "-c", "id -un; ls /nowhere; exit 3")
    run = trace(tmp_path / "s.atlas", command, *options)
    assert run.outcome == bare(command)
    assert run.outcome.status == 3
    assert "ld.so" not in run.stderr


@pytest.mark.slow
@both_modes
def test_a_stopped_mematlas_does_not_stop_the_program(
    hostile: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """While mematlas is stopped the program waits a few seconds for ring capacity, then runs on untraced."""
    file = tmp_path / "stopped.atlas"
    script = f"echo up; read go; {hostile} handlers 3000; {hostile} filter 3000000; echo done"
    with subprocess.Popen(
        [*MEMATLAS, "run", *options, "-o", file, "--", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        assert run.stdout.readline() == b"up\n"
        run.send_signal(signal.SIGSTOP)
        try:
            run.stdin.write(b"go\n")
            run.stdin.close()
            lines = list(iter(run.stdout.readline, b"done\n"))
        finally:
            run.send_signal(signal.SIGCONT)
    assert lines == [b"fine\n"] * 2
    assert run.returncode == 0
    ask("report", str(file), "--json")


@pytest.mark.slow
def test_events_that_a_stopped_mematlas_misses(build: Build, tmp_path: Path) -> None:
    """A full ring stalls the program for a while; what is lost then is told, and the recording is not complete."""
    file, said = tmp_path / "stopped.atlas", tmp_path / "stderr"
    with (
        said.open("wb") as errors,
        subprocess.Popen(
            [*MEMATLAS, "run", "--exact", "-o", file, "--", build("obeys")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as run,
    ):
        assert run.stdin is not None
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        run.send_signal(signal.SIGSTOP)
        try:
            run.stdin.write(b"a\n" * 50)
            run.stdin.flush()
            answers = [run.stdout.readline() for _ in range(50)]
        finally:
            run.send_signal(signal.SIGCONT)
        run.stdin.write(b"q\n")
        run.stdin.close()
    assert answers[-1] == b"done a 50000 0\n"
    assert run.returncode == 7
    data = ask("report", str(file), "--json")
    lost = [note for note in data["notes"] if "events were lost" in note]
    assert len(lost) == 1
    assert not data["complete"]
    assert "events were lost" in " ".join(said.read_text().split())


def test_an_image_is_seen_before_it_execs(tmp_path: Path) -> None:
    """The memory that a program held at exec is in the recording."""
    script = (
        "import os, time\nheld = b'1' * 20_000_000\ntime.sleep(0.2)\nos.execl('/bin/true', 'true')"
    )
    run = trace(tmp_path / "x.atlas", (MEMATLAS[0], "-c", script), "--interval", "60")
    first = run.report["processes"][0]
    assert first["ending"] == "exec"
    assert first["peak_rss_bytes"] > 20_000_000


def test_an_exec_that_fails_changes_nothing(tmp_path: Path) -> None:
    """After a failed exec the image is traced on and gets its last snapshot at its real end."""
    script = (
        "import os, time\ntime.sleep(0.2)\n"
        "try: os.execl('/nowhere', 'nowhere')\nexcept OSError: pass\n"
        "held = b'1' * 20_000_000\n"
    )
    run = trace(tmp_path / "y.atlas", (MEMATLAS[0], "-c", script), "--interval", "60")
    assert [process["ending"] for process in run.report["processes"]] == ["exited 0"]
    assert run.report["processes"][0]["peak_rss_bytes"] > 20_000_000
