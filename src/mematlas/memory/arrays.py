"""NumPy arrays placed as asked: every array that is made inside a `with` block, by whatever function."""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

from mematlas import _core
from mematlas.errors import UsageError
from mematlas.memory import numa
from mematlas.memory.locking import lock_limit
from mematlas.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from mematlas._core import ArrayFigures

_SMALLEST = 4096
_REMEDIES = {
    "hugetlb": "took transparent huge pages instead; `mematlas tune plan hugepages.2M=COUNT` adds to the pool",
    "advising": "went on with small pages: transparent huge pages are off in this kernel or process",
    "mapping": "the address space, or an overcommit limit, is used up",
    "binding": "the node has no memory that this process may use",
}
# What was there before each `with`, by context: like NumPy's handler itself.
_before: ContextVar[tuple[Any, ...]] = ContextVar("handlers before", default=())


def _settle_errors() -> None:
    """Set NumPy's error handling to what it is.

    NumPy looks for it with each ufunc, in a context variable that is usually unset. In a context that
    holds any other variable, as from here on, an unset one takes 10 ns to find, a set one none.
    """
    import numpy as np

    np.seterr()


class PlacedArrays:
    """What `numpy()` gives: a context manager, and what became of the arrays made in it."""

    def __init__(self, handler: _core.ArrayHandler, cache_bytes: int) -> None:
        self._handler, self._cache, self._entered = handler, cache_bytes, 0

    def __enter__(self) -> Self:
        self._entered += 1
        self._handler.set_cache(self._cache)
        _settle_errors()
        _before.set((*_before.get(), _core.swap_handler(self._handler.capsule)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        *before, last = _before.get()
        _before.set(tuple(before))
        _core.swap_handler(last)
        self._entered -= 1
        if self._entered == 0:
            self._handler.set_cache(0)

    def stats(self) -> ArrayFigures:
        """Blocks and bytes of arrays alive, cached, mapped anew and reused."""
        return self._handler.figures()

    def last_error(self) -> str | None:
        """Say what last went wrong: the reason of a MemoryError, or of pages other than asked for."""
        figures = self._handler.figures()
        if not figures.failures:
            return None
        step = _core.ARRAY_STEPS[figures.failed_step]
        remedy = lock_limit().explain() if step == "locking" else _REMEDIES[step]
        return f"{step} {format_bytes(figures.failed_size)}: {os.strerror(figures.failed_errno)}; {remedy}"


def numpy(
    *,
    huge: str | None = "thp",
    node: int | Sequence[int] | None = None,
    policy: str = "bind",
    min_size: int | str = "1M",
    cache: int | str = "256M",
    lock: bool | str = False,
) -> PlacedArrays:
    """Place the memory of NumPy arrays made inside the `with` block.

    huge: "thp" (transparent huge pages), "2M" (hugetlb; arrays that find no page fall back to "thp", and
    last_error() says so) or None. node, policy, lock: as for a Region. min_size: smaller arrays are left
    to NumPy. cache: bytes of freed arrays kept for the next ones of about their size, until the block ends.

    It is NumPy's own interface for this, so ufuncs, random numbers and linear algebra are covered; not
    covered are memmap, frombuffer, and other libraries' memory. As NumPy's handler, it holds for this
    thread or asyncio task. Arrays may outlive the block, and be freed in any thread.
    """
    sizes = [parse_bytes(s) if isinstance(s, str) else s for s in (min_size, cache)]
    if huge not in (None, "thp", "2M"):
        message = f"no such pages for arrays: {huge!r}; thp, 2M or None"
        raise UsageError(message)
    if lock not in (False, True, "onfault"):
        message = f"lock is True, False or 'onfault', not {lock!r}"
        raise UsageError(message)
    if sizes[0] < _SMALLEST or sizes[1] < 0:
        message = f"min_size is at least {_SMALLEST} bytes, and cache not negative"
        raise UsageError(message)
    mode, nodes = -1, list[int]()
    if node is not None or policy != "bind":
        mode, nodes = numa.check_policy(policy, numa.as_list(node))
    handler = _core.ArrayHandler(
        huge=huge, lock=lock, mode=mode, nodes=nodes, min_size=sizes[0], cache_bytes=0
    )
    return PlacedArrays(handler, sizes[1])
