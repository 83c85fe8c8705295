"""Make the pictures of the documentation from real recordings.

    python share/screenshots.py FOLDER [NAME ...]        all of them, or those whose name contains a NAME

Pages are drawn by Chromium (Playwright), terminals by tmux, whose screen becomes an SVG. It takes minutes, and needs
chromium and tmux. Pictures are looked at before they are committed.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = Path(sys.executable).parent
COLOURS = 96  # of a picture's palette; text stays sharp
THEMES = ("light", "dark")

# A frame without web fonts: a page of the documentation loads nothing.
FRAME = """<svg viewBox="-8 -8 {terminal_width} {terminal_height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>{lines}</defs>
<rect fill="#14181b" x="-8" y="-8" width="101%" height="100%"/>
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g>
</svg>
"""


@dataclass(frozen=True)
class Page:
    """A picture of an HTML page: its width and height in CSS pixels, and where it is scrolled to."""

    name: str
    page: str
    width: int
    height: int
    scroll: str = ""  # selector of an element that is moved to the top
    scale: float = 1


@dataclass(frozen=True)
class Terminal:
    """A picture of a terminal: a command, its size, and what shows that it is ready."""

    name: str
    command: str
    size: tuple[int, int]
    ready: str


# In a PID namespace of its own, since the machine's processes are nobody's business.
TOP = (
    "unshare --pid --fork --mount-proc bash -c 'python slow.py >/dev/null & python orders.py >/dev/null &"
    f" exec -a mematlas {sys.executable} -m mematlas top'"
)
SHOW = "python orders.py >/dev/null & sleep 2; mematlas show $!"
PAGES = (
    Page("page-1440", "orders.html", 1440, 900),
    Page("page-flame-1280", "orders.html", 1280, 800, "#flame"),
    Page("page-390", "orders.html", 390, 844, scale=2),
    Page("heap-1280", "shop.html", 1280, 640, "#heap"),
    Page("diff-1280", "diff.html", 1280, 800),
    Page("pages-1280", "pages.html", 1280, 800),
)
TERMINALS = (
    Terminal("report-120x40", "mematlas report orders.atlas", (120, 40), "Lines"),
    Terminal("leaks-80x24", "mematlas leaks orders.atlas", (80, 24), "audit"),
    Terminal("tree-120x40", "mematlas report --tree orders.atlas", (120, 40), "all"),
    Terminal(
        "follow-80x24",
        "mematlas run --follow -o f.atlas -- python slow.py",
        (80, 24),
        "make_auditor",
    ),
    Terminal(
        "follow-200x50",
        "mematlas run --follow -o g.atlas -- python slow.py",
        (200, 50),
        "make_auditor",
    ),
    Terminal("top-120x40", TOP, (120, 40), "slow.py"),
    Terminal("show-120x40", SHOW, (120, 40), "By kind"),
)
SLOW = """
import runpy, threading, time
threading.Thread(target=lambda: time.sleep(60), daemon=False).start()
runpy.run_path("orders.py", run_name="__main__")
"""


def prepare(folder: Path) -> None:
    """Make the recordings and pages in a folder that reads like a user's own."""
    shutil.copy(ROOT / "examples/orders.py", folder)
    programs = folder.parent / "bin"
    programs.mkdir()
    # The system's Python, so that no picture has a path of this machine.
    (programs / "python").symlink_to("/usr/bin/python3")
    changed = (folder / "orders.py").read_text().replace("ORDERS = 120_000", "ORDERS = 160_000")
    (folder / "after").mkdir()
    (folder / "after/orders.py").write_text(changed)
    (folder / "slow.py").write_text(SLOW)
    (folder / "shop.py").write_text(_shop())
    for command in (
        "mematlas run -o orders.atlas -- python orders.py",
        "mematlas run -o after.atlas -- python after/orders.py",
        "mematlas run --graph=exit -o shop.atlas -- python shop.py",
        "mematlas report orders.atlas -o orders.html",
        "mematlas report shop.atlas -o shop.html",
        "mematlas diff orders.atlas after.atlas -o diff.html",
        "bash -c 'python orders.py >/dev/null & sleep 2; mematlas pages $! -o pages.html'",
    ):
        subprocess.run(
            shlex.split(command),
            cwd=folder,
            env=environment(folder),
            check=True,
            capture_output=True,
        )


