"""A recording while it is read: everything the chunks so far add up to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mematlas.recording import model, row_types
from mematlas.recording.columns import join_rows
from mematlas.recording.validate import amount_of, check_node

if TYPE_CHECKING:
    from mematlas.linux.room import Room
    from mematlas.recording.columns import Part
    from mematlas.recording.format import Payload
    from mematlas.recording.model import Rows

    Metadata = dict[str, Any]

MOST_SNAPSHOTS = 200  # of a process; above that every second regular snapshot is dropped
REGULAR = ("interval", "peak")


@dataclass(frozen=True, slots=True)
class PackedSnapshot:
    """A snapshot that is not inflated yet."""

    number: int  # index among all snapshots of the file
    metadata: Metadata
    flags: int
    payload: Payload

    @property
    def rss_bytes(self) -> int:
        """RSS at the snapshot."""
        return amount_of(self.metadata["rss_bytes"])


@dataclass(slots=True)
class KeptSnapshots:
    """The kept snapshots of one process, with their index within the process."""

    kept: list[tuple[int, PackedSnapshot]] = field(default_factory=list)
    count: int = 0
    stride: int = 1  # one of `stride` regular snapshots is kept

    def add(self, snapshot: PackedSnapshot) -> None:
        """Add a snapshot. The last, the highest and the irregular ones are always kept."""
        self.kept.append((self.count, snapshot))
        self.count += 1
        if len(self.kept) > MOST_SNAPSHOTS:
            self.stride *= 2
        if self.stride > 1:
            highest = max((each for _, each in self.kept), key=lambda each: each.rss_bytes)
            self.kept = [
                (number, each)
                for number, each in self.kept
                if number % self.stride == 0
                or each is highest
                or each is snapshot
                or each.metadata["trigger"] not in REGULAR
            ]


@dataclass(slots=True)
class PartialRecording:
    """Everything the chunks read so far add up to."""

    header: Metadata | None = None
    processes: dict[int, model.Process] = field(default_factory=dict)
    nodes: dict[int, list[Part]] = field(default_factory=dict)
    node_count: dict[int, int] = field(default_factory=dict)
    modules: dict[int, list[model.Module]] = field(default_factory=dict)
    codes: dict[int, list[model.CodeObject]] = field(default_factory=dict)
    frames: dict[int, dict[int, tuple[model.Frame, ...]]] = field(default_factory=dict)
    snapshots_kept: dict[int, KeptSnapshots] = field(default_factory=dict)
    snapshot_count: int = 0
    packed: int = 0  # bytes of the decoded chunks in the file
    inflated: int = 0  # bytes of the decoded chunks in memory
    latest: dict[tuple[bytes, int], tuple[int, Payload]] = field(default_factory=dict)
    frame_of: dict[tuple[Any, ...], model.Frame] = field(default_factory=dict)
    snapshots: list[model.Snapshot] = field(default_factory=list)
    totals: dict[int, model.Totals] = field(default_factory=dict)
    changes: dict[int, list[tuple[int, Payload]]] = field(default_factory=dict)
    timeline: dict[int, list[Rows]] = field(default_factory=dict)
    fault_sites: dict[int, model.FaultSites] = field(default_factory=dict)
    lifetimes: dict[int, Rows] = field(default_factory=dict)
    age_matrix: dict[int, model.AgeMatrix] = field(default_factory=dict)
    idle: dict[int, model.IdleScan] = field(default_factory=dict)
    objects: dict[int, model.Objects] = field(default_factory=dict)
    heaps: dict[int, model.GlibcHeaps] = field(default_factory=dict)
    rooms: dict[int, Room] = field(default_factory=dict)
    bad_frees: dict[int, tuple[model.BadFreeEvent, ...]] = field(default_factory=dict)
    packed_fragmentation: dict[tuple[int, float], tuple[int, Payload]] = field(default_factory=dict)
    fragmentation: dict[tuple[int, float], model.Fragmentation] = field(default_factory=dict)
    marks: list[model.Mark] = field(default_factory=list)
    packed_sharing: dict[tuple[int, float], tuple[int, Payload]] = field(default_factory=dict)
    sharing: dict[tuple[int, float], model.Sharing] = field(default_factory=dict)
    graphs: dict[tuple[int, str], model.HeapGraph] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    allocators: dict[str, tuple[str, ...]] = field(default_factory=dict)
    complete: bool = False
    lossy: bool = False

    def finish(self, header: Metadata) -> model.RecordingData:
        """Return the complete recording."""
        return model.RecordingData(
            command=header["command"],
            started=header["started"],
            machine=header["machine"],
            sampling=header["sampling"],
            processes=[self.processes[index] for index in sorted(self.processes)],
            nodes={
                i: join_rows(row_types.NODE_DTYPE, parts, check_node)
                for i, parts in self.nodes.items()
            },
            modules=self.modules,
            codes=self.codes,
            frames=self.frames,
            snapshots=self.snapshots,
            totals=self.totals,
            timeline={index: np.concatenate(parts) for index, parts in self.timeline.items()},
            fault_sites=self.fault_sites,
            lifetimes=self.lifetimes,
            age_matrix=self.age_matrix,
            fragmentation=self.fragmentation,
            sharing=self.sharing,
            idle=self.idle,
            objects=self.objects,
            heaps=self.heaps,
            marks=sorted(self.marks, key=lambda each: each.time_s),
            rooms=self.rooms,
            bad_frees=self.bad_frees,
            graphs=self.graphs,
            notes=self.notes,
            allocators=self.allocators,
            complete=self.complete and not self.lossy,
            lossy=self.lossy,
            runs=header["runs"],
            segment=header["segment"],
        )
