"""Lines of `mematlas top` from two snapshots: filtered, grouped, put into their tree, sorted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.observe.processes.analyse import build_tree
from mematlas.observe.top.model import MemoryPressure, ProcessRates, ProcessSample, TopLine
from mematlas.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mematlas.observe.top.model import Key, MachineSnapshot, ProcessSnapshot

SHAPES = ("list", "tree", "user", "cgroup", "program")
KEPT = 600  # samples of history of each process

_SIZE = re.compile(r"(pss|uss|rss|swap|thp)([<>])(.*)", re.IGNORECASE)
_WORD = re.compile(r"(user|cgroup|pid|state):(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What is shown, and how."""

    sort: str = "pss"
    reverse: bool = False
    shape: str = "list"
    text: str = ""  # filter


def seconds_between(before: MachineSnapshot | None, after: MachineSnapshot) -> float:
    """Time from one snapshot to the next; 0 where their clocks do not compare."""
    if before is None or before.session != after.session:
        return 0.0
    return max(0.0, after.clock_s - before.clock_s)


def process_rates(
    before: MachineSnapshot | None, after: MachineSnapshot
) -> dict[Key, ProcessRates]:
    """Take the changes per second of every process that is in both."""
    seconds = seconds_between(before, after)
    if before is None or not seconds:
        return {}
    earlier = {process.key: process for process in before.processes}
    rates = {}
    for process in after.processes:
        then, new = earlier.get(process.key), process.row
        if then is not None:
            old, compares = then.row, (then.read_at is None) == (process.read_at is None)
            rates[process.key] = ProcessRates(
                minor=max(0, new.minor_faults - old.minor_faults) / seconds,
                major=max(0, new.major_faults - old.major_faults) / seconds,
                growth=(new.rss - old.rss) / seconds if compares else None,
            )
    return rates


def build_lines(
    before: MachineSnapshot | None,
    after: MachineSnapshot,
    choice: ListOptions,
    user_name: Callable[[int], str],
) -> list[TopLine]:
    """List what is to be shown, in order."""
    rates = process_rates(before, after)
    wanted = parse_filter(choice.text, user_name)
    kept = [process for process in after.processes if wanted(process)]
    if choice.shape == "tree":
        return _tree(kept, after, rates, choice, user_name)
    entries = [_entry(process, after, rates, user_name) for process in kept]
    if choice.shape != "list":
        entries = _group(kept, entries, choice.shape)
    return sort(entries, choice.sort, reverse=choice.reverse)


def sort(entries: Iterable[TopLine], by: str, *, reverse: bool = False) -> list[TopLine]:
    """Sort, largest first and names from A; what is unknown comes last either way."""

    def known(entry: TopLine) -> bool:
        return _value(entry, by) is not None

    entries = sorted(entries, key=lambda entry: str(entry.key))
    first = [entry for entry in entries if known(entry)]
    downwards = (by not in {"pid", "command"}) != reverse
    first.sort(key=lambda entry: _value(entry, by), reverse=downwards)  # type: ignore[arg-type, return-value]
    return first + [entry for entry in entries if not known(entry)]


def _value(entry: TopLine, by: str) -> float | str | None:
    match by:
        case "faults":
            return None if entry.minor is None else entry.minor + (entry.major or 0)
        case "command":
            return entry.name
        case _:
            value: float | None = getattr(entry, by)
            return value


def parse_filter(text: str, user_name: Callable[[int], str]) -> Callable[[ProcessSnapshot], bool]:
    """Make a test of "word word": every word in the command or name, user:, cgroup:, pid:, pss>10M."""
    tests = [_test(word, user_name) for word in text.split()]
    return lambda process: all(test(process) for test in tests)


