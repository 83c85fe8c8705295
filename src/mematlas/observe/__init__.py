"""What the kernel knows of the memory of processes and of the machine.

One function for each observing command. Each returns the model that the command prints, and that
its `--json` writes field by field; sizes are bytes, times seconds. What the kernel hides or lacks
is None, and the notes of the model name the reason.

    show(pid)            the address space of a process
    pages(pid)           the state of its pages
    where(address, pid)  what is at one address
    ps()                 all processes
    system(topic)        the machine
    wss(pid)             the working set: memory used within a time
    faults(pid)          page faults of a process, or of a command
    fault_rates(pid)     page faults of a process, reading after reading
    cache(paths)         files in the page cache

Only wss() changes anything: it clears the referenced bits of the pages of the process.
"""

from __future__ import annotations

import dataclasses
import os
import time
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args, overload

from mematlas.errors import AccessError, TargetError, UsageError
from mematlas.observe.page_faults import PERIOD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mematlas.linux.machine import Machine
    from mematlas.linux.pageflags import PageLocation, PageReport
    from mematlas.linux.processes import ProcessTable
    from mematlas.observe.address_space.model import AddressSpace
    from mematlas.observe.machine.model import Topic
    from mematlas.observe.page_cache.model import CacheReport
    from mematlas.observe.page_faults.model import FaultProfile, FaultRates, FaultTotals
    from mematlas.observe.page_faults.read import SampledSites
    from mematlas.observe.working_set.model import WorkingSet

__all__ = [
    "cache",
    "fault_rates",
    "faults",
    "pages",
    "ps",
    "show",
    "system",
    "where",
    "wss",
]

TopicName: TypeAlias = Literal[
    "memory", "thp", "fragmentation", "numa", "pressure", "slab", "cgroup", "swap", "ksm"
]
TOPICS: tuple[TopicName, ...] = get_args(TopicName)
Method: TypeAlias = Literal["auto", "idle", "referenced", "damon"]
METHODS: tuple[Method, ...] = get_args(Method)


def show(pid: int | None = None, *, root: str = "/") -> AddressSpace:
    """Return the address space of a process, as `mematlas show` prints it.

    Mappings by kind, by name and by address, with RSS, PSS, USS, swap and huge pages of each, limits
    and OOM score. Source: /proc/PID/{maps,smaps,status,limits,auxv}, proc(5).

    Arguments:
        pid: the process; default this one.
        root: a directory that holds a captured proc/PID tree, instead of the running kernel.

    Raises:
        TargetError: there is no such process, or it ended.
        AccessError: it is another user's; CAP_SYS_PTRACE allows it.

    >>> import mematlas
    >>> space = mematlas.observe.show()
    >>> space.totals.rss >= space.totals.pss > 0
    True
    """
    from mematlas.linux import process_info
    from mematlas.observe.address_space.analyse import analyse_address_space

    return analyse_address_space(process_info.read(_or_own(pid), root))


def pages(
    pid: int | None = None,
    *,
    mapping: str | None = None,
    addresses: tuple[int, int] | None = None,
    width: int = 0,
) -> PageReport:
    """Return the state of the pages of a process, as `mematlas pages` prints it.

    Counts of pages by state, sharing, folio order, node and cgroup, for the process and for each
    mapping. Source: /proc/PID/pagemap, /proc/kpageflags, kpagecount, kpagecgroup
    (Documentation/admin-guide/mm/pagemap.rst). Frames are visible to root only; `hidden` names what
    is not visible.

    Arguments:
        pid: the process; default this one.
        mapping: only mappings with this text in their name.
        addresses: only pages between these two addresses.
        width: number of cells to draw each mapping with; 0 for none.

    Raises:
        TargetError: there is no such process or mapping.
        AccessError: it is another user's; CAP_SYS_PTRACE allows it.

    >>> import mematlas
    >>> heap = mematlas.observe.pages(mapping="[heap]")
    >>> heap.sums.present == heap.sums.anonymous + heap.sums.file
    True
    """
    from mematlas.observe.page_states import read
    from mematlas.observe.page_states.analyse import analyse_pages

    found = read.read(_or_own(pid), mapping=mapping, addresses=addresses)
    return analyse_pages(found.pages, found.mappings, width=width, names=found.cgroup_names)


