"""Words for the kernels that the loops of the benchmarks chose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas._core.bench.kernels import WORKS
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas._core.bench.kernels import KernelChoice

_PAGES = {"base": "base pages", "huge": "huge pages", "unknown": ""}


def work_name(choice: KernelChoice) -> str:
    """Return what is done."""
    return WORKS.get(choice.work, "read")


def arrays(choice: KernelChoice) -> str:
    """Return the class of arrays, such as "4096 to 8191 x 64 to 127, huge pages"."""
    sides = [_numbers(bits) for bits in (choice.rows, choice.columns) if bits]
    parts = [" x ".join(sides)]
    if choice.work in WORKS:
        parts.append(f"rows {_step(choice.from_step)} and {_step(choice.to_step)} apart")
    kinds = dict.fromkeys(_PAGES[each] for each in (choice.from_pages, choice.to_pages))
    return ", ".join([*parts, *filter(None, kinds)])


def _numbers(bits: int) -> str:
    """Return the numbers of so many bits."""
    return f"{1 << (bits - 1)} to {(1 << bits) - 1}"


def _step(bits: int) -> str:
    """Return the bytes that divide the distance of two rows."""
    return f"n * {format_bytes(1 << bits)}"


def next_best(choice: KernelChoice) -> str:
    """Return the second kernel with its cost in relation to the first."""
    others = sorted((cost, name) for name, cost in choice.costs.items() if name != choice.kernel)
    if not others:
        return "-"
    cost, name = others[0]
    return f"{name}, {cost / choice.costs[choice.kernel]:.2f}x"