def _test(word: str, user_name: Callable[[int], str]) -> Callable[[ProcessSnapshot], bool]:
    size, named = _SIZE.fullmatch(word), _WORD.fullmatch(word)
    if size:
        try:
            limit = parse_bytes(size[3])
        except ValueError:
            return lambda _: True  # still being typed
        field, sign = size[1].lower(), 1 if size[2] == ">" else -1

        def in_bounds(process: ProcessSnapshot) -> bool:
            value = getattr(process.row, field)
            return value is not None and value * sign > limit * sign

        return in_bounds
    if named:
        return _named_test(named[1].lower(), named[2], user_name)
    lowered = word.lower()
    return lambda process: (
        lowered in process.row.command.lower() or lowered in process.row.name.lower()
    )


def _named_test(
    field: str, text: str, user_name: Callable[[int], str]
) -> Callable[[ProcessSnapshot], bool]:
    match field:
        case "user":
            return lambda process: user_name(process.row.uid).startswith(text)
        case "cgroup":
            return lambda process: text in (process.row.cgroup or "")
        case "pid":
            return lambda process: str(process.row.pid) == text
        case _:
            return lambda process: process.row.state in text.upper()


def _entry(
    process: ProcessSnapshot,
    snapshot: MachineSnapshot,
    rates: dict[Key, ProcessRates],
    user_name: Callable[[int], str],
    depth: int = 0,
) -> TopLine:
    row, rate = process.row, rates.get(process.key)
    return TopLine(
        key=process.key,
        name=row.command,
        depth=depth,
        pid=row.pid,
        user=user_name(row.uid),
        rss=row.rss,
        pss=row.pss,
        uss=row.uss,
        swap=row.swap,
        thp=row.thp,
        minor=rate.minor if rate else None,
        major=rate.major if rate else None,
        growth=rate.growth if rate else None,
        age_s=None if process.read_at is None else snapshot.clock_s - process.read_at,
        processes=1,
        note=row.note or (f"shares the memory of {row.same_mm_as}" if row.same_mm_as else ""),
    )


def _tree(
    kept: list[ProcessSnapshot],
    snapshot: MachineSnapshot,
    rates: dict[Key, ProcessRates],
    choice: ListOptions,
    user_name: Callable[[int], str],
) -> list[TopLine]:
    by_pid = {process.row.pid: process for process in kept}
    metric = choice.sort if choice.sort in {"pss", "uss", "rss", "swap", "thp", "faults"} else "rss"
    ordered = build_tree([process.row for process in kept], metric)
    return [_entry(by_pid[row.pid], snapshot, rates, user_name, depth) for depth, row in ordered]


def _group(kept: list[ProcessSnapshot], entries: list[TopLine], shape: str) -> list[TopLine]:
    members: dict[str, list[tuple[ProcessSnapshot, TopLine]]] = {}
    for process, entry in zip(kept, entries, strict=True):
        names = {
            "user": entry.user,
            "cgroup": process.row.cgroup or "unknown",
            "program": process.row.name,
        }
        members.setdefault(names[shape], []).append((process, entry))
    return [_add_up(name, found) for name, found in members.items()]


def _add_up(name: str, found: list[tuple[ProcessSnapshot, TopLine]]) -> TopLine:
    """Add up one group; an address space that two have counts once. Unknown ones are told."""
    entries = [entry for process, entry in found if process.row.same_mm_as is None]
    unknown = sum(entry.pss is None for entry in entries)

    def total(field: str) -> int | None:
        known = [getattr(entry, field) for entry in entries if getattr(entry, field) is not None]
        return sum(known) if known else None

    ages = [entry.age_s for entry in entries if entry.age_s is not None]
    return TopLine(
        key=name,
        name=name,
        depth=0,
        pid=None,
        user="",
        rss=sum(entry.rss for entry in entries),
        pss=total("pss"),
        uss=total("uss"),
        swap=total("swap"),
        thp=total("thp"),
        minor=total("minor"),
        major=total("major"),
        growth=total("growth"),
        age_s=max(ages, default=None),
        processes=len(found),
        note=f"PSS of {unknown} not known" if unknown else "",
    )


