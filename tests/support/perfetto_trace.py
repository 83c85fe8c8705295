"""Perfetto's definition of a trace for an independent decoder, and what its trace processor reads in heap profiles.

https://github.com/google/perfetto/tree/main/protos/perfetto/trace: number, type, repeated.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from protobuf_messages import decode_message

if TYPE_CHECKING:
    from pathlib import Path

_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "Trace": {"packet": (1, "TracePacket", True)},
    "TracePacket": {
        "process_tree": (2, "ProcessTree", False), "clock_snapshot": (6, "ClockSnapshot", False),
        "timestamp": (8, "uint64", False), "process_stats": (9, "ProcessStats", False),
        "trusted_packet_sequence_id": (10, "uint32", False),
        "interned_data": (12, "InternedData", False), "sequence_flags": (13, "uint32", False),
        "profile_packet": (37, "ProfilePacket", False),
    },
    "ClockSnapshot": {"clocks": (1, "Clock", True)},
    "Clock": {"clock_id": (1, "uint32", False), "timestamp": (2, "uint64", False)},
    "ProcessTree": {"processes": (1, "TreeProcess", True)},
    "TreeProcess": {
        "pid": (1, "int32", False), "ppid": (2, "int32", False), "cmdline": (3, "string", True),
    },
    "ProcessStats": {"processes": (1, "StatsProcess", True)},
    "StatsProcess": {
        "pid": (1, "int32", False), "vm_rss_kb": (3, "uint64", False),
        "vm_swap_kb": (7, "uint64", False),
    },
    "InternedData": {
        "function_names": (5, "InternedString", True), "frames": (6, "Frame", True),
        "callstacks": (7, "Callstack", True), "build_ids": (16, "InternedString", True),
        "mapping_paths": (17, "InternedString", True), "mappings": (19, "Mapping", True),
    },
    "InternedString": {"iid": (1, "uint64", False), "str": (2, "bytes", False)},
    "Frame": {
        "iid": (1, "uint64", False), "function_name_id": (2, "uint64", False),
        "mapping_id": (3, "uint64", False),
    },
    "Callstack": {"iid": (1, "uint64", False), "frame_ids": (2, "uint64", True)},
    "Mapping": {
        "iid": (1, "uint64", False), "build_id": (2, "uint64", False),
        "path_string_ids": (7, "uint64", True),
    },
    "ProfilePacket": {
        "process_dumps": (5, "ProcessHeapSamples", True), "index": (7, "uint64", False),
    },
    "ProcessHeapSamples": {
        "pid": (1, "uint64", False), "samples": (2, "HeapSample", True),
        "timestamp": (9, "uint64", False), "heap_name": (11, "string", False),
    },
    "HeapSample": {
        "callstack_id": (1, "uint64", False), "self_allocated": (2, "uint64", False),
        "self_freed": (3, "uint64", False), "alloc_count": (5, "uint64", False),
        "free_count": (6, "uint64", False),
    },
}  # fmt: skip


def decode(path: Path) -> Any:
    """Decode a trace with Google's protobuf, from its definition."""
    return decode_message(path.read_bytes(), "Trace", _MESSAGES, syntax="proto2")


class HeapProfiles:
    """The heap profiles of a trace, read as the trace processor does: what it drops fails here.

    unreleased and total are bytes by heap; stacks are those of a heap, outermost frame first, with what is unreleased.
    """

    def __init__(self, trace: Any) -> None:
        """Read the packets in order; numbers are defined before they are used, and once."""
        self.unreleased: dict[str, int] = defaultdict(int)
        self.total: dict[str, int] = defaultdict(int)
        self.blocks: dict[str, int] = defaultdict(int)
        self.stacks: dict[str, dict[tuple[str, ...], int]] = defaultdict(lambda: defaultdict(int))
        self.files: set[str] = set()
        self._known: dict[str, dict[int, Any]] = defaultdict(dict)
        index = 0
        for number, packet in enumerate(trace.packet):
            assert packet.sequence_flags == (2 if number else 1)
            for field, values in packet.interned_data.ListFields():
                for each in values:
                    assert each.iid
                    assert each.iid not in self._known[field.name]
                    self._known[field.name][each.iid] = each
            if packet.HasField("profile_packet"):
                assert packet.profile_packet.index == index
                index += 1
                for dump in packet.profile_packet.process_dumps:
                    self._add(dump)

    def _add(self, dump: Any) -> None:
        assert dump.timestamp >= 10**9
        for each in dump.samples:
            assert each.self_freed <= each.self_allocated
            left = each.self_allocated - each.self_freed
            self.unreleased[dump.heap_name] += left
            self.total[dump.heap_name] += each.self_allocated
            self.blocks[dump.heap_name] += each.alloc_count - each.free_count
            self.stacks[dump.heap_name][self._stack(each.callstack_id)] += left

    def _stack(self, number: int) -> tuple[str, ...]:
        frames = [
            self._known["frames"][each] for each in self._known["callstacks"][number].frame_ids
        ]
        assert frames
        for each in frames:
            mapping = self._known["mappings"][each.mapping_id]
            self.files |= {
                self._known["mapping_paths"][path].str.decode() for path in mapping.path_string_ids
            }
            if mapping.build_id:
                assert self._known["build_ids"][mapping.build_id].str
        names = self._known["function_names"]
        return tuple(names[each.function_name_id].str.decode() for each in frames)