def _shop() -> str:
    """Return the program of the tutorial about holders."""
    text = (ROOT / "docs/tutorials/who-holds-my-memory.md").read_text("utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of commands: the system's Python, this mematlas, colours on."""
    path = f"{folder.parent}/bin:{PROGRAMS}:{os.environ['PATH']}"
    return {
        **os.environ,
        "PATH": path,
        "PAGER": "less",
        "LESS": "RX",
        "COLORTERM": "truecolor",
        "LC_ALL": "C.UTF-8",
    }


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Chromium without a window."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("screenshots: install chromium")
    with sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=program, args=["--no-sandbox"])


def draw_page(browser: Any, page: Page, theme: str, folder: Path) -> bytes:
    """Return the PNG of a page in one theme."""
    shown = browser.new_page(
        viewport={"width": page.width, "height": page.height},
        color_scheme=theme,
        device_scale_factor=page.scale,
    )
    shown.goto((folder / page.page).as_uri())
    shown.wait_for_timeout(1500)  # the page unpacks its data and draws
    if page.scroll:
        shown.eval_on_selector(page.scroll, "e => e.scrollIntoView({block: 'start'})")
        shown.wait_for_timeout(300)
    picture: bytes = shown.screenshot()
    shown.close()
    return smaller(picture)


def smaller(picture: bytes) -> bytes:
    """Return a PNG with a palette, which is a third as large."""
    from PIL import Image

    out = io.BytesIO()
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def draw_terminal(terminal: Terminal, folder: Path) -> str:
    """Return the SVG of a terminal's screen after a command."""
    width, height = terminal.size
    tmux = ["tmux", "-L", f"mematlas-{os.getpid()}", "-f", "/dev/null"]
    shell = f"cd {shlex.quote(str(folder))}; clear; {terminal.command}; sleep 60"
    subprocess.run(
        [*tmux, "new-session", "-d", "-x", str(width), "-y", str(height), "bash", "-c", shell],
        env={**environment(folder), "TERM": "xterm-256color"},
        check=True,
    )
    try:
        screen = _screen_with(terminal.ready, tmux)
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    return as_svg(screen, width, height)


def _capture(tmux: list[str]) -> str:
    command = [*tmux, "capture-pane", "-e", "-p", "-N"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _screen_with(ready: str, tmux: list[str]) -> str:
    """Return the screen three seconds after a word is on it."""
    for _ in range(300):
        if ready in _capture(tmux):
            time.sleep(3)
            return _capture(tmux)
        time.sleep(0.2)
    sys.exit(f"screenshots: no {ready!r} within a minute; the screen is\n{_capture(tmux)}")


def as_svg(screen: str, width: int, height: int) -> str:
    """Return a terminal's screen with its escape sequences as an SVG."""
    from rich.ansi import AnsiDecoder
    from rich.console import Console

    console = Console(
        width=width, height=height, record=True, file=io.StringIO(), color_system="truecolor"
    )
    lines = [*AnsiDecoder().decode(screen)][:height]  # colours go on from line to line
    for line in [*lines, ""]:  # the frame ends at the last line, not below it
        console.print(line, no_wrap=True, overflow="crop", crop=True)
    picture = console.export_svg(title="", code_format=FRAME, unique_id="t")
    return re.sub(
        r'(viewBox="-8 -8 )(\d+)', lambda found: f"{found[1]}{int(found[2]) + 8}", picture
    )


def main(target: Path, names: list[str]) -> None:
    """Write the pictures whose names were asked for."""
    wanted = [
        each for each in (*PAGES, *TERMINALS) if not names or any(n in each.name for n in names)
    ]
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "shop"
        folder.mkdir()
        prepare(folder)
        for each in wanted:
            if isinstance(each, Terminal):
                (target / f"{each.name}.svg").write_text(draw_terminal(each, folder))
        pages = [each for each in wanted if isinstance(each, Page)]
        if not pages:
            return
        with chromium() as browser:
            for each in pages:
                for theme in THEMES:
                    (target / f"{each.name}-{theme}.png").write_bytes(
                        draw_page(browser, each, theme, folder)
                    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
