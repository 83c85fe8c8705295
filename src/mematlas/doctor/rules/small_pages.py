"""Rules about the page sizes of one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.doctor.model import Fix, FixKind, Found, ProcessState, Rule, Severity, Unknown
from mematlas.doctor.rules.fixes import inspect, percent, restart, tune
from mematlas.doctor.rules.pages import mode_of
from mematlas.linux.mappings import Permission
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.doctor.model import Answer
    from mematlas.linux.mappings import Mapping

_MIB = 1 << 20
_LARGE = 64 * _MIB  # size from which huge pages are worth a finding
_WARNING = Severity.WARNING
_WRITE = Permission.WRITE


def _anonymous(state: ProcessState) -> Iterable[Mapping]:
    for each in state.mappings:
        plain = not each.inode and not each.permissions & Permission.SHARED
        if plain and each.permissions & _WRITE and "ht" not in each.flags:
            yield each


def _fits(mapping: Mapping, pmd: int) -> int:
    """Return the bytes of a mapping that can be in huge pages."""
    first = -(-mapping.start // pmd) * pmd
    return max(0, mapping.end // pmd * pmd - first)


def _mostly_free(state: ProcessState, mapping: Mapping) -> bool:
    """Return whether most of a mapping is freed memory of malloc: huge pages would only keep it."""
    if isinstance(state.heaps, str):
        return False
    inside = [each for each in state.heaps.heaps if mapping.start <= each.start < mapping.end]
    return sum(each.trimmable for each in inside) > mapping.fields.get("Rss", 0) // 2


def _small_pages(state: ProcessState) -> Answer:
    if state.info.mappings.total("AnonHugePages") is None:
        return Unknown("this kernel's smaps lacks AnonHugePages")
    pmd = state.host.now.pmd_size
    rows = [each for each in _anonymous(state) if each.fields.get("Rss", 0) >= 2 * pmd]
    rows = [
        each
        for each in rows
        if _fits(each, pmd) >= each.size // 2 and not _mostly_free(state, each)
    ]
    resident = sum(each.fields["Rss"] for each in rows)
    huge = sum(each.fields.get("AnonHugePages", 0) for each in rows)
    if resident < _LARGE or huge >= resident // 2:
        return None
    reason, fixes = _why_small(state, rows)
    largest = sorted(
        rows, key=lambda each: each.fields.get("AnonHugePages", 0) - each.fields["Rss"]
    )
    return Found(
        _WARNING,
        f"{format_bytes(resident - huge)} of large allocations are not in huge pages of {format_bytes(pmd)}",
        (
            reason,
            f"{format_bytes(huge)} of {format_bytes(resident)} are in huge pages (AnonHugePages)",
            *(
                f"{each.start:x}-{each.end:x} {_label(each)}: {format_bytes(each.fields['Rss'])} "
                f"resident, {format_bytes(each.fields.get('AnonHugePages', 0))} huge"
                for each in largest[:3]
            ),
        ),
        fixes,
        resident - huge,
    )


def _label(mapping: Mapping) -> str:
    return mapping.name.decode("utf-8", "backslashreplace") or "anonymous"


def _why_small(state: ProcessState, rows: list[Mapping]) -> tuple[str, tuple[Fix, ...]]:
    """Return why memory is in small pages, and the fixes for that."""
    mode = mode_of(state.host)
    code = Fix(
        "thp.arrays",
        FixKind.CODE,
        'with mematlas.memory.numpy(huge="thp"): ...',
        "for arrays; from C: madvise(address, length, MADV_HUGEPAGE)",
    )
    again = restart("thp.malloc", state, "--huge thp", "malloc requests huge pages (glibc 2.35)")
    if state.info.status.lines.get("THP_enabled") == "0":
        return "huge pages are disabled for the process (PR_SET_THP_DISABLE)", (
            Fix("thp.allow", FixKind.CODE, "prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0)",
                "it is inherited: check what starts the program"),
        )  # fmt: skip
    if mode in {"never", ""}:
        return f"transparent huge pages: {mode or 'not in this kernel'}", (
            tune("thp.enable", "thp.enabled=madvise", "then restart it:"), again,
            inspect("mematlas system thp"))  # fmt: skip
    if any("nh" in each.flags for each in rows):
        return "the program disabled huge pages for this memory (MADV_NOHUGEPAGE)", (code,)
    if mode == "madvise" and not any("hg" in each.flags for each in rows):
        return "only advised memory gets huge pages, and this memory was not advised", (
            again, code, tune("thp.always", "thp.enabled=always", "for all programs"))  # fmt: skip
    return "it was touched before it was advised, or no huge page was free then", (
        Fix(
            "thp.collapse",
            FixKind.CODE,
            "mematlas.memory.collapse(array)",
            "from C: madvise(..., MADV_COLLAPSE)",
        ),
        inspect("mematlas system fragmentation"),
    )


def _bloat(state: ProcessState) -> Answer:
    use = state.huge
    if isinstance(use, str):
        return Unknown(use)
    if use.zero_bytes - 2 * use.error_bytes < 32 * _MIB or use.zero_bytes < use.huge_bytes // 4:
        return None
    mode = mode_of(state.host)
    origin = "MADV_HUGEPAGE" if use.advised else f"transparent_hugepage/enabled is {mode}"
    return Found(
        _WARNING,
        f"{format_bytes(use.zero_bytes)} of its huge pages hold only zeros",
        (
            (f"{format_bytes(use.huge_bytes)} are in huge pages ({origin}); of {use.samples:,} pages of "
            f"4 KiB read there, {percent(use.zero_bytes, use.huge_bytes)} were zero "
            f"(± {format_bytes(use.error_bytes)})"),
            *(
                f"{start:x}-{end:x}: {format_bytes(size)} in huge pages"
                for start, end, size in use.mappings
            ),
        ),
        (
            restart(
                "thp.never", state, "--huge never",
                f"up to {format_bytes(use.zero_bytes)}: pages that were never written are not made then",
            ),
            *(
                (
                    Fix("thp.no-advice", FixKind.CODE, "madvise(address, length, MADV_NOHUGEPAGE)",
                        "for memory that is touched sparsely, before its first touch; NumPy: "
                        "NUMPY_MADVISE_HUGEPAGE=0"),
                )
                if use.advised
                else ()
            ),
        ),
        use.zero_bytes,
    )  # fmt: skip


def _small_shared(state: ProcessState) -> Answer:
    rows = [
        each
        for each in state.mappings
        if each.permissions & Permission.SHARED
        and "ht" not in each.flags
        and each.name.startswith(
            (b"/memfd:", b"/dev/shm/", b"/SYSV", b"/dev/zero", b"[anon_shmem:")
        )
    ]
    resident = sum(each.fields.get("Rss", 0) for each in rows)
    huge = sum(each.fields.get("ShmemPmdMapped", 0) for each in rows)
    if resident < _LARGE or huge >= resident // 2:
        return None
    mode = mode_of(state.host, "shmem_enabled")
    fix = (
        tune(
            "thp.shmem",
            "thp.shmem=advise",
            "then advise it (MADV_HUGEPAGE) and restart the program",
        )
        if mode in {"never", "deny", ""}
        else Fix(
            "thp.region",
            FixKind.CODE,
            'Region(size, huge="thp", share=True)',
            "or MADV_HUGEPAGE, MADV_COLLAPSE",
        )
    )
    return Found(
        _WARNING,
        f"{format_bytes(resident - huge)} of shared memory are not in huge pages of "
        f"{format_bytes(state.host.now.pmd_size)}",
        (
            f"transparent_hugepage/shmem_enabled is {mode or 'not in this kernel'}"
            + (": MADV_HUGEPAGE succeeds and does nothing" if mode in {"never", "deny"} else ""),
            f"{format_bytes(huge)} of {format_bytes(resident)} in huge pages (ShmemPmdMapped)",
        ),
        (fix, inspect(f"mematlas show {state.info.pid} --mappings")),
        resident - huge,
    )


def _stacks(state: ProcessState) -> Answer:
    pointers = [each.stack_pointer for each in state.info.threads if each.stack_pointer]
    found = [state.info.mappings.find(pointer) for pointer in pointers]
    rows = [state.info.mappings.row(index) for index in set(found) if index is not None]
    huge = sum(each.fields.get("AnonHugePages", 0) for each in rows if each.name != b"[stack]")
    pmd = state.host.now.pmd_size
    if huge < 32 * _MIB:
        return None
    return Found(
        _WARNING,
        f"{format_bytes(huge)} of thread stacks are in huge pages, mostly unused",
        (f"{huge // pmd} huge pages in {len(rows)} stacks; a stack rarely needs more than 64 KiB",),
        (
            tune(
                "stacks.madvise", "thp.enabled=madvise", "stacks are not advised; then restart it"
            ),
            Fix(
                "stacks.ulimit",
                FixKind.SHELL,
                f"ulimit -s {(pmd >> 10) - 128}",
                f"before it starts: stacks below {format_bytes(pmd)} cannot hold a huge page",
            ),
            inspect(f"mematlas show {state.info.pid} --mappings"),
        ),
        huge,
    )


def _tables(state: ProcessState) -> Answer:
    sizes = state.info.status.sizes
    tables, resident = sizes.get("VmPTE", 0), sizes.get("VmRSS", 0)
    if tables < _LARGE or tables < resident // 50:
        return None
    return Found(
        _WARNING,
        f"its page tables take {format_bytes(tables)}, {percent(tables, resident)} of its RSS",
        (
            f"VmPTE {format_bytes(tables)}, VmRSS {format_bytes(resident)}: touched sparsely, or mostly freed",
        ),
        (inspect(f"mematlas show {state.info.pid} --mappings"),),
        tables,
    )


def _fork_risk(state: ProcessState) -> Answer:
    rows = [
        each
        for each in state.mappings
        if "ht" in each.flags
        and not each.permissions & Permission.SHARED
        and "dc" not in each.flags
    ]
    size = sum(each.fields.get("Private_Hugetlb", 0) for each in rows)
    if not size:
        return None
    return Found(
        _WARNING,
        f"{format_bytes(size)} of private hugetlb memory would be copied on fork",
        tuple(f"{each.start:x}-{each.end:x} {_label(each)}" for each in rows[:3]),
        (
            Fix("hugetlb.dontfork", FixKind.CODE, "madvise(address, length, MADV_DONTFORK)",
                'mematlas.memory.Region(huge="2M") does so'),
            inspect(f"mematlas show {state.info.pid} --mappings"),
        ),
        size,
    )  # fmt: skip


RULES: tuple[Rule[ProcessState], ...] = (
    Rule("thp.small-pages", "large allocations are in huge pages",
         "Small pages take hundreds of page faults and TLB entries where a huge page takes one: first touch "
         "is 5 times, random access 1.5 to 2.4 times slower.", _small_pages),
    Rule("thp.shared-small-pages", "large shared memory is in huge pages",
         "Every process that maps it takes the TLB misses, and has its own page tables.", _small_shared),
    Rule("thp.bloat", "its huge pages hold data",
         "One byte written makes 2 MiB resident where the memory is touched sparsely.", _bloat),
    Rule("thp.stacks", "thread stacks are in small pages",
         "A thread that uses 20 KiB of its stack then takes a huge page.", _stacks),
    Rule("memory.process-page-tables", "its page tables are small",
         "Page tables are not in RSS, and are walked on each TLB miss.", _tables),
    Rule("hugetlb.fork", "hugetlb memory is not inherited by children",
         "After a fork a write needs a second page of the pool; without one the child dies by SIGBUS, "
         "even on a read.", _fork_risk),
)  # fmt: skip
