"""A closed region, arena or pool refuses every operation: its addresses may be another mapping's."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

from mematlas.errors import UsageError
from mematlas.memory import Allocation, Arena, Pool, Region, Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLAIN = {"close", "closed", "open"}  # allowed after close(); open() is of the class
SPECIAL = ("__enter__", "__len__", "__buffer__")
MAKERS: dict[str, Callable[[], Any]] = {
    "region": lambda: Region("64K", populate=True),
    "shared region": lambda: Region("64K", share=True),
    "arena": lambda: Arena("16M"),
    "pool": lambda: Pool(64, 8),
    "shared pool": lambda: Pool(64, 8, shared=True),
}


def operations(owner: type) -> Iterator[tuple[str, Any]]:
    """List the public methods and properties of a class, its bases' too, and special methods."""
    for name in dir(owner):
        found = inspect.getattr_static(owner, name)
        public = not name.startswith("_") or name in SPECIAL
        if public and name not in PLAIN and (callable(found) or isinstance(found, property)):
            yield name, found


def call(closed: Any, name: str, found: Any) -> None:
    """Get a property, or call a method with one value for each argument that has no default."""
    if isinstance(found, property):
        getattr(closed, name)
        return
    required = [
        each
        for each in list(inspect.signature(found).parameters.values())[1:]
        if each.default is inspect.Parameter.empty
    ]
    values = {"allocation": Allocation(closed, 4096, 1), "slot": Slot(closed, 4096, 1)}
    found(closed, *(values.get(each.name, 1) for each in required))


CASES = [
    pytest.param(maker, name, found, id=f"{label}.{name}")
    for label, maker in MAKERS.items()
    for name, found in operations(
        {"region": Region, "arena": Arena, "pool": Pool}[label.split()[-1]]
    )
]


@pytest.mark.parametrize(("maker", "name", "found"), CASES)
def test_every_operation_is_refused(maker: Callable[[], Any], name: str, found: Any) -> None:
    """Each public method and property raises a ValueError that says what is closed."""
    owner = maker()
    owner.close()
    assert owner.closed
    with pytest.raises(ValueError, match=r"the (region|arena|pool) is closed"):
        call(owner, name, found)


def test_all_methods_are_covered() -> None:
    """The list above is made by inspection; these are some that it must hold."""
    names = {case.id for case in CASES}
    assert {"region.placement", "region.lock", "region.cold", "region.migrate"} <= names
    assert {"arena.alloc", "arena.free", "arena.trim", "pool.alloc", "pool.stats"} <= names


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_closing_twice_does_nothing(maker: Callable[[], Any]) -> None:
    """close() may be called again, and repr() still works."""
    owner = maker()
    assert not owner.closed
    owner.close()
    owner.close()
    assert repr(owner)


def test_a_closed_region_leaves_the_next_one_alone() -> None:
    """A region that got the addresses of a closed one is neither shown nor locked by that."""
    first = Region("8M", populate=True)
    address = first.address
    first.close()
    with Region("8M", populate=True) as second:
        if second.address != address:
            pytest.skip("the kernel mapped the second region elsewhere")
        for act in (first.lock, first.unlock, first.explain):
            with pytest.raises(ValueError, match="the region is closed"):
                act()
        assert second.placement.locked == 0


def test_a_slot_of_a_closed_shared_pool_is_refused() -> None:
    """A shared pool closes while slots are in use; their memory can then not be reached."""
    pool = Pool(64, 8, shared=True)
    slot = pool.alloc()
    assert slot is not None
    pool.close()
    for act in (lambda: slot.view, slot.array, slot.free):
        with pytest.raises(ValueError, match="closed"):
            act()


def test_a_mistake_changes_nothing() -> None:
    """Memory that is given to another owner, or is no memory at all, is refused, and lives on."""
    with Arena("16M") as arena, Arena("16M") as other, Pool(64, 100) as pool:
        block, slot = arena.alloc(100), pool.alloc()
        assert slot is not None
        for act in (other.free, other.usable_size, pool.free):
            with pytest.raises(UsageError, match="does not belong to this"):
                act(block)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="does not belong to this"):
            other.resize(block, 5)
        with pytest.raises(UsageError, match="does not belong to this"):
            arena.free(slot)
        for wrong in (5, "block", None):
            with pytest.raises(TypeError):
                arena.free(wrong)  # type: ignore[arg-type]
        block.view[:2] = b"ab"
        arena.free(block)
        slot.free()
        with pytest.raises(UsageError, match="free already"):
            arena.usable_size(block)
        assert (arena.stats().blocks, pool.stats().in_use) == (0, 0)
