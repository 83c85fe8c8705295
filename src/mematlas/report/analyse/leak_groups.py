"""Groups of live rows that are one leak: same owner, same callers, whatever the owner called."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from numpy.typing import NDArray

    from mematlas.report.analyse.stacks import Stacks
    from mematlas.report.analyse.word_frames import WordFrames

    Numbers = NDArray[np.int64]
    Floats = NDArray[np.float64]

_CALLERS = 3  # as many as a view shows
_MIX = np.uint64(0x9E3779B97F4A7C15)
ERRORS = 2.0  # standard errors below which a figure says nothing


def group(
    stacks: Stacks, stack: Numbers, apart: NDArray[np.bool_], live: Floats, variance: Floats
) -> Numbers:
    """Return the group of each row, numbered from 0.

    Rows of one owner and callers are a group. Groups that say nothing alone are joined, one for each owner.
    `apart`: rows that never share a group with the others.
    """
    ranks: dict[int, int] = {}
    owner = _owners(stacks, stack, ranks) * 2 + apart
    finest = _numbered(_with_callers(stacks, stack, owner, ranks))
    held, noise = (np.bincount(finest, column) for column in (live, variance))
    silent = (held <= ERRORS * np.sqrt(np.maximum(noise, 0)))[finest]
    joined = np.where(silent, owner + (finest.max() + 1 if len(finest) else 0), finest)
    return _numbered(joined)


def _owners(stacks: Stacks, stack: Numbers, ranks: dict[int, int]) -> Numbers:
    """Return the number of each stack's owning frame; equal frames have one number."""
    which, frames = stacks.owners_of(stack, ranks)
    return _equal(frames)[which]


def _equal(things: Iterable[Hashable]) -> Numbers:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(each, len(numbers)) for each in things], np.int64)


def _equal_words(words: WordFrames) -> Numbers:
    """Return the number of each word's frames; words of equal frames have one number."""
    frames = _equal(words.frames)[words.numbers].tobytes()
    bounds = (8 * words.starts).tolist()
    return _equal(frames[start:end] for start, end in pairwise(bounds))


def _with_callers(
    stacks: Stacks, stack: Numbers, owner: Numbers, ranks: dict[int, int]
) -> NDArray[Any]:
    """Return a hash of the owner and the frames that called it."""
    parents, word_of = stacks.parents, stacks.word_of
    lines = np.append(_equal_words(stacks.word_frames), 0)
    node = stacks.owning_nodes(stack, ranks)
    found = owner.astype(np.uint64)
    for _ in range(_CALLERS):
        node = parents[node]
        line = np.where(node == 0, 0, lines[word_of[node]] + 1).astype(np.uint64)
        found = (found ^ (found >> np.uint64(29))) * _MIX + line
    return found


def _numbered(keys: NDArray[Any]) -> Numbers:
    found: Numbers = np.unique(keys, return_inverse=True)[1].astype(np.int64)
    return found
