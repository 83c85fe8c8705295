"""Memory by the stack that touched it first, from synthetic stacks."""

from __future__ import annotations

import numpy as np
import pytest

from mematlas.recording.model import NUMBER_OF_KIND, Frame, Kind, Part, PartKind, Touched
from mematlas.recording.row_types import NODE_DTYPE, SNAPSHOT_DTYPE
from mematlas.report.analyse.stacks import Stacks
from mematlas.report.analyse.touched import divide

MMAP = NUMBER_OF_KIND[Kind.MMAP]
MODULE = "/srv/app"


def stacks() -> Stacks:
    """Return three stacks: two functions, and an allocator that the first one calls."""
    names = ("first", "second", "je_arena_map")
    nodes = np.zeros(4, NODE_DTYPE)
    nodes["word"] = range(4)
    nodes["parent"] = [0, 0, 0, 1]
    return Stacks(
        nodes, {n: (Frame(name, None, None, MODULE, "native"),) for n, name in enumerate(names, 1)}
    )


def names(numbers: list[int], frames: list[Frame | None]) -> list[str | None]:
    """Return the names of the owners."""
    return [frame.function if (frame := frames[number]) else None for number in numbers]


@pytest.mark.parametrize("anon", [0, 30_000, 10_000_000])
def test_samples_never_exceed_what_is_resident(anon: int) -> None:
    """Estimates of memory mapped unseen are cut to the part of the account in which the memory lies."""
    touched = [Touched(1, 0, 0, 60_000.0, 1e8), Touched(2, 0, 0, 20_000.0, 1e8)]
    parts = [
        Part(PartKind.ANON, "unnamed", anon),
        Part(PartKind.ANON, "[anon: other]", 1 << 30),
        Part(PartKind.LIVE, "", 1 << 30),
    ]
    found = divide(stacks(), 0, [], touched, {}, parts)
    sizes = found.rows.metric("resident").tolist() if found.rows else []
    assert sum(sizes) == min(anon, 80_000)
    if sizes:
        assert sizes[0] == 3 * sizes[1]
    assert found.less == {}


def test_the_mappings_of_an_allocator_go_to_the_stacks_that_touched_them() -> None:
    """What no sample tells stays with the allocator; what samples exceed is cut."""
    rows = np.zeros(1, SNAPSHOT_DTYPE)
    rows["stack"], rows["kind"], rows["resident_bytes"] = 3, MMAP, 50_000
    for size, less in ((20_000.0, 20_000), (90_000.0, 50_000)):
        found = divide(stacks(), 0, [rows], [Touched(2, 3, MMAP, size, 0.0)], {})
        assert found.rows is not None
        assert found.rows.metric("resident").tolist() == [less]
        assert found.less == {3 << 8 | MMAP: less}


def test_renamed_stacks_share_an_owner() -> None:
    """Only the renamed stacks change their owner, and those of one name have one."""
    mine, name = stacks(), Frame("jemalloc (no line known)", None, None, MODULE, "native")
    wanted = np.array([2, 3, 0, 1, 3])
    before, frames = mine.owners_of(wanted, {})
    assert names(before.tolist(), frames) == ["second", "first", None, "first", "first"]
    mine.renamed = {3: name, 1: name}
    after, frames = mine.owners_of(wanted, {})
    new = name.function
    assert names(after.tolist(), frames) == ["second", new, None, new, new]
