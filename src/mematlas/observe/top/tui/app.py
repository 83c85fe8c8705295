"""`mematlas top`: the processes of a machine, live or from a recording."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Static

from mematlas.observe.address_space.text import user_name
from mematlas.observe.top.analyse import SHAPES, History, ListOptions, build_lines, memory_pressure
from mematlas.observe.top.model import SORTS
from mematlas.observe.top.tui.header import render_memory, render_pressure, render_title
from mematlas.observe.top.tui.process_list import ProcessList
from mematlas.observe.top.tui.process_screen import ProcessScreen
from mematlas.present.theme import DARK, LIGHT

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.timer import Timer

    from mematlas.observe.top.model import MachineSnapshot, ProcessSnapshot
    from mematlas.observe.top.tui.feed import Feed, Inspector

_INTERVALS = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
_SPEEDS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 100.0)
_LIST_ACTIONS = {"filter", "sort", "sort_by", "reverse", "shape", "clear", "help"}
_FASTEST_S = 0.05  # between two snapshots of a replay

HELP = """\
[b]Choose[/b]
  1 … 9, 0   sort by PSS, USS, RSS, swap, THP, faults, major faults,
             growth, PID, command; again: the other way round
  s, S       sort by the next column, or the one before; r: reverse
  t u c n    tree, by user, by cgroup, by program name; again: list
  /          filter: words of the command, user:root, cgroup:/app,
             pid:12, state:D, pss>100M (or uss, rss, swap, thp)
[b]Move[/b]
  ↑ ↓ PgUp PgDn Home End, or the mouse; a click on a heading sorts
  Enter      open a process: growth, address space, pages, faults;
             or list the processes of a group
  Esc        back; on the list: no filter
[b]Time[/b]
  space      stop, go on
  + -        longer or shorter interval; of a recording: faster, slower
  →          take a snapshot now
  ← → \\[ ]    of a recording: back, forward, to its start, to its end
[b]Read[/b]
  …          not read yet         ?   the kernel refuses
  [i]slanted[/i]    read over 30 s ago   -   nothing
  PSS        pages divided among all who have them
  growth/s   change of RSS since the snapshot before

  d  dark or light     ?  this     q  quit
