"""`mematlas show` for the terminal."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.linux.vma_class import RegionKind
from mematlas.present.printable import clean
from mematlas.present.tables import UNKNOWN, amount, line, note, share_bar, show, title
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.linux.vma_class import Amounts, Region
    from mematlas.observe.address_space.model import Group, Layout

_SHOWN_LIMITS = ("Max address space", "Max stack size", "Max locked memory", "Max data size")
_BAR = 10


def render_layout(layout: Layout, *, top: int | None, mappings: bool, console: Console) -> None:
    """Write the layout; `top` groups (None: all), and every mapping if asked."""
    _header(layout, console)
    _sums(layout, console)
    _kinds(layout, console)
    _groups(layout, top, console)
    if mappings:
        _mappings(layout, console)
    _permissions(layout, console)
    _limits(layout, console)
    for text in layout.notes:
        note(console, text)


def user_name(uid: int) -> str:
    """Return the name of a user, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _header(layout: Layout, console: Console) -> None:
    command = clean(" ".join(layout.command)) or "(no command line)"
    line(console, f"{layout.pid}", Text(command, "bold"), width=max(8, len(str(layout.pid)) + 2))
    facts = [f"user {user_name(layout.uid)}", _threads(layout.threads), _program(layout)]
    if layout.oom_score is not None:
        facts.append(f"OOM score {layout.oom_score} (adjusted by {layout.oom_score_adjust})")
    facts.append(f"reading {layout.outcome}")
    line(console, "", " · ".join(facts), width=8)
    if layout.shared_with:
        pids = ", ".join(map(str, layout.shared_with))
        text = f"process {pids} has this very address space (CLONE_VM): count it once"
        line(console, "", Text(text, "yellow"), width=8)


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _program(layout: Layout) -> str:
    if layout.program is None:
        return f"program {UNKNOWN}"
    pie = "PIE" if layout.position_independent else "at a fixed address"
    parts = zip(
        ("text", "data", "BSS"),
        (layout.text_bytes, layout.data_bytes, layout.bss_bytes),
        strict=True,
    )
    sizes = ", ".join(f"{name} {format_bytes(size or 0)}" for name, size in parts)
    return f"{os.path.basename(clean(layout.program))} ({pie}): {sizes}"  # noqa: PTH119


def _sums(layout: Layout, console: Console) -> None:
    totals = layout.totals
    title(console, "Memory")
    line(console, "  VSZ", f"{format_bytes(totals.size)} of address space")
    line(console, "  RSS", f"{format_bytes(totals.rss)} resident{_rss_parts(layout)}")
    line(console, "  PSS", f"{amount(totals.pss)}: shared pages divided among their users")
    line(console, "  USS", f"{amount(totals.uss)}: would be free if it ended")
    line(console, "  swap", _swap(layout))
    line(console, "  huge", f"{amount(totals.thp)} mapped by 2 MiB entries (THP)")
    if totals.hugetlb:
        line(console, "  hugetlb", f"{amount(totals.hugetlb)}, not part of RSS, PSS or USS")
    line(console, "  locked", amount(totals.locked))
    if layout.page_tables is not None:
        line(console, "  tables", f"{amount(layout.page_tables)} of page tables, not part of RSS")
    if layout.guards:
        where = f"{len(layout.guards)} guard region" + "s" * (len(layout.guards) > 1)
        line(console, "  guards", f"{amount(layout.guard_bytes)} in {where}: a touch kills")


def _rss_parts(layout: Layout) -> str:
    parts = [
        f"{name} {format_bytes(size)}"
        for name, size in (
            ("anonymous", layout.rss_anonymous),
            ("file", layout.rss_file),
            ("shared", layout.rss_shared),
        )
        if size is not None
    ]
    peak = f"; peak {format_bytes(layout.peak_rss)}" if layout.peak_rss is not None else ""
    return f" ({' + '.join(parts)}{peak})" if parts else ""


def _swap(layout: Layout) -> str:
    if layout.totals.swap is None:
        return UNKNOWN
    if not layout.shared_swap:
        return amount(layout.totals.swap)
    shared = format_bytes(layout.shared_swap)
    return (
        f"{amount(layout.totals.swap)}, of which {shared} is shared memory (VmSwap leaves it out)"
    )


def _figures(amounts: Amounts) -> list[str]:
    return [amount(value) for value in (amounts.size, amounts.rss, amounts.pss, amounts.uss)] + [
        amount(amounts.swap)
    ]


def _kinds(layout: Layout, console: Console) -> None:
    title(console, "By kind")
    rows = (
        [
            Text(group.kind),
            str(group.mappings),
            *_figures(group.amounts),
            share_bar(group.amounts.rss, layout.totals.rss, _BAR, console),
        ]
        for group in layout.kinds
    )
    show(console, ("=kind", ">maps", ">size", ">RSS", ">PSS", ">USS", ">swap", ""), rows)


def _groups(layout: Layout, top: int | None, console: Console) -> None:
    named = [group for group in layout.groups if group.name]
    shown = named[:top]
    aside = "" if len(shown) == len(named) else f"the first {len(shown)} of {len(named)}; --all"
    title(console, "By name", aside)
    if console.width < 100:
        narrow = ([*_figures(group.amounts)[1:], group.name] for group in shown)
        show(console, (">RSS", ">PSS", ">USS", ">swap", "<name"), narrow)
        return
    wide = ([*_figures(group.amounts), group.kind, group.name] for group in shown)
    show(console, (">size", ">RSS", ">PSS", ">USS", ">swap", "=kind", "<name"), wide)


def _mappings(layout: Layout, console: Console) -> None:
    title(console, "By address")
    narrow = console.width < 100
    for_width = slice(1, 2) if narrow else slice(0, 3)
    rows = (
        [
            f"{region.start:x}-{region.end:x}",
            region.permissions.text(),
            *[
                amount(value)
                for value in (region.amounts.size, region.amounts.rss, region.amounts.swap)
            ][for_width],
            _what(region),
        ]
        for region in layout.regions
    )
    headings = (">size", ">RSS", ">swap")[for_width]
    show(console, ("=address", "=perm", *headings, "<what"), rows)


def _what(region: Region) -> str:
    name = f" {region.name}" if region.name else ""
    threads = f" of thread {', '.join(map(str, region.threads))}" if region.threads else ""
    known = region.kind in {RegionKind.STACK, RegionKind.THREAD_STACK}
    return f"{region.kind}{name}{threads if known else ''}"


def _permissions(layout: Layout, console: Console) -> None:
    title(console, "By permission")
    rows = (
        [group.kind, str(group.mappings), *_figures(group.amounts), _warning(group)]
        for group in layout.permissions
    )
    show(console, ("=may", ">maps", ">size", ">RSS", ">PSS", ">USS", ">swap", ""), rows)


def _warning(group: Group) -> Text:
    return Text("writable code" if {"w", "x"} <= set(group.kind) else "", "red")


def _limits(layout: Layout, console: Console) -> None:
    shown = [limit for limit in layout.limits if limit.name in _SHOWN_LIMITS]
    if not shown:
        return
    title(console, "Limits")
    for limit in shown:
        soft = "unlimited" if limit.soft is None else format_bytes(limit.soft)
        hard = "unlimited" if limit.hard is None else format_bytes(limit.hard)
        text = soft if soft == hard else f"{soft} (hard: {hard})"
        line(console, "  " + limit.name.removeprefix("Max "), text, width=18)
