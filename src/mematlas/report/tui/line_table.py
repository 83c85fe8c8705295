"""The lines that own most of a metric, as a table that keeps its cursor on the same line."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

from mematlas.present import drawing
from mematlas.present.printable import shorten
from mematlas.report import frame_names
from mematlas.units import format_bytes, format_percent

if TYPE_CHECKING:
    from mematlas.recording.model import Frame
    from mematlas.report.analyse.lines import LineStats

_NUMBER, _SHARE, _BAR = 10, 6, 12
_BAR_FROM, _LIVE_FROM = 100, 120  # columns of the table from which these are shown
_PADDING = 2  # of each cell, both sides together
_LEAST = 12  # columns of a function or a location


class LineTable(DataTable[Text]):
    """Lines of code, largest first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
        Binding("enter", "select_cursor", "line", key_display="⏎"),
    ]
    DEFAULT_CSS = """
    LineTable { height: 1fr; background: $background; scrollbar-size-vertical: 1; overflow-x: hidden; }
    LineTable > .datatable--header { background: $panel; }
    LineTable > .datatable--cursor, LineTable:focus > .datatable--cursor {
        background: $primary 28%; color: $foreground;
    }
    """

    def __init__(self) -> None:
        """Create an empty table."""
        super().__init__(cursor_type="row", zebra_stripes=False, cell_padding=1)
        self.ranked: list[LineStats] = []

    def show(self, ranked: list[LineStats], by: str, title: str, directory: str) -> None:
        """Show lines by metric `by`; paths are relative to `directory`."""
        kept = self.chosen
        self.ranked = [line for line in ranked if line.bytes[by] > 0]
        width = self.size.width - 1  # less the scroll bar
        self.clear(columns=True)
        total = sum(line.bytes[by] for line in self.ranked)
        largest = self.ranked[0].bytes[by] if self.ranked else 0
        has_bar, has_live = width >= _BAR_FROM, width >= _LIVE_FROM and by != "live"
        widths = [_NUMBER, _SHARE, *[_BAR] * has_bar, *[_NUMBER] * has_live]
        names = [title, "share", *[""] * has_bar, *["live"] * has_live]
        for name, columns in zip(names, widths, strict=True):
            self.add_column(Text(name, justify="right" if name else "left"), width=columns)
        room = max(2 * _LEAST, width - sum(widths) - _PADDING * (len(widths) + 1))
        self.add_column("line", width=room)
        for line in self.ranked:
            value = line.bytes[by]
            cells = [_right(format_bytes(value), "bold"), _right(format_percent(value, total))]
            cells += [Text(drawing.blocks(value / largest, _BAR), "cyan")] * has_bar
            cells += [_right(format_bytes(line.bytes["live"]), "dim")] * has_live
            self.add_row(*cells, _located(line.frame, room, directory))
        self._restore(kept)

    @property
    def chosen(self) -> LineStats | None:
        """The line at the cursor."""
        return self.ranked[self.cursor_row] if self.cursor_row < len(self.ranked) else None

    @property
    def text(self) -> str:
        """The rows as text."""
        return "\n".join(
            "  ".join(cell.plain for cell in self.get_row_at(row)) for row in range(self.row_count)
        )

    def _restore(self, kept: LineStats | None) -> None:
        """Move the cursor to the line that it was on; from the first line it stays on the first."""
        if kept is None or not self.ranked or kept.frame == self.ranked[0].frame:
            return
        rows = (row for row, line in enumerate(self.ranked) if line.frame == kept.frame)
        self.move_cursor(row=next(rows, 0), animate=False)


def _right(text: str, style: str = "") -> Text:
    return Text(text, style, justify="right")


def _located(frame: Frame | None, room: int, directory: str) -> Text:
    """Format a function and its place within `room` columns: of both, the ends tell them apart."""
    if frame is None:
        return Text("unknown stack", "italic")
    name, where = frame_names.function_name(frame), frame_names.location(frame, directory)
    where = shorten(where, max(_LEAST, room - min(len(name), room // 2) - 2))
    name = shorten(name, max(_LEAST, room - len(where) - 2))
    return Text().append(name, "bold").append("  ").append(where, "cyan")
