"""Regions: mappings in pages of a chosen kind, placed, locked and advised as requested."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from mematlas import _core
from mematlas.errors import MematlasError, UsageError
from mematlas.linux.hugepages import BASE, Mechanism, PageKind, PagesUnavailableError, parse_kind
from mematlas.linux.mman import Advice
from mematlas.memory import advice, headroom, numa, page_mapping
from mematlas.memory import secret as secret_memory
from mematlas.memory.advice import Advisable
from mematlas.memory.allocation import Closable
from mematlas.memory.export import Export
from mematlas.memory.locking import check_lock_limit, check_lock_mode
from mematlas.memory.placement import Placement, placement_of
from mematlas.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray

    from mematlas.linux.hugepages import PageName
    from mematlas.memory.advice import AdviceName
    from mematlas.memory.locking import LockMode
    from mematlas.memory.numa import Counts, PolicyName

ForkMode = Literal["copy", "dont", "wipe"]

_FORK: dict[str, AdviceName] = {"dont": "dontfork", "wipe": "wipeonfork"}
_MLOCK_ONFAULT = 1


class Region(Advisable, Closable):
    """`size` bytes of memory, mapped in pages of a kind, placed and locked as requested.

    size: bytes, or text such as "4G".
    huge: the kind of pages, in any case: "thp" (transparent huge pages), "2M", "1G" and other sizes of
        a PMD or more (hugetlb), "64K" and other sizes below a PMD (mTHP), "4K" (base pages, kept from
        being huge). None: base pages, or what the system's THP setting gives.
    fallback: kinds to try next, in order. Default: "thp" and base pages after hugetlb, base pages
        after transparent pages.
    require: raise MematlasError rather than use a fallback or get fewer huge pages.
    node, policy: NUMA node or nodes, and a policy of set_mempolicy(2).
    populate: fault every page in now. Hugetlb is always populated: a later shortage would be a SIGBUS.
    lock: True (mlock), or "onfault" (lock pages as they are faulted in).
    advise: one name, or several, of the advice methods, applied at the start.
    guard: leave an inaccessible page on each side. name: shown in /proc/PID/maps.
    fork: what a child gets: "copy", "dont" (no mapping) or "wipe" (zeros). Private hugetlb: "dont".
    share: map a memfd, `descriptor`, that other processes can map.
    secret: for keys and passwords. Other processes, even of root, cannot read the memory where the
        kernel has memfd_secret(2); else, and without `require`, it is locked, which `reasons` say. In
        both cases it is never swapped, in no core dump and in no child, and it is overwritten with zeros
        by close(), when its last view is gone, or at the end of Python. Takes `guard` and `require` only.

    `address` and `length` are those of the mapping, in whole pages. `requested` and `granted` name
    kinds of pages; `reasons` say why they differ. close(), or the end of a `with` block, unmaps the
    memory; BufferError is raised while an array or view of it is alive. A closed region raises
    UsageError, a ValueError, from every method.

    UsageError: an argument is wrong. AccessError: RLIMIT_MEMLOCK. MematlasError: no memory, or no such
    pages with `require`. See mmap(2), madvise(2), mbind(2), mlock2(2) and docs/memory/regions.md.

    >>> from mematlas.memory import Region
    >>> with Region("1M", populate=True) as region:
    ...     region.view[:5] = b"hello"
    ...     region.granted, region.placement.resident
    ('4K', 1048576)
    """

    _name = "region"

    def __init__(  # noqa: PLR0913 - one keyword a property, all with defaults
        self,
        size: int | str,
        *,
        huge: PageName | PageKind | None = None,
        fallback: Sequence[PageName | PageKind] | None = None,
        require: bool = False,
        node: int | Sequence[int] | None = None,
        policy: PolicyName = "bind",
        populate: bool = False,
        lock: LockMode = False,
        advise: AdviceName | Sequence[AdviceName] = (),
        guard: bool = False,
        name: str | None = None,
        fork: ForkMode | None = None,
        share: bool = False,
        secret: bool = False,
    ) -> None:
        self._protection: secret_memory.Protection | None = None
        self.size = parse_bytes(size) if isinstance(size, str) else size
        kinds = _kinds(huge, fallback)
        self.requested = kinds[0].name
        self.reasons: list[str] = []
        self._share, self._vma_name = share, name
        self._keep_small = huge is not None and kinds[0] is BASE
        nodes = numa.as_list(node)
        self._bound = nodes if policy == "bind" else []
        self._check_options(lock, fork, policy, nodes)
        self._guard = _core.PAGE if guard else 0
        if secret:
            others = (huge, fallback, name, fork, node)
            if any(each is not None for each in others) or share or advise or policy != "bind":
                raise UsageError(
                    "secret takes no other option than guard, require, lock and populate"
                )
            self._open_secret(require=require)
            return
        for kind in kinds[:1] if require else kinds:
            try:
                self._open(kind, nodes, policy, populate=populate or kind.is_hugetlb)
                break
            except PagesUnavailableError as reason:
                self.reasons.append(str(reason))
        else:
            raise MematlasError("; ".join(self.reasons))
        try:
            self._finish(fork, lock, (advise,) if isinstance(advise, str) else advise)
            if require and (populate or kind.is_hugetlb):
                self._check_huge()
        except BaseException:
            self.close()
            raise

    def _check_options(
        self, lock: LockMode, fork: str | None, policy: PolicyName, nodes: list[int]
    ) -> None:
        if self.size <= 0:
            raise UsageError("a region needs a size above 0")
        if fork not in (None, "copy", *_FORK):
            raise UsageError(f"no such fork behaviour: {fork!r}; one of copy, dont, wipe")
        if nodes or policy not in ("bind", "local"):
            numa.check_policy(policy, nodes)
        check_lock_mode(lock)

    def _open_secret(self, *, require: bool) -> None:
        self._mapping, self._protection, reason = secret_memory.map_secret(
            self.size, self._guard, require=require
        )
        self._kind, self.requested = BASE, "secret"
        self.address, self.granted = self._mapping.start, BASE.name
        self.length = BASE.round_up(self.size)
        self.reasons += [reason] if reason else []
        self._share = self._protection == "memfd_secret"  # a shared mapping, for madvise(2)
        self._export = Export(self.address, self.size)
        self._wipe = secret_memory.wipe_at_end(self._export.buffer(), self._mapping, self.length)
        self._is_open = True
        if self._guard:
            self._install_guards()

    def _open(
        self, kind: PageKind, nodes: list[int], policy: PolicyName, *, populate: bool
    ) -> None:
        self._mapping = page_mapping.map_pages(
            kind, self.size, guard=self._guard, name=self._vma_name, share=self._share
        )
        self._kind = kind
        self.address, self.granted = self._mapping.start, kind.name
        self.length = self._unit.round_up(self.size)
        self._export = Export(self.address, self.size)
        self._is_open = True
        try:
            if nodes or policy == "local":
                numa.set_range(self.address, self.length, policy, nodes, move=False)
            if self._keep_small and kind is BASE:
                page_mapping.advise_kind(kind, self.address, self.length, exact=True)
            if populate:
                if not kind.is_hugetlb:  # those come from a pool
                    page_mapping.check_headroom(self.length, self._bound)
                page_mapping.populate(self.address, self.length)
        except BaseException:
            self.close()
            raise

    def _finish(self, fork: ForkMode | None, lock: LockMode, names: Sequence[AdviceName]) -> None:
        hugetlb = self._kind.is_hugetlb
        if fork is None and hugetlb and not self._share:
            fork = "dont"  # a child's copy could find the pool empty: SIGBUS at a read
        if fork_advice := _FORK.get(fork or ""):
            self._advise(fork_advice, 0, None)
        if self._guard and not hugetlb:
            self._install_guards()
        if self._vma_name and not self._share:
            try:
                _core.name_memory(self.address, self.length, self._vma_name)
            except OSError:
                self.reasons.append("the name is not shown: kernel built without ANON_VMA_NAME")
        for each in names:
            self._advise(each, 0, None)
        if lock:
            self.lock(onfault=lock == "onfault")

    def _install_guards(self) -> None:
        for page in (self.address - self._guard, self.address + self.length):
            try:
                _core.advise(page, self._guard, Advice.GUARD_INSTALL)
            except OSError:  # before Linux 6.13
                _core.protect_memory(page, self._guard, 0)

    def _check_huge(self) -> None:
        """Raise MematlasError if a part that huge pages could hold is in smaller pages."""
        if self._kind.mechanism is not Mechanism.THP:
            return
        wanted, got = self.length // self._kind.size * self._kind.size, self.placement.huge
        if got < wanted:
            raise MematlasError(
                f"{format_bytes(got)} of {format_bytes(wanted)} are in huge pages: memory is too "
                "fragmented now; see `mematlas system fragmentation`"
            )

    # ---- placement

    @property
    def placement(self) -> Placement:
        """What backs the region now, as the kernel reports it.

        >>> from mematlas.memory import Region
        >>> with Region("64K", populate=True) as region:
        ...     region.placement.resident
        65536
        """
        self._check_open()
        return placement_of(self.address, self.length)

    def explain(self) -> str:
        """Return lines of text: what was granted, what was not and why, and how to get it.

        >>> from mematlas.memory import Region
        >>> with Region("64K") as region:
        ...     print(region.explain())
        requested 4K, mapped as 4K
        nothing resident yet: pages are faulted in by a touch or populate_write()
        """
        placement = self.placement
        lines = [f"requested {self.requested}, mapped as {self.granted}"]
        lines += [f"not granted: {reason}" for reason in self.reasons]
        if placement.resident:
            pages = ", ".join(
                f"{format_bytes(size)} in {format_bytes(page)} pages"
                for page, size in placement.by_page_size.items()
            )
            lines.append(f"{format_bytes(placement.resident)} resident: {pages}")
        else:
            lines.append(
                "nothing resident yet: pages are faulted in by a touch or populate_write()"
            )
        if self._kind.mechanism is Mechanism.THP and placement.resident and not placement.huge:
            lines.append(
                f"no huge page: the region is smaller than one ({format_bytes(self._kind.size)}), was "
                "touched before it was advised, or memory is fragmented; try collapse()"
            )
        if placement.by_node:
            nodes = ", ".join(f"node {n}: {format_bytes(s)}" for n, s in placement.by_node.items())
            lines.append(f"on {nodes}")
        if shortage := self._shortage(placement.resident):
            lines.append(shortage)
        if placement.locked:
            lines.append(f"{format_bytes(placement.locked)} locked")
        if self._protection:
            lines.append(secret_memory.EXPLANATIONS[self._protection])
        return "\n".join(lines)

    def _shortage(self, resident: int) -> str:
        """Return a line if what is not resident yet is more than its nodes can give."""
        rest = max(0, self.length - resident)
        reason = headroom.explain_shortage(rest, self._bound) if self._bound and rest else ""
        if not reason:
            return ""
        listed = ", ".join(map(str, self._bound))
        return (
            f"{format_bytes(rest)} are not resident yet, and bound to node {listed}: {reason}; touching all "
            "of them calls the OOM killer, whatever other nodes have"
        )

    @property
    def protection(self) -> secret_memory.Protection | None:
        """What protects a secret region: "memfd_secret" or "locked"; None: it is not secret.

        >>> from mematlas.memory import Region
        >>> with Region("4K", secret=True) as region:
        ...     region.protection in ("memfd_secret", "locked")
        True
        """
        self._check_open()
        return self._protection

    @property
    def descriptor(self) -> int:
        """The memfd of a shared region; -1 for a private one.

        >>> from mematlas.memory import Region
        >>> with Region("64K", share=True) as region:
        ...     region.descriptor >= 0
        True
        """
        self._check_open()
        return self._mapping.descriptor

    # ---- contents

    @property
    def view(self) -> memoryview:
        """The region's bytes, writable.

        >>> from mematlas.memory import Region
        >>> with Region("64K") as region:
        ...     region.view[0]
        0
        """
        self._check_open()
        return self._export.view()

    def __buffer__(self, flags: int, /) -> memoryview:  # Python 3.12 and later
        return self.view

    def __len__(self) -> int:
        self._check_open()
        return self.size

    def array(
        self, shape: int | tuple[int, ...] | None = None, dtype: DTypeLike = "u1"
    ) -> NDArray[Any]:
        """Return the region as a NumPy array; without a shape, all of it in one dimension.

        UsageError if the shape needs more bytes than the region has.

        >>> from mematlas.memory import Region
        >>> with Region("8K") as region:
        ...     region.array((32, 32), "f8").sum().item()
        0.0
        """
        self._check_open()
        return self._export.array(shape, dtype)

    # ---- advice, by the names of madvise(2); offset and length in bytes, whole pages

    def _advise(self, name: AdviceName, offset: int, length: int | None) -> None:
        start, size = self._range(offset, length)
        advice.apply(start, size, name, shared=self._share, hugetlb=self._kind.is_hugetlb)

    def _range(self, offset: int, length: int | None) -> tuple[int, int]:
        self._check_open()
        page = self._unit.size
        size = self.length - offset if length is None else length
        if offset % page or size % page or size <= 0 or not 0 <= offset <= self.length - size:
            raise UsageError(
                f"offset {offset} and length {size} must be whole pages of {format_bytes(page)} inside "
                f"the region's {format_bytes(self.length)}"
            )
        return self.address + offset, size

    @property
    def _unit(self) -> PageKind:
        """The pages that advice and policies for a part of the region must consist of."""
        return self._kind if self._kind.is_hugetlb else BASE

    # ---- locking and moving

    def lock(self, *, onfault: bool = False) -> None:
        """Lock all pages in memory now, or with `onfault` each when it is faulted in: mlock2(2).

        AccessError names RLIMIT_MEMLOCK where it is too low. MematlasError: memory is short.

        >>> from mematlas.memory import Region
        >>> with Region("8K") as region:
        ...     region.lock()
        ...     region.placement.locked
        8192
        """
        self._check_open()
        check_lock_limit(self.length, "locking this region takes")
        if not onfault and not self._kind.is_hugetlb:
            self._check_lock_headroom()
        try:
            _core.lock_memory(self.address, self.length, _MLOCK_ONFAULT if onfault else 0)
        except OSError as error:
            message = f"{format_bytes(self.length)} could not be locked: {error.strerror}"
            raise MematlasError(message) from None

    def _check_lock_headroom(self) -> None:
        if not headroom.explain_shortage(self.length, self._bound):
            return  # without the cost of reading the placement
        rest = self.length - self.placement.resident
        reason = headroom.explain_shortage(rest, self._bound)
        if reason:
            raise MematlasError(f"{format_bytes(self.length)} could not be locked: {reason}")

    def unlock(self) -> None:
        """Unlock the pages, so that the kernel may reclaim them: munlock(2).

        >>> from mematlas.memory import Region
        >>> with Region("8K", lock=True) as region:
        ...     region.unlock()
        ...     region.placement.locked
        0
        """
        self._check_open()
        _core.unlock_memory(self.address, self.length)

    def migrate(self, node: int) -> Counts:
        """Move resident pages to a node; returns pages by outcome, as memory.move_pages() does.

        >>> from mematlas.memory import Region
        >>> with Region("64K", populate=True) as region:
        ...     region.migrate(0)  # doctest: +SKIP
        {'already there': 16}
        """
        self._check_open()
        return numa.move_range(self.address, self.length, node, self._unit.size)

    def mbind(
        self,
        policy: PolicyName,
        node: int | Sequence[int] | None = None,
        offset: int = 0,
        length: int | None = None,
        *,
        move: bool = False,
    ) -> Counts:
        """Set the NUMA policy of the region or a part of it, as memory.mbind() does for an array.

        >>> from mematlas.memory import Region
        >>> with Region("64K", populate=True) as region:
        ...     region.mbind("default")  # doctest: +SKIP
        {'already there': 16}
        """
        start, size = self._range(offset, length)
        return numa.bind_range(start, size, policy, numa.as_list(node), move=move)

    # ---- end

    def close(self) -> None:
        """Unmap the memory. BufferError while an array or view of it is alive.

        >>> from mematlas.memory import Region
        >>> region = Region("64K")
        >>> region.close()
        >>> region.view
        Traceback (most recent call last):
        mematlas.UsageError: the region is closed
        """
        if not self._is_open:
            return
        if self._protection:
            self._wipe_and_unmap()
            return
        self._export.end()
        self._is_open = False
        self._mapping.unmap()

    def _wipe_and_unmap(self) -> None:
        self._export.end()
        self._wipe()  # unless the end of the buffer did
        self._is_open = False

    def __repr__(self) -> str:
        state = f"at {self.address:#x}" if self._is_open else "closed"
        return f"<Region {format_bytes(self.size)}, {self.granted}, {state}>"


def _kinds(
    huge: PageName | PageKind | None, fallback: Sequence[PageName | PageKind] | None
) -> list[PageKind]:
    """Return the kinds of pages to try, in order."""
    first = BASE if huge is None else parse_kind(huge)
    if fallback is not None:
        return [first, *map(parse_kind, fallback)]
    if first.is_hugetlb:
        return [first, parse_kind("thp"), BASE]
    return [first, BASE] if first.is_transparent else [first]