def where(address: int, pid: int | None = None) -> PageLocation:
    """Return what is at one address of a process, as `mematlas where` prints it.

    Mapping, offset in the file, symbol and source line, state of the page, frame and node. Source:
    /proc/PID/smaps, /proc/PID/pagemap, /proc/kpage*, and the symbols of the mapped file.

    Arguments:
        address: the address, as an integer.
        pid: the process; default this one.

    Raises:
        TargetError: there is no such process, or nothing is mapped at the address.
        AccessError: it is another user's; CAP_SYS_PTRACE allows it.

    >>> import ctypes, mematlas
    >>> buffer = ctypes.create_string_buffer(b"data")
    >>> mematlas.observe.where(ctypes.addressof(buffer)).permissions
    'rw-p'
    """
    from mematlas.observe.address import read
    from mematlas.observe.address.analyse import analyse_address

    found = read.read(_or_own(pid), address)
    return analyse_address(found.pages, found.mapping, address, found.cgroup_names, found.symbol)


def ps(*, commands: bool = True, cgroups: bool = True, root: str = "/") -> ProcessTable:
    """Return all processes with their memory, as `mematlas ps` prints them.

    RSS, PSS, USS, swap, huge pages and faults of each, and memory that only its descriptors hold. A process that the kernel refuses to read is
    listed without PSS and USS, and has a note. Source: /proc/PID/{stat,smaps_rollup}, proc(5).

    Arguments:
        commands: read the command lines; without them, `command` is the name of the program.
        cgroups: read the cgroups; without them, `cgroup` is None.
        root: a directory that holds a captured proc/ tree, instead of the running kernel.

    >>> import os, mematlas
    >>> table = mematlas.observe.ps(cgroups=False)
    >>> own, = [row for row in table.processes if row.pid == os.getpid()]
    >>> own.rss > 1 << 20
    True
    """
    from mematlas.linux import processes

    table = processes.read(root, commands=commands, cgroups=cgroups)
    rows = tuple(processes.with_held(row, root) for row in table.processes)
    return dataclasses.replace(table, processes=rows)


def system(
    topic: TopicName = "memory",
    *,
    pid: int | None = None,
    cgroup: str | None = None,
    container: str | None = None,
    files: Sequence[str] = (),
    duration_s: float | None = None,
    root: str = "/",
) -> Topic:
    """Return one topic of the memory of this machine, as `mematlas system TOPIC` prints it.

    A topic has an answer in sentences, and sections of figures, each with unit and meaning. Source:
    /proc/{meminfo,vmstat,buddyinfo,zoneinfo,slabinfo,swaps,pressure}, /sys/kernel/mm, /sys/fs/cgroup.

    Arguments:
        topic: memory, thp, fragmentation, numa, pressure, slab, cgroup, swap or ksm.
        pid: numa, thp: this process alone; cgroup: the cgroup of this process.
        cgroup: cgroup: this memory cgroup, by its path below the hierarchy or in the file system.
        container: cgroup: the group of the container with this ID (at least 6 letters) or name.
        files: cgroup: directories whose files may be in the page cache though nobody has them open.
        duration_s: pressure: read twice, this many seconds apart, and return rates.
        root: a directory that holds captured proc/ and sys/ trees.

    Raises:
        UsageError: there is no such topic.
        TargetError: there is no such process, cgroup or container.

    >>> import mematlas
    >>> memory = mematlas.observe.system("memory")
    >>> memory.name, len(memory.answer) > 0
    ('memory', True)
    """
    from mematlas.linux import cgroup_paths, machine
    from mematlas.observe.machine import topics

    if topic not in topics.TOPICS:
        raise UsageError(f"unknown topic {topic!r}; use {', '.join(topics.TOPICS)}")
    if topic == "cgroup":
        return _cgroup(pid, cgroup_paths.resolve(cgroup, container, root), files, root)
    before = machine.read(root, pid, free_lists=topic == "fragmentation")
    if topic == "pressure" and duration_s:
        began = time.monotonic()
        time.sleep(duration_s)
        return topics.pressure_topic(before, machine.read(root, pid), time.monotonic() - began)
    return topics.TOPICS[topic](_with_processes(before, topic, pid, root))


