"""Rows that stay packed until somebody looks at them: a long run has hundreds of snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.recording.model import Rows


class LazyRows:
    """Stands for an array of rows, and makes it each time it is used; nothing is kept."""

    __slots__ = ("_make", "dtype")

    def __init__(self, dtype: np.dtype[np.void], make: Callable[[], Rows]) -> None:
        """Take what the rows are, and what makes them."""
        self.dtype = dtype
        self._make = make

    def unpack(self) -> Rows:
        """Make the rows, for several columns of them to be looked at."""
        return self._make()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Rows:
        """Make the rows."""
        return np.asarray(self._make(), dtype)

    def __getitem__(self, index: Any) -> Any:
        """Make the rows, and give some of them or a column."""
        return self._make()[index]

    def __len__(self) -> int:
        return len(self._make())

    def tobytes(self) -> bytes:
        """Make the rows, as bytes."""
        return self._make().tobytes()

    def tolist(self) -> list[Any]:
        """Make the rows, as a list."""
        rows: list[Any] = self._make().tolist()
        return rows

    def __repr__(self) -> str:
        return repr(self._make())