"""


class HelpScreen(ModalScreen[None]):
    """The keys."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "dismiss", "close")]
    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen VerticalScroll {
        width: 76; max-width: 100%; height: auto; max-height: 100%; padding: 0 2;
        background: $surface; border: round $primary; overflow-x: hidden;
        scrollbar-size-vertical: 1;
    }
    """

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        with VerticalScroll():
            yield Static(HELP)


class TopApp(App[None]):
    """The list, its head, and the keys. SnapshotReader come from a feed, live or recorded alike."""

    TITLE = "mematlas top"
    ENABLE_COMMAND_PALETTE = False
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
        Binding("plus,equals_sign", "pace(1)", "interval", key_display="+/-"),
        Binding("minus", "pace(-1)", "interval", show=False),
        Binding("right", "step(1)", "forward", show=False),
        Binding("left", "step(-1)", "back", show=False),
        Binding("left_square_bracket", "ends(0)", "start", show=False),
        Binding("right_square_bracket", "ends(-1)", "end", show=False),
        Binding("escape", "clear", "no filter", show=False),
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
        choice: ListOptions | None = None,
        *,
        interval_s: float = 2.0,
        dark: bool = True,
    ) -> None:
        """Show what the feed gives."""
        super().__init__()
        self.feed, self.inspector = feed, inspector
        self.choice = choice or ListOptions()
        self.interval_s, self.speed, self.paused = interval_s, 1.0, False
        self.before: MachineSnapshot | None = None
        self.after: MachineSnapshot | None = None
        self.history = History()
        self.taking, self.failure = False, ""
        self._start_dark = dark
        self._timer: Timer | None = None
        self._spent = (time.monotonic(), time.process_time())
        self._share: float | None = None

    @property
    def replaying(self) -> bool:
        """Tell whether the feed is a recording."""
        return self.feed.length is not None

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield Static(id="title")
        yield Static(id="memory")
        yield Static(id="pressure")
        yield ProcessList()
        yield Input(id="filter", placeholder="words, user:NAME, cgroup:PATH, pid:N, pss>100M")
        yield Footer()

    def on_mount(self) -> None:
        """Begin."""
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = DARK.name if self._start_dark else LIGHT.name
        self.query_one(ProcessList).focus()
        self.take()

    def on_resize(self) -> None:
        """Write anew in the new width."""
        self.redraw()

    def on_unmount(self) -> None:
        """Let go of files."""
        if self._timer is not None:
            self._timer.stop()
        self.feed.close()

    # SnapshotReader

    def take(self) -> None:
        """Take the next snapshot, in a thread: a page walk may last."""
        if not self.taking and self.screen_stack:
            self.taking = True
            wanted = {each.pid for each in self._list.on_screen() if each.pid is not None}
            if isinstance(self.screen, ProcessScreen):
                wanted = {self.screen.key[0]}
            self.run_worker(lambda: self._take(wanted), thread=True, name="take")

    def _take(self, wanted: set[int]) -> None:
        try:
            snapshot = self.feed.next(wanted)
        except OSError as error:  # a full disk, while recording
            self.call_from_thread(self._failed, str(error))
            return
        self.call_from_thread(self.arrived, snapshot)

    def _failed(self, why: str) -> None:
        self.failure = why
        self.exit(return_code=1)

    def arrived(self, snapshot: MachineSnapshot | None) -> None:
        """Show a snapshot, and wait for the next."""
        self.taking = False
        if snapshot is None:
            self.paused = True
        else:
            self._accept([snapshot])
        self.redraw()
        self._wait()

    def _accept(self, snapshots: list[MachineSnapshot]) -> None:
        for snapshot in snapshots:
            self.before, self.after = self.after, snapshot
            self.history.add(snapshot)
        now = (time.monotonic(), time.process_time())
        passed = now[0] - self._spent[0]
        if passed > 0.3:
            self._share = (now[1] - self._spent[1]) * 100 / passed
            self._spent = now

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        if not self.paused:
            self._timer = self.set_timer(self._pause_s(), self.take)

    def _pause_s(self) -> float:
        if not self.replaying:
            return self.interval_s
        if self.before is None or self.after is None:
            return _FASTEST_S
        recorded = self.after.time_s - self.before.time_s
        return max(_FASTEST_S, min(recorded, 60.0) / self.speed)

    # What is on the screen

    @property
    def _list(self) -> ProcessList:
        return self.screen_stack[0].query_one(ProcessList)

    def redraw(self) -> None:
        """Write the list and its head anew, and the process that is looked into."""
        if self.after is None or not self.screen_stack:
            return
        dark, width = self.current_theme.dark, max(20, self.size.width - 2)
        base = self.screen_stack[0]
        pressure = memory_pressure(self.before, self.after)
        head = {
            "#title": render_title(self.after, width, self._state(), self._share, dark=dark),
            "#memory": render_memory(self.after, width, dark=dark),
            "#pressure": render_pressure(pressure, width, dark=dark),
        }
        for name, text in head.items():
            base.query_one(name, Static).update(text)
        processes = self._list
        processes.total = self.after.meminfo.get("MemTotal", 0)
        entries = build_lines(self.before, self.after, self.choice, user_name)
        choice = self.choice
        processes.show(entries, sort=choice.sort, reverse=choice.reverse, shape=choice.shape)
        if isinstance(self.screen, ProcessScreen):
            self._update_process(self.screen)

    def _update_process(self, screen: ProcessScreen) -> None:
        assert self.after is not None
        found = (each for each in self.after.processes if each.key == screen.key)
        screen.arrived(next(found, None), self.history.of(screen.key))

    def _state(self) -> str:
        if self.replaying:
            at = f"{self.feed.position + 1} of {self.feed.length}"
            state = f"recorded, {at}, {self.speed:g}x"
        else:
            state = f"every {self.interval_s:g} s"
        words = [state] + ["stopped"] * self.paused
        if self.choice.text:
            words.append(f"filter: {self.choice.text}")
        return "  ".join(words)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Leave keys of the list out while another screen is in front."""
        return len(self.screen_stack) < 2 or action not in _LIST_ACTIONS

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(HelpScreen())

    def action_sort(self, by: int) -> None:
        """Sort by the next column."""
        at = (SORTS.index(self.choice.sort) + by) % len(SORTS)
        self.action_sort_by(SORTS[at])

    def action_sort_by(self, name: str) -> None:
        """Sort by a column; again: the other way round."""
        again = name == self.choice.sort
        self._choose(sort=name, reverse=not self.choice.reverse if again else False)

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self._choose(reverse=not self.choice.reverse)

    def action_shape(self, name: str) -> None:
        """Show a tree or groups; again: the plain list."""
        self._choose(shape="list" if self.choice.shape == name else name)

    def _choose(self, **changes: str | bool) -> None:
        from dataclasses import replace

        self.choice = replace(self.choice, **changes)  # type: ignore[arg-type]
        assert self.choice.shape in SHAPES
        self.redraw()

    def action_pause(self) -> None:
        """Stop, or go on; at the end of a recording, from its start."""
        self.paused = not self.paused
        length = self.feed.length
        if not self.paused and length is not None and self.feed.position + 1 >= length:
            self._seek(0)
        self.redraw()
        self._wait()

    def action_pace(self, by: int) -> None:
        """Change the interval, or the speed of a replay."""
        if self.replaying:
            self.speed = _next(_SPEEDS, self.speed, by)
        else:
            self.interval_s = _next(_INTERVALS, self.interval_s, by)
        self.redraw()
        self._wait()

    def action_step(self, by: int) -> None:
        """Go one snapshot back or forward in a recording; live, take one now."""
        if self.replaying:
            self.paused = True
            self._seek(self.feed.position + by)
        elif by > 0:
            self.take()

    def action_ends(self, to: int) -> None:
        """Go to the start or the end of a recording."""
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
        """Dark or light."""
        self.theme = LIGHT.name if self.current_theme.dark else DARK.name
        self.redraw()

    def action_filter(self) -> None:
        """Ask for a filter."""
        field = self.query_one("#filter", Input)
        field.add_class("open")
        field.value = self.choice.text
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        if event.input.has_class("open"):
            self._choose(text=event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Close the field; the filter stays."""
        event.input.remove_class("open")
        self._list.focus()

    def action_clear(self) -> None:
        """Drop the filter."""
        self.query_one("#filter", Input).remove_class("open")
        self._list.focus()
        self._choose(text="")

    def on_process_list_sorted(self, event: ProcessList.Sorted) -> None:
        """Sort by the heading clicked."""
        self.action_sort_by(event.field)

    def on_process_list_opened(self, event: ProcessList.Opened) -> None:
        """Look into a process, or list those of a group."""
        entry = event.entry
        if entry.pid is None:
            words = {"user": f"user:{entry.key}", "cgroup": f"cgroup:{entry.key}"}
            self._choose(text=words.get(self.choice.shape, str(entry.key)), shape="list")
            return
        process = self._find(entry.key)
        if process is not None:
            screen = ProcessScreen(process, self.inspector)
            screen.samples = self.history.of(process.key)
            self.push_screen(screen)

    def _find(self, key: object) -> ProcessSnapshot | None:
        rows = self.after.processes if self.after else ()
        return next((each for each in rows if each.key == key), None)


def _next(steps: tuple[float, ...], now: float, by: int) -> float:
    """Find the next step up or down from a value, which need not be a step itself."""
    if by > 0:
        return next((step for step in steps if step > now), now)
    return next((step for step in reversed(steps) if step < now), now)
