"""`mematlas top`: the processes of a machine, live or from a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input, Static

from mematlas.linux.users import user_name
from mematlas.observe.top.analyse import SHAPES, ListOptions, build_lines
from mematlas.observe.top.history import History
from mematlas.observe.top.model import SORTS
from mematlas.observe.top.rates import memory_pressure
from mematlas.observe.top.tui.header import render_memory, render_pressure, render_title
from mematlas.observe.top.tui.keys import HELP
from mematlas.observe.top.tui.own_cost import OwnCost
from mematlas.observe.top.tui.pace import Pace
from mematlas.observe.top.tui.process_list import ProcessList
from mematlas.observe.top.tui.process_screen import ProcessScreen
from mematlas.present.help_screen import HelpScreen
from mematlas.present.terminal_app import TerminalApp

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.timer import Timer

    from mematlas.observe.top.model import MachineSnapshot, ProcessSnapshot
    from mematlas.observe.top.tui.feed import Feed, Inspector

_LIST_ACTIONS = {"filter", "sort", "sort_by", "reverse", "shape", "clear", "help"}


class TopApp(TerminalApp):
    """The process list, its header and its keys. Snapshots come from a feed, live or recorded."""

    TITLE = "mematlas top"
    CSS = """
    Screen { background: $background; }
    #title { height: 1; padding: 0 1; background: $panel; }
    #memory { height: 3; padding: 0 1; }
    #pressure { height: 1; padding: 0 1; margin-bottom: 1; }
    #filter { height: 1; border: none; padding: 0 1; display: none; background: $surface; }
    #filter.open { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit", show=False, priority=True),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("s", "sort(1)", "sort"),
        Binding("S", "sort(-1)", "sort", show=False),
        Binding("r", "reverse", "reverse", show=False),
        Binding("t", "shape('tree')", "tree"),
        Binding("u", "shape('user')", "users"),
        Binding("c", "shape('cgroup')", "cgroups"),
        Binding("n", "shape('program')", "names", show=False),
        Binding("space", "pause", "pause"),
        Binding("plus,equals_sign", "change_pace(1)", "interval", key_display="+/-"),
        Binding("minus", "change_pace(-1)", "interval", show=False),
        Binding("right", "step(1)", "forward", show=False),
        Binding("left", "step(-1)", "back", show=False),
        Binding("left_square_bracket", "ends(0)", "start", show=False),
        Binding("right_square_bracket", "ends(-1)", "end", show=False),
        Binding("escape", "clear", "clear filter", show=False),
        Binding("d", "shade", "dark/light", show=False),
        *[
            Binding(str((number + 1) % 10), f"sort_by('{sort}')", sort, show=False)
            for number, sort in enumerate(SORTS)
        ],
    ]

    def __init__(
        self,
        feed: Feed,
        inspector: Inspector | None,
        options: ListOptions | None = None,
        *,
        interval_s: float = 2.0,
        dark: bool = True,
    ) -> None:
        """Show the snapshots of a feed; without an inspector, only recorded data of each process."""
        super().__init__(dark=dark)
        self.feed, self.inspector = feed, inspector
        self.options = options or ListOptions()
        self.pace, self.paused = Pace(feed.length is not None, interval_s), False
        self.before: MachineSnapshot | None = None
        self.after: MachineSnapshot | None = None
        self.history = History()
        self.taking, self.failure = False, ""
        self._timer: Timer | None = None
        self._own_cost = OwnCost()

    @property
    def replaying(self) -> bool:
        """Return whether the feed is a recording."""
        return self.feed.length is not None

    def compose(self) -> ComposeResult:
        """Compose the widgets."""
        yield Static(id="title")
        yield Static(id="memory")
        yield Static(id="pressure")
        yield ProcessList()
        yield Input(id="filter", placeholder="words, user:NAME, cgroup:PATH, pid:N, pss>100M")
        yield Footer()

    def on_mount(self) -> None:
        """Take the first snapshot."""
        self.query_one(ProcessList).focus()
        self.take()

    def on_resize(self) -> None:
        """Redraw in the new width."""
        self.redraw()

    def on_unmount(self) -> None:
        """Stop the timer and close the feed."""
        if self._timer is not None:
            self._timer.stop()
        self.feed.close()

    # SnapshotReader

    def take(self) -> None:
        """Take the next snapshot in a thread, since a page walk may take long."""
        if not self.taking and self.screen_stack:
            self.taking = True
            wanted = {each.pid for each in self._list.on_screen() if each.pid is not None}
            if isinstance(self.screen, ProcessScreen):
                wanted = {self.screen.key[0]}
            self.run_worker(lambda: self._take(wanted), thread=True, name="take")

    def _take(self, wanted: set[int]) -> None:
        try:
            snapshot = self.feed.next(wanted)
        except OSError as error:  # for example a full disk while recording
            self.call_from_thread(self._fail, str(error))
            return
        self.call_from_thread(self.arrived, snapshot)

    def _fail(self, reason: str) -> None:
        self.failure = reason
        self.exit(return_code=1)

    def arrived(self, snapshot: MachineSnapshot | None) -> None:
        """Show a snapshot and schedule the next; None: the end of a recording."""
        self.taking = False
        if snapshot is None:
            self.paused = True
        else:
            self._accept([snapshot])
        self.redraw()
        self._schedule()

    def _accept(self, snapshots: list[MachineSnapshot]) -> None:
        for snapshot in snapshots:
            self.before, self.after = self.after, snapshot
            self.history.add(snapshot)
        self._own_cost.update()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        if not self.paused:
            self._timer = self.set_timer(self.pace.pause_s(self.before, self.after), self.take)

    # Screen

    @property
    def _list(self) -> ProcessList:
        return self.screen_stack[0].query_one(ProcessList)

    def redraw(self) -> None:
        """Redraw the list, its header, and the process screen if one is open."""
        if self.after is None or not self.screen_stack:
            return
        dark, width = self.current_theme.dark, max(20, self.size.width - 2)
        base = self.screen_stack[0]
        pressure = memory_pressure(self.before, self.after)
        header = {
            "#title": render_title(
                self.after, width, self._state(), self._own_cost.percent, dark=dark
            ),
            "#memory": render_memory(self.after, width, dark=dark),
            "#pressure": render_pressure(pressure, width, dark=dark),
        }
        for name, text in header.items():
            base.query_one(name, Static).update(text)
        processes = self._list
        processes.total = self.after.meminfo.get("MemTotal", 0)
        lines = build_lines(self.before, self.after, self.options, user_name)
        options = self.options
        words = options.text.strip()
        processes.empty = f"No process matches {words!r}. Esc clears the filter." if words else ""
        processes.show(lines, sort=options.sort, reverse=options.reverse, shape=options.shape)
        if isinstance(self.screen, ProcessScreen):
            self._update_process(self.screen)

    def _update_process(self, screen: ProcessScreen) -> None:
        assert self.after is not None
        found = (each for each in self.after.processes if each.key == screen.key)
        screen.arrived(next(found, None), self.history.samples(screen.key))

    def _state(self) -> str:
        words = [str(self.pace)] + ["paused"] * self.paused
        if self.replaying:
            words.insert(0, f"replay {self.feed.position + 1} of {self.feed.length}")
        if self.options.text:
            words.append(f"filter: {self.options.text}")
        return "  ".join(words)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Disable the keys of the list while another screen is open."""
        return len(self.screen_stack) < 2 or action not in _LIST_ACTIONS

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(HelpScreen(HELP))

    def action_sort(self, by: int) -> None:
        """Sort by the next (1) or previous (-1) column."""
        at = (SORTS.index(self.options.sort) + by) % len(SORTS)
        self.action_sort_by(SORTS[at])

    def action_sort_by(self, name: str) -> None:
        """Sort by a column; reverse the order if the list is sorted by it already."""
        repeated = name == self.options.sort
        self._set_options(sort=name, reverse=not self.options.reverse if repeated else False)

    def action_reverse(self) -> None:
        """Reverse the order."""
        self._set_options(reverse=not self.options.reverse)

    def action_shape(self, name: str) -> None:
        """Show a tree or groups; the plain list if that is shown already."""
        self._set_options(shape="list" if self.options.shape == name else name)

    def _set_options(self, **changes: str | bool) -> None:
        from dataclasses import replace

        self.options = replace(self.options, **changes)  # type: ignore[arg-type]
        assert self.options.shape in SHAPES
        self.redraw()

    def action_pause(self) -> None:
        """Pause or continue; at the end of a recording, continue from its start."""
        self.paused = not self.paused
        length = self.feed.length
        if not self.paused and length is not None and self.feed.position + 1 >= length:
            self._seek(0)
        self.redraw()
        self._schedule()

    def action_change_pace(self, by: int) -> None:
        """Change the interval, or the speed of a replay."""
        self.pace.change(by)
        self.redraw()
        self._schedule()

    def action_step(self, by: int) -> None:
        """Step one snapshot back or forward in a recording; live, take a snapshot now."""
        if self.replaying:
            self.paused = True
            self._seek(self.feed.position + by)
        elif by > 0:
            self.take()

    def action_ends(self, to: int) -> None:
        """Seek to the start or the end of a recording."""
        length = self.feed.length
        if length is not None:
            self._seek(0 if to == 0 else length - 1)

    def _seek(self, to: int) -> None:
        length = self.feed.length
        assert length is not None
        self.history, self.before, self.after = History(), None, None
        self._accept(self.feed.seek(max(0, min(to, length - 1))))
        self.redraw()

    def action_shade(self) -> None:
        """Switch between the dark and the light theme, which the rows have their colors from."""
        super().action_shade()
        self.redraw()

    def action_filter(self) -> None:
        """Open the filter field."""
        field = self.query_one("#filter", Input)
        field.add_class("open")
        field.value = self.options.text
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Apply the filter while the user types it."""
        if event.input.has_class("open"):
            self._set_options(text=event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Close the field and keep the filter."""
        event.input.remove_class("open")
        self._list.focus()

    def action_clear(self) -> None:
        """Clear the filter."""
        self.query_one("#filter", Input).remove_class("open")
        self._list.focus()
        self._set_options(text="")

    def on_process_list_sorted(self, event: ProcessList.Sorted) -> None:
        """Sort by the heading that was clicked."""
        self.action_sort_by(event.field)

    def on_process_list_opened(self, event: ProcessList.Opened) -> None:
        """Open a process, or list the processes of a group."""
        line = event.line
        if line.pid is None:
            words = {"user": f"user:{line.key}", "cgroup": f"cgroup:{line.key}"}
            self._set_options(text=words.get(self.options.shape, str(line.key)), shape="list")
            return
        process = self._find(line.key)
        if process is not None:
            screen = ProcessScreen(process, self.inspector)
            screen.samples = self.history.samples(process.key)
            self.push_screen(screen)

    def _find(self, key: object) -> ProcessSnapshot | None:
        rows = self.after.processes if self.after else ()
        return next((each for each in rows if each.key == key), None)
