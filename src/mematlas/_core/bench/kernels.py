"""Choices between the kernels of benchmark loops, as the C core holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mematlas._core.binding import ffi, lib

WORKS = {1: "transpose by halves", 2: "transpose in tiles"}
"""By value of enum mematlas_kernel_work; the rest read."""
_KERNELS = 16  # MEMATLAS_KERNELS
_MOST_WORK = 1000
_FIRST = 64  # entries asked for at once
_PAGES = ("unknown", "base", "huge")


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """The kernel that was the fastest of its kind, for a class of arrays.

    rows, columns: bits of the number. from_step, to_step: trailing zero bits of the bytes from one row to the
    next. from_pages, to_pages: "unknown", "base" or "huge". costs: ns of an element by kernel, the least of
    three trials. measured_here: by this process.
    """

    work: int
    rows: int
    columns: int
    from_step: int
    to_step: int
    from_pages: str
    to_pages: str
    costs: dict[str, float]
    measured_here: bool = False

    @property
    def kernel(self) -> str:
        """The name of the kernel of the least cost."""
        return min(self.costs, key=self.costs.__getitem__)


def kernel_names(work: int) -> tuple[str, ...]:
    """Return the names of the kernels of a kind of work, in the order of their bits; none: no such work."""
    pointers = [lib.mematlas_kernel_name(work, index) for index in range(_KERNELS)]
    return tuple(ffi.string(each).decode() for each in pointers if each)


def kernel_choices() -> list[KernelChoice]:
    """Return the settled choices of this process, whether measured or added."""
    room = _FIRST
    while True:
        entries = ffi.new("struct mematlas_kernel_choice[]", room)
        count = int(lib.mematlas_kernel_choices(entries, room))
        if count <= room:
            return [_read(entries[index]) for index in range(count)]
        room = count


def _read(entry: Any) -> KernelChoice:
    names = kernel_names(entry.work)
    costs = {name: float(entry.cost[i]) for i, name in enumerate(names) if entry.allowed >> i & 1}
    return KernelChoice(
        work=int(entry.work),
        rows=int(entry.rows),
        columns=int(entry.columns),
        from_step=int(entry.from_step),
        to_step=int(entry.to_step),
        from_pages=_PAGES[entry.from_pages],
        to_pages=_PAGES[entry.to_pages],
        costs=costs,
        measured_here=bool(entry.measured_here),
    )


def add_kernel_choice(choice: KernelChoice) -> bool:
    """Use a choice of an earlier process. Return False, and change nothing, where this core has no such kernels."""
    names = kernel_names(choice.work) if 0 <= choice.work <= _MOST_WORK else ()
    pages = (choice.from_pages, choice.to_pages)
    numbers = (choice.rows, choice.columns, choice.from_step, choice.to_step)
    if (
        not choice.costs
        or not set(choice.costs) <= set(names)
        or not set(pages) <= set(_PAGES)
        or not all(0 <= each <= 64 for each in numbers)
    ):
        return False
    entry = ffi.new("struct mematlas_kernel_choice *")
    entry.work = choice.work
    entry.rows, entry.columns, entry.from_step, entry.to_step = numbers
    entry.from_pages, entry.to_pages = map(_PAGES.index, pages)
    for name, cost in choice.costs.items():
        entry.allowed |= 1 << names.index(name)
        entry.cost[names.index(name)] = cost
    entry.best = names.index(choice.kernel)
    return bool(lib.mematlas_kernel_choice_add(entry) == 0)


def kernel_choices_made() -> int:
    """Return the number of choices that this process measured."""
    return int(lib.mematlas_kernel_choices_made())


def clear_kernel_choices() -> None:
    """Forget all choices, so that the kernels are measured anew."""
    lib.mematlas_kernel_choices_clear()
