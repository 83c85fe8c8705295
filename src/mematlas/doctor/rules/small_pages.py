"""Rules about the page sizes of one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.doctor.model import Fix, FixKind, Found, ProcessState, Rule, Severity, Unknown
from mematlas.doctor.rules.fixes import look, percent, restart, tune
from mematlas.doctor.rules.pages import mode_of
from mematlas.linux.mappings import Permission
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.doctor.model import Answer
    from mematlas.linux.mappings import Mapping

_MIB = 1 << 20
_LARGE = 64 * _MIB  # from which huge pages are worth a word
_WARNING = Severity.WARNING
_WRITE = Permission.WRITE


def _anonymous(state: ProcessState) -> Iterable[Mapping]:
    for each in state.facts.mappings:
        plain = not each.inode and not each.permissions & Permission.SHARED
        if plain and each.permissions & _WRITE and "ht" not in each.flags:
            yield each


def _fits(mapping: Mapping, pmd: int) -> int:
    """Return the bytes of a mapping that huge pages could hold."""
    first = -(-mapping.start // pmd) * pmd
    return max(0, mapping.end // pmd * pmd - first)


def _small_pages(state: ProcessState) -> Answer:
    if state.facts.mappings.total("AnonHugePages") is None:
        return Unknown("this kernel's smaps does not tell AnonHugePages")
    pmd = state.host.now.pmd_size
    rows = [each for each in _anonymous(state) if each.fields.get("Rss", 0) >= 2 * pmd]
    rows = [each for each in rows if _fits(each, pmd) >= each.size // 2]
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
        f"{format_bytes(resident - huge)} of large allocations are in 4 KiB pages",
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
    """Tell why memory is in small pages, and what would change that."""
    mode = mode_of(state.host)
    code = Fix(
        FixKind.CODE,
        'with mematlas.memory.numpy(huge="thp"): ...',
        "for arrays; from C: madvise(address, length, MADV_HUGEPAGE)",
    )
    again = restart(state, "--huge thp", "malloc asks for huge pages (glibc 2.35)")
    if state.facts.status.lines.get("THP_enabled") == "0":
        return "the process has huge pages switched off (PR_SET_THP_DISABLE)", (
            Fix(FixKind.CODE, "prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0)",
                "it is inherited: look at what starts the program"),
        )  # fmt: skip
    if mode in {"never", ""}:
        return f"transparent huge pages are {mode or 'not in this kernel'}", (
            tune("thp.enabled=madvise", "then start it again:"), again)  # fmt: skip
    if any("nh" in each.flags for each in rows):
        return "the program refuses huge pages for it (MADV_NOHUGEPAGE)", (code,)
    if mode == "madvise" and not any("hg" in each.flags for each in rows):
        return "huge pages go to memory that asks, and this was not advised", (
            again, code, tune("thp.enabled=always", "for all programs"))  # fmt: skip
    return "it may have huge pages, but was touched before it was advised, or none were free", (
        Fix(FixKind.CODE, "mematlas.memory.collapse(array)", "from C: madvise(..., MADV_COLLAPSE)"),
        tune("compact"),
        look("mematlas system fragmentation"),
    )


def _small_shared(state: ProcessState) -> Answer:
    rows = [
        each
        for each in state.facts.mappings
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
        tune("thp.shmem=advise", "then advise it (MADV_HUGEPAGE) and start the program again")
        if mode in {"never", "deny", ""}
        else Fix(
            FixKind.CODE, 'Region(size, huge="thp", share=True)', "or MADV_HUGEPAGE, MADV_COLLAPSE"
        )
    )
    return Found(
        _WARNING,
        f"{format_bytes(resident - huge)} of shared memory are in 4 KiB pages",
        (
            f"transparent_hugepage/shmem_enabled is {mode or 'not there'}"
            + (": MADV_HUGEPAGE succeeds and does nothing" if mode in {"never", "deny"} else ""),
            f"{format_bytes(huge)} of {format_bytes(resident)} in huge pages (ShmemPmdMapped)",
        ),
        (fix,),
        resident - huge,
    )


def _stacks(state: ProcessState) -> Answer:
    pointers = [each.stack_pointer for each in state.facts.threads if each.stack_pointer]
    found = [state.facts.mappings.find(pointer) for pointer in pointers]
    rows = [state.facts.mappings.row(index) for index in set(found) if index is not None]
    huge = sum(each.fields.get("AnonHugePages", 0) for each in rows if each.name != b"[stack]")
    if huge < 32 * _MIB:
        return None
    return Found(
        _WARNING,
        f"{format_bytes(huge)} of thread stacks are in huge pages, mostly unused",
        (
            f"{huge // state.host.now.pmd_size} huge pages in {len(rows)} stacks; a stack rarely needs more than 64 KiB",
        ),
        (
            tune("thp.enabled=madvise", "stacks do not ask"),
            Fix(
                FixKind.SHELL,
                "ulimit -s 1920",
                "before it starts: stacks below 2 MiB have no room for one",
            ),
        ),
        huge,
    )


def _tables(state: ProcessState) -> Answer:
    sizes = state.facts.status.sizes
    tables, resident = sizes.get("VmPTE", 0), sizes.get("VmRSS", 0)
    if tables < _LARGE or tables < resident // 50:
        return None
    return Found(
        _WARNING,
        f"its page tables take {format_bytes(tables)}, {percent(tables, resident)} of what they map",
        (
            f"VmPTE {format_bytes(tables)}, VmRSS {format_bytes(resident)}: touched thinly, or much freed",
        ),
        (
            restart(state, "--huge thp", "a 2 MiB page needs no table"),
            look(f"mematlas show {state.facts.pid} --mappings"),
        ),
        tables,
    )


def _fork_risk(state: ProcessState) -> Answer:
    rows = [
        each
        for each in state.facts.mappings
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
            Fix(FixKind.CODE, "madvise(address, length, MADV_DONTFORK)",
                'mematlas.memory.Region(huge="2M") does so'),
        ),
        size,
    )  # fmt: skip


RULES: tuple[Rule[ProcessState], ...] = (
    Rule("thp.small-pages", "large allocations are in huge pages",
         "Each 2 MiB take 512 faults and TLB entries instead of one: first touch is 5 times, random "
         "access 1.5 to 2.4 times slower.", _small_pages),
    Rule("thp.shared-small-pages", "large shared memory is in huge pages",
         "Every process that maps it pays the TLB misses, and page tables of its own.", _small_shared),
    Rule("thp.stacks", "thread stacks are in small pages",
         "A thread that uses 20 KiB of its stack then takes 2 MiB.", _stacks),
    Rule("memory.process-page-tables", "its page tables are small",
         "They are memory nobody sees in RSS, and are walked on each TLB miss.", _tables),
    Rule("hugetlb.fork", "hugetlb memory is kept from children",
         "After a fork a write needs a second page of the pool; without one the child dies by SIGBUS, "
         "even on a read.", _fork_risk),
)  # fmt: skip
