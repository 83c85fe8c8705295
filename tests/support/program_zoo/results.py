"""Results of runs: kept in a file of JSON lines, and read again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from .figures import Figures

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Result:
    """One program in one mode, held against its bare run."""

    program: str
    mode: str
    differences: list[str]  # none: it ran as bare
    overhead: float | None  # CPU time, in that of the bare run
    figures: Figures | None  # None: there is no recording

    def append(self, path: Path) -> None:
        """Append the result to a file."""
        with path.open("a") as file:
            file.write(json.dumps(asdict(self)) + "\n")


def read_results(path: Path) -> dict[str, dict[str, Result]]:
    """Read the results of each program by mode. The last result of a mode is the one that counts."""
    results: dict[str, dict[str, Result]] = {}
    for text in path.read_text().splitlines():
        row = json.loads(text)
        if row["figures"]:
            row["figures"] = Figures(**row["figures"])
        results.setdefault(row["program"], {})[row["mode"]] = Result(**row)
    return results
