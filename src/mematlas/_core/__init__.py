"""Typed facade over the C core: buffers in, buffers out, errors as OSError. Only this package uses `_native`, and `mematlas.mark`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mematlas._core.alloc.arena import ArenaHandle, ArenaStats
    from mematlas._core.alloc.arrays import STEPS as ARRAY_STEPS
    from mematlas._core.alloc.arrays import ArrayHandler, ArrayStats, swap_handler
    from mematlas._core.alloc.linking import compile_flags, pkgconfig_folder
    from mematlas._core.alloc.pool import PoolHandle, PoolStats
    from mematlas._core.attach.code import ProcessCode
    from mematlas._core.attach.thread import Place, StoppedThread, Verdict
    from mematlas._core.bench.fault import (
        advise_timed,
        fork_timed,
        map_timed,
        touch_pages,
        unmap_timed,
    )
    from mematlas._core.bench.pointer_chase import gather_sum, link_pointer_chase, run_pointer_chase
    from mematlas._core.bench.sharing import SHARING_MODES, run_sharing
    from mematlas._core.bench.stream import (
        STREAM_OPERATIONS,
        run_pingpong,
        run_stream,
        stream_reader,
        stream_vectors,
    )
    from mematlas._core.binding import PAGE
    from mematlas._core.collector import Collector
    from mematlas._core.collector_model import (
        LIVE_BLOCK_FORMAT,
        Event,
        Faults,
        LeftKind,
        ResidencySnapshot,
        SessionSettings,
        Sums,
        Traced,
        left_kind,
    )
    from mematlas._core.heap.blocks import (
        EXACT_ROOT,
        NO_BLOCK,
        ROOT_FORMAT,
        AllocatorSums,
        AreaKind,
        BlockState,
        FindingKind,
        GlibcSums,
        HeapHandle,
        HeapModule,
        Origin,
        Rank,
        RawFinding,
        RawRange,
        TypeKind,
        sum_groups,
    )
    from mematlas._core.proc.charged_frames import (
        ChargedFrames,
        FileCharge,
        file_charge,
        read_charged_frames,
    )
    from mematlas._core.proc.chunks import HeapWalk, walk_heap
    from mematlas._core.proc.maps import ABSENT, MAPS_COLUMNS, MapsColumns, read_maps
    from mematlas._core.proc.page_cache import cachestat, mincore_file
    from mematlas._core.proc.pages import join_frames, read_pagemap, scan_pagemap
    from mematlas._core.snapshot.image import (
        GENERAL_REGISTERS,
        Capture,
        CaptureWay,
        CopiedRange,
        CopiedThread,
        PauseTooLongError,
        Survey,
        capture_process,
        read_process,
        survey_process,
    )
    from mematlas._core.syscalls.heap import read_heap, trim_heap
    from mematlas._core.syscalls.mapping import (
        add_to_counter,
        address_of,
        advise,
        buffer_at,
        create_memfd,
        create_secret_memfd,
        lock_all,
        lock_memory,
        map_memory,
        name_memory,
        protect_memory,
        unlock_memory,
        unmap_memory,
        wipe_memory,
    )
    from mematlas._core.syscalls.numa import (
        bind_memory,
        migrate_pages,
        move_pages,
        policy,
        set_policy,
    )
    from mematlas._core.syscalls.perf import (
        PerfFlag,
        open_exec_records,
        open_perf_counter,
        open_perf_sampler,
    )
    from mematlas._core.syscalls.process import (
        add_personality,
        disable_thp,
        same_address_space,
        trace_me,
        trace_run_to,
    )

__all__ = [
    "ABSENT",
    "ARRAY_STEPS",
    "EXACT_ROOT",
    "GENERAL_REGISTERS",
    "LIVE_BLOCK_FORMAT",
    "MAPS_COLUMNS",
    "NO_BLOCK",
    "PAGE",
    "ROOT_FORMAT",
    "SHARING_MODES",
    "STREAM_OPERATIONS",
    "AllocatorSums",
    "AreaKind",
    "ArenaHandle",
    "ArenaStats",
    "ArrayHandler",
    "ArrayStats",
    "BlockState",
    "Capture",
    "CaptureWay",
    "ChargedFrames",
    "Collector",
    "CopiedRange",
    "CopiedThread",
    "Event",
    "Faults",
    "FileCharge",
    "FindingKind",
    "GlibcSums",
    "HeapHandle",
    "HeapModule",
    "HeapWalk",
    "LeftKind",
    "MapsColumns",
    "Origin",
    "PauseTooLongError",
    "PerfFlag",
    "Place",
    "PoolHandle",
    "PoolStats",
    "ProcessCode",
    "Rank",
    "RawFinding",
    "RawRange",
    "ResidencySnapshot",
    "SessionSettings",
    "StoppedThread",
    "Sums",
    "Survey",
    "Traced",
    "TypeKind",
    "Verdict",
    "add_personality",
    "add_to_counter",
    "address_of",
    "advise",
    "advise_timed",
    "bind_memory",
    "buffer_at",
    "cachestat",
    "capture_process",
    "compile_flags",
    "create_memfd",
    "create_secret_memfd",
    "disable_thp",
    "file_charge",
    "fork_timed",
    "gather_sum",
    "join_frames",
    "left_kind",
    "link_pointer_chase",
    "lock_all",
    "lock_memory",
    "map_memory",
    "map_timed",
    "migrate_pages",
    "mincore_file",
    "move_pages",
    "name_memory",
    "open_exec_records",
    "open_perf_counter",
    "open_perf_sampler",
    "pkgconfig_folder",
    "policy",
    "protect_memory",
    "read_charged_frames",
    "read_heap",
    "read_maps",
    "read_pagemap",
    "read_process",
    "run_pingpong",
    "run_pointer_chase",
    "run_sharing",
    "run_stream",
    "same_address_space",
    "scan_pagemap",
    "set_policy",
    "stream_reader",
    "stream_vectors",
    "sum_groups",
    "survey_process",
    "swap_handler",
    "touch_pages",
    "trace_me",
    "trace_run_to",
    "trim_heap",
    "unlock_memory",
    "unmap_memory",
    "unmap_timed",
    "walk_heap",
    "wipe_memory",
]

_MODULES = {
    "alloc.arena": "ArenaHandle ArenaStats",
    "alloc.arrays": "ARRAY_STEPS ArrayHandler ArrayStats swap_handler",
    "alloc.linking": "compile_flags pkgconfig_folder",
    "alloc.pool": "PoolHandle PoolStats",
    "attach.code": "ProcessCode",
    "attach.thread": "Place StoppedThread Verdict",
    "bench.fault": "advise_timed fork_timed map_timed touch_pages unmap_timed",
    "bench.pointer_chase": "gather_sum link_pointer_chase run_pointer_chase",
    "bench.sharing": "SHARING_MODES run_sharing",
    "bench.stream": "STREAM_OPERATIONS run_pingpong run_stream stream_reader stream_vectors",
    "binding": "PAGE",
    "collector": "Collector",
    "collector_model": (
        "LIVE_BLOCK_FORMAT Event Faults LeftKind ResidencySnapshot SessionSettings Sums Traced left_kind"
    ),
    "proc.charged_frames": "ChargedFrames FileCharge file_charge read_charged_frames",
    "heap.blocks": (
        "EXACT_ROOT NO_BLOCK ROOT_FORMAT AllocatorSums AreaKind BlockState FindingKind GlibcSums "
        "HeapHandle HeapModule Origin Rank RawFinding RawRange TypeKind sum_groups"
    ),
    "proc.chunks": "HeapWalk walk_heap",
    "proc.maps": "ABSENT MAPS_COLUMNS MapsColumns read_maps",
    "proc.page_cache": "cachestat mincore_file",
    "proc.pages": "join_frames read_pagemap scan_pagemap",
    "snapshot.image": (
        "GENERAL_REGISTERS Capture CaptureWay CopiedRange CopiedThread PauseTooLongError Survey "
        "capture_process "
        "read_process survey_process"
    ),
    "syscalls.heap": "read_heap trim_heap",
    "syscalls.mapping": (
        "add_to_counter address_of advise buffer_at create_memfd create_secret_memfd lock_all "
        "lock_memory map_memory name_memory protect_memory unlock_memory unmap_memory "
        "wipe_memory"
    ),
    "syscalls.numa": "bind_memory migrate_pages move_pages policy set_policy",
    "syscalls.perf": "PerfFlag open_exec_records open_perf_counter open_perf_sampler",
    "syscalls.process": "add_personality disable_thp same_address_space trace_me trace_run_to",
}
"""The names by module. A module is imported at the first access to one of its names: most commands need few."""
_RENAMED = {"ARRAY_STEPS": "STEPS"}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}


if not TYPE_CHECKING:  # else a type checker would accept any name

    def __getattr__(name: str) -> Any:
        """Import a name at its first access."""
        if name not in _MODULE_OF:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        module = import_module(f"{__name__}.{_MODULE_OF[name]}")
        found = globals()[name] = getattr(module, _RENAMED.get(name, name))
        return found
