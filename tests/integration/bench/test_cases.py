"""The benchmarks of page size, sharing, faults, allocators and nodes, on this machine.

What is tested is that they do what they say, never how long it takes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import machine_state
from mematlas import _core, bench
from mematlas.bench import region
from mematlas.bench.case import Case
from mematlas.bench.cases import alloc, faults, numa, prefetch, sharing, tlb, transpose
from mematlas.bench.cases.faults import MapKind
from mematlas.bench.method import MAX_SAMPLES, BenchSettings, Meter
from mematlas.bench.pointer_chase import PointerChase, adjacent_lines, one_line_per_page, shuffled
from mematlas.bench.region import PROVEN_SHARE, ProvenRegion, fit_size
from mematlas.errors import UsageError
from mematlas.linux.hugepages import BASE, THP, PagesUnavailableError, parse_kind, pmd_size
from mematlas.linux.mman import Advice

if TYPE_CHECKING:
    from pathlib import Path

SMALL = 4 << 20
COMMAND = (sys.executable, "-m", "mematlas", "bench")


def folios_readable() -> bool:
    """Return whether /proc/kpageflags is readable, which the proof of folio sizes needs."""
    return os.geteuid() == 0 and os.path.exists("/proc/kpageflags")  # noqa: PTH110


# ---- memory of one page size


def test_small_pages_are_small() -> None:
    """A region in 4 KiB pages has no page of another size."""
    with ProvenRegion("4K", SMALL) as memory:
        assert memory.placement.by_page_size == {_core.PAGE: SMALL}
        assert memory.address % pmd_size() == 0


def test_transparent_huge_pages_are_huge() -> None:
    """A region in huge pages has them, or is refused."""
    try:
        memory = ProvenRegion("thp", 4 * pmd_size())
    except PagesUnavailableError as reason:
        pytest.skip(str(reason))
    with memory:
        assert memory.placement.share(pmd_size()) >= PROVEN_SHARE


@pytest.mark.machine
def test_hugetlb_pages_are_proven() -> None:
    """With pages in the pool, a region is in hugetlb pages."""
    with machine_state.hugepages(4), ProvenRegion("2M", 8 << 20) as memory:
        assert memory.placement.by_page_size == {2 << 20: 8 << 20}
        assert memory.placement.source == "PAGEMAP_SCAN"


@pytest.mark.machine
def test_folios_are_proven() -> None:
    """With 64 KiB folios enabled, a region is in these and not in huge pages."""
    if not folios_readable():
        pytest.skip("/proc/kpageflags cannot be read here")
    knob = THP / "hugepages-64kB" / "enabled"
    with machine_state.written(knob, "madvise"), ProvenRegion("64K", SMALL) as memory:
        assert memory.placement.share(64 << 10) >= PROVEN_SHARE
        assert pmd_size() not in memory.placement.by_page_size


@pytest.mark.machine
def test_folios_without_rights_are_not_claimed() -> None:
    """Without /proc/kpageflags, 4 and 2,048 KiB are proven, and 64 KiB is refused."""
    knob = THP / "hugepages-64kB" / "enabled"
    ProvenRegion("4K", SMALL).close()  # imports what nobody may not be able to read

    def proven() -> bool:
        with ProvenRegion("4K", SMALL) as memory:
            small = memory.placement.share(2 * _core.PAGE) == 0
        try:
            ProvenRegion("64K", SMALL).close()
        except PagesUnavailableError as reason:
            return small and "kpageflags needs root" in str(reason)
        return False

    with machine_state.written(knob, "madvise"):
        assert machine_state.as_nobody(proven) == 0


@pytest.mark.machine
def test_what_cannot_be_had_says_why() -> None:
    """An empty pool is an error with the number of pages needed."""
    with (
        machine_state.hugepages(0),
        pytest.raises(PagesUnavailableError, match="5 pages needed, 0 of 0 free"),
    ):
        ProvenRegion("2M", 10 << 20)


@pytest.mark.parametrize("kind", ["", "3K", "5M", "huge", "2K"])
def test_no_such_page_size(kind: str) -> None:
    """A size that does not exist is a UsageError."""
    with pytest.raises(UsageError, match="no such page size"):
        parse_kind(kind)


def test_sizes_beyond_memory_are_refused() -> None:
    """A size beyond the machine's memory is refused before anything is mapped."""
    with pytest.raises(UsageError, match="do not fit into"):
        ProvenRegion("4K", 1 << 50)


