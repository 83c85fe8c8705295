"""Checks of metadata and rows: a file may contain anything."""

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
_MOST = 1 << 56  # of bytes, counts and seconds
_MOST_VARIANCE = 2.0**112  # so that sums fit 63 bits
_LEAST_CELL_S = 1e-9
_WIDE = 8  # bytes; narrower integers are always below the limit


def text_of(value: object) -> str:
    """Return a string. Raises TypeError for anything else."""
    if not isinstance(value, str):
        message = f"{value!r} is not a string"
        raise TypeError(message)
    return value


def texts_of(values: list[object]) -> list[str]:
    """Return strings. Raises TypeError for anything else."""
    return [text_of(value) for value in values]


def number_of(value: float) -> float:
    """Return a number. Raises ValueError if it is not finite, or above 2**56."""
    number = float(value)
    if not math.isfinite(number) or abs(number) >= _MOST:
        message = "number out of range"
        raise ValueError(message)
    return number


def variance_of(value: float) -> float:
    """Return the variance of a number. Raises ValueError if it is negative, not finite, or above 2**112."""
    variance = float(value)
    if not 0 <= variance < _MOST_VARIANCE:  # also true for NaN
        message = "variance out of range"
        raise ValueError(message)
    return variance


def cell_length_of(value: float) -> float:
    """Return the seconds of an age matrix's cell; 0: no cells. Raises ValueError for others."""
    number = number_of(value)
    if number and number < _LEAST_CELL_S:
        message = "length of a cell out of range"
        raise ValueError(message)
    return number


def address_of(value: int) -> int:
    """Return an address. Raises ValueError if it does not fit 64 bits."""
    address = int(value)
    if not 0 <= address < 1 << 64:
        message = "address out of range"
        raise ValueError(message)
    return address


def amount_of(value: float) -> int:
    """Return bytes or a count. Raises ValueError above 2**56."""
    amount = int(value)
    if abs(amount) >= _MOST:
        message = "amount of memory out of range"
        raise ValueError(message)
    return amount


def optional(convert: Callable[[Any], R], value: object) -> R | None:
    """Convert a value; None stays None."""
    return None if value is None else convert(value)


def stack_rows(stacks: int, rows: Rows) -> Rows:
    """Return rows whose stacks exist and whose values are in range. Raises ValueError for others.

    Packed columns are checked at their access.
    """
    names = rows.dtype.names or ()
    if "born" in names and (rows["born"] > rows["died"]).any():
        message = "free time before allocation time"
        raise ValueError(message)
    check = partial(check_column, stacks)
    made_later = cast("object", rows)
    if isinstance(made_later, ColumnRows):
        return cast("Rows", made_later.checked(check))
    for name in names:
        check(name, rows[name])
    return rows


def check_column(stacks: int, name: str, column: NDArray[Any]) -> None:
    """Raise ValueError if a column refers to an unknown stack or has a value out of range."""
    if name == "stack" and len(column) and int(column.max()) >= stacks:
        message = "a row refers to an unknown stack"
        raise ValueError(message)
    most = _MOST_VARIANCE if name.endswith("variance") else _MOST
    if column.itemsize != _WIDE or not len(column):
        return
    if not (column.max() < most and column.min() > -most):  # also true for NaN
        message = f"{name} contains a value out of range"
        raise ValueError(message)


def sample_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Return samples whose values are in range; NaN: not known. Raises ValueError for others."""
    for name in rows.dtype.names or ():
        column = rows[name]
        wrong = np.abs(column) >= _MOST
        if name == "time_s":
            wrong |= np.isnan(column)
        if wrong.any():
            message = f"{name} contains a value out of range"
            raise ValueError(message)
    return rows


def check_node(name: str, column: NDArray[Any]) -> None:
    """Raise ValueError if a node comes before its parent. Any word is valid."""
    if name == "parent":
        check_parents(column)
