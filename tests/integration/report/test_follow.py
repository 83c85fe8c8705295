"""The live view of real runs: contents, keys, and state after it."""

from __future__ import annotations

import os
import platform
import pty
import select
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol

import pytest

from mematlas.cli.follow import FollowedRun
from mematlas.recording import read
from mematlas.report.model.report import METRICS
from mematlas.report.tui.app import RecordingApp
from mematlas.report.tui.line_table import LineTable
from terminal import end_with_terminal
from traced_runs import MEMATLAS
from tui_driver import drive, until
from waiting import WAIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from textual.pilot import Pilot

    from conftest import Build

GROWS = """
import os, sys, time
kept = []
def wait_for(gate):
    while not os.path.exists(gate): time.sleep(0.05)
def early(): kept.append([bytes(100_000) for _ in range(100)])
def late(): kept.append([bytes(100_000) for _ in range(50)])
early()
print("said by the program", flush=True)
wait_for(sys.argv[1] + "/late")
late()
wait_for(sys.argv[1] + "/end")
sys.exit(3)
"""


class Start(Protocol):
    """Starts a program that allocates 10 MB, and 5 MB once the file `late` exists, under a live view.

    The program ends once the file `end` exists.
    """

    def __call__(self, *options: str) -> FollowedRun:
        """Start `mematlas run OPTIONS`."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start runs, and end those that a failed test left."""
    started: list[FollowedRun] = []

    def run(*options: str) -> FollowedRun:
        path, program = str(tmp_path / "live.atlas"), tmp_path / "grows.py"
        program.write_text(GROWS)
        folder = tmp_path / "kept"
        folder.mkdir()
        arguments = ["run", "-o", path, "--interval", "200ms", *options]
        command = [sys.executable, str(program), str(tmp_path)]
        started.append(FollowedRun([*arguments, "--", *command], path, folder))
        return started[-1]

    yield run
    for gate in ("late", "end"):
        (tmp_path / gate).touch()
    for watch in started:
        watch.process.wait(60)


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
def test_lines_appear_while_it_runs(tmp_path: Path, start: Start, size: tuple[int, int]) -> None:
    """Lines appear with their names while the program runs, and stay when it has ended."""
    watch = start()
    app = RecordingApp(watch)

    async def act(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "early" in app.text)
        assert watch.running
        assert "not complete" not in app.text
        assert "late" not in app.text
        (tmp_path / "late").touch()
        await until(pilot, lambda: "late" in app.text)
        await until(pilot, lambda: app.query_one(LineTable).max_scroll_x == 0)  # after its layout
        (tmp_path / "end").touch()
        await until(pilot, lambda: app.ended)
        await until(pilot, lambda: "early" in app.text)

    drive(app, act, size)
    assert watch.process.wait(60) == 3


def test_keys(tmp_path: Path, start: Start) -> None:
    """Keys change metric, window, filter, output, pause and theme."""
    watch = start("--exact")
    app = RecordingApp(watch)

    async def act(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "early" in app.text)
        metrics: list[str] = []
        while not metrics or "live: allocated and not freed" not in app.text:
            await pilot.press("m")
            metrics.append(METRICS[app.metric])
            assert len(metrics) < len(METRICS), metrics
        assert not {"idle", "huge"} & set(metrics)
        await pilot.press(*"M" * len(metrics))
        assert "resident: in RAM" in app.text
        await pilot.press("o")
        await until(pilot, lambda: "said by the program" in app.text)
        await pilot.press("o", "w")
        await until(pilot, lambda: "allocated since and live now" in app.text)
        await pilot.press("escape", "slash", *"nothing")
        assert "early" not in app.text
        await pilot.press("enter", "escape")
        await until(pilot, lambda: "early" in app.text)
        before = app.theme
        await pilot.press("d", "space")
        assert app.theme != before
        assert app.paused
        for gate in ("late", "end"):
            (tmp_path / gate).touch()
        await until(pilot, lambda: (watch.read() is not None) and not watch.running)
        assert "late" not in app.text
        await pilot.press("space")
        await until(pilot, lambda: "late" in app.text)

    drive(app, act)
    assert watch.process.wait(60) == 3


