"""The machine's memory as topics: huge pages, fragmentation, pressure, cgroups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.linux.hugepages import parse_choice
from mematlas.observe.machine.analyse import figures, ksm, memory, numa, reasons, slab, swap
from mematlas.observe.machine.limits import make_topic
from mematlas.observe.machine.model import Grid, Topic, TopicFigure, TopicSection
from mematlas.units import format_bytes, format_duration, format_page_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.linux.machine import Machine
    from mematlas.observe.machine.model import Cell

_PRESSURE = (
    "pgscan_kswapd", "pgsteal_kswapd", "pgscan_direct", "pgsteal_direct", "pgscan_proactive",
    "pgsteal_proactive", "allocstall_normal", "allocstall_movable", "pswpin", "pswpout",
    "workingset_refault_anon", "workingset_refault_file", "workingset_activate_anon",
    "workingset_activate_file", "workingset_restore_anon", "workingset_restore_file",
    "pgfault", "pgmajfault", "oom_kill",
)  # fmt: skip


def thp(machine: Machine) -> Topic:
    """Huge pages: what is allowed, what there is, and how often it failed; every size apart."""
    info = machine.meminfo
    lines = (
        ("AnonHugePages", "memory of programs in 2 MiB pages"),
        ("ShmemHugePages", "shared memory and tmpfs in huge pages"),
        ("ShmemPmdMapped", "of these, mapped by 2 MiB entries"),
        ("FileHugePages", "page cache in huge pages"),
        ("FilePmdMapped", "of these, mapped by 2 MiB entries"),
    )
    present = tuple(
        TopicFigure(name, info[name], "bytes", text) for name, text in lines if name in info
    )
    modes = {name: parse_choice(text) for name, text in machine.thp.items()}
    settings = tuple(TopicFigure(name, text, "", "") for name, text in modes.items())
    daemon = tuple(TopicFigure(name, text, "", "") for name, text in machine.khugepaged.items())
    names = [name for name in machine.vmstat if name.startswith("thp_")]
    mode = modes.get("enabled", "not in this kernel")
    share = info.get("AnonHugePages", 0) * 100 / (info.get("AnonPages", 0) or 1)
    return Topic(
        "thp",
        (f"2 MiB pages for programs: {mode}; {share:.0f} % of their memory is in such pages",),
        (
            TopicSection("Now", present),
            *_huge_processes(machine),
            *_folios(machine),
            TopicSection("By size", grid=_sizes(machine)),
            TopicSection("Settings", settings),
            TopicSection("khugepaged", daemon),
            TopicSection("Since the start", figures(machine.vmstat, names)),
        ),
        _thp_notes(machine),
    )


def _huge_processes(machine: Machine, top: int = 15) -> tuple[TopicSection, ...]:
    """Rank processes by what they have in 2 MiB pages; share: of their anonymous memory."""
    some = (each for each in machine.huge if each.huge or len(machine.huge) == 1)
    ranked = sorted(some, key=lambda each: (-each.huge, -each.anonymous))
    rows = tuple(
        (
            str(each.pid), each.huge_anonymous, each.huge_shared, each.huge_file,
            each.huge_anonymous * 100 / each.anonymous if each.anonymous else None, each.name,
        )
        for each in ranked[:top]
    )  # fmt: skip
    columns = ("PID", "anonymous", "shared", "file", "share", "command")
    grid = Grid(columns, ("", "bytes", "bytes", "bytes", "percent", ""), rows)
    return (TopicSection("Processes by 2 MiB pages", grid=grid),) if rows else ()


def _folios(machine: Machine) -> tuple[TopicSection, ...]:
    if machine.folios is None:
        return ()
    page = machine.page_size
    shown = tuple(
        TopicFigure(
            format_page_size(page << order),
            size,
            "bytes",
            "in pages of this size, as far as it is mapped",
        )
        for order, size in sorted(machine.folios.items())
    )
    nothing = (
        TopicFigure("none", 0, "bytes", "no page of this process is larger than the smallest"),
    )
    return (TopicSection("Sizes of the process's large pages", shown or nothing),)


def _thp_notes(machine: Machine) -> tuple[str, ...]:
    notes = []
    if machine.huge and not any(each.huge for each in machine.huge):
        notes.append("no process has memory in 2 MiB pages now")
    small = ["sizes below 2 MiB: no process tells them but by its page frames, with --pid as root"]
    if machine.refused:
        notes.append(f"{machine.refused} processes refused to tell (CAP_SYS_PTRACE, root, helps)")
    return tuple([*notes, *small] if machine.folios is None else notes)


def _sizes(machine: Machine) -> Grid:
    """Every size with all its statistics that are not 0 somewhere; vendors' own are kept."""
    seen: dict[str, None] = {}
    for facts in machine.thp_sizes.values():
        for name, text in facts.items():
            if text not in {"", "0"}:
                seen.setdefault(name)
    first = [name for name in ("enabled", "shmem_enabled", "nr_anon") if name in seen]
    names = first + sorted(name for name in seen if name not in first)
    rows = tuple(
        (name, *(_cell(facts.get(name)) for facts in machine.thp_sizes.values())) for name in names
    )
    sizes = [format_page_size(size) for size in machine.thp_sizes]
    return Grid(("", *sizes), ("", *[""] * len(sizes)), rows)


