"""The heap of Python programs against what they know of themselves, under each interpreter at hand."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from heap_programs import PROGRAMS, waiting
from interpreters import interpreters, version
from mematlas._core.heap import python
from mematlas.cli.main import main
from mematlas.heap import look
from mematlas.heap.read.content import CopiedContent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mematlas.heap import Look
    from mematlas.heap.model.answers import Holder

ORDERS, CYCLES, LEAKED, TASKS = 3000, 200, 150, 100
COLLECTED = 1 << 14


@dataclass(frozen=True, slots=True)
class Victim:
    """A program, its heap, and what it says of itself."""

    pid: int
    heap: Look
    told: dict[str, Any]


@pytest.fixture(scope="module", params=interpreters(), ids=version)
def victim(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Victim]:
    """Run the program under an interpreter and read its heap."""
    told = tmp_path_factory.mktemp("heap") / "told.json"
    with waiting([request.param, PROGRAMS / "heap_python.py", told]) as pid:
        yield Victim(pid, look(pid), json.loads(told.read_text()))


def _content(victim: Victim) -> CopiedContent:
    assert isinstance(victim.heap.content, CopiedContent)
    return victim.heap.content


def _row(holders: tuple[Holder, ...], *names: str) -> Holder:
    """Return the row of a tree under these names."""
    for each in holders:
        if each.name == names[0]:
            return each if len(names) == 1 else _row(each.held, *names[1:])
    raise AssertionError((names, [each.name for each in holders]))


def test_types_have_as_many_objects_as_the_collector_knows(victim: Victim) -> None:
    """Each type that gc.get_objects() lists has as many objects."""
    content = _content(victim)
    reader = content.reader()
    addresses = python.object_addresses(content.handle)
    counts, _ = python.reference_counts(content.handle)
    found: dict[int, int] = {}
    for block in np.flatnonzero(addresses).tolist():
        address = int(addresses[block])
        kind = reader.type_of(address)
        # The collector lists neither what it does not track nor what is immortal.
        if reader.flags(kind) & COLLECTED and reader.word(address - 16) and counts[block] < 2**31:
            found[kind] = found.get(kind, 0) + 1
    differ = {
        name: (told, found.get(int(kind), 0))
        for kind, (name, told, _) in victim.told["counts"].items()
        if told != found.get(int(kind), 0)
    }
    # What the program counts with came after its count, and what it waits in: sys.stdin.readline.
    later = {"list", "dict", "tuple", "builtin_function_or_method"}
    assert set(differ) <= later, differ
    assert all(abs(told - here) <= 4 for name, (told, here) in differ.items() if name != "list")
    assert sum(found.values()) > 10_000
    assert len(victim.told["counts"]) > 50


def test_a_global_retains_what_it_owns(victim: Victim) -> None:
    """The cache retains what it owns, block for block."""
    row = _row(victim.heap.dominators(top=400, least=0), "module __main__", "CACHE")
    layout = python.read_layout(_content(victim).handle)
    assert layout is not None
    # The program cannot tell the storage of attributes, nor what its allocator adds to a block.
    storage = row.retained - victim.told["cache"]
    assert 0 < storage < victim.told["cache"] * 0.6
    # dict, table; per order: key, order, number, name, list, its items, two of them, and where attributes are.
    blocks = 2 + ORDERS * (8 + (layout.version < 13))
    assert row.retained_count == pytest.approx(blocks, rel=0.01)


def test_holders_have_the_names_of_the_program(victim: Victim) -> None:
    """Globals, class attributes, closures, results of functions and locals of threads are named."""
    holders = victim.heap.dominators(top=400, least=0)
    cache = _row(holders, "module __main__", "CACHE", "dict")
    assert cache.items == ORDERS
    assert cache.held[0].name == "__main__.Order"
    assert _row(holders, "module __main__", "QUEUE").retained_count >= 500
    assert _row(holders, "module __main__", "Registry").retained_count >= 1000
    assert _row(holders, "module __main__", "remembered").retained_count >= 900
    assert _row(holders, "module __main__", "CLOSURE").retained_count >= 400
    thread = _row(holders, "thread billing")
    serving = next(each for each in thread.held if each.name.endswith("serve()"))
    assert serving.name.startswith("heap_python.py:")
    assert _row(serving.held, "local batch").retained_count >= 2400


def test_why_leads_from_a_name_to_the_objects(victim: Victim) -> None:
    """The shortest path begins with the name of the module's global."""
    why = victim.heap.why("__main__.Order")
    assert (why.count, why.lost) == (ORDERS, 0)
    assert why.paths[0].names == ("module __main__", "CACHE", "dict", "__main__.Order")
    assert why.paths[0].count == ORDERS
    coroutines = victim.heap.why("coroutine")
    assert coroutines.count >= TASKS
    assert any("PENDING" in each.names for each in coroutines.paths)


def test_lost_objects_are_cycles_or_miscounted(victim: Victim) -> None:
    """Cycles are the collector's, an object with a reference too many is nobody's."""
    rows = {each.name: each for each in victim.heap.lost().rows}
    nodes = rows["__main__.Node"]
    # A stale word of the stack may lead to the last one.
    assert CYCLES - 3 <= nodes.count == nodes.collectable <= CYCLES
    assert nodes.cycle
    assert not nodes.forgotten
    assert LEAKED - 1 <= rows["dict"].forgotten <= LEAKED
    # Hardly another object of a program that ran well is lost: 3.13.0 itself loses five.
    assert 0 <= victim.heap.summary().totals.forgotten - rows["dict"].forgotten <= 5


def test_references_are_counted_as_the_interpreter_counts(victim: Victim) -> None:
    """Nearly all counts of objects equal the references found."""
    counts, found = python.reference_counts(_content(victim).handle)
    counted = counts != np.uint32(2**32 - 1)
    assert (counts == found)[counted].mean() > 0.9


def test_waste_is_found(victim: Victim) -> None:
    """Instance dicts and empty containers are told by type."""
    waste = victim.heap.waste(top=100)
    kinds = {(each.kind, each.name): each for each in waste.rows}
    assert kinds["instance dict", "__main__.Order"].count == ORDERS
    assert kinds["instance dict", "__main__.Order"].size >= ORDERS * 16
    assert waste.totals["empty"] > 0


def test_the_command_names_the_holder_on_its_first_screen(
    victim: Victim, capsys: pytest.CaptureFixture[str]
) -> None:
    """24 lines name the module, its global and the forgotten references."""
    assert main(["heap", str(victim.pid)]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()[:24]
    assert any("module __main__" in line for line in lines)
    assert any("CACHE" in line for line in lines)
    assert any("may have forgotten a Py_DECREF()" in line for line in lines)
    assert main(["heap", str(victim.pid), "--waste"]) == 0
    assert "__slots__" in capsys.readouterr().out
    assert main(["heap", str(victim.pid), "--unreachable"]) == 0
    assert "a forgotten Py_DECREF()" in capsys.readouterr().out


@pytest.mark.parametrize("allocator", ["malloc", "debug", "malloc_debug"])
def test_other_allocators_of_python(allocator: str, tmp_path: Path) -> None:
    """Objects are found without pymalloc, and behind the headers of the debug hooks."""
    told = tmp_path / "told.json"
    command = [interpreters()[0], str(PROGRAMS / "heap_python.py"), str(told)]
    with waiting(command, {**os.environ, "PYTHONMALLOC": allocator}) as pid:
        heap = look(pid)
    assert heap.why("__main__.Order").paths[0].names[:3] == ("module __main__", "CACHE", "dict")
