"""One process of `mematlas top`: growth, address space, pages and faults."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, ClassVar

from rich.console import Console
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static, TabbedContent, TabPane
from textual.worker import Worker, WorkerState

from mematlas.errors import MematlasError
from mematlas.linux.users import user_name
from mematlas.observe.address_space.text import render_address_space
from mematlas.observe.page_faults.analyse import fault_rates
from mematlas.observe.page_states.text import render_pages
from mematlas.observe.top.tui.columns import format_rate
from mematlas.observe.top.tui.plot import render_growth
from mematlas.present.printable import clean
from mematlas.present.tables import amount
from mematlas.present.theme import ink
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult

    from mematlas.observe.page_faults.model import FaultSnapshot
    from mematlas.observe.top.model import Key, ProcessSample, ProcessSnapshot
    from mematlas.observe.top.tui.feed import Inspector

TABS = ("growth", "address_space", "pages", "faults")
_GROUPS = 25  # mapping names to list


class ProcessScreen(Screen[None]):
    """The screen of one process, live or replayed. Tabs without recorded data say so."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,backspace", "app.pop_screen", "back"),
        Binding("g", "show('growth')", "growth"),
        Binding("a", "show('address_space')", "address space"),
        Binding("p", "show('pages')", "pages"),
        Binding("f", "show('faults')", "faults"),
        Binding("r", "again", "read again"),
    ]
    DEFAULT_CSS = """
    ProcessScreen { background: $background; overflow: hidden; }
    ProcessScreen TabbedContent { height: 1fr; }
    ProcessScreen #who { height: auto; padding: 0 1; background: $panel; }
    ProcessScreen VerticalScroll {
        padding: 0 1; overflow-x: hidden;
        scrollbar-size-vertical: 1; scrollbar-color: $border; scrollbar-background: $background;
    }
    ProcessScreen TabPane { padding: 0; }
    ProcessScreen ContentSwitcher { height: 1fr; }
    """

    def __init__(self, process: ProcessSnapshot, inspector: Inspector | None) -> None:
        """Show one process; without an inspector, its recorded data."""
        super().__init__()
        self.process, self.inspector = process, inspector
        self.samples: list[ProcessSample] = []
        self.faults: FaultSnapshot | None = None
        self.ended = False

    @property
    def key(self) -> Key:
        """Identity of the process."""
        return self.process.key

    def compose(self) -> ComposeResult:
        """Compose the widgets."""
        yield Static(id="who")
        with TabbedContent(initial="growth"):
            for name in TABS:
                with TabPane(name.replace("_", " "), id=name), VerticalScroll():
                    yield Static(id=f"{name}-text")
        yield Footer()

    def on_mount(self) -> None:
        """Show the header."""
        self._head()

    def on_resize(self) -> None:
        """Redraw in the new width."""
        self._head()
        self._growth()
        self.action_again()

    def arrived(self, process: ProcessSnapshot | None, samples: list[ProcessSample]) -> None:
        """Update from the next snapshot; None: the process has ended."""
        self.ended = process is None
        self.process, self.samples = process or self.process, samples
        self._head()
        self._growth()
        if self.active == "faults":
            self._read("faults")

    @property
    def active(self) -> str:
        """Name of the active tab; empty before the tabs are mounted."""
        return next((tabs.active for tabs in self.query(TabbedContent)), "")

    def action_show(self, name: str) -> None:
        """Activate a tab."""
        for tabs in self.query(TabbedContent):
            tabs.active = name

    def action_again(self) -> None:
        """Read the active tab again."""
        self._read(self.active)

    def on_tabbed_content_tab_activated(self) -> None:
        """Read the activated tab."""
        self._read(self.active)

    @property
    def _dark(self) -> bool:
        return self.app.current_theme.dark

    @property
    def _width(self) -> int:
        return max(40, self.size.width - 4)  # minus padding, scroll bar and a margin

    def _head(self) -> None:
        row, soft = self.process.row, ink("soft", dark=self._dark)
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{row.pid} ", f"bold {ink('accent', dark=self._dark)}")
        text.append(clean(row.command)[: max(10, self.size.width - 12)], "bold")
        text.append("  ended\n" if self.ended else "\n", ink("bad", dark=self._dark))
        for label, value in (
            ("PSS", row.pss), ("USS", row.uss), ("RSS", row.rss), ("swap", row.swap),
            ("THP", row.thp), ("hugetlb", row.hugetlb),
        ):  # fmt: skip
            text.append(f"{label} ", soft).append(f"{amount(value)}  ")
        text.append(
            f"\nuser {user_name(row.uid)} · state {row.state} · threads {row.threads}", soft
        )
        if row.cgroup:
            text.append(f" · cgroup {clean(row.cgroup)}", soft)
        if row.note:
            text.append(f"\n{clean(row.note)}", ink("warn", dark=self._dark))
        self._update("who", text)

    def _growth(self) -> None:
        self._update("growth-text", render_growth(self.samples, self._width, dark=self._dark))

    def _update(self, name: str, text: Text) -> None:
        """Update a widget, if it is there.

        Snapshots, resizes and workers also arrive before the tabs are mounted and after the screen
        was left. A tab that is mounted later reads its text when it is activated.
        """
        for widget in self.query(f"#{name}").results(Static):
            widget.update(text)

    def _read(self, name: str) -> None:
        inspector = self.inspector
        if name not in TABS:
            return
        if name == "growth":
            self._growth()
            return
        if inspector is None:
            self._recorded(name)
            return
        readers: dict[str, Callable[[], Text]] = {
            "address_space": lambda: self._address_space(inspector),
            "pages": lambda: self._pages(inspector),
            "faults": lambda: self._faults(inspector),
        }
        self.run_worker(readers[name], name=name, group=name, thread=True, exit_on_error=False)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Show the result of a read in the background, or its error message."""
        worker = event.worker
        if worker.name not in TABS:
            return
        if worker.state is WorkerState.SUCCESS and isinstance(worker.result, Text):
            self._update(f"{worker.name}-text", worker.result)
        elif worker.state is WorkerState.ERROR:
            if not isinstance(worker.error, (MematlasError, OSError)):
                raise worker.error or RuntimeError(worker.name)
            text = Text(str(worker.error), ink("warn", dark=self._dark))
            self._update(f"{worker.name}-text", text)

    def _recorded(self, name: str) -> None:
        """Show the recorded part of a tab: the sizes of the address space, or the fault counters."""
        row, soft = self.process.row, ink("soft", dark=self._dark)
        text = Text()
        parts = {
            "address_space": [
                ("PSS of anonymous", row.pss_anonymous), ("PSS of files", row.pss_file),
                ("PSS of shared memory", row.pss_shared), ("swapped", row.swap),
                ("in huge pages (PMD)", row.thp), ("hugetlb", row.hugetlb),
            ],
            "pages": [],
            "faults": [],
        }[name]  # fmt: skip
        for label, value in parts:
            text.append(f"{label:<22}", soft).append(f"{amount(value):>10}\n")
        if name == "faults":
            text.append(
                f"{row.minor_faults:,} minor and {row.major_faults:,} major faults in total\n"
            )
        missing = {"address_space": "mappings", "pages": "pages", "faults": "threads"}[name]
        text.append(f"\nnot recorded: {missing}; a recording has only sums for each process", soft)
        self._update(f"{name}-text", text)

    def _address_space(self, inspector: Inspector) -> Text:
        space = inspector.address_space(self.key)
        return self._rendered(
            lambda console: render_address_space(
                space, top=_GROUPS, mappings=False, console=console
            )
        )

    def _pages(self, inspector: Inspector) -> Text:
        report = inspector.pages(self.key, self._width - 2)
        return self._rendered(lambda console: render_pages(report, console=console))

    def _rendered(self, write: Callable[[Console], None]) -> Text:
        """Render a terminal report in this width."""
        file = io.StringIO()
        console = Console(
            file=file,
            width=self._width,
            force_terminal=True,
            color_system="standard",
            legacy_windows=False,
            _environ={},
        )
        write(console)
        return Text.from_ansi(file.getvalue().strip("\n"), no_wrap=True)

    def _faults(self, inspector: Inspector) -> Text:
        before, self.faults = self.faults, inspector.faults(self.key)
        soft = ink("soft", dark=self._dark)
        if before is None or self.faults.time_s <= before.time_s:
            return Text("only one read so far: faults per second need two", soft)
        found = fault_rates(before, self.faults)
        text = Text()
        text.append(f"{found.minor:,.0f} minor and {found.major:,.1f} major faults/s", "bold")
        text.append(f"   RSS {format_bytes(found.rss)}\n\n", soft)
        text.append(f"{'thread':>9}  {'minor/s':>9}  {'major/s':>9}  name\n", soft)
        for thread in found.threads[:200]:
            text.append(f"{thread.tid:>9}  {format_rate(thread.minor):>9}  ")
            style = ink("warn", dark=self._dark) if thread.major else ""
            text.append(f"{format_rate(thread.major):>9}", style).append(
                f"  {clean(thread.name)}\n"
            )
        return text
