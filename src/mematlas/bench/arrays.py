"""The benchmarks' loops as functions on NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mematlas import _core
from mematlas._core.bench.patterns import METHODS, sum_ahead, transpose_memory
from mematlas.bench.cases.sharing import cpus_for
from mematlas.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LINE = 64
_SIZES = (1, 2, 4, 8, 16)  # bytes of an element


def stream_read(array: NDArray[Any], *, threads: int = 1) -> float:
    """Sum an array of float64, as fast as memory gives it (in no particular order)."""
    where = _addresses(array)
    return _core.run_stream("read", *where, count=array.size, cpus=_cpus(threads))[1]


def stream_copy(
    target: NDArray[Any], source: NDArray[Any], *, nontemporal: bool = True, threads: int = 1
) -> None:
    """Copy one array onto another of its size; non-temporal stores leave the caches alone.

    Worth it for arrays larger than the last cache. Any type of elements, of which all have 8 bytes.
    """
    _run("copy", target, source, nontemporal=nontemporal, threads=threads)


def stream_scale(
    target: NDArray[Any], source: NDArray[Any], *, nontemporal: bool = True, threads: int = 1
) -> None:
    """Write 3 times the source, of float64."""
    _run("scale", target, source, nontemporal=nontemporal, threads=threads)


def stream_add(
    target: NDArray[Any],
    one: NDArray[Any],
    other: NDArray[Any],
    *,
    nontemporal: bool = True,
    threads: int = 1,
) -> None:
    """Write the sum of two arrays of float64."""
    _run("add", target, one, other, nontemporal=nontemporal, threads=threads)


def stream_triad(
    target: NDArray[Any],
    one: NDArray[Any],
    other: NDArray[Any],
    *,
    nontemporal: bool = True,
    threads: int = 1,
) -> None:
    """Write one + 3 times the other, of float64: STREAM's triad."""
    _run("triad", target, one, other, nontemporal=nontemporal, threads=threads)


def stream_write(array: NDArray[Any], *, nontemporal: bool = True, threads: int = 1) -> None:
    """Fill an array of float64 with 3."""
    _run("write", array, nontemporal=nontemporal, threads=threads)


def transpose(
    source: NDArray[Any], out: NDArray[Any] | None = None, *, method: str = "tiles"
) -> NDArray[Any]:
    """Give a matrix turned over, in memory of its own: equal to `source.T.copy()`.

    Rows must be contiguous, elements of 1, 2, 4, 8 or 16 bytes. `method` is "tiles" (through a small
    buffer, past the caches), "halves" (cache-oblivious recursion) or "rows" (the plain loop).
    UsageError for any other input, and where `out` shares memory with `source`.
    """
    import numpy as np

    if source.ndim != 2 or source.dtype.itemsize not in _SIZES or source.dtype.hasobject:
        raise UsageError("transpose takes a matrix of elements of 1, 2, 4, 8 or 16 bytes")
    if method not in METHODS:
        raise UsageError(f"there is no method {method!r}; there are: {', '.join(METHODS)}")
    rows, columns = source.shape
    if out is None:
        out = _on_lines(columns, rows, source.dtype)
    if out.shape != (columns, rows) or out.dtype != source.dtype or not out.flags.writeable:
        raise UsageError(f"out must be a writable {columns} x {rows} array of {source.dtype}")
    if np.may_share_memory(source, out):
        raise UsageError("out must not overlap the matrix")
    if source.size:
        where = [_place(array) for array in (source, out)]
        transpose_memory(method, where[0], where[1], (rows, columns), source.dtype.itemsize)
    return out


def _on_lines(rows: int, columns: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Make a matrix that begins at a cache line, as whole-line stores want it."""
    import numpy as np

    raw = np.empty(rows * columns * dtype.itemsize + _LINE, np.uint8)
    return np.ndarray((rows, columns), dtype, raw, -raw.ctypes.data % _LINE)


def _place(array: NDArray[Any]) -> tuple[int, int]:
    """Tell where a matrix is, and how far its rows are apart."""
    step, size = array.strides[0], array.dtype.itemsize
    if array.shape[1] > 1 and array.strides[1] != size:
        raise UsageError("rows must be contiguous; pass numpy.ascontiguousarray(matrix)")
    if array.shape[0] > 1 and step < array.shape[1] * size:
        raise UsageError("rows must follow each other in memory; pass numpy.ascontiguousarray(...)")
    return array.ctypes.data, step


def prefetch_sum(
    values: NDArray[Any], index: NDArray[Any], *, distance: int = 16, rounds: int = 1
) -> int:
    """Sum a digest of `values[index]` (both of uint64) modulo 2**64, each announced `distance` ahead.

    The digest of x is `rounds` times: x ^= x >> 33; x *= 0xff51afd7ed558ccd. IndexError if an index
    is outside; 0 as distance announces nothing.
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
    """Check arrays and give their addresses; the last stands in for those that are not there."""
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
