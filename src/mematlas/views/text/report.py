"""The report for the terminal: the answer, the account, the timeline, the lines that own memory."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.analysis.lines import RUNTIME, Line, lines, owner, tier
from mematlas.model.recording import PartKind
from mematlas.units import format_bytes, format_duration
from mematlas.views import names, timeline
from mematlas.views.text import drawing

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.model.recording import Frame, Part
    from mematlas.model.report import BadFree, ProcessLine, Report

_NUMBER = 10  # columns of a byte figure
_BAR = 12
_INDENT = 2 + _NUMBER + 9 + _BAR + 2
_DETAIL = 14


@dataclass(frozen=True, slots=True)
class Page:
    """What every block of one report is drawn from."""

    report: Report
    console: Console
    by: str
    ranked: list[Line]  # by `by`
    directory: str  # paths below it are shown from there

    @classmethod
    def of(cls, report: Report, by: str, console: Console) -> Page:
        """Rank the lines once for all blocks."""
        ranked = lines(report.stacks, by)
        return cls(report, console, by, ranked, names.directory_of(report, ranked))

    def answer(self) -> Text:
        """Return the sentence that says where the memory is."""
        ranked = sorted(self.ranked, key=lambda line: -line.bytes["resident"])
        return Text(names.answer(self.report, ranked, self.directory))

    def hanging(self, first: Text, body: Text, indent: int) -> Text:
        """Put `body` after `first`, which is `indent` wide."""
        return drawing.hanging(first, body, indent, self.console)


def render_report(report: Report, *, top: int, by: str, console: Console) -> None:
    """Write the whole report."""
    page = Page.of(report, by, console)
    blocks = [_header(page), _account(page), _timeline(page), _lines(page, top)]
    blocks += [_processes(page), _bad_frees(page), _notes(page)]
    for number, block in enumerate(block for block in blocks if block.plain):
        if number:
            _write(Text(), console)
        _write(block, console)


def render_summary(report: Report, path: str, *, console: Console, top: int = 5) -> None:
    """Write what the end of a run says: the answer, the first few lines, where the rest is."""
    page = Page.of(report, "resident", console)
    _write(Text("mematlas: ", "bold cyan").append_text(page.answer()), console)
    for line in page.ranked[:top]:
        if line.bytes["resident"] <= 0:
            break
        first = Text("  ").append(format_bytes(line.bytes["resident"]).rjust(_NUMBER)).append("  ")
        _write(page.hanging(first, _located(line.frame, page.directory), 14), console)
    for note in filter(None, report.notes):
        first = Text("  note: ", "yellow")
        _write(page.hanging(first, Text(names.shorten(names.clean(note), 400)), 8), console)
    _write(Text(f"  more: mematlas report {shlex.quote(names.clean(path))}", "dim"), console)


def _write(text: Text, console: Console) -> None:
    if drawing.plain(console):
        text = drawing.in_ascii(text)
    console.print(text, soft_wrap=False, highlight=False, markup=False, emoji=False)


def _title(text: str, aside: str = "") -> Text:
    title = Text().append(text, "bold")
    return title.append(f"  {aside}", "dim") if aside else title


def _header(page: Page) -> Text:
    report = page.report
    facts = [names.sampling_text(report)]
    seconds = names.duration_s(report)
    facts.append("duration unknown" if seconds is None else format_duration(seconds))
    if len(report.processes) > 1:
        facts.append(f"{len(report.processes)} processes")
    facts.append(report.started.replace("T", " ").replace("Z", " UTC"))
    command = names.clean(" ".join(report.command))
    text = Text().append(names.shorten(command, 400), "bold cyan")
    text.append("\n" + " · ".join(facts), "dim")
    if not report.complete:
        text.append("\nThe run was cut short; figures are right up to its last record.", "yellow")
    return text.append("\n\n").append_text(page.answer())


def _account(page: Page) -> Text:
    account, console = page.report.account, page.console
    if not names.seen(account):
        return _title("Account", "unknown: no look at the program's pages succeeded")
    totals = names.part_totals(account)
    text = _title(f"Account of {format_bytes(account.rss_bytes)} resident", names.moment(account))
    text.append("\n").append_text(drawing.stacked_bar(totals, console.width, console))
    for kind, size in totals:
        first = Text("\n").append(drawing.part_glyph(kind, console), drawing.PART_INK[kind][2])
        first.append(" " + names.PART_TITLES[kind].ljust(17))
        first.append(format_bytes(size).rjust(_NUMBER), "bold")
        first.append(names.percent(size, account.rss_bytes).rjust(8) + "  ")
        text.append_text(page.hanging(first, _part_names(page, kind), 39))
    return text


def _part_names(page: Page, kind: str) -> Text:
    """Name the largest parts of one kind, and say how many more there are."""
    parts = [part for part in page.report.account.parts if part.kind == kind]
    parts.sort(key=lambda part: -part.resident_bytes)
    error = sum(part.error_bytes**2 for part in parts) ** 0.5
    said = [_part_name(part, page.directory) for part in parts[:3] if part.name]
    if len(parts) > len(said) and said:
        rest = sum(part.resident_bytes for part in parts[len(said) :])
        said.append(f"{len(parts) - len(said)} more {format_bytes(rest)}")
    text = Text(f"± {format_bytes(error)}" if error else "")
    text.append(", " if error and said else "").append(", ".join(said))
    if not text.plain:
        text.append(names.PART_MEANINGS[kind])
    text.stylize("dim")
    return text


def _part_name(part: Part, directory: str) -> str:
    name = names.short_path(part.name, directory)
    if part.kind == PartKind.FILE:
        name = name.rsplit("/", 1)[-1]
    if part.kind == PartKind.LIVE:
        name = names.KIND_TITLES.get(name, name)
    return f"{names.shorten(name, 40)} {format_bytes(part.resident_bytes)}"


def _timeline(page: Page) -> Text:
    report, console = page.report, page.console
    width = max(20, console.width - 34)
    rss, live = (timeline.summed(report, name) for name in ("rss_bytes", "live_bytes"))
    top, most = timeline.highest(rss), timeline.highest(live)
    if not rss or top is None:
        return Text()
    scale = max(top[0], most[0] if most else 0.0)
    span = (rss[0][0], rss[-1][0])
    text = _title("Timeline", f"{format_duration(span[1] - span[0])} from the first look")
    for name, points, peak, style in (
        ("RSS ", rss, top, "bright_black"),
        ("live", live, (report.peak_live_bytes, report.peak_live_time_s), "cyan"),
    ):
        drawn = drawing.spark(timeline.buckets(points, width, span), scale, console)
        text.append(f"\n  {name}  ").append(drawn, style)
        text.append(f"  {format_bytes(peak[0])} at {format_duration(peak[1])}")
    return text


def _lines(page: Page, top: int) -> Text:
    if not page.ranked:
        return _title("Lines", "unknown: no allocation was seen")
    by, total = page.by, sum(line.bytes[page.by] for line in page.ranked)
    text = _title(f"Lines by memory {names.METRIC_TITLES[by]}", names.METRIC_MEANINGS[by])
    if total <= 0:
        return text.append(f"\n  No memory is {names.METRIC_TITLES[by]}.")
    some = [line for line in page.ranked if line.bytes[by] > 0]
    for line in some[:top]:
        text.append("\n").append_text(_line(page, line, total))
    if len(some) > top:
        rest = sum(line.bytes[by] for line in some[top:])
        more = names.count(len(some) - top, "more line")
        text.append(f"\n  {format_bytes(rest).rjust(_NUMBER)}", "dim")
        text.append(f"{names.percent(rest, total).rjust(8)}  in {more} (--top N)", "dim")
    return text


def _line(page: Page, line: Line, total: int) -> Text:
    value, largest = line.bytes[page.by], page.ranked[0].bytes[page.by]
    first = Text("  ").append(format_bytes(value).rjust(_NUMBER), "bold")
    first.append(names.percent(value, total).rjust(8) + " ")
    first.append(drawing.bar(value / largest, _BAR, page.console), "cyan").append("  ")
    text = page.hanging(first, _located(line.frame, page.directory), _INDENT)
    for words in (_figures(line, page.by), *_explanation(page, line)):
        indent = " " * _DETAIL
        text.append("\n").append_text(page.hanging(Text(indent), Text(words, "dim"), _DETAIL))
    return text


def _located(frame: Frame | None, directory: str) -> Text:
    if frame is None:
        return Text("stack not seen", "italic")
    name = names.shorten(names.function(frame), 160)
    return (
        Text(name, "bold")
        .append("  ")
        .append(names.shorten(names.place(frame, directory), 120), "cyan")
    )


def _figures(line: Line, by: str) -> str:
    error = f" ± {format_bytes(line.error_bytes)}" if line.error_bytes else ""
    said = [f"live {format_bytes(line.bytes['live'])}{error}"]
    said += [
        f"{short} {format_bytes(line.bytes[metric])}"
        for short, metric in (("resident", "resident"), ("peak", "peak"))
        if metric != by
    ]
    said += [
        f"{metric} {format_bytes(line.bytes[metric])}"
        for metric in ("huge", "swapped")
        if line.bytes[metric] and metric != by
    ]
    return " · ".join([*said, names.count(line.live_count, "block")])


def _explanation(page: Page, line: Line) -> list[str]:
    """Tell what the line called and who called it, in its heaviest stack."""
    frames = line.heaviest(page.by).frames
    index = owner(frames)
    if index is None:
        return []
    below = [frame for frame in frames[:index] if tier(frame) != RUNTIME][-1:]
    above = [frame for frame in frames[index + 1 :] if tier(frame) != RUNTIME][:3]
    said = []
    if below:
        said.append(f"calls {_short(below[0], page.directory)}")
    if above:
        said.append("from " + " ← ".join(_short(frame, page.directory) for frame in above))
    return said


def _short(frame: Frame, directory: str) -> str:
    name = names.shorten(names.function(frame), 60)
    return f"{name} {names.shorten(names.place(frame, directory), 48)}"


def _processes(page: Page) -> Text:
    processes = page.report.processes
    if len(processes) < 2:
        return Text()
    text = _title("Processes", "highest RSS of each")
    for line, depth in names.process_tree(processes):
        text.append("\n").append_text(_process(page, line, depth))
    return text


def _process(page: Page, line: ProcessLine, depth: int) -> Text:
    peak = format_bytes(line.peak_rss_bytes) if line.peak_rss_bytes > 0 else "unknown"
    first = Text("  ").append(peak.rjust(_NUMBER), "bold").append(f"  {line.pid:>7}  ")
    end = "" if line.end_s is None else f" to {format_duration(line.end_s)}"
    text = Text("  " * min(depth, 8) + names.shorten(names.clean(line.command), 200))
    text.append(f"  {format_duration(line.start_s)}{end}, {line.ending}", "dim")
    if line.note:
        text.append(f"  {names.clean(line.note)}", "yellow")
    return page.hanging(first, text, 23)


def _bad_frees(page: Page) -> Text:
    if not page.report.bad_frees:
        return Text()
    text = _title("Bad frees", "frees of pointers that were not live allocations")
    for bad in sorted(page.report.bad_frees, key=lambda bad: -bad.count):
        text.append("\n").append_text(_bad_free(page, bad))
    return text


def _bad_free(page: Page, bad: BadFree) -> Text:
    index = owner(bad.frames)
    frame = None if index is None else bad.frames[index]
    first = Text("  ").append(f"{bad.count:,}".rjust(_NUMBER), "bold red").append("  ")
    body = _located(frame, page.directory)
    above = bad.frames[index + 1 :][:3] if index is not None else ()
    if above:
        said = " ← ".join(_short(caller, page.directory) for caller in above)
        body.append(f"\nfrom {said}", "dim")
    return page.hanging(first, body, 14)


def _notes(page: Page) -> Text:
    notes = [names.clean(note) for note in page.report.notes if note]
    if not notes:
        return Text()
    text = _title("Notes")
    for note in notes:
        body = Text(names.shorten(note, 400))
        text.append("\n").append_text(page.hanging(Text("  "), body, 2))
    return text
