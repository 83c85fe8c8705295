"""The history of each process, as far back as it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.observe.top.model import ProcessSample

if TYPE_CHECKING:
    from mematlas.observe.top.model import Key, MachineSnapshot


KEPT = 600  # samples per process
_ENDED_S = 300.0  # seconds that the history of an ended process is kept


class History:
    """The samples of each process, the last KEPT of them."""

    def __init__(self) -> None:
        """Create an empty history."""
        self._samples: dict[Key, list[ProcessSample]] = {}
        self._session: int | None = None
        self._last = float("-inf")

    def add(self, snapshot: MachineSnapshot) -> None:
        """Add a snapshot. A snapshot of another session or of an earlier time clears the history."""
        if snapshot.session != self._session or snapshot.clock_s <= self._last:
            self._samples.clear()
        self._session, self._last = snapshot.session, snapshot.clock_s
        for process in snapshot.processes:
            row = process.row
            samples = self._samples.setdefault(process.key, [])
            samples.append(
                ProcessSample(
                    clock_s=snapshot.clock_s,
                    rss=row.rss,
                    pss=row.pss,
                    swap=row.swap,
                    minor=row.minor_faults,
                    major=row.major_faults,
                )
            )
            del samples[:-KEPT]
        ended = self._samples.keys() - {process.key for process in snapshot.processes}
        for key in ended:
            if snapshot.clock_s - self._samples[key][-1].clock_s > _ENDED_S:
                del self._samples[key]

    def samples(self, key: Key) -> list[ProcessSample]:
        """Return the samples of a process, oldest first."""
        return list(self._samples.get(key, ()))
