"""Sampling of page faults with their addresses and stacks, by perf_event_open(2)."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mematlas.linux import perf
from mematlas.linux.mappings import Permission
from mematlas.linux.perf_samples import Execed, Forked, PerfMapping, PerfSampler, Sample
from mematlas.observe.page_faults import PERIOD
from mematlas.observe.page_faults.model import FaultSite, FaultSiteCount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.linux.mappings import Mappings
    from mematlas.linux.perf_samples import Record


@dataclass(slots=True)
class _Space:
    """The mappings of one process. A later mapping replaces the part of earlier ones that it covers."""

    starts: list[int] = field(default_factory=list)
    items: list[PerfMapping] = field(default_factory=list)

    def add(self, mapped: PerfMapping) -> None:
        low = bisect_right(self.starts, mapped.start)
        if low and self.items[low - 1].end > mapped.start:
            before = self.items[low - 1]
            if before.start == mapped.start:
                low -= 1
                del self.starts[low], self.items[low]
            if before.end > mapped.end:
                rest = _cut(before, mapped.end)
                self.starts.insert(low, rest.start)
                self.items.insert(low, rest)
        high = low
        while high < len(self.items) and self.items[high].end <= mapped.end:
            high += 1
        rest_of_last = []
        if high < len(self.items) and self.items[high].start < mapped.end:
            rest_of_last = [_cut(self.items[high], mapped.end)]
            high += 1
        self.items[low:high] = [mapped, *rest_of_last]
        self.starts[low:high] = [each.start for each in (mapped, *rest_of_last)]

    def at(self, address: int) -> PerfMapping | None:
        index = bisect_right(self.starts, address) - 1
        if index >= 0 and address < self.items[index].end:
            return self.items[index]
        return None

    def name(self, address: int) -> str:
        """Return the name of a mapping. The stack is the only mapping above the last known one."""
        found = self.at(address)
        if found is not None:
            return "[anonymous]" if found.name == "//anon" else found.name
        above = not self.items or address >= self.items[-1].end
        return "[stack]" if above else "[unknown]"

    def copy(self) -> _Space:
        return _Space(list(self.starts), list(self.items))


def _cut(mapped: PerfMapping, start: int) -> PerfMapping:
    offset = mapped.offset + start - mapped.start
    return replace(mapped, start=start, offset=offset)


class SiteCounter:
    """Samples the faults of processes and counts them by mapping and code address."""

    def __init__(self, tids: Sequence[int], *, on_exec: bool, period: int = PERIOD) -> None:
        """Open the ring buffers. Raises OSError if user-mode faults may not be sampled either."""
        self.period = period
        events = {perf.MINOR_FAULTS: period, perf.MAJOR_FAULTS: 1}
        try:
            self._sampler = PerfSampler(tids, events, kernel=True, on_exec=on_exec)
            self.sees_kernel = True
        except PermissionError:
            self._sampler = PerfSampler(tids, events, kernel=False, on_exec=on_exec)
            self.sees_kernel = False
        self._spaces: dict[int, _Space] = {}
        self._counts: Counter[FaultSite] = Counter()

    def add_mappings(self, pid: int, mappings: Mappings) -> None:
        """Add the mappings that a process had before sampling began."""
        space = self._spaces.setdefault(pid, _Space())
        for index in range(len(mappings)):
            space.add(
                PerfMapping(
                    0,
                    pid,
                    int(mappings.start[index]),
                    int(mappings.end[index]),
                    int(mappings.offset[index]),
                    os.fsdecode(mappings.name(index)) or "//anon",
                    bool(mappings.permissions[index] & Permission.EXECUTE),
                )
            )

    def poll(self, seconds: float) -> None:
        """Wait at most `seconds` for samples, and count them."""
        self._sampler.wait(seconds)
        for record in self._sampler.drain():
            self._apply(record)

    def finish(self) -> tuple[list[FaultSiteCount], int]:
        """Count the remaining samples and close; return the sites and the number of lost samples."""
        for record in self._sampler.drain():
            self._apply(record)
        lost = self._sampler.lost
        self._sampler.close()
        return [FaultSiteCount(raw, count) for raw, count in self._counts.most_common()], lost

    def _apply(self, record: Record) -> None:
        if isinstance(record, Sample):
            self._count(record)
        elif isinstance(record, PerfMapping):
            self._spaces.setdefault(record.pid, _Space()).add(record)
        elif isinstance(record, Forked):
            parent = self._spaces.get(record.parent)
            self._spaces[record.pid] = parent.copy() if parent else _Space()
        elif isinstance(record, Execed):
            self._spaces[record.pid] = _Space()

    def _count(self, sample: Sample) -> None:
        space = self._spaces.setdefault(sample.pid, _Space())
        major = sample.event == perf.MAJOR_FAULTS
        stack = []
        for number, address in enumerate(sample.stack):
            # All frames but the leaf hold return addresses; the call lies before them.
            found = space.at(address - (number > 0))
            if found is None or not found.executable or not found.name.startswith("/"):
                if number == 0:
                    stack.append(("", address))
                break  # without frame pointers the remaining entries are not return addresses
            stack.append((found.name, address - found.start + found.offset - (number > 0)))
        site = FaultSite(tuple(stack), space.name(sample.address), sample.in_kernel, major)
        self._counts[site] += 1 if major else self.period
