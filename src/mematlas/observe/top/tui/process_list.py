"""The process list. Only the visible lines are rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mematlas.observe.top.tui.columns import column_at, render_heading, render_line

if TYPE_CHECKING:
    from textual import events

    from mematlas.observe.top.model import TopLine

_SHOWN_SHAPES = {"user": "user", "cgroup": "cgroup", "program": "program"}


class ProcessList(ScrollView, can_focus=True):
    """Lines of processes or groups. The cursor stays on its process when the order changes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("home", "jump(0)", "first", show=False),
        Binding("end", "jump(-1)", "last", show=False),
        Binding("enter", "open", "open", key_display="⏎"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"list--heading", "list--cursor", "list--line"}
    DEFAULT_CSS = """
    ProcessList {
        height: 1fr; background: $background; overflow-x: hidden;
        scrollbar-size-vertical: 1; scrollbar-color: $border; scrollbar-background: $background;
    }
    ProcessList > .list--heading { background: $panel; color: $foreground; }
    ProcessList > .list--cursor { background: $primary 28%; color: $foreground; }
    ProcessList > .list--line { background: $background; color: $foreground; }
    """

    class Opened(Message):
        """A line was opened."""

        def __init__(self, line: TopLine) -> None:
            """Store the line."""
            super().__init__()
            self.line = line

    class Sorted(Message):
        """A heading was clicked."""

        def __init__(self, field: str) -> None:
            """Store the sort key of the column."""
            super().__init__()
            self.field = field

    def __init__(self) -> None:
        """Create an empty list."""
        super().__init__()
        self.lines: list[TopLine] = []
        self.cursor = 0
        self.sort, self.reverse, self.shape, self.total = "pss", False, "list", 0
        self.empty = ""  # what a list without lines says

    def show(self, lines: list[TopLine], *, sort: str, reverse: bool, shape: str) -> None:
        """Show new lines. The cursor follows its process, or stays in place if the process has ended."""
        kept = self.chosen
        self.lines, self.sort, self.reverse, self.shape = lines, sort, reverse, shape
        if kept is not None and self.cursor:  # on the first line the cursor stays on the first line
            found = (at for at, line in enumerate(lines) if line.key == kept.key)
            self.cursor = next(found, self.cursor)
        self.cursor = max(0, min(self.cursor, len(lines) - 1))
        self.virtual_size = Size(self.size.width, len(lines) + 1)
        self.refresh()

    @property
    def chosen(self) -> TopLine | None:
        """The line at the cursor."""
        return self.lines[self.cursor] if self.cursor < len(self.lines) else None

    def on_screen(self) -> list[TopLine]:
        """Return the visible lines."""
        first = self.scroll_offset.y
        return self.lines[first : first + max(self.size.height - 1, 1)]

    def render_line(self, y: int) -> Strip:
        """Render one line of the screen; the first one has the headings."""
        width, dark = self.size.width, self.app.current_theme.dark
        if y == 0:
            grouped = _SHOWN_SHAPES.get(self.shape, "")
            text = render_heading(width, self.sort, reverse=self.reverse, grouped=grouped)
            return self._strip(text, "list--heading")
        at = self.scroll_offset.y + y - 1
        if not self.lines and y == 2 and self.empty:
            return self._strip(Text(f"  {self.empty}"), "list--line")
        if at >= len(self.lines):
            return Strip.blank(width, self.get_component_rich_style("list--line"))
        text = render_line(self.lines[at], width, self.sort, self.total, dark=dark)
        return self._strip(text, "list--cursor" if at == self.cursor else "list--line")

    def _strip(self, text: Text, component: str) -> Strip:
        base = self.get_component_rich_style(component)
        console = self.app.console
        segments = [
            Segment(part.text, base + (part.style or Style()))
            for part in text.render(console)
            if part.text
        ]
        strip = Strip(segments)
        return strip.extend_cell_length(self.size.width, base).crop(0, self.size.width)

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self._go(self.cursor + by)

    def action_page(self, by: int) -> None:
        """Move the cursor by one screen."""
        self._go(self.cursor + by * max(1, self.size.height - 2))

    def action_jump(self, to: int) -> None:
        """Move the cursor to the first line (0) or the last line (-1)."""
        self._go(to if to >= 0 else len(self.lines) - 1)

    def action_open(self) -> None:
        """Open the line at the cursor."""
        if self.chosen is not None:
            self.post_message(self.Opened(self.chosen))

    def _go(self, to: int) -> None:
        self.cursor = max(0, min(to, len(self.lines) - 1))
        top, height = self.scroll_offset.y, max(1, self.size.height - 1)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False)
        elif self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False)
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the clicked line; open it on a double click; sort on a click on a heading."""
        if event.y == 0:
            column = column_at(event.x, self.size.width, self.sort)
            if column is not None and column.field != "user":
                self.post_message(self.Sorted(column.field))
            return
        at = self.scroll_offset.y + event.y - 1
        if at < len(self.lines):
            self._go(at)
            if event.chain > 1:
                self.action_open()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Redraw all lines, because the headings do not scroll."""
        super().watch_scroll_y(old_value, new_value)
        self.refresh(Region(0, 0, self.size.width, self.size.height))
