"""NumPy arrays in chosen pages: every array that is created inside a `with` block, by any function."""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, Self

from mematlas import _core
from mematlas.errors import UsageError
from mematlas.linux.hugepages import parse_kind
from mematlas.memory import numa
from mematlas.memory.locking import check_lock_mode, lock_limit
from mematlas.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from mematlas._core import ArrayStats
    from mematlas.memory.locking import LockMode
    from mematlas.memory.numa import PolicyName

_SMALLEST = 4096
_REMEDIES = {
    "hugetlb": "used transparent huge pages instead; `mematlas tune plan hugepages.2M=COUNT` adds to the pool",
    "advising": "used base pages instead: transparent huge pages are off in this kernel or process",
    "mapping": "the address space or an overcommit limit is exhausted",
    "binding": "the node has no memory that this process may use",
}
# The handlers before each `with`, in a context variable because NumPy keeps its handler in one.
_before: ContextVar[tuple[Any, ...]] = ContextVar("handlers before", default=())


def _set_error_state() -> None:
    """Set NumPy's error state to its present value.

    Each ufunc looks the state up in a context variable that is usually unset. Once the context holds
    another variable, the look-up of an unset one costs 10 ns, and of a set one nothing.
    """
    import numpy as np

    np.seterr()


class PlacedArrays:
    """The context manager that memory.numpy() returns, and the counts of its arrays.

    >>> import numpy as np
    >>> from mematlas import memory
    >>> with memory.numpy(min_size="1M") as placed:
    ...     array = np.ones(1 << 20)
    >>> placed.stats().bytes >= array.nbytes
    True
    """

    def __init__(self, handler: _core.ArrayHandler, cache_bytes: int) -> None:
        self._handler, self._cache, self._entered = handler, cache_bytes, 0

    def __enter__(self) -> Self:
        self._entered += 1
        self._handler.set_cache(self._cache)
        _set_error_state()
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

    def stats(self) -> ArrayStats:
        """Return blocks and bytes of live arrays and of the cache, and blocks mapped and reused so far.

        >>> import numpy as np
        >>> from mematlas import memory
        >>> with memory.numpy(min_size="1M") as placed:
        ...     array = np.ones(1 << 20)
        >>> placed.stats().blocks >= 1
        True
        """
        return self._handler.stats()

    def last_error(self) -> str | None:
        """Return the last failure: why a MemoryError was raised, or other pages were used; None if none.

        >>> from mematlas import memory
        >>> memory.numpy().last_error() is None
        True
        """
        stats = self._handler.stats()
        if not stats.failures:
            return None
        step = _core.ARRAY_STEPS[stats.failed_step]
        remedy = lock_limit().explain() if step == "locking" else _REMEDIES[step]
        return (
            f"{step} {format_bytes(stats.failed_size)}: {os.strerror(stats.failed_errno)}; {remedy}"
        )


def numpy(
    *,
    huge: Literal["thp", "2M"] | None = "thp",
    node: int | Sequence[int] | None = None,
    policy: PolicyName = "bind",
    min_size: int | str = "1M",
    cache: int | str = "256M",
    lock: LockMode = False,
) -> PlacedArrays:
    """Place the memory of NumPy arrays that are created inside the `with` block.

    huge: "thp" (transparent huge pages), "2M" (hugetlb; arrays fall back to "thp" when the pool is
        empty, and last_error() says so) or None.
    node, policy, lock: as for a Region.
    min_size: smaller arrays, in bytes or as text, are left to NumPy; at least 4096.
    cache: bytes of freed arrays kept for later arrays of about their size, until the block ends.

    The handler is installed by NumPy's own interface (NEP 49), so ufuncs, random numbers and linear
    algebra are covered; memmap, frombuffer and the memory of other libraries are not. The handler holds
    for this thread or asyncio task. Arrays may outlive the block and be freed in any thread.

    UsageError: an argument is wrong. Failures at run time are MemoryError, or counted: stats().

    >>> import numpy as np
    >>> from mematlas import memory
    >>> with memory.numpy(huge=None, min_size="64K"):
    ...     array = np.zeros((512, 512))
    >>> memory.where(array).resident <= array.nbytes + 8192
    True
    """
    sizes = [parse_bytes(s) if isinstance(s, str) else s for s in (min_size, cache)]
    pages = None if huge is None else parse_kind(huge).name
    if pages not in (None, "thp", "2M"):
        raise UsageError(f"no such pages for arrays: {huge!r}; one of thp, 2M, None")
    check_lock_mode(lock)
    if sizes[0] < _SMALLEST or sizes[1] < 0:
        message = f"min_size is at least {_SMALLEST} bytes, and cache not negative"
        raise UsageError(message)
    mode, nodes = -1, list[int]()
    if node is not None or policy != "bind":
        mode, nodes = numa.check_policy(policy, numa.as_list(node))
    handler = _core.ArrayHandler(
        huge=pages, lock=lock, mode=mode, nodes=nodes, min_size=sizes[0], cache_bytes=0
    )
    return PlacedArrays(handler, sizes[1])
