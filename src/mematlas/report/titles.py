"""Titles and meanings of the parts of memory, the kinds of allocations and the metrics."""

from __future__ import annotations

from mematlas.recording.model import PartKind

PART_TITLES: dict[str, str] = {
    PartKind.LIVE: "live allocations",
    PartKind.COW: "shared copy-on-write",
    PartKind.SLACK: "allocator slack",
    PartKind.BEFORE: "before attach",
    PartKind.STACK: "thread stacks",
    PartKind.FILE: "files",
    PartKind.COPY: "written copies",
    PartKind.SHARED: "shared memory",
    PartKind.ANON: "other anonymous",
    PartKind.TRACER: "mematlas itself",
    "unexplained": "unexplained",
}
PART_MEANINGS: dict[str, str] = {
    PartKind.LIVE: "resident pages under live blocks and mappings of the program",
    PartKind.COW: "private memory that forked processes share until one of them writes to it",
    PartKind.SLACK: "resident, owned by an allocator, in no live block",
    PartKind.BEFORE: "allocated before tracing began, in no block recorded since",
    PartKind.STACK: "stacks of the program's threads",
    PartKind.FILE: "unchanged pages of mapped files: the kernel can drop them",
    PartKind.COPY: "file pages that the program wrote, and .bss: private memory",
    PartKind.SHARED: "shared anonymous memory, memfd, /dev/shm",
    PartKind.ANON: "anonymous mappings whose creation was not traced",
    PartKind.TRACER: "memory of the tracer inside the program",
    "unexplained": "changed between two reads of the kernel's figures",
}
KIND_TITLES = {
    "malloc": "malloc blocks",
    "mmap": "mappings",
    "pyobject": "Python objects",
    "arena": "allocator arenas",
    "filemap": "unchanged file pages",
    "committed": "committed memory",
    "stack": "thread stacks",
    "shared": "shared memory",
    "copy": "written file pages",
    "touched": "touched first",
}
METRIC_TITLES = {
    "resident": "resident",
    "pss": "PSS",
    "uss": "USS",
    "live": "live",
    "peak": "live at peak",
    "allocated": "allocated",
    "huge": "in huge pages",
    "swapped": "swapped out",
    "faulted": "faulted in",
    "temporary": "temporary",
    "fragmented": "fragmented",
    "idle": "idle",
}
DIFF_TITLES = METRIC_TITLES | {
    "resident": "resident, without files",
    "peak": "highest live bytes",
}
"""What `diff` compares, by metric."""
METRIC_MEANINGS = {
    "resident": "in RAM at the time of the account",
    "pss": "in RAM at the time of the account; a page that processes share counts once in all",
    "uss": "in RAM at the time of the account, on pages that no other process maps",
    "live": "allocated and not freed at the time of the account",
    "peak": "live when the live bytes of the program were highest",
    "allocated": "allocated over the whole run, freed or not",
    "huge": "resident in transparent huge pages",
    "swapped": "written out to swap",
    "faulted": "made resident by page faults of these lines",
    "temporary": "freed within 1 ms of their allocation, over the whole run",
    "fragmented": "free bytes on pages that live blocks of these lines keep resident",
    "idle": "resident, not used for at least the time given by --idle",
}
IDLE_METHODS = {
    "idle": "idle page tracking",
    "referenced": "referenced bits of mappings",
}
CUT_SHORT = "The recording is not complete. The notes say what is missing."
