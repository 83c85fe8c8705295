"""Sources of snapshots for `mematlas top`: this machine, or a recording."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mematlas import _core
from mematlas.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Collection

    from mematlas.linux.pageflags import PageReport
    from mematlas.observe.address_space.model import AddressSpace
    from mematlas.observe.page_faults.model import FaultSnapshot
    from mematlas.observe.top.model import Key, MachineSnapshot
    from mematlas.observe.top.read import TopSampler
    from mematlas.observe.top.snapshots import SnapshotReader, SnapshotWriter

_STRIPS = 20  # mappings drawn
_HISTORY = 600  # snapshots unpacked before the one that is jumped to


class LiveFeed:
    """Snapshots of this machine, each recorded before it is shown."""

    length = None

    def __init__(self, sampler: TopSampler, recorder: SnapshotWriter | None) -> None:
        """Store the sampler, and the recorder if snapshots are recorded."""
        self._sampler, self._recorder = sampler, recorder
        self.position = -1

    def next(self, wanted: Collection[int] | None) -> MachineSnapshot | None:
        """Take a snapshot."""
        snapshot = self._sampler.read(wanted)
        if self._recorder is not None:
            self._recorder.add(snapshot)
        self.position += 1
        return snapshot

    def seek(self, to: int) -> list[MachineSnapshot]:
        """Raise NotImplementedError: only a recording can be searched."""
        raise NotImplementedError(to)

    def close(self) -> None:
        """Close the recording."""
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None


class ReplayFeed:
    """Snapshots of a recording."""

    def __init__(self, snapshots: SnapshotReader) -> None:
        """Start before the first snapshot."""
        self._snapshots = snapshots
        self.position = -1

    @property
    def length(self) -> int:
        """Number of snapshots in the recording."""
        return len(self._snapshots)

    def next(self, _: Collection[int] | None) -> MachineSnapshot | None:
        """Unpack the next snapshot; None at the end."""
        if self.position + 1 >= self.length:
            return None
        self.position += 1
        return self._snapshots[self.position]

    def seek(self, to: int) -> list[MachineSnapshot]:
        """Unpack a snapshot and those before it, for the history."""
        self.position = to
        return [self._snapshots[each] for each in range(max(0, to - _HISTORY), to + 1)]

    def close(self) -> None:
        """Close the file."""
        self._snapshots.close()


class LiveInspector:
    """Details of processes of this machine; a reused PID is refused."""

    def address_space(self, key: Key) -> AddressSpace:
        """Read the address space of a process."""
        from mematlas import observe

        found = observe.show(key[0])
        _check(key)
        return found

    def pages(self, key: Key, width: int) -> PageReport:
        """Read the state of the pages of a process."""
        from mematlas import observe
        from mematlas.observe.page_states.analyse import keep_largest_strips

        found = observe.pages(key[0], width=width)
        _check(key)
        return keep_largest_strips(found, _STRIPS)

    def faults(self, key: Key) -> FaultSnapshot:
        """Read the fault counters of the threads of a process."""
        from mematlas.observe.page_faults import read

        found = read.read(key[0])
        _check(key)
        return found


def _check(key: Key) -> None:
    from mematlas.linux.processes import read_stat

    try:
        if read_stat(f"/proc/{key[0]}").started == key[1]:
            return
    except OSError:
        pass
    raise TargetError(f"process {key[0]} has ended")


def describe_machine() -> dict[str, Any]:
    """Return the machine that a recording is made on."""
    system = os.uname()
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "host": system.nodename,
        "kernel": system.release,
        "page_bytes": _core.PAGE,
        "boot_id": boot.read_text().strip() if boot.exists() else None,
    }
