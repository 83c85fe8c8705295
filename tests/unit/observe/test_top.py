"""Lines of `mematlas top` from synthetic snapshots: rates, filter, order, groups, header."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mematlas.linux.machine import Stall
from mematlas.linux.processes import ProcessRow
from mematlas.observe.top.analyse import ListOptions, build_lines, sort
from mematlas.observe.top.filter import parse_filter
from mematlas.observe.top.history import History
from mematlas.observe.top.model import SORTS, MachineSnapshot, ProcessSnapshot, SnapshotCost
from mematlas.observe.top.rates import memory_parts, memory_pressure, process_rates
from mematlas.observe.top.text import render_snapshot
from mematlas.observe.top.tui import columns

MIB = 1 << 20


def process(pid: int, *, started: int = 1, **changes: object) -> ProcessSnapshot:
    """Build a process of `pid` MiB."""
    row = ProcessRow(
        pid=pid,
        parent_pid=0,
        uid=pid % 2,
        name=f"p{pid}",
        command=f"/bin/p{pid} --work",
        state="S",
        threads=1,
        rss=pid * MIB,
        pss=pid * MIB // 2,
        uss=pid * MIB // 4,
        swap=0,
        thp=0,
        hugetlb=0,
        pss_anonymous=0,
        pss_file=0,
        pss_shared=0,
        minor_faults=100,
        major_faults=1,
        cgroup=f"/c{pid % 3}",
        same_mm_as=None,
    )
    return ProcessSnapshot(replace(row, **changes), started, 10.0)  # type: ignore[arg-type]


def snapshot(clock_s: float, *processes: ProcessSnapshot, **changes: object) -> MachineSnapshot:
    """Build a snapshot."""
    plain = MachineSnapshot(
        session=0,
        time_s=1e9 + clock_s,
        clock_s=clock_s,
        processes=processes,
        kernel_threads=3,
        meminfo={"MemTotal": 100 * MIB, "MemFree": 60 * MIB, "MemAvailable": 70 * MIB},
        vmstat={},
        stalls=(),
        cost=SnapshotCost(0.01, 2),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def user(uid: int) -> str:
    """Return a user name without reading the user database."""
    return ["root", "me"][uid]


def test_rates_are_changes_over_time_of_the_same_process() -> None:
    """Faults and growth per second; a reused PID is another process without rates."""
    before = snapshot(10, process(1), process(2))
    grown = process(1, minor_faults=150, major_faults=3, rss=3 * MIB)
    after = snapshot(12, grown, process(2, started=9))
    rates = process_rates(before, after)
    assert rates.keys() == {(1, 1)}
    assert (rates[1, 1].minor, rates[1, 1].major, rates[1, 1].growth) == (25.0, 1.0, MIB)


def test_no_growth_is_made_up_by_the_first_page_walk() -> None:
    """The correction of RSS by the first page walk is not growth."""
    unread = replace(process(1), read_at=None)
    rates = process_rates(snapshot(10, unread), snapshot(12, process(1, rss=2 * MIB)))
    assert rates[1, 1].growth is None
    assert process_rates(snapshot(10, unread), snapshot(12, unread))[1, 1].growth == 0.0


def test_clocks_of_two_sessions_do_not_compare() -> None:
    """There are no rates across two sessions of a recording."""
    before, after = snapshot(10, process(1)), snapshot(12, process(1), session=1)
    assert process_rates(before, after) == {}
    assert memory_pressure(before, after).faults is None


@pytest.mark.parametrize("name", SORTS)
def test_unknown_comes_last_either_way(name: str) -> None:
    """Unknown values sort last, by any key and in both directions."""
    hidden = process(9, pss=None, uss=None, swap=None, thp=None, note="denied: ...")
    entries = build_lines(None, snapshot(10, hidden, process(1), process(3)), ListOptions(), user)
    for reverse in (False, True):
        order = sort(entries, name, reverse=reverse)
        if name in {"pss", "uss", "swap", "thp"}:
            assert order[-1].pid == 9
        elif name in {"pid", "rss", "command"}:
            down = name == "rss"
            assert [each.pid for each in order] == ([9, 3, 1] if down != reverse else [1, 3, 9])


@pytest.mark.parametrize(
    ("text", "pids"),
    [
        ("", [1, 2, 3, 4]),
        ("p3", [3]),
        ("WORK p4", [4]),
        ("user:root", [2, 4]),
        ("cgroup:/c1", [1, 4]),
        ("pid:2", [2]),
        ("state:S", [1, 2, 3, 4]),
        ("state:D", []),
        ("pss>1M", [3, 4]),
        ("rss<2.5M user:me", [1]),
        ("pss>", [1, 2, 3, 4]),
        ("nothing", []),
    ],
)
def test_filter(text: str, pids: list[int]) -> None:
    """Words, users, cgroups and sizes filter; all words must match; an incomplete size matches all."""
    wanted = parse_filter(text, user)
    assert [each.row.pid for each in map(process, (1, 2, 3, 4)) if wanted(each)] == pids


def test_groups_sum_up_and_count_a_shared_address_space_once() -> None:
    """A group sums its processes, a shared address space once; unknown sizes are noted."""
    rows = (process(2), process(4), process(6, same_mm_as=4), process(8, pss=None))
    (entry,) = build_lines(None, snapshot(10, *rows), ListOptions(shape="user"), user)
    assert (entry.name, entry.processes) == ("root", 4)
    assert (entry.rss, entry.pss) == ((2 + 4 + 8) * MIB, (1 + 2) * MIB)
    assert entry.note == "PSS of 1 unknown"


def test_tree_puts_children_below() -> None:
    """A child follows its parent one level deeper, whatever its size."""
    rows = (process(1), process(5, parent_pid=1), process(7, parent_pid=5), process(9))
    tree = build_lines(None, snapshot(10, *rows), ListOptions(shape="tree", sort="rss"), user)
    assert [(each.pid, each.depth) for each in tree] == [(9, 0), (1, 0), (5, 1), (7, 2)]


def test_strain_is_the_share_of_the_time_between() -> None:
    """One of two seconds stalled is 50 %; pages are converted to bytes; OOM kills are counted."""
    first = snapshot(
        10,
        vmstat={"pgsteal_kswapd": 0, "pgsteal_direct": 0, "oom_kill": 1},
        stalls=(Stall("some", 7.0, 0, 0, 0),),
    )
    second = snapshot(
        12,
        vmstat={"pgsteal_kswapd": 10, "pgsteal_direct": 6, "oom_kill": 2},
        stalls=(Stall("some", 7.0, 0, 0, 1_000_000),),
    )
    pressure = memory_pressure(first, second)
    assert (pressure.some, pressure.full) == (50.0, None)
    assert (pressure.reclaimed, pressure.direct, pressure.killed) == (8 * 4096, 3 * 4096, 1)
    assert memory_pressure(None, first).some == 7.0


def test_memory_parts_fill_the_machine() -> None:
    """The parts of the bar sum to MemTotal."""
    info = snapshot(0).meminfo | {"Cached": 20 * MIB, "Shmem": 5 * MIB, "AnonPages": 9 * MIB}
    assert sum(size for _, size in memory_parts(info)) == 100 * MIB


def test_history_begins_anew_where_time_goes_back() -> None:
    """Samples are kept in order; after a seek back, later ones are dropped."""
    history = History()
    for clock in (1, 2, 3):
        history.add(snapshot(clock, process(1)))
    assert [each.clock_s for each in history.samples((1, 1))] == [1, 2, 3]
    history.add(snapshot(2, process(1)))
    assert [each.clock_s for each in history.samples((1, 1))] == [2]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_lines_stand_below_their_headings(width: int) -> None:
    """At every width, cells align with their headings."""
    before = snapshot(10, process(3))
    (entry,) = build_lines(
        before, snapshot(11, process(3, minor_faults=1e4)), ListOptions(sort="growth"), user
    )
    head = columns.render_heading(width, "growth", reverse=False, grouped="").plain
    text = columns.render_line(entry, width, "growth", 100 * MIB, dark=True).plain
    assert text.index("p3") == head.index("command")
    assert text.rstrip().endswith("/bin")  # the folder last
    assert text.index("1.50 MiB") + len("1.50 MiB") == head.index("PSS") + len("PSS")
    found = columns.column_at(head.index("RSS"), width, "growth")
    assert found is not None
    assert found.field == "rss"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_text_fits(width: int) -> None:
    """One snapshot as text fits its width, whatever the names contain."""
    import io

    from rich.console import Console

    odd = process(3, command="a\x1b[31m\n" + "long " * 100)
    entries = build_lines(None, snapshot(10, odd), ListOptions(), user)
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    render_snapshot(None, snapshot(10, odd), entries, ListOptions(), console=console)
    assert max(map(len, file.getvalue().splitlines())) <= width
    assert "\x1b" not in file.getvalue()
