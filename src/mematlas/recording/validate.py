"""Metadata of a recording as what they should be: a file may hold anything."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from mematlas._core.columns.trie import check_parents
from mematlas.recording.columns import ColumnRows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mematlas.recording.model import Rows

R = TypeVar("R")
_WIDE = 8  # bytes; what is narrower is never too large


def text_of(value: object) -> str:
    """Give a text; TypeError if it is none."""
    if not isinstance(value, str):
        message = f"{value!r} is no text"
        raise TypeError(message)
    return value


def texts_of(values: list[object]) -> list[str]:
    """Give texts; TypeError if one is none."""
    return [text_of(value) for value in values]


def number_of(value: float) -> float:
    """Give a finite number; ValueError if it is not."""
    number = float(value)
    if not math.isfinite(number):
        message = "not a finite number"
        raise ValueError(message)
    return number


def amount_of(value: float) -> int:
    """Give bytes, or a count; ValueError if nobody can have so many."""
    amount = int(value)
    if abs(amount) >= 1 << 56:
        message = "no amount of memory"
        raise ValueError(message)
    return amount


def optional(convert: Callable[[Any], R], value: object) -> R | None:
    """Convert what is there."""
    return None if value is None else convert(value)


def stack_rows(stacks: int, rows: Rows) -> Rows:
    """Give the rows back if each names a node that exists and has figures that can be told.

    Of rows whose columns are made when they are asked for, a column is looked at then.
    """
    names = rows.dtype.names or ()
    if "born" in names and (rows["born"] > rows["died"]).any():
        message = "memory died before it was born"
        raise ValueError(message)
    check = partial(check_column, stacks)
    made_later = cast("object", rows)
    if isinstance(made_later, ColumnRows):
        return cast("Rows", made_later.checked(check))
    for name in names:
        check(name, rows[name])
    return rows


def check_column(stacks: int, name: str, column: NDArray[Any]) -> None:
    """Raise ValueError if a column names what does not exist, or holds what cannot be told."""
    if name == "stack" and len(column) and int(column.max()) >= stacks:
        message = "a row names a stack that was not written"
        raise ValueError(message)
    most = 2.0**112 if name.endswith("variance") else 2.0**56  # so that sums fit 63 bits
    if column.itemsize == _WIDE and not (np.abs(column) < most).all():  # as of what is no number
        message = f"{name} holds what is no amount"
        raise ValueError(message)


def check_node(name: str, column: NDArray[Any]) -> None:
    """Raise ValueError if a node comes before its parent; a word may be any."""
    if name == "parent":
        check_parents(column)