def test_sizes_nobody_chose_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """With little memory, of the machine or a cgroup, default sizes shrink; a requested size is refused."""
    available = region.memory_available()
    assert available is None or 0 < available <= os.sysconf("SC_PHYS_PAGES") * _core.PAGE
    monkeypatch.setattr(region, "memory_available", lambda: 512 << 20)
    assert fit_size(1 << 30, 4) == 64 << 20
    assert fit_size(32 << 20, 2) == 32 << 20
    assert tlb.span(BenchSettings(pages=("4K", "thp"))) == 128 << 20
    assert tlb.span(BenchSettings(size=1 << 40)) == 1 << 40
    with pytest.raises(UsageError, match=r"do not fit into the 512 MiB"):
        ProvenRegion("4K", 1 << 30)


# ---- orders


@pytest.mark.parametrize("count", [1, 2, 3, 100, 1023])
def test_orders_visit_everything_once(count: int) -> None:
    """Each order has every page, or line, exactly once, and its pointer chase is one cycle."""
    with ProvenRegion("4K", SMALL) as memory:
        for order in (
            one_line_per_page(memory.address, count),
            adjacent_lines(memory.address, count),
        ):
            mixed = shuffled(order)
            assert sorted(mixed.tolist()) == order.tolist()
            chase = PointerChase(mixed)
            seen, at = set(), int(mixed[0])
            for _ in range(count):
                seen.add(at)
                at, _ = _core.run_pointer_chase(at, 1)
            assert seen == set(order.tolist())
            assert at == int(mixed[0])
            assert count == 1 or chase.is_whole()
        pages = (one_line_per_page(memory.address, count) - np.uint64(memory.address)) // np.uint64(
            4096
        )
        assert pages.tolist() == list(range(count))


def test_gather_sums_as_numpy_does() -> None:
    """The loop's sum over addresses equals NumPy's over indices, for any length."""
    words = np.random.default_rng(1).integers(0, 2**63, 5000).astype(np.uint64)
    base = _core.address_of(memoryview(words))  # type: ignore[arg-type]
    for count in (1, 3, 4, 1001):
        index = np.random.default_rng(count).integers(0, len(words), count).astype(np.uint64)
        total, spent = _core.gather_sum(np.uint64(base) + index * np.uint64(8))
        assert total == int(words[index].sum(dtype=np.uint64))
        assert spent >= 0
    with pytest.raises(ValueError, match="uint64"):
        _core.gather_sum(np.arange(4, dtype=np.int32))


def test_scattered_pages_are_scattered() -> None:
    """Each layout has the mappings and page tables of its name."""
    for layout, mappings, tables in zip(
        tlb.LAYOUTS, (1, 512, 512), (0, 0, 500 * _core.PAGE), strict=True
    ):
        with tlb.scattered(layout, 512) as found:
            assert len(found.order) == 512
            assert found.mappings >= mappings - 1
            assert found.table_bytes >= tables
            assert layout != tlb.LAYOUTS[0] or found.mappings <= 4


@pytest.mark.parametrize("side", [64, 66, 100])
def test_every_method_transposes_rectangles(side: int) -> None:
    """Each method leaves the transpose of a wide and a tall matrix, and the shapes fit the memory."""
    for rows, columns in transpose.rectangles(side):
        assert rows * columns <= side * side
        assert max(rows, columns) == 16 * min(rows, columns)
        with ProvenRegion("4K", 2 * 8 * side * side) as memory:
            words = np.frombuffer(_core.buffer_at(memory.address, 16 * rows * columns), np.uint64)
            source, target = words[: rows * columns], words[rows * columns :]
            source[:] = np.arange(rows * columns, dtype=np.uint64)
            for case in transpose.methods(memory, rows, columns):
                target[:] = 0
                assert case.sample() is not None
                turned = source.reshape(rows, columns).T.ravel()
                wanted = source if "copy" in str(case.labels["method"]) else turned
                assert (target == wanted).all(), case.labels


# ---- threads, faults, allocators, nodes


@pytest.mark.parametrize("mode", ["store", "add", "swap"])
@pytest.mark.parametrize("threads", [1, 2, 9])
def test_every_addition_counts(mode: str, threads: int) -> None:
    """The additions of all threads are in their counters, also with more threads than CPUs."""
    with ProvenRegion("4K", 64 << 10) as memory:
        cpus = sharing.cpus_for(threads)
        results = _core.run_sharing(mode, memory.address, 64, cpus, 500_000)
        words = np.frombuffer(_core.buffer_at(memory.address, 64 * threads), np.uint64)
        # Warming wrote a one into the first byte of each page: the first counter began with it.
        counted = (words[::8] - np.array([1] + [0] * (threads - 1), np.uint64)).tolist()
    assert counted == [done for done, _, _ in results]
    assert all(spent > 0 for _, spent, _ in results)


