"""Shared parts of the terminal views: output, titles, frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present import drawing
from mematlas.present.printable import NAME, clean
from mematlas.report import bad_frees as words
from mematlas.report import frame_names
from mematlas.report.analyse.lines import RUNTIME, owner, owning_frame, tier
from mematlas.report.answer import answer

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.recording.model import Frame
    from mematlas.report.analyse.lines import LineStats
    from mematlas.report.model.leaks import Leaks
    from mematlas.report.model.report import BadFree, Report

NUMBER = 10  # width of a byte figure
LITTLE = 1 << 20  # bytes below which a section is not worth its lines


def write(text: Text, console: Console) -> None:
    """Print a section, in ASCII if the console has no Unicode."""
    if drawing.plain(console):
        text = drawing.in_ascii(text)
    whole = Text("\n").join(drawing.wrapped(text, console.width, console))
    console.print(whole, soft_wrap=True, highlight=False, markup=False, emoji=False)


def title(text: str, aside: str = "") -> Text:
    """Format the title of a section."""
    head = Text().append(text, "bold")
    return head.append(f"  {aside}", "dim") if aside else head


@dataclass(frozen=True, slots=True)
class FramePrinter:
    """Formatter of frames for one console; paths are relative to `directory`."""

    console: Console
    directory: str

    def hanging(self, first: Text, body: Text, indent: int) -> Text:
        """Join `first`, which is `indent` wide, and `body` as a hanging paragraph."""
        return drawing.hanging(first, body, indent, self.console)

    def limited(self, text: str, width: int) -> str:
        """Cut the middle out of a name that is too long for the console."""
        return drawing.limited(text, width, self.console)

    @property
    def name_width(self) -> int:
        """Letters of a name within a sentence."""
        return drawing.name_width(NAME, self.console)

    def located(self, frame: Frame | None) -> Text:
        """Format a frame as the title of an entry."""
        if frame is None:
            return Text("unknown stack", "italic")
        name = self.limited(frame_names.function_name(frame), 160)
        location = self.limited(frame_names.location(frame, self.directory), 120)
        return Text().append(name, "bold").append("  ").append(location, "cyan")

    def short(self, frame: Frame) -> str:
        """Format a frame within a sentence."""
        name = self.limited(frame_names.function_name(frame), 60)
        return f"{name} {self.limited(frame_names.location(frame, self.directory), 48)}"

    def called(self, frames: tuple[Frame, ...]) -> str:
        """Format the frame that a stack's owner called."""
        below = [frame for frame in frames[: owner(frames) or 0] if tier(frame) != RUNTIME]
        return f"calls {self.short(below[-1])}" if below else ""

    def callers(self, frames: tuple[Frame, ...]) -> str:
        """Format the callers of a stack's owner."""
        index = owner(frames)
        if index is None:
            return ""
        above = [frame for frame in frames[index + 1 :] if tier(frame) != RUNTIME][:3]
        return "from " + " ← ".join(self.short(frame) for frame in above) if above else ""

    def bad_frees(self, bad_frees: tuple[BadFree, ...]) -> Text:
        """List frees of pointers that were not live allocations."""
        if not bad_frees:
            return Text()
        text = title("Bad frees", words.ABOUT)
        for bad in sorted(bad_frees, key=lambda bad: -bad.count):
            first = Text("  ").append(f"{bad.count:,}".rjust(10), "bold red").append("  ")
            body = self.located(owning_frame(bad.frames))
            if bad.reason:
                body.append(f"  {bad.reason}", "red")
            for line in (
                words.story(bad, self.directory, self.name_width),
                self.callers(bad.frames),
            ):
                if line:
                    body.append(f"\n{line}", "dim")
            text.append("\n").append_text(self.hanging(first, body, 14))
        return text

    def notes(self, notes: tuple[str, ...]) -> Text:
        """List the notes."""
        shown = [self.limited(clean(note), 400) for note in notes if note]
        if not shown:
            return Text()
        text = title("Notes")
        for note in shown:
            text.append("\n").append_text(self.hanging(Text("  "), Text(note), 2))
        return text


@dataclass(frozen=True, slots=True)
class Page:
    """Input of all sections of one report."""

    report: Report
    by: str
    ranked: list[LineStats]  # by metric `by`
    frames: FramePrinter
    leaks: Leaks | None = None

    @property
    def console(self) -> Console:
        """The console."""
        return self.frames.console

    @property
    def directory(self) -> str:
        """Paths are relative to it."""
        return self.frames.directory

    @classmethod
    def of(
        cls,
        report: Report,
        by: str,
        ranked: list[LineStats],
        console: Console,
        leaks: Leaks | None = None,
    ) -> Page:
        """Return the input of all sections; `ranked` are the lines by metric `by`."""
        frames = FramePrinter(console, frame_names.directory_of(report, ranked))
        return cls(report, by, ranked, frames, leaks)

    def answer(self) -> Text:
        """Return the answer: where the memory is."""
        return Text(
            answer(self.report, self.ranked, self.directory, self.leaks, self.frames.name_width)
        )

    def hanging(self, first: Text, body: Text, indent: int) -> Text:
        """Join `first`, which is `indent` wide, and `body` as a hanging paragraph."""
        return self.frames.hanging(first, body, indent)