def wss(
    pid: int, duration_s: float = 1.0, *, method: Method = "auto", flush: bool | None = None
) -> WorkingSet:
    """Measure the working set of a process: the memory it uses within a time.

    As `mematlas wss` prints it, by mapping. `unseen` is the memory that the method cannot observe.

    Arguments:
        pid: the process.
        duration_s: seconds to watch.
        method: idle (page_idle/bitmap, as root), referenced (clear_refs and the Referenced field of
            smaps), damon (sampled), or auto for the first of them that works.
        flush: flush the TLB at the start, by clearing the soft-dirty bits; default where the kernel
            has no soft-dirty bits. Without it, pages whose translation a CPU holds are missed.

    Raises:
        TargetError: there is no such process, or it ended.
        AccessError: it is another user's.
        UnsupportedError: the method does not work in this kernel.

    Source: Documentation/admin-guide/mm/idle_page_tracking.rst, damon/usage.rst, and proc(5).

    >>> import os, mematlas
    >>> found = mematlas.observe.wss(os.getpid(), 0.1, method="referenced")
    >>> found.used <= found.rss
    True
    """
    from mematlas.linux import damon, references
    from mematlas.observe.working_set.analyse import analyse_working_set

    chosen, reason = references.choose(method)
    usage = references.read(pid, duration_s, chosen, flush=flush)
    return analyse_working_set(pid, usage, reason, damon=damon.is_running())


@overload
def faults(
    target: int, duration_s: float = 1.0, *, where: Literal[False] = False
) -> FaultRates: ...


@overload
def faults(
    target: int, duration_s: float = 1.0, *, where: Literal[True], period: int = PERIOD
) -> FaultProfile: ...


@overload
def faults(target: Sequence[str], *, period: int = PERIOD) -> FaultTotals: ...


def faults(
    target: int | Sequence[str],
    duration_s: float = 1.0,
    *,
    where: bool = False,
    period: int = PERIOD,
) -> FaultRates | FaultProfile | FaultTotals:
    """Count page faults of a running process, or of a command run to its end.

    As `mematlas faults` prints them: rates by thread for a PID; with `where`, the mappings and lines
    of code that take the faults; totals and the same lines for a command. Source: /proc/PID/task/*/stat,
    getrusage(2), perf_event_open(2).

    Arguments:
        target: a PID, or the words of a command.
        duration_s: seconds to watch a process.
        where: sample the mappings and lines, instead of counting by thread.
        period: sample one minor fault in so many, and all major ones; 0: sample none.

    Raises:
        TargetError: there is no such process or program.
        AccessError: perf_event_open is refused; CAP_PERFMON allows it.

    >>> import os, mematlas
    >>> rates = mematlas.observe.faults(os.getpid(), 0.1)
    >>> rates.minor >= 0, rates.threads[0].tid > 0
    (True, True)
    >>> mematlas.observe.faults(["true"], period=0).minor > 0
    True
    """
    if not isinstance(target, int):
        return _faults_of_command(target, period)
    if not where:
        return next(fault_rates(target, duration_s))
    from mematlas.observe.page_faults import read

    try:
        sites = read.sample_process(target, duration_s, max(1, period))
    except PermissionError:
        raise AccessError(
            f"process {target}: perf_event_open is refused; it needs CAP_PERFMON, or a process of "
            "your own and kernel.perf_event_paranoid of 2 or less"
        ) from None
    return _sum_up(sites)


def fault_rates(pid: int, interval_s: float = 1.0) -> Iterator[FaultRates]:
    """Return the page faults per second of a process, one item every `interval_s` seconds.

    The iterator has no end: break out of it. The intervals follow each other without a gap. Source:
    /proc/PID/task/*/stat, proc(5).

    Raises:
        TargetError: there is no such process, or it ended.

    >>> import itertools, os, mematlas
    >>> rates = list(itertools.islice(mematlas.observe.fault_rates(os.getpid(), 0.05), 2))
    >>> [round(each.seconds, 1) >= 0 for each in rates]
    [True, True]
    """
    from mematlas.observe.page_faults import read
    from mematlas.observe.page_faults.analyse import fault_rates as rates

    before = read.read(pid)
    while True:
        time.sleep(interval_s)
        after = read.read(pid)
        yield rates(before, after)
        before = after