def test_every_way_to_get_memory() -> None:
    """Every way works for every kind of pages it is listed for, and takes time."""
    kinds = [MapKind(parse_kind(name)) for name in ("4K", "thp", "2M")]
    kinds.append(MapKind(BASE, shared=True))
    found, proofs, refused = faults.cases(kinds, 2 << 20)
    assert {case.labels["what"] for case in found} == set(faults.WAYS)
    assert "4K" in proofs
    assert set(proofs) | set(refused) | {"4K shared"} == {each.name for each in kinds}
    for case in found:
        value = case.sample()
        assert value is not None
        assert value > 0


def test_small_buffers_are_mapped_as_said() -> None:
    """Each layout maps, touches and unmaps what it is named for, and leaves no mapping."""
    before = tlb.count_mappings()
    runs = [faults.SmallBuffers(layout, 500) for layout in faults.LAYOUTS]
    found = {str(case.labels["layout"]): dict[str, float]() for case in faults.steps(runs)}
    for case in faults.steps(runs):
        value = case.sample()
        assert value is not None
        found[str(case.labels["layout"])][str(case.labels["step"])] = value
    for spent in found.values():
        assert spent.pop("all three") == pytest.approx(sum(spent.values()))
        assert min(spent.values()) > 0
    assert runs[0].count_mappings() <= 2
    assert tlb.count_mappings() <= before + 2
    assert faults.buffers(1 << 30) == min(10_000, tlb.max_pages())
    assert faults.buffers(100 * _core.PAGE) == 100


def test_look_ups_are_of_other_items_in_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pass looks up, or reads, what the pass before it has left in the caches."""
    seen: list[int] = []

    def note(part: np.ndarray[Any, Any]) -> tuple[int, int]:
        seen.append(part.ctypes.data)
        return 0, 1

    monkeypatch.setattr(prefetch, "sum_ahead", lambda _values, index, *_: note(index))
    monkeypatch.setattr(prefetch, "sum_in_order", lambda part, *_: note(part))
    values = np.zeros(4 << 20, np.uint64)
    looks = prefetch.look_ups(values, np.zeros(4 << 16, np.uint64), "light")
    for cases in (looks, prefetch.in_order(values)):
        seen.clear()
        Meter("x", 0.0).measure(cases)
        assert len(seen) > len(cases)
        assert all(one != other for one, other in pairwise(seen))


def test_fault_counts_are_the_kernels() -> None:
    """A touch faults once for each base page; populating in one call does not fault."""
    with faults._fresh(MapKind(BASE), SMALL) as start:
        _, count = _core.touch_pages(start, SMALL, _core.PAGE)
        assert count >= SMALL // _core.PAGE
    with faults._fresh(MapKind(BASE), SMALL) as start:
        _core.advise_timed(start, SMALL, Advice.POPULATE_WRITE)
        _, count = _core.touch_pages(start, SMALL, _core.PAGE)
        assert count < 10
    with faults._fresh(MapKind(BASE), SMALL) as start:
        _core.touch_pages(start, SMALL, _core.PAGE)
        _, (_, copies) = _core.fork_timed(start, SMALL, _core.PAGE)
        assert copies >= SMALL // _core.PAGE


@pytest.mark.parametrize("name", alloc.ALLOCATORS)
def test_allocators_are_those_they_claim(name: str) -> None:
    """Each allocator runs from its own library, or is reported as not installed."""
    found = alloc.find(name)
    if isinstance(found, str):
        assert "not installed" in found
        pytest.skip(found)
    assert name in ("glibc", *alloc.OURS) or name in found.library
    for case in alloc.cases([found], [64, alloc.MIXED], [1, 2], 5):
        value = case.sample()
        assert value is None or 0 < value < 1e9
    for case in alloc.residency(found, [64], 16 << 20):
        share = case.sample()
        assert share is not None
        assert case.labels["occupancy"] != "all in use" or share > 0.8


def test_a_missing_library_is_not_measured_as_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that the loader cannot find is reported, although the loader only warns."""
    monkeypatch.setitem(alloc._LIBRARIES, "nosuch", (("libnosuchmalloc.so.1",), "libnosuch1"))
    assert alloc.find("nosuch") == (
        "not installed (libnosuchmalloc.so.1); on Debian: apt-get install libnosuch1"
    )


def test_nodes_are_those_of_sysfs() -> None:
    """The nodes have this process's CPUs, and memory bound to a node is on the node."""
    nodes = numa.nodes_with_memory()
    assert nodes
    assert set().union(*numa.cpus_by_node().values()) == os.sched_getaffinity(0)
    with ProvenRegion("4K", SMALL, node=nodes[0]) as memory:
        assert "100 %" in numa.on_node(memory, nodes[0]) or "not told" in numa.on_node(
            memory, nodes[0]
        )
    before = os.sched_getaffinity(0)
    with numa.on_cpu(min(before)):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


# ---- the method


