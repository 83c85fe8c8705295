"""What a recording holds and how often it is sampled."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from mematlas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

GraphMoment: TypeAlias = Literal["peak", "exit"]

SAMPLE_BYTES = 512 << 10
INTERVAL_S = 1.0
KEEP_S = 24 * 3600.0
DISK_BYTES, LEAST_DISK_BYTES = 1 << 30, 4 << 20
FAULT_PERIOD = 61  # prime, so that no loop of the program runs in step with it
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")


def checked_labels(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return labels by name.

    Raises:
        UsageError: a name has other characters than letters, digits, "_", "-" and ".", or is too long.
    """
    for name in labels:
        if not _LABEL.fullmatch(name):
            raise UsageError(
                f"{name!r} is no name of a label; take letters, digits, _ - and ., 63 at most"
            )
    return tuple(sorted((name, str(value)) for name, value in labels.items()))


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Settings of one recording.

    Attributes:
        exact: record every allocation and free; else sample them.
        sample_bytes: mean number of allocated bytes between two samples; unused if exact.
        interval_s: seconds between residency snapshots.
        fault_period: one of so many minor page faults is sampled; 0: none.
        idle_s: seconds after which untouched pages count as idle; 0: idle pages are not sampled.
        seed: seed of the sampler; 0: a different one each time.
        budget: share of one CPU that residency snapshots may take.
        labels: names and values that the user gives the recording, by name.
        keep_s: a rolling recording keeps so many seconds; 0: all, in one file.
        disk_bytes: a rolling recording takes no more of the disk.
        when: conditions for looks that are kept, as Conditions reads them; "": none.
        temporary: the recording is removed at its end,
        reader: when the process of this PID, which reads it, has ended too; 0: there is none.
        graphs: moments at which the heap graph is taken, "peak" and "exit"; of an exact recording only.
    """

    exact: bool = False
    sample_bytes: int = SAMPLE_BYTES
    interval_s: float = INTERVAL_S
    fault_period: int = FAULT_PERIOD
    idle_s: float = 0.0
    seed: int = 0
    budget: float = 0.02
    labels: tuple[tuple[str, str], ...] = ()
    keep_s: float = 0.0
    disk_bytes: int = DISK_BYTES
    when: str = ""
    temporary: bool = False
    reader: int = 0
    graphs: tuple[GraphMoment, ...] = ()

    @property
    def rolls(self) -> bool:
        """Whether the recording is a folder of segments, the oldest of which go."""
        return self.keep_s > 0

    @property
    def ring_bytes(self) -> int:
        """Bytes of each thread's ring: capacity for the records made while the collector sleeps."""
        return 1 << 20 if self.exact else 256 << 10
