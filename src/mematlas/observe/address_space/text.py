"""`mematlas show` for the terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.linux.users import user_name
from mematlas.linux.vma_class import VmaClass
from mematlas.present import drawing
from mematlas.present.printable import clean
from mematlas.present.tables import UNKNOWN, amount, line, note, share_bar, show, title
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mematlas.linux.held_files import HeldFile
    from mematlas.linux.vma_class import Amounts, Vma
    from mematlas.observe.address_space.model import AddressSpace, Group

_SHOWN_LIMITS = ("Max address space", "Max stack size", "Max locked memory", "Max data size")
_BAR = 10
_COLUMNS = ("size", "rss", "pss", "swap", "thp", "locked")
_RANGED = (VmaClass.TEXT, VmaClass.DATA, VmaClass.BSS, VmaClass.HEAP, VmaClass.STACK)


def render_address_space(
    space: AddressSpace, *, top: int | None, mappings: bool, console: Console
) -> None:
    """Render an address space: `top` names (None: all), and every mapping if `mappings` is set."""
    _header(space, console)
    _sums(space, console)
    _ranges(space, console)
    _kinds(space, console)
    _groups(space, top, console)
    if mappings:
        _mappings(space, console)
    _permissions(space, console)
    _limits(space, console)
    for text in space.notes:
        note(console, text)


def _header(space: AddressSpace, console: Console) -> None:
    command = clean(" ".join(space.command)) or "(no command line)"
    line(console, f"{space.pid}", Text(command, "bold"), width=max(8, len(str(space.pid)) + 2))
    words = [f"user {user_name(space.uid)}", _threads(space.threads), _program(space)]
    if space.oom_score is not None:
        words.append(f"OOM score {space.oom_score} (oom_score_adj {space.oom_score_adjust})")
    words.append(f"read {space.outcome}")
    line(console, "", " · ".join(words), width=8)
    if space.shared_with:
        pids = ", ".join(map(str, space.shared_with))
        text = f"shares its address space with process {pids} (CLONE_VM): count it once"
        line(console, "", Text(text, "yellow"), width=8)


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _program(space: AddressSpace) -> str:
    if space.program is None:
        return f"program {UNKNOWN}"
    pie = "PIE" if space.position_independent else "not PIE"
    parts = zip(
        ("text", "data", "BSS"),
        (space.text_bytes, space.data_bytes, space.bss_bytes),
        strict=True,
    )
    sizes = ", ".join(f"{name} {format_bytes(size or 0)}" for name, size in parts)
    return f"{os.path.basename(clean(space.program))} ({pie}): {sizes}"  # noqa: PTH119


def _sums(space: AddressSpace, console: Console) -> None:
    totals = space.totals
    title(console, "Memory")
    line(console, "  VSZ", f"{format_bytes(totals.size)} of address space")
    line(console, "  RSS", f"{format_bytes(totals.rss)} resident{_rss_parts(space)}")
    line(console, "  PSS", f"{amount(totals.pss)}: each shared page divided by its number of users")
    line(console, "  USS", f"{amount(totals.uss)}: private pages, {_freed(space)}")
    line(console, "  swap", _swap(space))
    if space.held:
        line(console, "  held", _held(space.held))
    line(console, "  THP", f"{amount(totals.thp)} in transparent huge pages, mapped by PMDs")
    if totals.hugetlb:
        line(console, "  hugetlb", f"{amount(totals.hugetlb)}, not part of RSS, PSS or USS")
    line(console, "  locked", amount(totals.locked))
    if space.page_tables is not None:
        line(console, "  tables", f"{amount(space.page_tables)} of page tables, not part of RSS")
    if space.guards:
        where = f"{len(space.guards)} guard region" + "s" * (len(space.guards) > 1)
        line(
            console, "  guards", f"{amount(space.guard_bytes)} in {where}: an access raises SIGSEGV"
        )


def _freed(space: AddressSpace) -> str:
    """Format what the end of the process frees: page cache that it alone maps stays."""
    whole, freed = space.totals.uss, space.freed_bytes
    if whole is None or freed is None:
        return "freed when the process ends, those of files apart"
    if whole - freed < 1 << 20:
        return "freed when the process ends"
    stays = format_bytes(whole - freed)
    return f"{format_bytes(freed)} of them freed when the process ends; {stays} are pages of files, which stay"


def _held(held: Sequence[HeldFile]) -> str:
    whole = format_bytes(sum(each.bytes for each in held))
    first = held[0]
    numbers = ", ".join(map(str, first.descriptors[:3]))
    text = f"{whole} by descriptor {numbers} ({clean(first.name)}), not mapped"
    if len(held) > 1:
        text = f"{whole} by descriptors, not mapped: {_count(len(held), 'file')} in memory, "
        text += (
            f"the largest {clean(first.name)} (descriptor {numbers}) {format_bytes(first.bytes)}"
        )
    return f"{text}; not part of RSS, PSS or USS"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


def _rss_parts(space: AddressSpace) -> str:
    parts = [
        f"{name} {format_bytes(size)}"
        for name, size in (
            ("anonymous", space.rss_anonymous),
            ("file", space.rss_file),
            ("shared", space.rss_shared),
        )
        if size is not None
    ]
    peak = f"; peak {format_bytes(space.peak_rss)}" if space.peak_rss is not None else ""
    return f" ({' + '.join(parts)}{peak})" if parts else ""


def _swap(space: AddressSpace) -> str:
    if space.totals.swap is None:
        return UNKNOWN
    if not space.shared_swap:
        return amount(space.totals.swap)
    shared = format_bytes(space.shared_swap)
    return (
        f"{amount(space.totals.swap)}, including {shared} of shared memory, which VmSwap leaves out"
    )


def _sizes(amounts: Amounts) -> list[str]:
    return [amount(value) for value in (amounts.size, amounts.rss, amounts.pss, amounts.uss)] + [
        amount(amounts.swap)
    ]


def _ranges(space: AddressSpace, console: Console) -> None:
    """Write where the segments of the program, the heap and the stacks lie."""
    rows = []
    for kind in _RANGED:
        vmas = [vma for vma in space.vmas if vma.kind is kind]
        if not vmas:
            continue
        start, end = min(vma.start for vma in vmas), max(vma.end for vma in vmas)
        whole = sum(vma.end - vma.start for vma in vmas)
        parts = "" if len(vmas) == 1 else f"in {len(vmas)} mappings"
        rows.append([str(kind), f"{start:#x}", f"{end:#x}", amount(whole), parts])
    if rows:
        title(console, "Address ranges")
        show(console, ("=kind", ">from", ">to", ">size", ""), rows)


def _kinds(space: AddressSpace, console: Console) -> None:
    title(console, "By kind")
    rows = (
        [
            Text(group.kind),
            str(group.mappings),
            *_sizes(group.amounts),
            _in_use(group, space, console),
        ]
        for group in space.kinds
    )
    show(console, ("=kind", ">maps", ">size", ">RSS", ">PSS", ">USS", ">swap", ""), rows)


def _in_use(group: Group, space: AddressSpace, console: Console) -> Text:
    """Draw the share of RSS; of hugetlb pages, which are not part of RSS, write what is in use."""
    if group.amounts.hugetlb:
        return Text(f"{amount(group.amounts.hugetlb)} in use", "cyan")
    return share_bar(group.amounts.rss, space.totals.rss, _BAR, console)


def _groups(space: AddressSpace, top: int | None, console: Console) -> None:
    named = space.names
    shown = named[:top]
    aside = (
        ""
        if len(shown) == len(named)
        else f"first {len(shown)} of {len(named)}; list all with --all"
    )
    title(console, "By name", aside)
    if not drawing.is_wide(console, 100):
        narrow = ([*_sizes(group.amounts)[1:], group.name] for group in shown)
        show(console, (">RSS", ">PSS", ">USS", ">swap", "<name"), narrow)
        return
    wide = ([*_sizes(group.amounts), group.kind, group.name] for group in shown)
    show(console, (">size", ">RSS", ">PSS", ">USS", ">swap", "=kind", "<name"), wide)


def _mappings(space: AddressSpace, console: Console) -> None:
    title(console, "By address")
    narrow = not drawing.is_wide(console, 100)
    for_width = slice(1, 2) if narrow else slice(0, 6)
    rows = (
        [
            f"{vma.start:x}-{vma.end:x}",
            vma.permissions.text(),
            *[amount(getattr(vma.amounts, name)) for name in _COLUMNS][for_width],
            _describe(vma),
        ]
        for vma in space.vmas
    )
    headings = (">size", ">RSS", ">PSS", ">swap", ">THP", ">locked")[for_width]
    show(console, ("=address", "=perm", *headings, "<mapping"), rows)


def _describe(vma: Vma) -> str:
    name = f" {vma.name}" if vma.name else ""
    threads = f" of thread {', '.join(map(str, vma.threads))}" if vma.threads else ""
    is_stack = vma.kind in {VmaClass.STACK, VmaClass.THREAD_STACK}
    return f"{vma.kind}{name}{threads if is_stack else ''}"


def _permissions(space: AddressSpace, console: Console) -> None:
    title(console, "By permission")
    rows = (
        [group.kind, str(group.mappings), *_sizes(group.amounts), _warning(group)]
        for group in space.permissions
    )
    accesses = (
        [each.kind, str(each.mappings), *_sizes(each.amounts), Text("in all", "dim")]
        for each in space.accesses
    )
    headings = ("=perm", ">maps", ">size", ">RSS", ">PSS", ">USS", ">swap", "")
    show(console, headings, [*rows, *accesses])


def _warning(group: Group) -> Text:
    return Text("writable code" if {"w", "x"} <= set(group.kind) else "", "red")


def _limits(space: AddressSpace, console: Console) -> None:
    shown = [limit for limit in space.limits if limit.name in _SHOWN_LIMITS]
    if not shown:
        return
    title(console, "Limits")
    for limit in shown:
        soft = "unlimited" if limit.soft is None else format_bytes(limit.soft)
        hard = "unlimited" if limit.hard is None else format_bytes(limit.hard)
        text = soft if soft == hard else f"{soft} (hard: {hard})"
        line(console, "  " + limit.name.removeprefix("Max "), text, width=18)
