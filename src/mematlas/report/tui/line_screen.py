"""One line of the live view: its figures and its heaviest call stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static

from mematlas.report import frame_names, quantities, titles
from mematlas.report.analyse.lines import owner
from mematlas.report.model.report import METRICS
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from mematlas.report.analyse.lines import LineStats


class LineScreen(Screen[None]):
    """Figures of one line when it was opened."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,backspace,enter", "dismiss", "back", key_display="Esc")
    ]
    DEFAULT_CSS = """
    LineScreen { background: $background; }
    LineScreen VerticalScroll { padding: 0 1; scrollbar-size-vertical: 1; }
    """

    def __init__(self, line: LineStats, by: str, directory: str) -> None:
        """Show a line; its stack is the one with most of metric `by`."""
        super().__init__()
        self.text = _render(line, by, directory)

    def compose(self) -> ComposeResult:
        """Compose the widgets."""
        with VerticalScroll():
            yield Static(self.text)
        yield Footer()


def _render(line: LineStats, by: str, directory: str) -> Text:
    name = "unknown stack" if line.frame is None else frame_names.function_name(line.frame)
    where = "" if line.frame is None else frame_names.location(line.frame, directory)
    text = Text(name, "bold").append(f"  {where}\n\n", "cyan")
    for metric in METRICS:
        if size := line.bytes[metric]:
            text.append(f"  {format_bytes(size):>10}", "bold")
            text.append(f"  {titles.METRIC_TITLES[metric]}")
            text.append(f"  {titles.METRIC_MEANINGS[metric]}\n", "dim")
    text.append(f"\n  {quantities.count(line.live_count, 'live block')}")
    text.append(f", {quantities.count(line.allocations, 'allocation')} in all")
    if line.error_bytes:
        text.append(f", one standard error {format_bytes(line.error_bytes)}")
    text.append(f", {quantities.count(len(line.stacks), 'stack')}\n")
    frames = line.heaviest(by)
    text.append(f"\nHeaviest stack by {titles.METRIC_TITLES[by]}, innermost call first\n", "bold")
    own = owner(frames)
    for number, frame in enumerate(frames):
        style = "bold" if number == own else ""
        text.append("▶ " if number == own else "  ", "cyan")
        text.append(frame_names.function_name(frame), style)
        text.append(f"  {frame_names.location(frame, directory)}\n", "cyan")
    return text