def cache(paths: Iterable[str | os.PathLike[str]]) -> CacheReport:
    """Return what is in the page cache of files, and of all files below directories.

    As `mematlas cache` prints it: cached, dirty, under writeback, evicted and recently evicted pages
    of each file. Hard links count once, symbolic links are not followed. Source: cachestat(2) of
    kernel 6.5; mincore(2) before, which counts cached pages only, of files you may write.

    Raises:
        TargetError: none of the paths exists.
        AccessError: none of them may be read.

    >>> import sys, mematlas
    >>> found = mematlas.observe.cache([sys.executable])
    >>> found.total.pages > 0
    True
    """
    from mematlas._core import PAGE
    from mematlas.observe.page_cache import read
    from mematlas.observe.page_cache.analyse import analyse_cache

    names = [os.fspath(path) for path in paths]
    files, errors = read.read_trees(names)
    if not files and errors:
        refused = any(os.path.exists(each) and not os.access(each, os.R_OK) for each in names)  # noqa: PTH110
        raise (AccessError if refused else TargetError)(errors[0])
    return analyse_cache(files, errors, PAGE)


def _or_own(pid: int | None) -> int:
    return os.getpid() if pid is None else pid


def _cgroup(pid: int | None, group: str | None, files: Sequence[str], root: str) -> Topic:
    """Return the topic cgroup, with the account of the group where the kernel runs here."""
    from mematlas.linux import cgroup_paths, machine
    from mematlas.observe.cgroup_account.analyse import analyse_cgroup
    from mematlas.observe.cgroup_account.read import read_cgroup
    from mematlas.observe.cgroup_account.topic import with_account
    from mematlas.observe.machine import topics

    found = machine.read(root, pid, group=group, slabs=False)
    topic = topics.TOPICS["cgroup"](_with_processes(found, "cgroup", pid, root))
    own = found.cgroup[0] if found.cgroup else None
    if root != "/" or own is None or cgroup_paths.is_machine(own):
        return topic
    # The figures of the group are read anew, so that they are of one moment with those of its members.
    levels = machine.read_levels(pid, group)
    if not levels or levels[0].path != own.path:
        raise TargetError(f"the memory cgroup {own.path} or its process ended while it was read")
    return with_account(topic, analyse_cgroup(read_cgroup(levels[0], files)))


def _with_processes(machine: Machine, topic: str, pid: int | None, root: str) -> Machine:
    """Add what a topic needs of each process, which is costly to read."""
    from dataclasses import replace

    from mematlas.observe.machine import read

    if topic == "numa":
        placed, refused = read.read_nodes(root, pid)
        return replace(machine, placed=placed, refused=refused)
    if topic == "thp":
        huge, refused = read.read_huge(root, pid)
        folios = _folios(pid) if pid is not None and root == "/" else None
        return replace(machine, huge=huge, refused=refused, folios=folios)
    if topic == "cgroup" and pid is not None:
        return replace(machine, bounds=read.read_bounds(pid, root))
    return machine


def _folios(pid: int) -> dict[int, int] | None:
    """Sum up the bytes of a process in large folios, by order; None where frames are hidden."""
    from mematlas.observe.page_states import read
    from mematlas.observe.page_states.analyse import sum_pages

    found = read.read(pid).pages
    folios = sum_pages(found).folios
    return folios and {order: count * found.page_size for order, count in folios.items()}


def _faults_of_command(command: Sequence[str], period: int) -> FaultTotals:
    from dataclasses import replace

    from mematlas.observe.page_faults import read

    totals, sites = read.run(command, period=period or None)
    return replace(totals, profile=_sum_up(sites) if sites else None)


def _sum_up(sites: SampledSites) -> FaultProfile:
    """Resolve the code places of sampled faults, and sum the faults up by line."""
    from mematlas.observe.page_faults.analyse import profile_faults
    from mematlas.recording.file_offsets import resolve_offsets

    frames = resolve_offsets(place for each in sites.sites for place in each.site.stack)
    return profile_faults(sites.sites, frames, sites.period, sites.lost)
