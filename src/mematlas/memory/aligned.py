"""Arrays with a chosen alignment, and counters on cache lines of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mematlas import _core
from mematlas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import DTypeLike, NDArray

LINE = (
    64  # bytes; the prefetcher of x86 CPUs fetches lines in pairs, so counters are two lines apart
)


def aligned_empty(
    shape: int | Sequence[int],
    dtype: DTypeLike = "f8",
    *,
    align: int = LINE,
    pad_rows: bool = False,
) -> NDArray[Any]:
    """Return an uninitialised array whose first byte is at a multiple of `align` bytes.

    pad_rows: align each row (all axes but the last), by unused bytes at its end; the array is then not
    contiguous. UsageError: `align` is not a power of two, the shape is empty, or dtype holds objects.

    >>> from mematlas.memory import aligned_empty
    >>> array = aligned_empty((3, 5), "f8", align=64, pad_rows=True)
    >>> array.shape, array.strides
    ((3, 5), (64, 8))
    """
    import numpy as np

    if align <= 0 or align & (align - 1):
        message = f"align must be a power of two, not {align}"
        raise UsageError(message)
    kind = np.dtype(dtype)
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if kind.hasobject:
        message = "arrays of objects cannot be placed: their bytes must not be arbitrary"
        raise UsageError(message)
    if not sizes or min(sizes) < 0:
        message = f"{shape} is not a shape of one axis or more"
        raise UsageError(message)
    row = sizes[-1] * kind.itemsize
    stride = -(-row // align) * align if pad_rows else row
    rows = 1
    for size in sizes[:-1]:
        rows *= size
    raw = np.empty(rows * stride + align, dtype=np.uint8)
    start = -int(raw.ctypes.data) % align
    strides = [kind.itemsize]
    step = stride
    for size in reversed(sizes[:-1]):
        strides.insert(0, step)
        step *= size
    return np.ndarray(sizes, kind, raw, start, strides)


class PaddedCounters:
    """`count` 64-bit counters, two cache lines apart, so that threads do not share lines.

    buffer: writable memory of `count` x 128 bytes at a multiple of 8, such as a shared Region for
    counters of several processes; by default memory of its own. add() is one atomic instruction.
    Numbers wrap at 2**63. UsageError: no counter, or the buffer does not fit.

    >>> from mematlas.memory import PaddedCounters
    >>> counters = PaddedCounters(4)
    >>> counters.add(0, 5), counters.add(3), counters.total(), list(counters)
    (5, 1, 6, [5, 0, 0, 1])
    """

    STRIDE = 2 * LINE

    def __init__(self, count: int, buffer: Any = None) -> None:
        if count <= 0:
            message = "count must be at least 1"
            raise UsageError(message)
        size = count * self.STRIDE
        view = memoryview(self._own(size) if buffer is None else buffer).cast("B")
        if view.readonly or view.nbytes < size:
            message = f"{count} counters need a writable buffer of {size} bytes"
            raise UsageError(message)
        self._view = view
        self._address = _core.address_of(view)
        if self._address % 8:
            message = "the buffer must begin at a multiple of 8"
            raise UsageError(message)
        self._count = count

    def add(self, index: int, amount: int = 1) -> int:
        """Add to a counter atomically and return its new value; IndexError if there is no such counter.

        >>> from mematlas.memory import PaddedCounters
        >>> PaddedCounters(2).add(1, 5)
        5
        """
        if not 0 <= index < self._count:
            message = f"there is no counter {index}, only 0 to {self._count - 1}"
            raise IndexError(message)
        return _core.add_to_counter(self._address + index * self.STRIDE, amount)

    def __getitem__(self, index: int) -> int:
        return self.add(index, 0)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return (self[index] for index in range(self._count))

    def total(self) -> int:
        """Return the sum of all counters, which are read one after the other.

        >>> from mematlas.memory import PaddedCounters
        >>> counters = PaddedCounters(2)
        >>> counters.add(0), counters.add(1), counters.total()
        (1, 1, 2)
        """
        return sum(self)

    def _own(self, size: int) -> Any:
        array = aligned_empty(size, "u1", align=self.STRIDE)
        array[:] = 0
        return array
