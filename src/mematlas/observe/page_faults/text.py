"""`mematlas faults` for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present.printable import clean
from mematlas.present.tables import cut, line, note, show, title
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.observe.page_faults.model import (
        DemandDemonstration,
        FaultLine,
        FaultProfile,
        FaultRates,
        FaultTotals,
    )


def render_totals(totals: FaultTotals, *, console: Console) -> None:
    """Render the faults of a program."""
    title(
        console,
        f"{totals.minor:,} minor and {totals.major:,} major faults",
        cut(" ".join(totals.command), 40, console),
    )
    line(console, "  user", _counts(totals.user_minor, totals.user_major))
    line(
        console,
        "  syscalls",
        _counts(
            _difference(totals.all_minor, totals.user_minor),
            _difference(totals.all_major, totals.user_major),
        ),
    )
    cost = totals.minor * totals.cost_of_minor_s
    each = f"{totals.cost_of_minor_s * 1e9:,.0f} ns"
    spent = totals.user_s + totals.system_s
    share = f", {cost * 100 / spent:.0f} % of its CPU time" if spent > 0 else ""
    line(console, "  cost", f"about {format_duration(cost)} at {each} per minor fault{share}")
    line(
        console,
        "  time",
        f"{format_duration(totals.elapsed_s)}, {format_duration(totals.user_s)}"
        f" user CPU, {format_duration(totals.system_s)} system CPU",
    )
    bound = "at most " if totals.peak_is_bound else ""
    line(console, "  peak RSS", bound + format_bytes(totals.peak_rss))
    if totals.status:
        line(console, "  status", str(totals.status))
    for text in totals.notes:
        note(console, clean(text))


def render_profile(profile: FaultProfile, *, top: int, console: Console) -> None:
    """Render the sampled faults by mapping and by line."""
    seen = "every fault" if profile.period == 1 else f"1 minor fault in {profile.period}"
    aside = f"{seen} sampled, {profile.samples:,} samples"
    if profile.lost:
        aside += f", {profile.lost:,} lost"
    if not profile.lines:
        title(console, "No faults sampled", aside)
        return
    whole = sum(each.faults for each in profile.mappings)
    title(console, "Faults by mapping", aside)
    rows = [
        [
            f"{each.faults:,}",
            f"{100 * each.faults / whole:.0f} %",
            f"{each.major:,}",
            f"{each.in_syscalls:,}",
            each.name,
        ]
        for each in profile.mappings[:top]
    ]
    show(console, (">faults", ">", ">major", ">in syscalls", "<mapping"), rows)
    title(console, "Faults by line")
    rows = [
        [
            f"{each.faults:,}",
            f"{100 * each.faults / whole:.0f} %",
            cut(clean(each.mapping).rsplit("/", 1)[-1], 30, console),
            _line(each),
        ]
        for each in profile.lines[:top]
    ]
    show(console, (">faults", ">", "=mapping", "~line"), rows)
    left = sum(each.faults for each in profile.lines[top:])
    if left:
        note(
            console,
            f"{left:,} faults in {len(profile.lines) - top:,} more lines; show them with --top N",
        )


def _line(each: FaultLine) -> str:
    base = each.module.rsplit("/", 1)[-1]
    location = "" if each.function.startswith(base) else base
    if each.file:
        location = each.file.rsplit("/", 1)[-1] + (f":{each.line}" if each.line else "")
    return clean(f"{each.function}  {location}".rstrip())


def render_rates(rates: FaultRates, *, console: Console) -> None:
    """Render the fault rates of a process by thread."""
    grown = f"RSS {format_bytes(rates.rss)}, {format_bytes(rates.growth)}/s"
    title(console, f"{rates.minor:,.0f} minor and {rates.major:,.0f} major faults/s", grown)
    busy = [thread for thread in rates.threads if thread.minor or thread.major]
    if busy:
        rows = (
            [
                str(thread.tid),
                f"{thread.minor:,.0f}",
                f"{thread.major:,.0f}",
                cut(thread.name, 30, console),
            ]
            for thread in busy
        )
        show(console, (">thread", ">minor/s", ">major/s", "=name"), rows)


def render_demonstration(found: DemandDemonstration, *, console: Console) -> None:
    """Render the steps of the demonstration, and what each shows."""
    size = format_bytes(found.pages * found.page_size)
    title(console, f"{found.pages:,} new pages, {size}", "anonymous memory of this process")
    rows = (
        [each.action, f"{each.resident:,}", f"{each.zero:,}", f"{each.faults:,}"]
        for each in found.steps
    )
    show(console, ("=step", ">resident", ">zero page", ">faults"), rows)
    for each in found.steps:
        note(console, f"{each.action}: {each.why}")


def render_live_heading(pid: int, name: str, *, console: Console) -> None:
    """Render the heading of the live lines."""
    title(console, f"Page faults of {clean(name)} ({pid})", "Ctrl-C ends")
    console.print(Text(LIVE_HEADING, "bold"))


def render_live(rates: FaultRates, time_of_day: str, *, console: Console) -> None:
    """Render one line: rates, totals since the start of the process, RSS and its growth."""
    grown = f"{format_bytes(rates.growth)}/s" if rates.growth else "-"
    console.print(
        f"{time_of_day:<8} {rates.minor:>10,.0f} {rates.major:>8,.0f} {rates.minor_total:>13,}"
        f" {rates.major_total:>9,} {format_bytes(rates.rss):>9} {grown:>11}",
        highlight=False,
    )


LIVE_HEADING = f"{'time':<8} {'minor/s':>10} {'major/s':>8} {'minor, total':>13} {'major':>9} {'RSS':>9} {'growth':>11}"


def _difference(whole: int | None, part: int | None) -> int | None:
    return None if whole is None or part is None else whole - part


def _counts(minor: int | None, major: int | None) -> str:
    if minor is None or major is None:
        return "unknown"
    return f"{minor:,} minor, {major:,} major"
