"""NUMA: latency and bandwidth of each memory node for the CPUs of each node."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas import _core
from mematlas.bench.case import Case
from mematlas.bench.pointer_chase import PointerChase, adjacent_lines, shuffled
from mematlas.bench.region import ProvenRegion, fit_size, largest_kind
from mematlas.linux.cpulist import parse_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.bench.method import BenchSettings, Meter

_NODES = Path("/sys/devices/system/node")
_SIZE = 128 << 20


def measure(settings: BenchSettings, meter: Meter) -> None:
    """Chase pointers and read at full bandwidth, from each node's CPUs in each node's memory."""
    nodes = nodes_with_memory()
    places = {node: cpus for node, cpus in cpus_by_node().items() if cpus}
    if len(nodes) < 2:
        meter.notes.append("one memory node: all memory is local")
    kind = largest_kind()
    usual = fit_size(_SIZE // 2 if settings.quick else _SIZE, max(2, len(nodes)))
    size = settings.size or usual
    with ExitStack() as stack:
        cases = []
        for node in nodes:
            memory = stack.enter_context(ProvenRegion(kind, size, node=node))
            meter.proofs[f"node {node}"] = f"{memory.placement.text()}; {on_node(memory, node)}"
            chase = PointerChase(shuffled(adjacent_lines(memory.address, size // 64)))
            for near, cpus in places.items():
                cases += _pair(near, cpus, node, memory, chase)
        meter.measure(cases)


def _pair(
    near: int, cpus: list[int], node: int, memory: ProvenRegion, chase: PointerChase
) -> list[Case]:
    """Return the cases of one node's CPUs and one node's memory."""
    labels: dict[str, str | int] = {"cpus": f"node {near}", "memory": f"node {node}"}
    return [
        Case({"what": "latency", **labels}, "ns", partial(_walk_on, cpus[0], chase)),
        Case(
            {"what": "read", **labels, "threads": len(cpus)},
            "GB/s",
            partial(_read_from, cpus, memory),
            lower_is_better=False,
        ),
    ]


def _read_from(cpus: list[int], memory: ProvenRegion) -> float:
    count = memory.length // 8
    spent, _ = _core.run_stream("read", memory.address, 0, 0, count, cpus=cpus)
    return 8 * count / spent


def _walk_on(cpu: int, chase: PointerChase) -> float:
    with on_cpu(cpu):
        return chase.run(20_000)


@contextmanager
def on_cpu(cpu: int) -> Iterator[None]:
    """Run this thread on one CPU inside the `with` block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def nodes_with_memory() -> list[int]:
    """Return the nodes that have memory; [0] if the kernel was built without NUMA."""
    return _numbers(_NODES / "has_memory") or [0]


def cpus_by_node() -> dict[int, list[int]]:
    """Return the CPUs of each node that this process may use."""
    usable = os.sched_getaffinity(0)
    found = {
        int(node.name.removeprefix("node")): sorted(usable & set(_numbers(node / "cpulist")))
        for node in sorted(_NODES.glob("node[0-9]*"))
    }
    return found or {0: sorted(usable)}


def _numbers(path: Path) -> list[int]:
    try:
        text = path.read_text().strip()
    except OSError:
        return []
    return parse_list(text) if text else []


def on_node(memory: ProvenRegion, node: int) -> str:
    """Return a line with the share of the memory that is on the node."""
    step = memory.kind.size
    pages = list(range(memory.address, memory.address + memory.length, step))[:65536]
    try:
        nodes = _core.move_pages(0, pages, None)
    except OSError as error:
        return f"its node is unknown: {error.strerror}"
    return f"{100 * nodes.count(node) / len(nodes):.0f} % on node {node} (move_pages)"
