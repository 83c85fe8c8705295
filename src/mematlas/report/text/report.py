"""Terminal view of `mematlas report`: answer, account, timeline, lines."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present import drawing
from mematlas.present.printable import clean
from mematlas.recording.model import PartKind
from mematlas.report import endings, frame_names, quantities, run_facts, timeline, titles
from mematlas.report import leaks as leak_words
from mematlas.report.analyse.short_paths import short_path
from mematlas.report.answer import answer
from mematlas.report.model.leaks import LIKELY
from mematlas.report.process_list import Helpers, process_rows
from mematlas.report.text.fault_sites import page_faults
from mematlas.report.text.leaks import render_growth, render_leak
from mematlas.report.text.page import FramePrinter, title, write
from mematlas.units import format_bytes, format_duration, format_percent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from mematlas.recording.model import Part
    from mematlas.report.analyse.lines import LineStats
    from mematlas.report.model.leaks import Leaks
    from mematlas.report.model.report import ProcessSummary, Report

_NUMBER = 10  # width of a byte figure
_BAR = 12
_INDENT = 2 + _NUMBER + 9 + _BAR + 2
_DETAIL = 14
_LISTED_MARKS = 8
_NAMED_STACKS = 2  # start routines named in the account
_LEAKS = 3
_LITTLE = 1 << 20  # bytes of slack below which no section is shown


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


def render_report(
    report: Report,
    ranked: list[LineStats],
    *,
    top: int,
    by: str,
    console: Console,
    leaks: Leaks | None = None,
) -> None:
    """Print the whole report; `ranked` are its lines by metric `by`."""
    blocks = draw_blocks(Page.of(report, by, ranked, console, leaks), top)
    for number, block in enumerate(block for block in blocks if block.plain):
        if number:
            write(Text(), console)
        write(block, console)


def draw_blocks(page: Page, top: int) -> list[Text]:
    """Return the sections in order; a section without content is empty."""
    report = page.report
    return [
        *(_header(page), _account(page), _leaks(page), _totals(page), _slack(page)),
        *(_heaps(page), _idle(page)),
        *(_timeline(page), _lines(page, top), _own_peaks(page, top)),
        page_faults(report.page_faults, page.frames, top),
        _objects(page, top),
        _imports(page, top),
        *(_processes(page), page.frames.bad_frees(report.bad_frees)),
        page.frames.notes(report.notes),
    ]


def draw_overview(page: Page) -> list[Text]:
    """Return the sections about the whole program, without its lines; one without content is empty."""
    return [
        *(_account(page), _leaks(page), _totals(page), _timeline(page)),
        *(_slack(page), _idle(page), _imports(page, _LEAKS), _processes(page)),
        page.frames.notes(page.report.notes),
    ]


def render_summary(
    report: Report,
    ranked: list[LineStats],
    path: str,
    *,
    console: Console,
    leaks: Leaks | None = None,
    top: int = 5,
) -> None:
    """Print the summary at the end of a run: the answer, the first lines, the command for more.

    `ranked` are the lines by the main metric.
    """
    by = report.main_metric
    page = Page.of(report, by, ranked, console, leaks)
    write(Text("mematlas: ", "bold cyan").append_text(page.answer()), console)
    for line in page.ranked[:top]:
        if line.bytes[by] <= 0:
            break
        first = Text("  ").append(format_bytes(line.bytes[by]).rjust(_NUMBER)).append("  ")
        write(page.hanging(first, page.frames.located(line.frame), 14), console)
    for peak in report.own_peaks[:2]:
        first = Text("  ").append(format_bytes(peak.live_bytes).rjust(_NUMBER)).append("  ")
        body = page.frames.located(peak.frame).append(
            f"  {run_facts.own_peak(report, peak)}", "dim"
        )
        write(page.hanging(first, body, 14), console)
    for note in filter(None, report.notes):
        first = Text("  note: ", "yellow")
        write(page.hanging(first, Text(page.frames.limited(clean(note), 400)), 8), console)
    write(Text(f"  details: mematlas report {shlex.quote(clean(path))}", "dim"), console)


def _header(page: Page) -> Text:
    report = page.report
    details = [run_facts.sampling(report.sampling)]
    seconds = run_facts.duration_s(report)
    details.append("duration unknown" if seconds is None else format_duration(seconds))
    details += filter(None, [run_facts.process_count(report)])
    details.append(run_facts.start_time(report.started))
    command = clean(" ".join(report.command))
    text = Text().append(page.frames.limited(command, 400), "bold cyan")
    text.append("\n" + " · ".join(details), "dim")
    if not report.complete:
        text.append("\n" + titles.CUT_SHORT, "yellow")
    return text.append("\n\n").append_text(page.answer())


def _account(page: Page) -> Text:
    account, console = page.report.account, page.console
    if not run_facts.is_known(account):
        return title("Account", "unknown: the program's pages could not be read")
    totals = run_facts.part_totals(account)
    text = title(
        f"Account of {format_bytes(account.total_bytes)} resident",
        run_facts.account_time(account, detached=run_facts.was_detached(page.report))
        + run_facts.account_sum(account),
    )
    text.append("\n").append_text(drawing.stacked_bar(totals, console.width, console))
    for kind, size in totals:
        line = drawing.part_line(
            kind,
            titles.PART_TITLES[kind].ljust(21),
            format_bytes(size).rjust(_NUMBER),
            format_percent(size, account.total_bytes).rjust(8) + "  ",
            console,
        )
        first = Text("\n").append_text(line)
        text.append_text(page.hanging(first, _part_names(page, kind), 43))
    return text


def _totals(page: Page) -> Text:
    """Render what was allocated, freed and is outstanding; freed is known only where the account is of the end."""
    report, lines = page.report, page.ranked
    allocated, allocations = (
        sum(line.bytes["allocated"] for line in lines),
        sum(line.allocations for line in lines),
    )
    if not allocations:
        return Text()
    live, blocks = sum(line.bytes["live"] for line in lines), sum(line.live_count for line in lines)
    at_end = report.account.trigger == "exit" and len(report.processes) == 1
    forked = any(each.forked for each in report.processes)
    rows = [("allocated", allocated, quantities.count(allocations, "allocation"), "")]
    if (
        at_end and not forked
    ):  # else what a fork inherited is outstanding, or freed, and not allocated
        freed = quantities.count(max(0, allocations - blocks), "free")
        rows.append(("freed", max(0, allocated - live), freed, ""))
    when = "at the end" if at_end else "at the time of the account"
    when += ", each process with what it inherited" if forked else ""
    rows.append(("outstanding", live, quantities.count(blocks, "block"), f", {when}"))
    about = "estimates, " if report.sampling.mode != "exact" else ""
    text = title("Totals", f"{about}over the whole run")
    for name, size, number, more in rows:
        text.append(f"\n  {format_bytes(size).rjust(_NUMBER)}", "bold")
        text.append(f"  {name} in {number}{more}")
    return text


def _part_names(page: Page, kind: str) -> Text:
    """Name the largest parts of one kind, with a count of the others."""
    parts = [part for part in page.report.account.parts if part.kind == kind]
    error = sum(part.error_bytes**2 for part in parts) ** 0.5
    named = _stack_names(page) if kind == PartKind.STACK else []
    if named:
        parts = [part for part in parts if part.name != "other threads"]
    phrase = [*named, *_largest_parts(page, parts, kind)]
    text = Text(f"± {format_bytes(error)}" if error else "")
    text.append(", " if error and phrase else "").append(", ".join(phrase))
    if not text.plain:
        text.append(titles.PART_MEANINGS[kind])
    text.stylize("dim")
    return text


def _stack_names(page: Page) -> list[str]:
    """Return the start routines of threads, with their number and the size of their stacks."""
    routines = [line for line in page.ranked if line.threads]
    routines.sort(key=lambda line: -line.mapped.get("stack", 0))
    phrase = [
        (f"{frame_names.function_name(line.frame)}()" if line.frame else "unknown routine")
        + f" x{line.threads} {format_bytes(line.mapped.get('stack', 0))}"
        for line in routines[:_NAMED_STACKS]
    ]
    rest = sum(line.mapped.get("stack", 0) for line in routines[_NAMED_STACKS:])
    if rest:
        threads = sum(line.threads for line in routines[_NAMED_STACKS:])
        phrase.append(f"{quantities.count(threads, 'more thread')} {format_bytes(rest)}")
    return phrase


def _largest_parts(page: Page, parts: Sequence[Part], kind: str) -> list[str]:
    """Return the names and sizes of three parts, and a count of the others."""
    resident = sorted(
        (part for part in parts if part.resident_bytes), key=lambda part: -part.resident_bytes
    )
    unnamed = {"", "mematlas", titles.PART_TITLES[kind]}
    shown = [part for part in resident if part.name not in unnamed][:3]
    phrase = [_part_name(part, page.directory, page.frames.limited) for part in shown]
    if shown and len(resident) > len(shown):
        rest = sum(part.resident_bytes for part in resident)
        rest -= sum(part.resident_bytes for part in shown)
        phrase.append(f"{len(resident) - len(shown)} more {format_bytes(rest)}")
    return phrase


def _part_name(part: Part, directory: str, limit: Callable[[str, int], str]) -> str:
    name = short_path(part.name, directory)
    if part.kind in {PartKind.FILE, PartKind.COPY}:
        name = name.rsplit("/", 1)[-1]
    if part.kind == PartKind.COW:
        name = f"with {name}"
    if part.kind == PartKind.LIVE:
        name = titles.KIND_TITLES.get(name, name)
    return f"{limit(name, 40)} {format_bytes(part.resident_bytes)}"


def _leaks(page: Page) -> Text:
    """Render the largest likely leaks; empty if none of some size is worth a warning."""
    leaks = page.leaks
    if leaks is None or leak_words.told_bytes(leaks) < max(
        _LITTLE, page.report.account.rss_bytes // 50
    ):
        return Text()
    text = title("Leaks", "live memory that grew to the end, or was never freed")
    shown = [each for each in leaks.leaks[:_LEAKS] if each.verdict in LIKELY]
    for each in shown:
        text.append("\n").append_text(render_leak(page.frames, each))
    grown = render_growth(page.frames, leaks)
    rest = sum(leaks.sum_of(each).leaks for each in LIKELY) - len(shown)
    if rest > 0:
        size = leaks.likely_bytes - sum(each.live_bytes for each in shown)
        text.append(f"\n  {format_bytes(size).rjust(_NUMBER)}", "dim")
        text.append(f"  in {quantities.count(rest, 'more leak')} (mematlas leaks FILE)", "dim")
    if not shown:
        return grown
    return text.append("\n\n").append_text(grown) if grown else text


def _slack(page: Page) -> Text:
    """Render where slack is and which lines keep it; empty if little or unknown."""
    slack = page.report.slack or ()
    free, fragmented = (
        sum(getattr(each, name) for each in slack)
        for name in ("held_free_bytes", "fragmented_bytes")
    )
    if free + fragmented < max(_LITTLE, page.report.account.total_bytes // 50):
        return Text()
    text = title("Slack", "free memory held by allocators, at the time of the account")
    text.append(f"\n  {format_bytes(free).rjust(_NUMBER)}", "bold").append(
        "  held free, on pages without a live byte"
    )
    text.append(f"\n  {format_bytes(fragmented).rjust(_NUMBER)}", "bold").append(
        "  fragmented, on pages with live blocks of these lines:"
    )
    largest = sorted(page.ranked, key=lambda line: -line.bytes["fragmented"])[:3]
    for line in largest:
        if size := line.bytes["fragmented"]:
            first = Text(
                "  " + " " * _NUMBER + "  " + format_bytes(size).rjust(_NUMBER) + "  ", "dim"
            )
            body = page.frames.located(line.frame)
            body.append(f"  {quantities.count(line.live_count, 'live block')}", "dim")
            text.append("\n").append_text(page.hanging(first, body, 2 * _NUMBER + 6))
    if len(slack) > 1 or (slack and slack[0].name != "glibc heap"):
        parts = ", ".join(
            f"{each.name} {format_bytes(each.held_free_bytes)} + {format_bytes(each.fragmented_bytes)}"
            for each in slack[:4]
        )
        text.append("\n").append_text(page.hanging(Text("  "), Text(parts, "dim"), 2))
    return text


def _heaps(page: Page) -> Text:
    """Render glibc's heaps at the end; empty if little was free."""
    heaps = page.report.heaps or ()
    free = sum(each.free for each in heaps)
    if free < _LITTLE:
        return Text()
    used, trimmable = (
        sum(getattr(each, name) for each in heaps) for name in ("in_use", "trimmable")
    )
    arenas = sum(not each.main for each in heaps)
    phrase = f"{format_bytes(used)} in use and {format_bytes(free)} free in chunks"
    phrase += f" of {quantities.count(len(heaps), 'heap')}" if arenas else ""
    phrase += f"; malloc_trim() would return {format_bytes(trimmable)}"
    text = title("glibc heap", "at the end, from its chunk headers")
    return text.append("\n").append_text(page.hanging(Text("  "), Text(phrase), 2))


