"""Names of cells: the files that IPython makes up for them become "In [2]"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mematlas.api.cell_views import (
    cell_html,
    cell_names,
    cell_numbers,
    rename_files,
    summary_text,
)

if TYPE_CHECKING:
    from mematlas.api.recording import Recording


@dataclass(frozen=True, slots=True)
class CellResult:
    """The report of a traced cell, as a notebook or a terminal shows it."""

    recording: Recording
    top: int

    def _repr_html_(self) -> str:
        """Return the report as HTML, for notebooks."""
        return cell_html(self.recording, self.top)

    def __repr__(self) -> str:
        """Return the report as text, for terminals."""
        return summary_text(self.recording, self.top)


def name_cells(recording: Recording, shell: Any, inner: dict[str, int]) -> Recording:
    """Rename the files of cells in a recording to the names that the notebook shows.

    `inner`: files of cells that a magic ran, with the numbers of the cells of these magics.
    """
    rename_files(recording, cell_names({**cell_numbers(shell), **inner}))
    return recording


def latest(numbers: dict[str, int]) -> int:
    """Return the number of the cell that was begun last."""
    return max(numbers.values(), default=0)
