"""The UI of `mematlas top`, driven by keys and mouse, on real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import tui_driver
from mematlas.cli.top_feed import LiveFeed, LiveInspector, ReplayFeed
from mematlas.observe.top.analyse import ListOptions
from mematlas.observe.top.read import TopSampler
from mematlas.observe.top.snapshots import SnapshotReader, SnapshotWriter
from terminal import end_with_terminal
from tui_driver import until

pytest.importorskip("textual", reason="textual is not installed")

from textual.widgets import Static

from mematlas.observe.top.tui.app import TopApp
from mematlas.observe.top.tui.process_list import ProcessList
from mematlas.observe.top.tui.process_screen import ProcessScreen
from mematlas.present.help_screen import HelpScreen

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from textual.pilot import Pilot

NAME = f"mematlas-top-victim-{os.getpid()}"  # another test process has a victim of its own
VICTIM = """
import sys
blocks = [b"x" * (30 << 20)]
print(flush=True)
for line in sys.stdin:
    blocks.append(b"x" * (20 << 20))
    print(flush=True)
"""


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[str]]:
    """Start a process of 30 MiB that allocates 20 MiB more per line of input."""
    with subprocess.Popen(
        [sys.executable, "-c", VICTIM, NAME],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def live(text: str = NAME, **more: Any) -> TopApp:
    """Return the UI on this machine, filtered to the victim."""
    app = TopApp(LiveFeed(TopSampler(), None), LiveInspector(), ListOptions(text=text), **more)
    app.pace.interval_s = 0.2
    return app


def drive(
    app: TopApp,
    act: Callable[[Pilot[None]], Coroutine[Any, Any, None]],
    size: tuple[int, int] = (120, 40),
) -> None:
    """Run the user interface once its first snapshot is there."""

    async def begin(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.after is not None)
        await act(pilot)

    tui_driver.drive(app, begin, size)


def lines(app: TopApp) -> list[str]:
    """Text of the list, as it is on the screen."""
    shown = app.screen_stack[0].query_one(ProcessList)
    return [shown.render_line(y).text.rstrip() for y in range(shown.size.height)]


def tab_text(app: TopApp, name: str) -> str:
    """Return the text of a tab of the process screen."""
    return str(app.screen.query_one(f"#{name}-text", Static).content)


async def process_screen(pilot: Pilot[None], app: TopApp) -> ProcessScreen:
    """Wait for the process screen and its last tab."""
    await until(
        pilot,
        lambda: isinstance(app.screen, ProcessScreen) and bool(app.screen.query("#faults-text")),
    )
    assert isinstance(app.screen, ProcessScreen)
    return app.screen


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
def test_victim_is_listed_with_its_sizes(
    victim: subprocess.Popen[str], size: tuple[int, int]
) -> None:
    """The line of a process has its PID and a PSS that its own 30 MiB are in."""
    app = live()

    async def act(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "…" not in lines(app)[1][:40])
        assert lines(app)[1].split()[0] == str(victim.pid)
        (entry,) = app.screen.query_one(ProcessList).lines
        assert 30 << 20 <= (entry.pss or 0) < 60 << 20
        assert all(len(line) <= size[0] for line in lines(app))
        assert "PSS▼" in lines(app)[0]

    drive(app, act, size)


def test_growth_is_seen_and_drilled_into(victim: subprocess.Popen[str]) -> None:
    """A process that allocates 20 MiB shows growth; its screen shows the step, the address space and the pages."""
    app = live()

    async def act(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.before is not None)
        await pilot.press("enter")
        screen = await process_screen(pilot, app)
        assert victim.stdin is not None
        victim.stdin.write("\n")
        victim.stdin.flush()
        await until(
            pilot,
            lambda: screen.samples and screen.samples[-1].rss - screen.samples[0].rss >= 19 << 20,
        )
        await until(pilot, lambda: "+20." in tab_text(app, "growth"))
        await pilot.press("a")
        await until(pilot, lambda: "By kind" in tab_text(app, "address_space"))
        await pilot.press("p")
        await until(pilot, lambda: f"Pages of {victim.pid}" in tab_text(app, "pages"))
        await pilot.press("f")
        await until(pilot, lambda: f"{victim.pid}  " in tab_text(app, "faults"))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, ProcessScreen))

    drive(app, act)


def test_an_ended_process_is_told_as_such(victim: subprocess.Popen[str]) -> None:
    """When the process of an open screen ends, the screen says so and reads no other process."""
    app = live()

    async def act(pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        screen = await process_screen(pilot, app)
        victim.kill()
        victim.wait()
        await until(pilot, lambda: screen.ended)
        await pilot.press("a")
        await until(pilot, lambda: str(victim.pid) in tab_text(app, "address_space"))
        assert "By kind" not in tab_text(app, "address_space")

    drive(app, act)


def test_keys_choose_order_and_shape(victim: subprocess.Popen[str]) -> None:
    """Sort keys, reverse, tree and groups work; the heading marks the sort column; groups open."""
    app = live(text="")

    async def act(pilot: Pilot[None]) -> None:
        shown = app.screen.query_one(ProcessList)
        for key, field in (("3", "rss"), ("9", "pid"), ("0", "command"), ("1", "pss")):
            await pilot.press(key)
            assert (app.options.sort, app.options.reverse) == (field, False)
        await pilot.press("s")
        assert app.options.sort == "uss"
        await pilot.press("3", "r")
        sizes = [entry.rss for entry in shown.lines]
        assert sizes == sorted(sizes)
        await pilot.press("t")
        depths = {entry.pid: entry.depth for entry in shown.lines}
        assert depths[victim.pid] == depths[os.getpid()] + 1
        await pilot.press("t", "u")
        assert all(entry.pid is None for entry in shown.lines)
        assert sum(entry.processes for entry in shown.lines) == len(app.after.processes)  # type: ignore[union-attr]
        await pilot.press("enter")
        assert app.options.text.startswith("user:")
        assert app.options.shape == "list"

    drive(app, act)


def test_filter_is_typed(victim: subprocess.Popen[str]) -> None:
    """Text typed after a slash filters the list at once; Enter keeps the filter, Escape clears it."""
    app = live(text="")

    async def act(pilot: Pilot[None]) -> None:
        shown = app.screen.query_one(ProcessList)
        everything = len(shown.lines)
        await pilot.press("slash", *"top-victim")
        await until(pilot, lambda: [entry.pid for entry in shown.lines] == [victim.pid])
        await pilot.press("enter", "q")  # the field is closed: q quits
        assert app.options.text == "top-victim"
        assert everything > 1

    drive(app, act)


def test_mouse_sorts_and_opens(victim: subprocess.Popen[str]) -> None:
    """A click on a heading sorts by it; a double click on a line opens it."""
    app = live()

    async def act(pilot: Pilot[None]) -> None:
        at = lines(app)[0].index("USS")
        await pilot.click(ProcessList, offset=(at, 0))
        assert app.options.sort == "uss"
        await pilot.click(ProcessList, offset=(5, 1), times=2)
        await process_screen(pilot, app)

    drive(app, act)


def test_cursor_stays_on_its_process() -> None:
    """When the order is reversed, the cursor stays on its process."""
    app = live(text="")

    async def act(pilot: Pilot[None]) -> None:
        await pilot.press("space", "9")
        shown = app.screen.query_one(ProcessList)
        assert len(shown.lines) > 3
        await pilot.press("down", "down")
        chosen = shown.chosen
        await pilot.press("r")
        assert shown.chosen is not None
        assert chosen is not None
        assert shown.chosen.key == chosen.key
        await pilot.press("end")
        assert shown.cursor == len(shown.lines) - 1
        assert shown.chosen in shown.on_screen()
        await pilot.press("home", "pageup")
        assert shown.cursor == 0

    drive(app, act, (80, 24))


def test_help_and_themes(victim: subprocess.Popen[str]) -> None:
    """The question mark shows the help; d switches the theme."""
    app = live(dark=False)

    async def act(pilot: Pilot[None]) -> None:
        before = app.theme
        await pilot.press("d")
        assert (before, app.theme) == ("mematlas-light", "mematlas-dark")
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, HelpScreen))

    drive(app, act)


def test_replay_is_the_same_program(victim: subprocess.Popen[str], tmp_path: Path) -> None:
    """A replay plays to its end, steps back and forward, and names what is not recorded."""
    path, sampler = tmp_path / "a.top", TopSampler()
    with SnapshotWriter(path, {}) as recorder:
        for number in range(6):
            if number == 3:
                assert victim.stdin is not None
                assert victim.stdout is not None
                victim.stdin.write("\n")
                victim.stdin.flush()
                victim.stdout.readline()
            recorder.add(sampler.read(None))  # None: new sizes for all processes
    victim.kill()
    victim.wait()
    app = TopApp(ReplayFeed(SnapshotReader(path)), None, ListOptions(text=NAME))

    async def act(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.paused)  # end of the recording
        assert app.feed.position == 5
        (last,) = app.screen.query_one(ProcessList).lines
        await pilot.press("left_square_bracket")
        shown = app.screen.query_one(ProcessList)
        await until(pilot, lambda: app.feed.position == 0 and shown.lines[0] is not last)
        (first,) = app.screen.query_one(ProcessList).lines
        rise = (last.pss or 0) - (first.pss or 0)
        assert rise >= 19 << 20  # PSS of its libraries changes too
        await pilot.press("right", "right", "right")
        (grown,) = app.screen.query_one(ProcessList).lines
        assert grown.growth is not None
        assert grown.growth > 0
        await pilot.press("left", "enter")
        await process_screen(pilot, app)
        await pilot.press("a")
        await until(pilot, lambda: "not recorded" in tab_text(app, "address_space"))
        await pilot.press("escape", "right_square_bracket")
        assert app.feed.position == 5

    drive(app, act)


def test_missing_textual_is_one_line(tmp_path: Path) -> None:
    """Without Textual, one line names the package to install; --once works."""
    code = (
        "import sys; sys.modules['textual'] = None\n"
        "from mematlas.cli.main import main\n"
        "sys.stdout.isatty = sys.stdin.isatty = lambda: True\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, "top"], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 1
    assert shown.stderr.count("\n") == 1
    assert "mematlas[top]" in shown.stderr
    once = subprocess.run(
        [sys.executable, "-c", code, "top", "--once"], capture_output=True, check=False
    )
    assert once.returncode == 0


def test_a_filter_without_match_says_so_and_ctrl_c_quits() -> None:
    """An empty list has words; Ctrl-C ends the interface, also while the filter has the focus."""
    app = live("qzxj-no-such-process")  # the words of a sentence match some command lines

    async def act(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: any("No process matches" in line for line in lines(app)))
        await pilot.press("slash", "ctrl+c")
        await until(pilot, lambda: not app.is_running or app._exit)

    drive(app, act)
    assert app.return_code == 0


def test_the_program_ends_with_its_terminal() -> None:
    """A terminal that is closed ends the interface, which would read the end of its input for ever."""
    status = end_with_terminal([sys.executable, "-m", "mematlas", "top"], b"quit")
    assert status == 129