def _cell(text: str | None) -> str:
    return "-" if text is None else parse_choice(text)


def fragmentation(machine: Machine) -> Topic:
    """Can a 2 MiB page be had now; if not, is it for lack of memory or for lack of order."""
    page = machine.page_size
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            f"node {zone.node} {zone.name}",
            sum(count * page << order for order, count in enumerate(zone.free)),
            *(str(count) for count in zone.free),
        )
        for zone in machine.zones
    )
    orders = max((len(zone.free) for zone in machine.zones), default=0)
    sizes = [format_page_size(page << order) for order in range(orders)]
    huge = sum(
        count << order - machine.pmd_order
        for zone in machine.zones
        for order, count in enumerate(zone.free)
        if order >= machine.pmd_order
    )
    sections = [
        TopicSection(
            "Free blocks", grid=Grid(("zone", "free", *sizes), ("", "bytes", *[""] * orders), rows)
        )
    ]
    for title, index in (
        (
            "Fragmentation index per order (to 0: lack of memory, to 1: lack of order)",
            machine.extfrag,
        ),
        ("Unusable share of free memory per order", machine.unusable),
    ):
        if index:
            cells: tuple[tuple[Cell, ...], ...] = tuple(
                (zone, *values) for zone, values in index.items()
            )
            sections.append(
                TopicSection(title, grid=Grid(("zone", *sizes), ("",) * (orders + 1), cells))
            )
    sections += [TopicSection("Free by migrate type", grid=_types(machine, sizes))] * bool(
        machine.movable
    )
    names = [name for name in machine.vmstat if name.startswith("compact_")]
    sections.append(TopicSection("Compaction since the start", figures(machine.vmstat, names)))
    return Topic(
        "fragmentation",
        (_huge_answer(huge, machine),),
        tuple(sections),
        reasons(machine, "buddyinfo", "pagetypeinfo", "extfrag"),
    )


def _huge_answer(blocks: int, machine: Machine) -> str:
    if not machine.zones:
        return "unknown: /proc/buddyinfo told nothing"
    if blocks:
        size = format_bytes(blocks * machine.pmd_size)
        return f"2 MiB pages can be had at once: {blocks:,} of them ({size}) are free as such"
    return "no 2 MiB block is free: one must be made by compaction first"


def _types(machine: Machine, sizes: list[str]) -> Grid:
    rows = tuple(
        (name, *map(str, counts)) for name, counts in machine.movable.items() if any(counts)
    )
    return Grid(("zone and type", *sizes), ("",) * (len(sizes) + 1), rows)


def pressure(machine: Machine, later: Machine | None = None, seconds: float = 0.0) -> Topic:
    """Time lost for lack of memory, and reclaim: since the start, or per second between two looks."""
    rows = tuple(
        (stall.kind, stall.average10, stall.average60, stall.average300, stall.total_us / 1e6)
        for stall in (later or machine).stalls
    )
    grid = Grid(
        ("tasks waiting", "10 s", "60 s", "300 s", "seconds in all"),
        ("", "percent", "percent", "percent", ""),
        rows,
    )
    title, shown = "Since the start", figures(machine.vmstat, _PRESSURE)
    if later is not None:
        title, shown = (
            f"Per second, over {format_duration(seconds)}",
            rates(machine, later, seconds),
        )
    worst = next((stall.average10 for stall in machine.stalls if stall.kind == "some"), None)
    answer = (
        "unknown: this kernel tells no stall times (PSI)"
        if worst is None
        else (f"in the last 10 s, for {worst:g} % of the time, some task waited for memory")
    )
    sections = (TopicSection("Stalls", grid=grid),) if rows else ()
    notes = reasons(machine, "pressure", "vmstat")
    return Topic("pressure", (answer,), (*sections, TopicSection(title, shown)), notes)


def rates(before: Machine, after: Machine, seconds: float) -> tuple[TopicFigure, ...]:
    """Take changes per second of the pressure counters."""
    from dataclasses import replace

    earlier = {figure.name: figure.value for figure in figures(before.vmstat, _PRESSURE)}
    return tuple(
        replace(
            figure,
            value=(float(figure.value or 0) - float(earlier.get(figure.name) or 0)) / seconds,
            unit=f"{figure.unit}/s",
        )
        for figure in figures(after.vmstat, _PRESSURE)
    )


def cgroup(machine: Machine) -> Topic:
    """Every level above a process, and which limit binds it first."""
    return make_topic(machine, reasons(machine, "cgroup"))


TOPICS: dict[str, Callable[[Machine], Topic]] = {
    "memory": memory,
    "thp": thp,
    "fragmentation": fragmentation,
    "numa": numa,
    "pressure": pressure,
    "slab": slab,
    "cgroup": cgroup,
    "swap": swap,
    "ksm": ksm,
}