def _objects(page: Page, top: int) -> Text:
    """Render the types of live Python objects, with the main line of each."""
    types = page.report.objects
    if not types:
        return Text()
    text = title("Python objects", "live at the end, by type; own bytes only")
    for each in types[:top]:
        first = Text("  ").append(format_bytes(each.live_bytes).rjust(_NUMBER), "bold")
        first.append(f"{each.live_count:>12,}  ")
        body = Text(page.frames.limited(clean(each.name), 60), "cyan")
        share = format_percent(each.frame_bytes, each.live_bytes)
        body.append(f"  {share} from ", "dim").append_text(page.frames.located(each.frame))
        text.append("\n").append_text(page.hanging(first, body, _NUMBER + 16))
    if len(types) > top:
        rest = sum(each.live_bytes for each in types[top:])
        more = quantities.count(len(types) - top, "more type")
        text.append(
            f"\n  {format_bytes(rest).rjust(_NUMBER)}              in {more} (--top N)", "dim"
        )
    return text


def _imports(page: Page, top: int) -> Text:
    """Render what the largest imports cost; empty if all are small."""
    imports = [each for each in page.report.imports if each.resident_bytes >= _LITTLE]
    if not imports:
        return Text()
    text = title("Imports", "memory of a module's import, with all that it imported in turn")
    for each in imports[:top]:
        text.append(f"\n  {format_bytes(each.resident_bytes).rjust(_NUMBER)}", "bold")
        text.append(f"  import {page.frames.limited(clean(each.name), 60)}", "cyan")
        text.append(f"  live {format_bytes(each.live_bytes)}", "dim")
    if len(imports) > top:
        text.append(f"\n  {quantities.count(len(imports) - top, 'more import')} (--top N)", "dim")
    return text


