"""Rows that stay packed until accessed: a long run has hundreds of snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.recording.model import Rows


class LazyRows:
    """Array of rows that is unpacked at each access. Nothing is kept."""

    __slots__ = ("_make", "dtype")

    def __init__(self, dtype: np.dtype[np.void], make: Callable[[], Rows]) -> None:
        """Store the dtype and the function that unpacks the rows."""
        self.dtype = dtype
        self._make = make

    def unpack(self) -> Rows:
        """Unpack the rows once, for access to several columns."""
        return self._make()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Rows:
        """Return the rows."""
        return np.asarray(self._make(), dtype)

    def __getitem__(self, index: Any) -> Any:
        """Return rows or a column."""
        return self._make()[index]

    def __len__(self) -> int:
        return len(self._make())

    def tobytes(self) -> bytes:
        """Return the rows as bytes."""
        return self._make().tobytes()

    def tolist(self) -> list[Any]:
        """Return the rows as a list of tuples."""
        rows: list[Any] = self._make().tolist()
        return rows

    def __repr__(self) -> str:
        return repr(self._make())
