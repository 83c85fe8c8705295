"""Sections about the whole program: account, totals, slack, heaps, idle memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present import drawing
from mematlas.recording.model import PartKind
from mematlas.report import frame_names, quantities, run_facts, titles
from mematlas.report.analyse.short_paths import short_path
from mematlas.report.text.page import LITTLE, NUMBER, Page, title
from mematlas.units import format_bytes, format_percent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mematlas.recording.model import Part

_NAMED_STACKS = 2  # start routines named in the account


def draw_account(page: Page) -> Text:
    """Render the parts of the resident memory, largest kinds first."""
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
            format_bytes(size).rjust(NUMBER),
            format_percent(size, account.total_bytes).rjust(8) + "  ",
            console,
        )
        first = Text("\n").append_text(line)
        text.append_text(page.hanging(first, _part_names(page, kind), 43))
    return text


def draw_totals(page: Page) -> Text:
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
    span = "over the whole run" if report.complete else "as far as they are recorded"
    text = title("Totals", f"{about}{span}")
    for name, size, number, more in rows:
        text.append(f"\n  {format_bytes(size).rjust(NUMBER)}", "bold")
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


def draw_slack(page: Page) -> Text:
    """Render where slack is and which lines keep it; empty if little or unknown."""
    slack = page.report.slack or ()
    free, fragmented = (
        sum(getattr(each, name) for each in slack)
        for name in ("held_free_bytes", "fragmented_bytes")
    )
    if free + fragmented < max(LITTLE, page.report.account.total_bytes // 50):
        return Text()
    text = title("Slack", "free memory held by allocators, at the time of the account")
    text.append(f"\n  {format_bytes(free).rjust(NUMBER)}", "bold").append(
        "  held free, on pages without a live byte"
    )
    text.append(f"\n  {format_bytes(fragmented).rjust(NUMBER)}", "bold").append(
        "  fragmented, on pages with live blocks of these lines:"
    )
    largest = sorted(page.ranked, key=lambda line: -line.bytes["fragmented"])[:3]
    for line in largest:
        if size := line.bytes["fragmented"]:
            first = Text(
                "  " + " " * NUMBER + "  " + format_bytes(size).rjust(NUMBER) + "  ", "dim"
            )
            body = page.frames.located(line.frame)
            body.append(f"  {quantities.count(line.live_count, 'live block')}", "dim")
            text.append("\n").append_text(page.hanging(first, body, 2 * NUMBER + 6))
    if len(slack) > 1 or (slack and slack[0].name != "glibc heap"):
        parts = ", ".join(
            f"{each.name} {format_bytes(each.held_free_bytes)} + {format_bytes(each.fragmented_bytes)}"
            for each in slack[:4]
        )
        text.append("\n").append_text(page.hanging(Text("  "), Text(parts, "dim"), 2))
    return text


def draw_heaps(page: Page) -> Text:
    """Render glibc's heaps at the end; empty if little was free."""
    heaps = page.report.heaps or ()
    free = sum(each.free for each in heaps)
    if free < LITTLE:
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


def draw_idle(page: Page) -> Text:
    """Render idle memory and the lines that own most of it."""
    idle = page.report.idle
    if idle is None:
        return Text()
    text = title("Idle memory").append("\n")
    text.append_text(page.hanging(Text("  "), Text(quantities.idle(idle), "dim"), 2))
    for line in sorted(page.ranked, key=lambda line: -line.bytes["idle"])[:3]:
        if size := line.bytes["idle"]:
            first = Text("  ").append(format_bytes(size).rjust(NUMBER), "bold").append("  ")
            body = page.frames.located(line.frame)
            body.append(f"  of {format_bytes(line.bytes['live'])} live", "dim")
            text.append("\n").append_text(page.hanging(first, body, NUMBER + 4))
    return text
