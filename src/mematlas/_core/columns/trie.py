"""Tries of stacks, and columns of the rows of recordings."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Indices = NDArray[np.uint32]

_FEW_WORDS = 1 << 15


def _pointer(array: NDArray[Any], code: str, kind: str) -> Any:
    if array.dtype.str != code or not array.flags.c_contiguous:
        message = f"expected a contiguous array of {code}"
        raise TypeError(message)
    return ffi.from_buffer(kind, array)


def _parents(parents: Indices) -> Any:
    return _pointer(parents, "<u4", "uint32_t[]")


def _any(array: NDArray[Any]) -> Any:
    """Return the address of a contiguous array of any type."""
    if not array.flags.c_contiguous:
        message = "expected a contiguous array"
        raise TypeError(message)
    return ffi.cast("void *", ffi.from_buffer("char[]", array))


def _same_length(parents: Indices, other: NDArray[Any]) -> None:
    if len(parents) != len(other):
        message = f"{len(other)} figures for {len(parents)} nodes"
        raise ValueError(message)


def check_parents(parents: Indices, first: int = 0) -> None:
    """Raise ValueError if one of the nodes from number `first` on comes before its parent."""
    if lib.mematlas_trie_check(_parents(parents), first, len(parents)):
        message = "a node comes before its parent"
        raise ValueError(message)


def trie_depths(parents: Indices) -> Indices:
    """Return the depth of each node. OSError EINVAL: a node comes before its parent."""
    import numpy as np

    depths = np.empty(len(parents), np.uint32)
    check(lib.mematlas_trie_depths(_parents(parents), len(parents), _parents(depths)))
    return depths


def trie_least(parents: Indices, words: NDArray[Any], ranks: NDArray[np.int32]) -> NDArray[Any]:
    """Return for each node the word of least rank on its path to the root; the innermost of equals.

    The last rank stands for no word, which the root has, and is the greatest. OSError EINVAL as above,
    or for a word without a rank.
    """
    import numpy as np

    _same_length(parents, words)
    least = np.empty(len(parents), words.dtype)
    ranked = _pointer(ranks, "<i4", "int32_t[]")
    held, given = (ffi.from_buffer("char[]", np.ascontiguousarray(each)) for each in (words, least))
    check(
        lib.mematlas_trie_least(
            *(_parents(parents), ffi.cast("void *", held), words.dtype.itemsize, len(parents)),
            *(ranked, len(ranks) - 1, ffi.cast("void *", given)),
        )
    )
    return least


def trie_nearest(parents: Indices, marked: Indices) -> Indices:
    """Return for each node the number of the innermost marked node on its path, itself included.

    `marked` is ascending. Nodes without a marked one have len(marked). OSError EINVAL: not a trie, or
    `marked` is not ascending or has an unknown node.
    """
    import numpy as np

    nearest = np.empty(len(parents), np.uint32)
    check(
        lib.mematlas_trie_nearest(
            *(_parents(parents), len(parents), _parents(marked), len(marked), _parents(nearest))
        )
    )
    return nearest


def trie_climb(
    parents: Indices, words: NDArray[Any], passed: NDArray[np.bool_], nodes: Indices
) -> None:
    """Replace each of `nodes` by the first node towards the root whose word is not passed over, in place.

    The root is never passed. OSError EINVAL: not a trie, or an unknown node.
    """
    _same_length(parents, words)
    check(
        lib.mematlas_trie_climb(
            *(_parents(parents), _any(words), words.dtype.itemsize, len(parents)),
            *(_pointer(passed, "|b1", "uint8_t[]"), len(passed), _parents(nodes), len(nodes)),
        )
    )


def trie_own(parents: Indices, words: NDArray[Any], least: NDArray[Any], nodes: Indices) -> None:
    """Replace each of `nodes` by the node that has the word which trie_least() found for it, in place.

    OSError EINVAL: not a trie, or an unknown node.
    """
    _same_length(parents, words)
    _same_length(parents, least)
    if words.dtype != least.dtype:
        message = "words of two widths"
        raise TypeError(message)
    check(
        lib.mematlas_trie_own(
            *(_parents(parents), _any(words), _any(least), words.dtype.itemsize, len(parents)),
            *(_parents(nodes), len(nodes)),
        )
    )


def trie_preorder(parents: Indices, order: Indices) -> Indices:
    """Return the root and the nodes of `order` below it in preorder; of siblings the last of `order` first.

    A node whose parent is not in `order` is left out. OSError EINVAL: not a trie, an unknown node, or
    one that comes twice.
    """
    import numpy as np

    first, following, found = (np.empty(len(parents), np.uint32) for _ in range(3))
    count = check(
        lib.mematlas_trie_preorder(
            *(_parents(parents), len(parents), _parents(order), len(order)),
            *(_parents(first), _parents(following), _parents(found)),
        )
    )
    return found[:count]


def trie_add_up(
    parents: Indices, sums: NDArray[np.int64], kept: NDArray[np.bool_] | None = None
) -> None:
    """Add each node's sum to its parent's in place, children first, except for nodes in `kept`."""
    _same_length(parents, sums)
    mask = ffi.NULL
    if kept is not None:
        _same_length(parents, kept)
        mask = _pointer(kept, "|b1", "uint8_t[]")
    added = _pointer(sums, "<i8", "int64_t[]")
    check(lib.mematlas_trie_add_up(_parents(parents), mask, len(parents), added))


def number_words(words: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], Indices]:
    """Return the distinct words in ascending order, and the index of each word among them."""
    import numpy as np

    numbers = np.empty(len(words), np.uint32)
    capacity, found = min(_FEW_WORDS, len(words)), -errno.ENOSPC
    while found == -errno.ENOSPC:
        distinct = np.empty(capacity, np.uint64)
        found = lib.mematlas_unique_inverse(
            _pointer(words, "<u8", "uint64_t[]"),
            len(words),
            capacity,
            _parents(numbers),
            _pointer(distinct, "<u8", "uint64_t[]"),
        )
        capacity = min(16 * capacity, len(words))
    distinct = distinct[: check(found)]
    order = np.argsort(distinct)
    places = np.empty(len(order), np.uint32)
    places[order] = np.arange(len(order), dtype=np.uint32)
    return distinct[order], places[numbers]


def join_column(turned: bytes | memoryview, rows: int, place: int, column: NDArray[Any]) -> None:
    """Fill a column from transposed rows; `place` is its first byte in a row."""
    size = column.dtype.itemsize
    have = memoryview(turned).nbytes
    if len(column) != rows or have < (place + size) * rows or not column.flags.c_contiguous:
        message = "the column is not one of these rows"
        raise ValueError(message)
    filled = ffi.from_buffer("char[]", column)
    with ffi.from_buffer("uint8_t[]", turned) as data:
        check(lib.mematlas_rows_column(data, rows, place, size, ffi.cast("void *", filled)))


class LabelTree:
    """A growing trie of labels. Node 0 is the root; nodes are numbered in order of insertion."""

    def __init__(self) -> None:
        """Create a trie of the root alone."""
        holder = ffi.new("struct mematlas_tree **")
        check(lib.mematlas_tree_create(holder))
        self._tree = ffi.gc(holder[0], lib.mematlas_tree_destroy)

    def __len__(self) -> int:
        return int(lib.mematlas_tree_read(self._tree, ffi.NULL, ffi.NULL))

    def child(self, parent: int, label: int) -> int:
        """Return the child of a label, inserted if it is new. OSError EINVAL: no such parent."""
        return check(lib.mematlas_tree_child(self._tree, parent, label))

    def merge(
        self, under: int, parents: Indices, words: NDArray[Any], labels: Sequence[Sequence[int]]
    ) -> Indices:
        """Merge a trie below a node and return the new number of each of its nodes.

        labels[words[n]] are the labels of node n, outermost first. OSError EINVAL: not a trie.
        """
        import numpy as np

        _same_length(parents, words)
        words = np.ascontiguousarray(words, np.uint32)
        if not 0 <= under < len(self) or (len(words) and int(words.max()) >= len(labels)):
            message = "no such node, or a word without labels"
            raise ValueError(message)
        starts = np.zeros(len(labels) + 1, np.uint32)
        starts[1:] = np.cumsum([len(each) for each in labels])
        flat = np.array([label for each in labels for label in each], np.uint32)
        nodes = np.empty(len(parents), np.uint32)
        columns = (_parents(each) for each in (parents, words))
        check(
            lib.mematlas_tree_merge(
                self._tree,
                under,
                *columns,
                len(parents),
                *(_parents(each) for each in (starts, flat, nodes)),
            )
        )
        return nodes

    def columns(self) -> tuple[Indices, Indices]:
        """Return parents and labels of the nodes; the root's are 0."""
        import numpy as np

        parents, labels = np.empty(len(self), np.uint32), np.empty(len(self), np.uint32)
        lib.mematlas_tree_read(self._tree, _parents(parents), _parents(labels))
        return parents, labels