@pytest.mark.parametrize("at_once", [True, False])
def test_interrupt_reaches_the_program(at_once: bool, start: Start) -> None:
    """Ctrl-C ends the program, as at a shell, also before anything of the program is recorded."""
    watch = start()
    app = RecordingApp(watch)

    async def act(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: at_once or "early" in app.text)
        await pilot.press("ctrl+c")
        await until(pilot, lambda: app.ended)

    drive(app, act)
    assert watch.process.wait(60) in {1, 130}  # Python's, of a KeyboardInterrupt


@pytest.mark.skipif(platform.machine() != "x86_64", reason="attach works on x86-64 alone")
def test_interrupt_lets_go_of_what_is_attached_to(build: Build, tmp_path: Path) -> None:
    """Ctrl-C detaches from an attached program and does not end the program."""
    path, folder = str(tmp_path / "live.atlas"), tmp_path / "kept"
    folder.mkdir()
    with subprocess.Popen(["sleep", "300"]) as program:
        command = ["attach", str(program.pid), "-o", path, "--interval", "200ms"]
        watch = FollowedRun(command, path, folder, attached=True)
        app = RecordingApp(watch)

        async def act(pilot: Pilot[None]) -> None:
            await until(pilot, lambda: "sleep" in app.text)
            await pilot.press("ctrl+c")
            await until(pilot, lambda: app.ended)

        drive(app, act)
        assert watch.process.wait(60) == 0, watch.output()
        assert program.poll() is None
        program.kill()


def test_in_a_terminal(build: Build, tmp_path: Path) -> None:
    """The view uses the terminal; afterwards the program's output and exit status are unchanged."""
    main, worker = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(
        [*MEMATLAS, "run", "--follow", "-o", tmp_path / "a.atlas", "--", build("exits"), "exit"],
        stdin=worker,
        stdout=worker,
        stderr=worker,
        env=environment,
        start_new_session=True,
    )
    os.close(worker)
    written, end, left = b"", time.monotonic() + WAIT_S, False
    while time.monotonic() < end:
        if select.select([main], [], [], 0.2)[0]:
            try:
                written += os.read(main, 65536)
            except OSError:  # the other end is closed
                break
        if b"ended" in written and not left:
            left = True
            os.write(main, b"q")
    os.close(main)
    expected = subprocess.run([build("exits"), "exit"], check=False, capture_output=True)
    assert process.wait(60) == expected.returncode
    assert expected.stdout.replace(b"\n", b"\r\n") in written
    assert b"details: mematlas report" in written


def test_a_terminal_that_is_gone_does_not_end_the_program(tmp_path: Path) -> None:
    """The view ends with its terminal; the program runs to its end, and its status is that of the command."""
    gate = tmp_path / "gate"
    script = f"""
import os, sys, time
open({str(tmp_path / "started")!r}, "w").close()
while not os.path.exists({str(gate)!r}): time.sleep(0.05)
sys.exit(3)
"""
    command = (*MEMATLAS, "run", "--follow", "-o", str(tmp_path / "a.atlas"), "--")
    opener = threading.Timer(5, gate.touch)  # the view has ended by then, or waits as it must

    def started() -> bool:
        if not (tmp_path / "started").exists():
            return False
        opener.start()
        return True

    status = end_with_terminal([*command, sys.executable, "-c", script], b"", more=started)
    assert status == 3
    assert read(tmp_path / "a.atlas").complete


def test_needs_a_terminal(tmp_path: Path) -> None:
    """Without a terminal the command fails and does not start the program."""
    mark = tmp_path / "ran"
    done = subprocess.run(
        [*MEMATLAS, "run", "--follow", "--", "touch", mark],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr
    assert not mark.exists()
