"""Loops of the benchmarks as functions on NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from mematlas import _core
from mematlas._core.bench.patterns import METHODS, sum_ahead, transpose_memory
from mematlas.bench import kernel_cache
from mematlas.bench.cases.sharing import cpus_for
from mematlas.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TransposeMethod = Literal["tiles", "halves", "rows"]

_LINE = 64
_SIZES = (1, 2, 4, 8, 16)  # bytes of an element


def stream_read(array: NDArray[Any], *, threads: int = 1) -> float:
    """Return the sum of a contiguous array of float64, read at full bandwidth, in no defined order.

    `threads` run on CPUs of their own. The loop is the fastest of several on this machine, measured at the
    first use and kept in the user's cache folder. UsageError: another type or layout, or no thread.

    >>> import numpy as np
    >>> from mematlas.bench import stream_read
    >>> stream_read(np.ones(1000))
    1000.0
    """
    where = _addresses(array)
    kernel_cache.load()
    total = _core.run_stream("read", *where, count=array.size, cpus=_cpus(threads))[1]
    kernel_cache.save()
    return total


def stream_copy(
    target: NDArray[Any], source: NDArray[Any], *, nontemporal: bool = True, threads: int = 1
) -> None:
    """Copy a contiguous array onto another of its size and type, with elements of 8 bytes.

    Non-temporal stores bypass the caches, which pays for arrays larger than the last-level cache.
    UsageError: arrays differ, overlap, or are not contiguous.

    >>> import numpy as np
    >>> from mematlas.bench import stream_copy
    >>> target = np.zeros(1000)
    >>> stream_copy(target, np.ones(1000))
    >>> target.sum()
    np.float64(1000.0)
    """
    _run("copy", target, source, nontemporal=nontemporal, threads=threads)


def stream_scale(
    target: NDArray[Any], source: NDArray[Any], *, nontemporal: bool = True, threads: int = 1
) -> None:
    """Write 3 times the source, of float64: STREAM's scale. Arguments and errors as stream_copy().

    >>> import numpy as np
    >>> from mematlas.bench import stream_scale
    >>> target = np.zeros(4)
    >>> stream_scale(target, np.ones(4))
    >>> target.tolist()
    [3.0, 3.0, 3.0, 3.0]
    """
    _run("scale", target, source, nontemporal=nontemporal, threads=threads)


def stream_add(
    target: NDArray[Any],
    one: NDArray[Any],
    other: NDArray[Any],
    *,
    nontemporal: bool = True,
    threads: int = 1,
) -> None:
    """Write the sum of two arrays of float64: STREAM's add. Arguments and errors as stream_copy().

    >>> import numpy as np
    >>> from mematlas.bench import stream_add
    >>> target = np.zeros(2)
    >>> stream_add(target, np.ones(2), np.full(2, 5.0))
    >>> target.tolist()
    [6.0, 6.0]
    """
    _run("add", target, one, other, nontemporal=nontemporal, threads=threads)


def stream_triad(
    target: NDArray[Any],
    one: NDArray[Any],
    other: NDArray[Any],
    *,
    nontemporal: bool = True,
    threads: int = 1,
) -> None:
    """Write `one` + 3 * `other`, of float64: STREAM's triad. Arguments and errors as stream_copy().

    >>> import numpy as np
    >>> from mematlas.bench import stream_triad
    >>> target = np.zeros(2)
    >>> stream_triad(target, np.ones(2), np.full(2, 5.0))
    >>> target.tolist()
    [16.0, 16.0]
    """
    _run("triad", target, one, other, nontemporal=nontemporal, threads=threads)


def stream_write(array: NDArray[Any], *, nontemporal: bool = True, threads: int = 1) -> None:
    """Fill a contiguous array of float64 with 3. Arguments and errors as stream_copy().

    >>> import numpy as np
    >>> from mematlas.bench import stream_write
    >>> array = np.zeros(2)
    >>> stream_write(array)
    >>> array.tolist()
    [3.0, 3.0]
    """
    _run("write", array, nontemporal=nontemporal, threads=threads)


def transpose(
    source: NDArray[Any], out: NDArray[Any] | None = None, *, method: TransposeMethod = "tiles"
) -> NDArray[Any]:
    """Return the transpose of a matrix in memory of its own: equal to `source.T.copy()`.

    Rows must be contiguous, elements of 1, 2, 4, 8 or 16 bytes. `out` is a writable array of the
    transposed shape that shares no memory with `source`.
    method: "tiles", "halves" (cache-oblivious recursion) or "rows" (two nested loops). Tiles and leaves of
        the recursion are those that are the fastest on this machine, measured at the first use for doubles
        of such a shape and kept in the user's cache folder.

    UsageError for any other input.

    >>> import numpy as np
    >>> from mematlas.bench import transpose
    >>> transpose(np.arange(6).reshape(2, 3)).tolist()
    [[0, 3], [1, 4], [2, 5]]
    """
    import numpy as np

    if source.ndim != 2 or source.dtype.itemsize not in _SIZES or source.dtype.hasobject:
        raise UsageError("transpose takes a matrix of elements of 1, 2, 4, 8 or 16 bytes")
    if method not in METHODS:
        raise UsageError(f"no such method: {method!r}; one of {', '.join(METHODS)}")
    rows, columns = source.shape
    if out is None:
        out = _on_lines(columns, rows, source.dtype)
    if out.shape != (columns, rows) or out.dtype != source.dtype or not out.flags.writeable:
        raise UsageError(f"out must be a writable {columns} x {rows} array of {source.dtype}")
    if np.may_share_memory(source, out):
        raise UsageError("out must not overlap the matrix")
    if source.size:
        where = [_layout(array) for array in (source, out)]
        kernel_cache.load()
        transpose_memory(method, where[0], where[1], (rows, columns), source.dtype.itemsize)
        kernel_cache.save()
    return out


def _on_lines(rows: int, columns: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a matrix that begins at a cache line, as whole-line stores need."""
    import numpy as np

    raw = np.empty(rows * columns * dtype.itemsize + _LINE, np.uint8)
    return np.ndarray((rows, columns), dtype, raw, -raw.ctypes.data % _LINE)


