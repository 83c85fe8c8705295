"""Live view of a growing recording: the report, and windows of the last seconds."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from rich.console import Console
from rich.text import Text
from textual.app import App
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, Input, Static

from mematlas.errors import MematlasError
from mematlas.present.printable import clean, shorten
from mematlas.present.theme import DARK, LIGHT
from mematlas.report.analyse.lines import lines, owning_frame
from mematlas.report.analyse.report import make_report
from mematlas.report.analyse.window import end_of, make_window
from mematlas.report.model.report import METRICS
from mematlas.report.text.report import Page, draw_blocks
from mematlas.report.text.window import draw_window
from mematlas.units import format_duration

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from mematlas.recording.model import RecordingData
    from mematlas.report.model.report import Report
    from mematlas.report.tui.source import RecordingSource

WINDOWS_S = (10.0, 60.0, 600.0)
_REFRESH_S = 1.0
_BUSY = 0.2  # fraction of the time that reading may take
_TOP = 100


class RecordingApp(App[None]):
    """The report of a growing recording."""

    TITLE = "mematlas"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: $background; }
    #title { height: 1; padding: 0 1; background: $panel; }
    #body { padding: 0 1; scrollbar-size-vertical: 1; }
    #filter { height: 1; border: none; padding: 0 1; display: none; background: $surface; }
    #filter.open { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("m", "metric(1)", "metric"),
        Binding("M", "metric(-1)", "metric", show=False),
        Binding("w", "window", "window"),
        Binding("o", "output", "output"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("escape", "clear", "report", show=False),
        Binding("space", "pause", "pause"),
        Binding("d", "shade", "dark/light", show=False),
        Binding("ctrl+c", "interrupt", "interrupt", priority=True),
    ]

    def __init__(self, watch: RecordingSource, *, dark: bool = True) -> None:
        """Show the recording of `watch`."""
        super().__init__()
        self._watch = watch
        self._dark = dark
        self._recording: RecordingData | None = None
        self._next = 0.0
        self._reading = False
        self.metric = METRICS.index("resident")
        self._unknown: set[str] = set()  # metrics that the last report does not have
        self.window_s: float | None = None
        self.words = ""
        self.shows_output = self.paused = self.ended = False
        self.failure = ""

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield Static(id="title")
        with VerticalScroll(id="body"):
            yield Static(id="text")
        yield Input(placeholder="filter by function, file or module", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        """Register the themes and start reading."""
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name if self._dark else LIGHT.name
        self.query_one("#body").focus()
        self.set_interval(0.1, self._tick)
        self._draw()

    @property
    def text(self) -> str:
        """Text of the body."""
        return str(self.query_one("#text", Static).content)

    def _tick(self) -> None:
        if self._reading or self.paused or self.ended or time.monotonic() < self._next:
            return
        self._reading = True
        self.run_worker(self._read, thread=True, exclusive=True)

    def _read(self) -> None:
        start, running = time.monotonic(), self._watch.running
        try:
            recording = self._watch.read()
        except MematlasError as error:
            self.failure, recording = str(error), None
        now = time.monotonic()
        self._next = now + max(_REFRESH_S, (now - start) / _BUSY)
        self.call_from_thread(self._take, recording, running)

    def _take(self, recording: RecordingData | None, running: bool) -> None:
        self._reading = False
        self._recording = recording or self._recording
        self.ended = not running
        self._draw()

    def _draw(self) -> None:
        self.query_one("#title", Static).update(self._title())
        self.query_one("#text", Static).update(self._body())

    def _title(self) -> Text:
        state = "ended" if self.ended else "paused" if self.paused else "running"
        text = Text("mematlas ", "bold")
        if self._recording is None:
            return text.append(self.failure or "waiting for the first data")
        command = shorten(clean(" ".join(self._recording.command)), 60)
        text.append(command).append(f"  {state}", "bold" if self.ended else "")
        if self._recording.totals:
            last = max(each.time_s for each in self._recording.totals.values())
            text.append(f" · {format_duration(last)}")
        return text.append(f" · filter {self.words}" if self.words else "")

    def _body(self) -> Text:
        if self.shows_output:
            return Text(self._watch.output() or "No output yet.")
        if self._recording is None:
            return Text()
        width = max(40, self.query_one("#body").size.width - 3)
        console = Console(width=width, file=io.StringIO(), force_terminal=True)
        blocks = self._blocks(self._recording, console)
        return Text("\n\n").join(block for block in blocks if block.plain)

    def _blocks(self, recording: RecordingData, console: Console) -> list[Text]:
        if self.window_s is not None and (end := end_of(recording)):
            window = make_window(recording, max(0.0, end - self.window_s), None)
            ranked = [each for each in lines(window.stacks, "live") if self._is_shown(each.frame)]
            return draw_window(window, ranked, top=_TOP, console=console)
        report = self._cut(make_report(recording))
        by = METRICS[self.metric]
        self._unknown = {
            each for each in METRICS if each != "resident" and report.why_unknown(each)
        }
        ranked = [each for each in lines(report.stacks, by) if self._is_shown(each.frame)]
        page = Page.of(report, by, ranked, console)
        return draw_blocks(page, _TOP)

    def _cut(self, report: Report) -> Report:
        """Filter the page faults and the object types by line."""
        faults, objects = report.page_faults, report.objects
        if faults is not None:
            shown = tuple(
                each for each in faults.sites if self._is_shown(owning_frame(each.frames))
            )
            faults = replace(faults, sites=shown)
        if objects is not None:
            objects = tuple(each for each in objects if self._is_shown(each.frame))
        return replace(report, page_faults=faults, objects=objects)

    def _is_shown(self, frame: object) -> bool:
        text = " ".join(
            str(getattr(frame, name, "") or "") for name in ("function", "file", "module")
        ).lower()
        return all(word in text for word in self.words.lower().split())

    # ---- keys

    def action_metric(self, step: int) -> None:
        """Rank by the next metric."""
        self.metric = (self.metric + step) % len(METRICS)
        while METRICS[self.metric] in self._unknown:  # resident is the way out where none is known
            self.metric = (self.metric + step) % len(METRICS)
        self.window_s, self.shows_output = None, False
        self._draw()

    def action_window(self) -> None:
        """Show the window of the last seconds, the last minutes, then the report."""
        at = WINDOWS_S.index(self.window_s) + 1 if self.window_s in WINDOWS_S else 0
        self.window_s = WINDOWS_S[at] if at < len(WINDOWS_S) else None
        self.shows_output = False
        self._draw()

    def action_output(self) -> None:
        """Toggle between the output of the program and the report."""
        self.shows_output = not self.shows_output
        self._draw()

    def action_filter(self) -> None:
        """Open the filter field."""
        field = self.query_one("#filter", Input)
        field.add_class("open")
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while typing."""
        self.words = event.value
        self._draw()

    def on_input_submitted(self) -> None:
        """Close the field and keep the filter."""
        self.query_one("#filter").remove_class("open")
        self.query_one("#body").focus()

    def action_clear(self) -> None:
        """Return to the unfiltered report."""
        self.query_one("#filter", Input).value = self.words = ""
        self.on_input_submitted()
        self.window_s, self.shows_output = None, False
        self._draw()

    def action_pause(self) -> None:
        """Pause or resume reading; recording continues."""
        self.paused = not self.paused
        self._draw()

    def action_shade(self) -> None:
        """Toggle between dark and light."""
        self.theme = LIGHT.name if self.theme == DARK.name else DARK.name

    def action_interrupt(self) -> None:
        """Interrupt the program; quit if it has ended."""
        if self.ended:
            self.exit()
        else:
            self._watch.interrupt()
