"""Sections that rank: lines, other times, leaks, Python objects, imports."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present import drawing
from mematlas.present.printable import clean
from mematlas.report import leaks as leak_words
from mematlas.report import quantities, run_facts, titles
from mematlas.report.model.leaks import LIKELY
from mematlas.report.text.leaks import render_growth, render_leak
from mematlas.report.text.page import LITTLE, NUMBER, Page, title
from mematlas.units import format_bytes, format_percent

if TYPE_CHECKING:
    from mematlas.report.analyse.lines import LineStats

_BAR = 12
_INDENT = 2 + NUMBER + 9 + _BAR + 2
_DETAIL = 14
_LEAKS = 3


def draw_lines(page: Page, top: int) -> Text:
    """Render the largest lines by the metric of the page, each with its callers."""
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
        text.append(f"\n  {format_bytes(rest).rjust(NUMBER)}", "dim")
        text.append(f"{format_percent(rest, total).rjust(8)}  in {more} (--top N)", "dim")
    return text


def _line(page: Page, line: LineStats, total: int) -> Text:
    value, largest = line.bytes[page.by], page.ranked[0].bytes[page.by]
    first = Text("  ").append(format_bytes(value).rjust(NUMBER), "bold")
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


def draw_own_peaks(page: Page, top: int) -> Text:
    """Render memory of processes at their own peaks that the account does not have."""
    peaks = page.report.own_peaks
    if not peaks:
        return Text()
    text = title("Other times", "live in processes at their own peaks, and not in the account")
    for each in peaks[:top]:
        first = Text("  ").append(format_bytes(each.live_bytes).rjust(NUMBER), "bold").append("  ")
        body = page.frames.located(each.frame)
        body.append(f"  {run_facts.own_peak(page.report, each)}", "dim")
        text.append("\n").append_text(page.hanging(first, body, NUMBER + 4))
    if len(peaks) > top:
        text.append(f"\n  {quantities.count(len(peaks) - top, 'more line')} (--top N)", "dim")
    return text


def draw_leaks(page: Page) -> Text:
    """Render the largest likely leaks; empty if none of some size is worth a warning."""
    leaks = page.leaks
    if leaks is None or leak_words.told_bytes(leaks) < max(
        LITTLE, page.report.account.rss_bytes // 50
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
        text.append(f"\n  {format_bytes(size).rjust(NUMBER)}", "dim")
        text.append(f"  in {quantities.count(rest, 'more leak')} (mematlas leaks FILE)", "dim")
    if not shown:
        return grown
    return text.append("\n\n").append_text(grown) if grown else text


def draw_objects(page: Page, top: int) -> Text:
    """Render the types of live Python objects, with the main line of each."""
    types = page.report.objects
    if not types:
        return Text()
    text = title("Python objects", "live at the end, by type; own bytes only")
    for each in types[:top]:
        first = Text("  ").append(format_bytes(each.live_bytes).rjust(NUMBER), "bold")
        first.append(f"{each.live_count:>12,}  ")
        body = Text(page.frames.limited(clean(each.name), 60), "cyan")
        share = format_percent(each.frame_bytes, each.live_bytes)
        body.append(f"  {share} from ", "dim").append_text(page.frames.located(each.frame))
        text.append("\n").append_text(page.hanging(first, body, NUMBER + 16))
    if len(types) > top:
        rest = sum(each.live_bytes for each in types[top:])
        more = quantities.count(len(types) - top, "more type")
        text.append(
            f"\n  {format_bytes(rest).rjust(NUMBER)}              in {more} (--top N)", "dim"
        )
    return text


def draw_imports(page: Page, top: int) -> Text:
    """Render what the largest imports cost; empty if all are small."""
    imports = [each for each in page.report.imports if each.resident_bytes >= LITTLE]
    if not imports:
        return Text()
    text = title("Imports", "memory of a module's import, with all that it imported in turn")
    for each in imports[:top]:
        text.append(f"\n  {format_bytes(each.resident_bytes).rjust(NUMBER)}", "bold")
        text.append(f"  import {page.frames.limited(clean(each.name), 60)}", "cyan")
        text.append(f"  live {format_bytes(each.live_bytes)}", "dim")
    if len(imports) > top:
        text.append(f"\n  {quantities.count(len(imports) - top, 'more import')} (--top N)", "dim")
    return text