def _idle(page: Page) -> Text:
    """Render idle memory and the lines that own most of it."""
    idle = page.report.idle
    if idle is None:
        return Text()
    text = title("Idle memory").append("\n")
    text.append_text(page.hanging(Text("  "), Text(quantities.idle(idle), "dim"), 2))
    for line in sorted(page.ranked, key=lambda line: -line.bytes["idle"])[:3]:
        if size := line.bytes["idle"]:
            first = Text("  ").append(format_bytes(size).rjust(_NUMBER), "bold").append("  ")
            body = page.frames.located(line.frame)
            body.append(f"  of {format_bytes(line.bytes['live'])} live", "dim")
            text.append("\n").append_text(page.hanging(first, body, _NUMBER + 4))
    return text


def _timeline(page: Page) -> Text:
    report, console = page.report, page.console
    width = max(20, console.width - 38)
    rss, live = (timeline.summed(report, name) for name in ("rss_bytes", "live_bytes"))
    top, most = timeline.highest(rss), timeline.highest(live)
    if not rss or top is None:
        return Text()
    scale = max(top[0], most[0] if most else 0.0)
    span = (rss[0][0], rss[-1][0])
    aside = f"{format_duration(span[1] - span[0])} from the first sample"
    aside += ", summed over processes" if len(report.series) > 1 else ""
    text = title("Timeline", aside)
    highest_live: tuple[float, float] = (report.peak_live_bytes, report.peak_live_time_s)
    if most and len(report.series) > 1:  # else the sum of peaks at different times
        highest_live = most
    for name, points, peak, style in (
        ("RSS ", rss, top, "bright_black"),
        ("live", live, highest_live, "cyan"),
    ):
        drawn = drawing.spark(timeline.buckets(points, width, span), scale, console)
        text.append(f"\n  {name}    ").append(drawn, style)
        text.append(f"  {format_bytes(peak[0])} at {format_duration(peak[1])}")
    for name, column in (("huge", "huge_bytes"), ("swap", "swap_bytes")):
        points = timeline.summed(report, column)
        peak = timeline.highest(points) or (0.0, 0.0)
        if peak[0] > 0:
            drawn = drawing.spark(timeline.buckets(points, width, span), scale, console)
            text.append(f"\n  {name}    ").append(drawn, "magenta")
            text.append(f"  {format_bytes(peak[0])} at {format_duration(peak[1])}")
    return text.append_text(_marks(page, span)).append_text(_faults(report, width, span, console))


