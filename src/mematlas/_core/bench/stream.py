"""Bandwidth loops, and the latency between two CPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

STREAM_OPERATIONS = ("read", "write", "copy", "scale", "add", "triad")
"""Names of enum mematlas_stream_operation, in its order."""


def run_stream(  # noqa: PLR0913 - three arrays, their length, and options
    operation: str,
    a: int,
    b: int,
    c: int,
    count: int,
    *,
    bypass: bool = False,
    cpus: Sequence[int] = (-1,),
    vectors: str | None = None,
) -> tuple[int, float]:
    """Run an operation on `count` doubles at addresses; return the nanoseconds and the sum that was read."""
    result = ffi.new("struct mematlas_stream_result *")
    name = ffi.NULL if vectors is None else ffi.new("char[]", vectors.encode())
    which = STREAM_OPERATIONS.index(operation)
    check(
        lib.mematlas_stream_run(name, which, bypass, a, b, c, count, cpus, len(cpus), result),
        vectors,
    )
    return int(result.ns), float(result.sum)


def stream_vectors() -> str:
    """Return the name of the widest vector instructions this CPU has loops for."""
    return str(ffi.string(lib.mematlas_stream_vectors()).decode())


def run_pingpong(first: int, second: int, rounds: int) -> int:
    """Pass a word `rounds` times between two CPUs and back; return the nanoseconds."""
    spent = ffi.new("uint64_t *")
    check(lib.mematlas_pingpong_run(first, second, rounds, spent))
    return int(spent[0])


def stream_reader() -> str | None:
    """Return the loop that this thread's last read chose, such as "AVX2 in one stream"; None before."""
    name = lib.mematlas_stream_reader()
    return ffi.string(name).decode() if name else None
