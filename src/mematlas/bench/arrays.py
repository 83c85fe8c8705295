"""The bandwidth loops as functions on NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mematlas import native
from mematlas.bench.sharing import cpus_for
from mematlas.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def stream_read(array: NDArray[Any], *, threads: int = 1) -> float:
    """Sum an array of float64, as fast as memory gives it (in no particular order)."""
    where = _addresses(array)
    return native.run_stream("read", *where, count=array.size, cpus=_cpus(threads))[1]


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


def _run(operation: str, *arrays: NDArray[Any], nontemporal: bool, threads: int) -> None:
    import numpy as np

    target, *sources = arrays
    if not target.flags.writeable:
        raise UsageError("the array to write to is read-only")
    if any(np.may_share_memory(target, each) for each in sources):
        raise UsageError("the array to write to overlaps one that is read")
    where = _addresses(*arrays, any_type=operation == "copy")
    native.run_stream(operation, *where, count=target.size, bypass=nontemporal, cpus=_cpus(threads))


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