def _marks(page: Page, span: tuple[float, float]) -> Text:
    """Render the marks of the program below the curves, and list the first of them."""
    marks = page.report.marks
    if not marks:
        return Text()
    width = max(20, page.console.width - 38)
    places = {
        min(width - 1, max(0, int((each.time_s - span[0]) / ((span[1] - span[0]) or 1.0) * width)))
        for each in marks
    }
    row = "".join("^" if place in places else " " for place in range(width))
    text = Text("\n  marks   ").append(row.rstrip(), "yellow")
    for each in marks[:_LISTED_MARKS]:
        rss = "" if each.rss_bytes is None else f", RSS {format_bytes(each.rss_bytes)}"
        none = ", no account" if each.account_s is None else ""
        name = page.frames.limited(clean(each.label), 60) or '""'
        text.append(f"\n          {name}", "yellow")
        text.append(f"  {format_duration(each.time_s)}{rss}{none}", "dim")
    if len(marks) > _LISTED_MARKS:
        text.append(f"\n          {len(marks) - _LISTED_MARKS:,} more (in --json)", "dim")
    return text


def _faults(report: Report, width: int, span: tuple[float, float], console: Console) -> Text:
    """Render the rate of page faults; empty if none was counted."""
    minor, major = (
        timeline.counted(report, column, width, span) for column in ("minor_faults", "major_faults")
    )
    both = [a + b for a, b in zip(minor, major, strict=True)]
    if span[1] <= span[0] or max(both) <= 0:
        return Text()
    text = Text("\n  faults  ").append(drawing.spark([*both], max(both), console), "yellow")
    text.append(f"  up to {max(both) * width / (span[1] - span[0]):,.0f}/s")
    return text.append(f", {sum(major):,.0f} major" if round(sum(major)) else "")


