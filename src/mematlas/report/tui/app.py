"""Live view of a growing recording: the report, and windows of the last seconds."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from rich.console import Console
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Footer, Input, Static

from mematlas.errors import MematlasError
from mematlas.present.help_screen import HelpScreen
from mematlas.present.terminal_app import TerminalApp
from mematlas.report.analyse.lines import lines, owning_frame
from mematlas.report.analyse.report import make_report
from mematlas.report.analyse.window import end_of, make_window
from mematlas.report.frame_names import directory_of
from mematlas.report.model.report import METRICS
from mematlas.report.text.page import Page
from mematlas.report.text.report import draw_blocks, draw_overview
from mematlas.report.text.window import draw_window
from mematlas.report.titles import METRIC_TITLES
from mematlas.report.tui.header import (
    render_account,
    render_heading,
    render_title,
    render_window_heading,
)
from mematlas.report.tui.keys import HELP
from mematlas.report.tui.line_screen import LineScreen
from mematlas.report.tui.line_table import LineTable

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from mematlas.recording.model import RecordingData
    from mematlas.report.analyse.lines import LineStats
    from mematlas.report.model.report import Report
    from mematlas.report.model.window import Window
    from mematlas.report.tui.source import RecordingSource

WINDOWS_S = (10.0, 60.0, 600.0)
_REFRESH_S = 1.0
_BUSY = 0.2  # fraction of the time that reading may take
_TOP = 100
_MOST_LINES = 500
_SIDE_FROM = 150  # columns of the screen from which the account stands beside the lines


class RecordingApp(TerminalApp):
    """The report of a growing recording: its lines first, because a screen may have 24 rows."""

    TITLE = "mematlas"
    CSS = """
    Screen { background: $background; }
    #title { height: 1; padding: 0 1; background: $panel; }
    #account { height: 3; padding: 0 1; }
    #heading { height: 1; padding: 0 1; }
    #lines { height: 1fr; }
    #side { width: 40%; padding: 0 1; display: none; scrollbar-size-vertical: 1; }
    .wide #side { display: block; }
    #body { padding: 0 1; scrollbar-size-vertical: 1; display: none; }
    .text #body { display: block; }
    .text #account, .text #heading, .text #lines { display: none; }
    #filter { height: 1; border: none; padding: 0 1; display: none; background: $surface; }
    #filter.open { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("question_mark,h", "help", "help", key_display="?"),
        Binding("m", "metric(1)", "metric"),
        Binding("M", "metric(-1)", "metric", show=False),
        Binding("w", "window", "window"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("r", "view('report')", "report"),
        Binding("o", "view('output')", "output"),
        Binding("escape", "clear", "lines", show=False),
        Binding("space", "pause", "pause", show=False),
        Binding("d", "shade", "dark/light", show=False),
        Binding("ctrl+c", "interrupt", "interrupt", show=False, priority=True),
    ]

    def __init__(self, watch: RecordingSource, *, dark: bool = True) -> None:
        """Show the recording of `watch`."""
        super().__init__(dark=dark)
        self._watch = watch
        self._recording: RecordingData | None = None
        self._report: Report | None = None
        self._next = 0.0
        self._reading = False
        self.metric = METRICS.index("resident")
        self._unknown: set[str] = set()  # metrics that the last report does not have
        self.window_s: float | None = None
        self.words = ""
        self.view = "lines"  # or "report", "output"
        self.paused = self.ended = False
        self.failure = ""

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield Static(id="title")
        yield Static(id="account")
        yield Static(id="heading")
        with Horizontal(id="lines"):
            yield LineTable()
            with VerticalScroll(id="side", can_focus=False):
                yield Static(id="overview")
        with VerticalScroll(id="body"):
            yield Static(id="text")
        yield Input(placeholder="filter by function, file or module", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        """Start reading."""
        self._table.focus()
        self.set_interval(0.1, self._tick)
        self._draw()

    def on_resize(self) -> None:
        """Draw in the new width, once it is known to the widgets."""
        self.screen_stack[0].set_class(self.size.width >= _SIDE_FROM, "wide")
        self.call_after_refresh(self._draw)

    @property
    def text(self) -> str:
        """Text of the screen."""
        if self.view != "lines":
            return self._content("text")
        parts = [self._content(name) for name in ("title", "account", "heading")]
        return "\n".join([*parts, self._table.text])

    def _content(self, name: str) -> str:
        return str(self.screen_stack[0].query_one(f"#{name}", Static).content)

    @property
    def _table(self) -> LineTable:
        return self.screen_stack[0].query_one(LineTable)

    def _tick(self) -> None:
        if self._reading or self.paused or self.ended or time.monotonic() < self._next:
            return
        self._reading = True
        self.run_worker(self._read, thread=True, exclusive=True)

    def _read(self) -> None:
        start, running = time.monotonic(), self._watch.running
        report = None
        try:
            recording = self._watch.read()
            report = make_report(recording) if recording is not None else None
        except MematlasError as error:
            self.failure, recording = str(error), None
        now = time.monotonic()
        self._next = now + max(_REFRESH_S, (now - start) / _BUSY)
        self.call_from_thread(self._take, recording, report, running)

    def _take(self, recording: RecordingData | None, report: Report | None, running: bool) -> None:
        self._reading = False
        if recording is not None and report is not None:
            self._recording, self._report = recording, report
        self.ended = not running
        self._draw()

    def _draw(self) -> None:
        if not self.screen_stack:
            return
        base = self.screen_stack[0]
        base.set_class(self.view != "lines", "text")
        self._update("title", self._title())
        recording, report = self._recording, self._report
        if self.view == "output":
            self._update("text", Text(self._watch.output() or "No output yet."))
        elif recording is not None and report is not None:
            self._unknown = {
                each for each in METRICS if each != "resident" and report.why_unknown(each)
            }
            if self.view == "report":
                self._update("text", self._whole_report(recording, report))
            else:
                self._draw_lines(recording, report)

    def _update(self, name: str, text: Text) -> None:
        self.screen_stack[0].query_one(f"#{name}", Static).update(text)

    def _title(self) -> Text:
        state = "ended" if self.ended else "paused" if self.paused else "running"
        if self._recording is None:
            return Text("mematlas ", "bold").append(self.failure or "waiting for the first data")
        return render_title(self._recording, state, max(20, self.size.width - 2))

    def _console(self, name: str) -> Console:
        width = max(36, self.screen_stack[0].query_one(f"#{name}").size.width - 3)
        return Console(width=width, file=io.StringIO(), force_terminal=True)

    def _draw_lines(self, recording: RecordingData, report: Report) -> None:
        self._update("account", render_account(report, self._console("title")))
        window = self._window(recording)
        if window is None:
            by = METRICS[self.metric]
            ranked = self._shown(report, by)
            heading = render_heading(report, by, ranked, self.words)
        else:
            by = "live"
            ranked = self._shown(window, by)
            heading = render_window_heading(window, ranked, self.words)
        self._update("heading", heading)
        directory = directory_of(report, ranked)
        self._table.show(ranked[:_MOST_LINES], by, METRIC_TITLES[by], directory)
        if self.size.width >= _SIDE_FROM:
            page = Page.of(report, by, ranked, self._console("side"))
            self._update("overview", _joined(draw_overview(page)))

    def _window(self, recording: RecordingData) -> Window | None:
        end = end_of(recording)
        if self.window_s is None or not end:
            return None
        return make_window(recording, max(0.0, end - self.window_s), None)

    def _shown(self, source: Report | Window, by: str) -> list[LineStats]:
        return [each for each in lines(source.stacks, by) if self._is_shown(each.frame)]

    def _whole_report(self, recording: RecordingData, report: Report) -> Text:
        console = self._console("body")
        window = self._window(recording)
        if window is not None:
            return _joined(
                draw_window(window, self._shown(window, "live"), top=_TOP, console=console)
            )
        by, report = METRICS[self.metric], self._cut(report)
        return _joined(draw_blocks(Page.of(report, by, self._shown(report, by), console), _TOP))

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

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Disable the keys of the lines while another screen is open."""
        return len(self.screen_stack) < 2 or action in {"quit", "interrupt", "dismiss", "shade"}

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(HelpScreen(HELP))

    def on_data_table_row_selected(self) -> None:
        """Show the line at the cursor."""
        line = self._table.chosen
        if line is not None and self._report is not None:
            by = "live" if self.window_s is not None else METRICS[self.metric]
            self.push_screen(LineScreen(line, by, directory_of(self._report, [line])))

    def action_metric(self, step: int) -> None:
        """Rank by the next metric."""
        self.metric = (self.metric + step) % len(METRICS)
        while METRICS[self.metric] in self._unknown:  # resident is the way out where none is known
            self.metric = (self.metric + step) % len(METRICS)
        self.window_s = None
        self._show("lines" if self.view == "output" else self.view)

    def action_window(self) -> None:
        """Show the window of the last seconds, the last minutes, then the whole run."""
        at = WINDOWS_S.index(self.window_s) + 1 if self.window_s in WINDOWS_S else 0
        self.window_s = WINDOWS_S[at] if at < len(WINDOWS_S) else None
        self._show("lines" if self.view == "output" else self.view)

    def action_view(self, name: str) -> None:
        """Show the whole report, or the output of the program; the lines if that is shown already."""
        self._show("lines" if self.view == name else name)

    def _show(self, view: str) -> None:
        self.view = view
        self._draw()
        if not self.query_one("#filter").has_class("open"):
            self._focus_content()
        self.call_after_refresh(self._draw)  # the width of a widget is known once it is shown

    def _focus_content(self) -> None:
        base = self.screen_stack[0]
        (self._table if self.view == "lines" else base.query_one("#body")).focus()

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
        self._focus_content()

    def action_clear(self) -> None:
        """Return to the unfiltered lines of the whole run."""
        self.query_one("#filter", Input).value = self.words = ""
        self.query_one("#filter").remove_class("open")
        self.window_s = None
        self._show("lines")

    def action_pause(self) -> None:
        """Pause or resume reading; recording continues."""
        self.paused = not self.paused
        self._draw()

    def action_interrupt(self) -> None:
        """Interrupt the program; quit if it has ended."""
        if self.ended:
            self.exit()
        else:
            self._watch.interrupt()


def _joined(blocks: list[Text]) -> Text:
    return Text("\n\n").join(block for block in blocks if block.plain)