def _layout(array: NDArray[Any]) -> tuple[int, int]:
    """Return the address of a matrix and the bytes from one row to the next."""
    step, size = array.strides[0], array.dtype.itemsize
    if array.shape[1] > 1 and array.strides[1] != size:
        raise UsageError("rows must be contiguous; pass numpy.ascontiguousarray(matrix)")
    if array.shape[0] > 1 and step < array.shape[1] * size:
        raise UsageError("rows must follow each other in memory; pass numpy.ascontiguousarray(...)")
    return array.ctypes.data, step


def prefetch_sum(
    values: NDArray[Any], index: NDArray[Any], *, distance: int = 16, rounds: int = 1
) -> int:
    """Return the sum of a digest of `values[index]` modulo 2**64, prefetched `distance` items ahead.

    Both arrays are contiguous, of uint64. The digest of x is `rounds` times: x ^= x >> 33;
    x *= 0xff51afd7ed558ccd. A distance of 0 does not prefetch. IndexError: an index is out of bounds.
    UsageError: a negative argument.

    >>> import numpy as np
    >>> from mematlas.bench import prefetch_sum
    >>> prefetch_sum(np.array([0, 5], "u8"), np.array([0, 0, 0], "u8"))
    0
    """
    if distance < 0 or rounds < 0:
        raise UsageError("distance and rounds must not be negative")
    if len(index) and int(index.max()) >= len(values):
        message = f"index {int(index.max())} is out of bounds for {len(values)} values"
        raise IndexError(message)
    return sum_ahead(values, index, distance, rounds)[0] if len(index) else 0


def _run(operation: str, *arrays: NDArray[Any], nontemporal: bool, threads: int) -> None:
    import numpy as np

    target, *sources = arrays
    if not target.flags.writeable:
        raise UsageError("the array to write to is read-only")
    if any(np.may_share_memory(target, each) for each in sources):
        raise UsageError("the array to write to overlaps one that is read")
    where = _addresses(*arrays, any_type=operation == "copy")
    _core.run_stream(operation, *where, count=target.size, bypass=nontemporal, cpus=_cpus(threads))


def _addresses(*arrays: NDArray[Any], any_type: bool = False) -> tuple[int, int, int]:
    """Check arrays and return three addresses; the given ones repeat where there are fewer."""
    for each in arrays:
        if not each.flags.c_contiguous or each.size != arrays[0].size or each.itemsize != 8:
            raise UsageError("arrays must be contiguous, of one size, with elements of 8 bytes")
        if not any_type and each.dtype != "f8":
            raise UsageError(f"arrays must be of float64, not {each.dtype}")
        if any_type and (each.dtype != arrays[0].dtype or each.dtype.hasobject):
            raise UsageError("arrays must be of one type, and not of objects")
        if each.ctypes.data % 8:
            raise UsageError("arrays must begin at a multiple of 8 bytes")
    a, b, c = ([each.ctypes.data for each in arrays] * 3)[:3] if arrays else (0, 0, 0)
    return a, b, c


def _cpus(threads: int) -> list[int]:
    if threads < 1:
        raise UsageError("at least one thread is needed")
    return cpus_for(threads) if threads > 1 else [-1]