def _lines(page: Page, top: int) -> Text:
    if not page.ranked:
        return title("Lines", "unknown: no allocation was recorded")
    by, total = page.by, sum(line.bytes[page.by] for line in page.ranked)
    if why := page.report.why_unknown(by):
        return title("Lines", f"{titles.METRIC_TITLES[by]}: unknown, {clean(why)}")
    text = title("Lines", f"{titles.METRIC_TITLES[by]}: {titles.METRIC_MEANINGS[by]}")
    if total <= 0:
        return text.append("\n  None.")
    some = [line for line in page.ranked if line.bytes[by] > 0]
    for line in some[:top]:
        text.append("\n").append_text(_line(page, line, total))
    if len(some) > top:
        rest = sum(line.bytes[by] for line in some[top:])
        more = quantities.count(len(some) - top, "more line")
        text.append(f"\n  {format_bytes(rest).rjust(_NUMBER)}", "dim")
        text.append(f"{format_percent(rest, total).rjust(8)}  in {more} (--top N)", "dim")
    return text


def _line(page: Page, line: LineStats, total: int) -> Text:
    value, largest = line.bytes[page.by], page.ranked[0].bytes[page.by]
    first = Text("  ").append(format_bytes(value).rjust(_NUMBER), "bold")
    first.append(format_percent(value, total).rjust(8) + " ")
    first.append(drawing.bar(value / largest, _BAR, page.console), "cyan").append("  ")
    text = page.hanging(first, page.frames.located(line.frame), _INDENT)
    frames = line.heaviest(page.by)
    called, callers = page.frames.called(frames), page.frames.callers(frames)
    for words in filter(None, (_line_details(line, page.by), called, callers)):
        indent = " " * _DETAIL
        text.append("\n").append_text(page.hanging(Text(indent), Text(words, "dim"), _DETAIL))
    return text


