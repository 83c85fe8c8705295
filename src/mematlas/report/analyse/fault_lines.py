"""Sampled page faults by line of code and owner of the memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mematlas.report.analyse.lines import owning_frame

if TYPE_CHECKING:
    from mematlas.recording.model import Frame
    from mematlas.report.model.report import StackFaults


@dataclass(slots=True)
class FaultLine:
    """Page faults of one line, by owner of the memory.

    An owner is the line that allocated the memory, or the name of memory that no allocation explains.
    """

    frame: Frame | None
    bytes: int = 0
    faults: int = 0
    major_faults: int = 0
    owners: dict[Frame | str, list[int]] = field(default_factory=dict)  # bytes and faults

    def ranked_owners(self) -> list[tuple[Frame | str, int, int]]:
        """Return owner, bytes and faults, largest first."""
        ranked = sorted(self.owners.items(), key=lambda item: [-sums for sums in item[1]])
        return [(owner, size, faults) for owner, (size, faults) in ranked]


def fault_lines(sites: tuple[StackFaults, ...]) -> list[FaultLine]:
    """Sum page faults by the line that took them, most bytes first."""
    found: dict[Frame | None, FaultLine] = {}
    for site in sites:
        frame = owning_frame(site.frames)
        line = found.setdefault(frame, FaultLine(frame))
        line.bytes += site.bytes
        line.faults += site.faults
        line.major_faults += site.major_faults
        sums = line.owners.setdefault(_owner(site), [0, 0])
        sums[0] += site.bytes
        sums[1] += site.faults
    return sorted(found.values(), key=lambda line: (-line.bytes, -line.faults))


def _owner(site: StackFaults) -> Frame | str:
    if site.owner is None:
        return site.memory
    return owning_frame(site.owner) or f"memory ({site.memory}) of an unknown stack"
