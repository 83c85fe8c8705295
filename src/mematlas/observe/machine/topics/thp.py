"""Topic thp: transparent huge pages of every size: settings, use and failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.linux.hugepages import parse_choice
from mematlas.observe.machine.model import Grid, Topic, TopicFigure, TopicSection
from mematlas.observe.machine.topics.counters import select_counters
from mematlas.units import format_page_size

if TYPE_CHECKING:
    from mematlas.linux.machine import Machine

_MEMINFO = (
    ("AnonHugePages", "anonymous memory in PMD-sized pages"),
    ("ShmemHugePages", "shared memory and tmpfs in huge pages"),
    ("ShmemPmdMapped", "the part of it that PMDs map"),
    ("FileHugePages", "page cache in huge pages"),
    ("FilePmdMapped", "the part of it that PMDs map"),
)


def thp_topic(machine: Machine) -> Topic:
    """Return settings, use and failures of transparent huge pages, each size by itself.

    Source: Documentation/admin-guide/mm/transhuge.rst.
    """
    info = machine.meminfo
    present = tuple(
        TopicFigure(name, info[name], "bytes", text) for name, text in _MEMINFO if name in info
    )
    modes = {name: parse_choice(text) for name, text in machine.thp.items()}
    settings = tuple(TopicFigure(name, text, "", "") for name, text in modes.items())
    daemon = tuple(TopicFigure(name, text, "", "") for name, text in machine.khugepaged.items())
    names = [name for name in machine.vmstat if name.startswith("thp_")]
    return Topic(
        "thp",
        (_answer(machine, modes.get("enabled", "not in this kernel")),),
        (
            TopicSection("Now", present),
            *_processes(machine),
            *_folios(machine),
            TopicSection("By size", grid=_sizes(machine)),
            TopicSection("Settings", settings),
            TopicSection("khugepaged", daemon),
            TopicSection("Since boot", select_counters(machine.vmstat, names)),
        ),
        _notes(machine),
    )


def _answer(machine: Machine, mode: str) -> str:
    info = machine.meminfo
    share = info.get("AnonHugePages", 0) * 100 / (info.get("AnonPages", 0) or 1)
    size = format_page_size(machine.pmd_size)
    return f"{size} pages for anonymous memory: {mode}; {share:.0f} % of it is in such pages"


def _processes(machine: Machine, top: int = 15) -> tuple[TopicSection, ...]:
    """Return the processes with the most PMD-mapped memory; share: of their anonymous memory."""
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
    title = f"Processes by {format_page_size(machine.pmd_size)} pages"
    return (TopicSection(title, grid=grid),) if rows else ()


def _folios(machine: Machine) -> tuple[TopicSection, ...]:
    """Return the memory of the process in large folios, by folio size."""
    if machine.folios is None:
        return ()
    page = machine.page_size
    shown = tuple(
        TopicFigure(
            format_page_size(page << order), size, "bytes", "mapped, in folios of this size"
        )
        for order, size in sorted(machine.folios.items())
    )
    nothing = (TopicFigure("none", 0, "bytes", "this process has no large folios"),)
    return (TopicSection("Large folios of the process", shown or nothing),)


def _notes(machine: Machine) -> tuple[str, ...]:
    size = format_page_size(machine.pmd_size)
    notes = []
    if machine.huge and not any(each.huge for each in machine.huge):
        notes.append(f"no process has memory in {size} pages")
    if machine.refused:
        processes = "1 process" if machine.refused == 1 else f"{machine.refused} processes"
        notes.append(f"{processes} denied access; run as root (CAP_SYS_PTRACE)")
    if machine.folios is None:
        notes.append(f"large folios below {size} are visible only with --pid, as root")
    return tuple(notes)


def _sizes(machine: Machine) -> Grid:
    """Return all settings and statistics by size, including vendor statistics, unless all are 0."""
    seen: dict[str, None] = {}
    for settings in machine.thp_sizes.values():
        for name, text in settings.items():
            if text not in {"", "0"}:
                seen.setdefault(name)
    first = [name for name in ("enabled", "shmem_enabled", "nr_anon") if name in seen]
    names = first + sorted(name for name in seen if name not in first)
    rows = tuple(
        (name, *(_cell(settings.get(name)) for settings in machine.thp_sizes.values()))
        for name in names
    )
    sizes = [format_page_size(size) for size in machine.thp_sizes]
    return Grid(("", *sizes), ("", *[""] * len(sizes)), rows)


def _cell(text: str | None) -> str:
    return "-" if text is None else parse_choice(text)