def _line_details(line: LineStats, by: str) -> str:
    if by == "temporary":
        return quantities.lifetimes(line.lifetimes)
    error_bytes = math.sqrt(max(0.0, line.variance - line.touched_variance))
    error = f" ± {format_bytes(error_bytes)}" if error_bytes >= 1 else ""
    touched = math.sqrt(line.touched_variance)
    mapped = quantities.mapped(line.mapped, line.threads, round(touched))
    if mapped and not line.allocations and not line.bytes["live"]:
        return " · ".join(mapped)
    phrase = [f"live {format_bytes(line.bytes['live'])}{error}"]
    if (processes := line.process_count) > 1:
        phrase[0] += f" in {processes:,} processes"
    phrase += [
        f"{short} {format_bytes(line.bytes[metric])}"
        for short, metric in (("resident", "resident"), ("live at peak", "peak"))
        if metric != by and not (by in {"pss", "uss"} and line.bytes[metric] == line.bytes[by])
    ]
    phrase += [
        f"{metric} {format_bytes(line.bytes[metric])}"
        for metric in ("huge", "swapped")
        if line.bytes[metric] and metric != by
    ]
    return " · ".join([*phrase, quantities.count(line.live_count, "block"), *mapped])


def _own_peaks(page: Page, top: int) -> Text:
    """Render memory of processes at their own peaks that the account does not have."""
    peaks = page.report.own_peaks
    if not peaks:
        return Text()
    text = title("Other times", "live in processes at their own peaks, and not in the account")
    for each in peaks[:top]:
        first = Text("  ").append(format_bytes(each.live_bytes).rjust(_NUMBER), "bold").append("  ")
        body = page.frames.located(each.frame)
        body.append(f"  {run_facts.own_peak(page.report, each)}", "dim")
        text.append("\n").append_text(page.hanging(first, body, _NUMBER + 4))
    if len(peaks) > top:
        text.append(f"\n  {quantities.count(len(peaks) - top, 'more line')} (--top N)", "dim")
    return text


def _processes(page: Page) -> Text:
    processes = page.report.processes
    if len(processes) < 2:
        return Text()
    text = title("Processes", "highest RSS of each")
    for line, depth in process_rows(page.report):
        if isinstance(line, Helpers):
            text.append("\n").append_text(_helpers(page, line, depth))
        else:
            text.append("\n").append_text(_process(page, line, depth))
    return text


def _helpers(page: Page, helpers: Helpers, depth: int) -> Text:
    first = Text(" " * 23)
    words = f"{'  ' * min(depth, 8)}{helpers.describe(drawing.name_width(30, page.console))}"
    return page.hanging(first, Text(words, "dim"), 23)


def _process(page: Page, line: ProcessSummary, depth: int) -> Text:
    peak = format_bytes(line.peak_rss_bytes) if line.peak_rss_bytes > 0 else "unknown"
    first = Text("  ").append(peak.rjust(_NUMBER), "bold").append(f"  {line.pid:>7}  ")
    end = "" if line.end_s is None else f" to {format_duration(line.end_s)}"
    text = Text("  " * min(depth, 8) + page.frames.limited(clean(line.command), 200))
    text.append(f"  {format_duration(line.start_s)}{end}, {endings.ending(line)}", "dim")
    if line.note:
        text.append(f"  {clean(line.note)}", "yellow")
    return page.hanging(first, text, 23)
