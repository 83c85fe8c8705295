"""Samples of pprof's format, encoded from columns."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

_PIECE = 4 << 20  # bytes


class SampleEncoder:
    """Encoder of the samples of one process."""

    def __init__(
        self, parents: NDArray[np.uint32], locations: NDArray[np.uint32], labels: Sequence[bytes]
    ) -> None:
        """Store a trie, the location of each of its nodes, and the encoded labels of each kind of row."""
        import numpy as np

        if len(parents) != len(locations):
            message = f"{len(locations)} locations for {len(parents)} nodes"
            raise ValueError(message)
        starts = np.cumsum([0, *map(len, labels)], dtype=np.uint32)
        self._columns = {
            "parents": _typed(parents, "<u4", "uint32_t[]"),
            "locations": _typed(locations, "<u4", "uint32_t[]"),
            "suffixes": ffi.from_buffer("uint8_t[]", b"".join(labels)),
            "suffix_starts": _typed(starts, "<u4", "uint32_t[]"),
        }
        self._counts = {"nodes": len(parents), "suffix_count": len(labels)}

    def encode(
        self, stacks: NDArray[np.uint32], kinds: NDArray[np.uint8], values: NDArray[np.int64]
    ) -> Iterator[bytes]:
        """Yield the samples of some rows; row r has the values values[r] and the labels kinds[r].

        OSError EINVAL: not a trie, or no such stack or labels.
        """
        if not len(stacks) == len(kinds) == len(values):
            message = "the columns differ in length"
            raise ValueError(message)
        done, size = 0, _PIECE
        rows = ffi.new("uint64_t *")
        while done < len(stacks):
            out = bytearray(size)
            profile = ffi.new(
                "struct mematlas_pprof *",
                {
                    **self._columns,
                    **self._counts,
                    "values": _typed(values[done:], "<i8", "int64_t[]"),
                    "types": values.shape[1],
                },
            )
            written = lib.mematlas_pprof_samples(
                profile,
                *(
                    _typed(stacks[done:], "<u4", "uint32_t[]"),
                    _typed(kinds[done:], "|u1", "uint8_t[]"),
                ),
                *(len(stacks) - done, ffi.from_buffer("uint8_t[]", out), size, rows),
            )
            if written == -errno.ENOSPC:
                size *= 2
                continue
            yield bytes(memoryview(out)[: check(written)])
            done += rows[0]


def _typed(array: NDArray[Any], code: str, kind: str) -> Any:
    if array.dtype.str != code or not array.flags.c_contiguous:
        message = f"expected a contiguous array of {code}"
        raise TypeError(message)
    return ffi.from_buffer(kind, array)