def test_figures_of_one_series_were_measured_in_turn() -> None:
    """Figures measured together share a series, which is written and read again; others do not."""
    meter = Meter("x", 0.0)
    for names in ("ab", "c"):
        meter.measure([Case({"what": name}, "ns", lambda: 1.0) for name in names])
    assert [each.series for each in meter.figures] == [0, 0, 1]


def test_cases_take_turns() -> None:
    """Cases are sampled in turn, at most MAX_SAMPLES times, and none is left out."""
    order: list[str] = []

    def sample(name: str) -> float:
        order.append(name)
        return 1.0 + len(order) % 7

    meter = Meter("x", 3.0)
    meter.measure([Case({"what": name}, "ns", partial(sample, name)) for name in "ab"])
    assert order[:4] == ["a", "b", "a", "b"]
    assert [len(each.samples) for each in meter.figures] == [MAX_SAMPLES, MAX_SAMPLES]


def test_disturbed_samples_are_counted_and_starved_cases_refused() -> None:
    """Disturbed samples are counted; a case that is always disturbed has a reason instead of a figure."""
    turns = iter(range(10**6))
    meter = Meter("x", 0.0)
    meter.measure(
        [
            Case({"what": "every other"}, "ns", lambda: None if next(turns) % 2 else 5.0),
            Case({"what": "never"}, "ns", lambda: None),
        ]
    )
    assert [each.labels for each in meter.figures] == [{"what": "every other"}]
    assert meter.figures[0].disturbed > 0
    assert "quieter" in meter.unavailable["never"]


def test_an_interruption_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the second benchmark keeps the first, and the samples of the second."""

    def interrupted(_settings: BenchSettings, meter: Meter) -> None:
        samples = iter([1.0, 2.0, 3.0])

        def sample() -> float:
            for value in samples:
                return value
            raise KeyboardInterrupt

        meter.measure([Case({"what": "half"}, "ns", sample)])

    monkeypatch.setattr(sharing, "measure", interrupted)
    found = bench.run(
        ("numa", "sharing", "faults"), BenchSettings(quick=True, seconds=0.1, size=SMALL)
    )
    assert not found.complete
    assert [each.name for each in found.sections] == ["numa", "sharing"]
    assert found.sections[1].figures[0].samples == (1.0, 2.0, 3.0)


def test_no_such_benchmark() -> None:
    """An unknown name lists the known ones."""
    with pytest.raises(UsageError, match="one of bandwidth"):
        bench.run(["nosuch"])


# ---- the command


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `mematlas bench`."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_command(tmp_path: Path) -> None:
    """A run writes a result that can be printed again and compared."""
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    options = ("--quick", "--duration", "200ms", "--size", "2M")
    done = command("numa", "faults", *options, "-o", first)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Page faults" in done.stdout
    assert command("faults", *options, "--json", "-o", second).returncode == 0
    data = json.loads(second.read_text())
    assert data["schema"] == "mematlas/bench/1"
    assert [each["name"] for each in data["data"]["sections"]] == ["faults"]
    shown = command("show", first, "--details").stdout
    assert "Memory nodes" in shown
    assert "numa: latency" in shown
    compared = command("compare", first, second, "--all")
    assert compared.returncode == 0
    assert "first touch" in compared.stdout
    assert "only in the first" in compared.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nosuch",), 2, "no such benchmark: 'nosuch'"),
        (("compare", "a.json"), 2, "name two results"),
        (("show", "/nonexistent.json"), 3, "no such file"),
        (("show", __file__), 2, "not a result of"),
        (("faults", "--size", "500T"), 2, "do not fit"),
        (("faults", "--pages", "7K"), 2, "no such page size"),
        (("sharing", "--threads", "0"), 2, "whole numbers"),
        (("faults", "-o", "/proc/nonexistent/x.json"), 3, "no such directory"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], code: int, said: str) -> None:
    """An invalid command line is one line of error, and nothing is measured."""
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_ctrl_c_shows_what_there_is() -> None:
    """A run interrupted by SIGINT exits with its status and the figures measured so far.

    Its stderr is a terminal, whose progress bar tells when measuring has begun.
    """
    terminal, stderr = os.openpty()
    program = subprocess.Popen(
        [*COMMAND, "sharing", "faults", "--duration", "100s", "--size", "2M", "--json"],
        stdout=subprocess.PIPE, stderr=stderr, text=True,
    )  # fmt: skip
    os.close(stderr)
    seen = b""
    while b"sharing" not in seen:
        seen += os.read(terminal, 4096)
    program.send_signal(signal.SIGINT)
    written, _ = program.communicate(timeout=60)
    os.close(terminal)
    assert program.returncode == 130
    assert json.loads(written)["data"]["complete"] is False