def memory_pressure(
    before: MachineSnapshot | None, after: MachineSnapshot, page_size: int = 4096
) -> MemoryPressure:
    """Tell how hard pressed the machine was between two snapshots."""
    seconds = seconds_between(before, after)

    def change(*names: str) -> float | None:
        if before is None or not seconds:
            return None
        return sum(after.vmstat.get(name, 0) - before.vmstat.get(name, 0) for name in names)

    def rate(*names: str, unit: int = 1) -> float | None:
        found = change(*names)
        return None if found is None else found * unit / seconds

    killed = change("oom_kill")
    return MemoryPressure(
        some=_stalled("some", before, after, seconds),
        full=_stalled("full", before, after, seconds),
        faults=rate("pgfault"),
        major=rate("pgmajfault"),
        scanned=rate("pgscan_kswapd", "pgscan_direct", unit=page_size),
        reclaimed=rate("pgsteal_kswapd", "pgsteal_direct", unit=page_size),
        direct=rate("pgsteal_direct", unit=page_size),
        swap_in=rate("pswpin", unit=page_size),
        swap_out=rate("pswpout", unit=page_size),
        refaults=rate("workingset_refault_anon", "workingset_refault_file"),
        killed=None if killed is None else int(killed),
    )


def _stalled(
    kind: str, before: MachineSnapshot | None, after: MachineSnapshot, seconds: float
) -> float | None:
    """Share of the time between two snapshots; the kernel's mean of 10 s if there is one alone."""
    now = next((stall for stall in after.stalls if stall.kind == kind), None)
    if now is None:
        return None
    old = next((stall for stall in before.stalls if stall.kind == kind), None) if before else None
    if old is None or not seconds:
        return now.average10
    return min(100.0, (now.total_us - old.total_us) / 1e4 / seconds)


def memory_parts(meminfo: dict[str, int]) -> list[tuple[str, int]]:
    """Parts of all memory for one bar; they do not overlap, and fill it."""

    def size(*names: str) -> int:
        return sum(meminfo.get(name, 0) for name in names)

    shared = size("Shmem")
    parts = [
        ("programs", size("AnonPages")),
        ("shared", shared),
        ("kernel", size("Slab", "PageTables", "SecPageTables", "KernelStack", "Percpu")),
        ("hugetlb", size("Hugetlb")),
        ("files", max(0, size("Cached", "Buffers", "SwapCached") - shared)),
        ("free", size("MemFree")),
    ]
    other = size("MemTotal") - sum(amount for _, amount in parts)
    return [*parts[:4], ("other", max(0, other)), *parts[4:]]


class History:
    """What became of each process, as far back as it is kept."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._moments: dict[Key, list[ProcessSample]] = {}
        self._session: int | None = None
        self._last = float("-inf")

    def add(self, snapshot: MachineSnapshot) -> None:
        """Add a snapshot. One of another session, or of an earlier time, begins anew."""
        if snapshot.session != self._session or snapshot.clock_s <= self._last:
            self._moments.clear()
        self._session, self._last = snapshot.session, snapshot.clock_s
        for process in snapshot.processes:
            row = process.row
            samples = self._moments.setdefault(process.key, [])
            samples.append(
                ProcessSample(
                    clock_s=snapshot.clock_s,
                    rss=row.rss,
                    pss=row.pss,
                    swap=row.swap,
                    minor=row.minor_faults,
                    major=row.major_faults,
                )
            )
            del samples[:-KEPT]
        gone = self._moments.keys() - {process.key for process in snapshot.processes}
        for key in gone:  # what ended long ago is dropped; what just ended can still be looked at
            if snapshot.clock_s - self._moments[key][-1].clock_s > 300:
                del self._moments[key]

    def of(self, key: Key) -> list[ProcessSample]:
        """Give the samples of a process, oldest first."""
        return list(self._moments.get(key, ()))
