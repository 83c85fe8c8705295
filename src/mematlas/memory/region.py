"""A region: memory with a policy, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mematlas import _core
from mematlas.errors import MematlasError, UsageError
from mematlas.linux.hugepages import BASE, Mechanism, PageKind, PagesUnavailableError, parse_kind
from mematlas.memory import advice, headroom, numa, page_mapping
from mematlas.memory.advice import ADVICE, Advised
from mematlas.memory.allocation import Closing
from mematlas.memory.export import Export
from mematlas.memory.locking import check_room
from mematlas.memory.placement import Placement, placement_of
from mematlas.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray

_FORK = {"dont": 10, "wipe": 18}
_MLOCK_ONFAULT = 1


class Region(Advised, Closing):
    """`size` bytes of memory, backed, placed and locked as asked.

    size: bytes, or text such as "4G".
    huge: "thp" (transparent huge pages), "2M" or "1G" (hugetlb), "64K" (mTHP), or None.
    fallback: what to try next, in order; by default "thp" then "4k" for hugetlb, "4k" for the others.
    require: raise MematlasError rather than take a fallback, or less than was asked for.
    node, policy: NUMA node(s), and "bind", "preferred", "interleave", "weighted" or "local".
    populate: fault every page in now. Always done for hugetlb, where running out later is a SIGBUS.
    lock: True (mlock), or "onfault" (lock pages as they come in).
    advise: one name or several of the advice methods, given at the start.
    guard: leave an inaccessible page on each side.
    fork: what a child gets: "copy", "dont" (nothing) or "wipe" (zeros). Private hugetlb: "dont".
    share: True for a memfd, `descriptor`, that other processes can map.

    Memory is given back by close() or at the end of a `with` block; BufferError is raised as long as
    an array or view of it lives. See mmap(2), madvise(2), mbind(2), mlock2(2).
    """

    def __init__(  # noqa: PLR0913 - one keyword a property, all with defaults
        self,
        size: int | str,
        *,
        huge: str | None = None,
        fallback: Sequence[str] | None = None,
        require: bool = False,
        node: int | Sequence[int] | None = None,
        policy: str = "bind",
        populate: bool = False,
        lock: bool | str = False,
        advise: str | Sequence[str] = (),
        guard: bool = False,
        name: str | None = None,
        fork: str | None = None,
        share: bool = False,
    ) -> None:
        self.size = parse_bytes(size) if isinstance(size, str) else size
        kinds = _kinds(huge, fallback)
        self.requested = kinds[0].name
        self.reasons: list[str] = []
        self._share, self._name = share, name
        self._keep_small = huge is not None and kinds[0] is BASE
        self._check(lock, fork, policy, node)
        self._guard = _core.PAGE if guard else 0
        nodes = numa.as_list(node)
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
            if require:
                self._insist(populated=populate or kind.is_hugetlb)
        except BaseException:
            self.close()
            raise

    def _check(
        self, lock: bool | str, fork: str | None, policy: str, node: int | Sequence[int] | None
    ) -> None:
        if self.size <= 0:
            message = "a region needs a size above 0"
            raise UsageError(message)
        if fork not in (None, "copy", *_FORK):
            message = f"no such fork behaviour: {fork!r}; copy, dont or wipe"
            raise UsageError(message)
        if node is not None or policy not in ("bind", "local"):
            numa.check_policy(policy, numa.as_list(node))
        if lock not in (False, True, "onfault"):
            message = f"lock is True, False or 'onfault', not {lock!r}"
            raise UsageError(message)

    def _open(self, kind: PageKind, nodes: list[int], policy: str, *, populate: bool) -> None:
        self._mapping = page_mapping.map_pages(
            kind, self.size, guard=self._guard, name=self._name, share=self._share
        )
        self._kind = kind
        self.address, self.granted = self._mapping.start, kind.name
        self.length = self._unit.round_up(self.size)
        self._export = Export(self.address, self.size)
        self._open_now = True
        try:
            if nodes or policy == "local":
                numa.set_range(self.address, self.length, policy, nodes, move=False)
            if self._keep_small and kind is BASE:
                page_mapping.advise_kind(kind, self.address, self.length, exact=True)
            if populate:
                if not kind.is_hugetlb:  # those come from a pool
                    page_mapping.check_headroom(self.length)
                page_mapping.populate(self.address, self.length)
        except BaseException:
            self.close()
            raise

    def _finish(self, fork: str | None, lock: bool | str, advice: Sequence[str]) -> None:
        hugetlb = self._kind.is_hugetlb
        if fork is None and hugetlb and not self._share:
            fork = "dont"  # a child's copy could find no free page: SIGBUS on reading
        if fork in _FORK:
            self._advise("dontfork" if fork == "dont" else "wipeonfork", 0, None)
        if self._guard and not hugetlb:
            self._install_guards()
        if self._name and not self._share:
            try:
                _core.name_memory(self.address, self.length, self._name)
            except OSError:
                self.reasons.append("the name is not shown: kernel built without ANON_VMA_NAME")
        for one in advice:
            self._advise(one, 0, None)
        if lock:
            self.lock(onfault=lock == "onfault")

    def _install_guards(self) -> None:
        for page in (self.address - self._guard, self.address + self.length):
            try:
                _core.advise(page, self._guard, ADVICE["guard_install"])
            except OSError:
                _core.protect_memory(page, self._guard, 0)

    def _insist(self, *, populated: bool) -> None:
        transparent = self._kind.mechanism is Mechanism.THP
        wanted = self.length // self._kind.size * self._kind.size if transparent else 0
        if populated and wanted:
            got = self.placement.huge
            if got < wanted:
                message = (
                    f"{format_bytes(got)} of {format_bytes(wanted)} are in huge pages: memory is too "
                    "fragmented now; see `mematlas system fragmentation`"
                )
                raise MematlasError(message)

    # ---- what became of it

    @property
    def placement(self) -> Placement:
        """What backs the region now, asked of the kernel."""
        return placement_of(self.address, self.length)

    def explain(self) -> str:
        """Say what was granted, what was not, why, and how to get it."""
        placement = self.placement
        lines = [f"asked for {self.requested}, mapped as {self.granted}"]
        lines += [f"not granted: {reason}" for reason in self.reasons]
        if placement.resident:
            pages = ", ".join(
                f"{format_bytes(size)} in {format_bytes(page)} pages"
                for page, size in placement.by_page_size.items()
            )
            lines.append(f"{format_bytes(placement.resident)} resident: {pages}")
        else:
            lines.append(
                "nothing resident yet: pages come when they are touched, or by populate_write()"
            )
        if self.granted == "thp" and placement.resident > 0 and not placement.huge:
            lines.append(
                f"no huge page was given: the region is smaller than one ({format_bytes(self._kind.size)}), "
                "was touched before it was advised, or memory is fragmented; try collapse()"
            )
        if placement.by_node:
            spread = ", ".join(f"node {n}: {format_bytes(s)}" for n, s in placement.by_node.items())
            lines.append(f"on {spread}")
        if placement.locked:
            lines.append(f"{format_bytes(placement.locked)} locked")
        return "\n".join(lines)

    @property
    def descriptor(self) -> int:
        """The memfd of a shared region; -1 for a private one."""
        return self._mapping.descriptor

    # ---- contents

    @property
    def view(self) -> memoryview:
        """The region's bytes."""
        return self._export.view()

    def __buffer__(self, flags: int, /) -> memoryview:  # Python 3.12 and later
        return self.view

    def __len__(self) -> int:
        return self.size

    def array(
        self, shape: int | tuple[int, ...] | None = None, dtype: DTypeLike = "u1"
    ) -> NDArray[Any]:
        """Give the region as a NumPy array; without a shape, all of it in one dimension."""
        return self._export.array(shape, dtype)

    # ---- advice, by the names of madvise(2); offset and length in bytes, whole pages

    def _advise(self, name: str, offset: int, length: int | None) -> None:
        start, size = self._range(offset, length)
        advice.give(start, size, name, shared=self._share, hugetlb=self._kind.is_hugetlb)

    def _range(self, offset: int, length: int | None) -> tuple[int, int]:
        self._check_open()
        page = self._unit.size
        size = self.length - offset if length is None else length
        if offset % page or size % page or size <= 0 or not 0 <= offset <= self.length - size:
            message = (
                f"offset {offset} and length {size} must be whole pages of {format_bytes(page)} inside "
                f"the region's {format_bytes(self.length)}"
            )
            raise UsageError(message)
        return self.address + offset, size

    # ---- locking and moving

    def lock(self, *, onfault: bool = False) -> None:
        """Keep the pages in memory: all of them now, or each once it is touched."""
        check_room(self.length, "locking this region takes")
        if not onfault and not self._kind.is_hugetlb and headroom.explain_shortage(self.length):
            reason = headroom.explain_shortage(self.length - self.placement.resident)
            if reason:
                message = f"{format_bytes(self.length)} could not be locked: {reason}"
                raise MematlasError(message)
        try:
            _core.lock_memory(self.address, self.length, _MLOCK_ONFAULT if onfault else 0)
        except OSError as error:
            message = f"{format_bytes(self.length)} could not be locked: {error.strerror}"
            raise MematlasError(message) from None

    def unlock(self) -> None:
        """Let the pages be reclaimed again."""
        _core.unlock_memory(self.address, self.length)

    def migrate(self, node: int) -> dict[str, int]:
        """Move resident pages to a node; counts pages by outcome, as memory.move_pages() does."""
        self._check_open()
        return numa.move_range(self.address, self.length, node, self._unit.size)

    def mbind(
        self,
        policy: str,
        node: int | Sequence[int] | None = None,
        offset: int = 0,
        length: int | None = None,
        *,
        move: bool = False,
    ) -> dict[str, int]:
        """Set the NUMA policy of the region or a part of it; with `move`, move pages that lie elsewhere."""
        start, size = self._range(offset, length)
        return numa.bind_range(start, size, policy, numa.as_list(node), move=move)

    @property
    def _unit(self) -> PageKind:
        """The pages that calls on a part of the region must be made of."""
        return self._kind if self._kind.is_hugetlb else BASE

    # ---- end

    def close(self) -> None:
        """Give the memory back; BufferError while an array or view of it lives."""
        if not self._open_now:
            return
        self._export.end()
        self._open_now = False
        self._mapping.unmap()

    def _check_open(self) -> None:
        if not self._open_now:
            message = "the region is closed"
            raise ValueError(message)

    def __repr__(self) -> str:
        state = "closed" if not self._open_now else f"at {self.address:#x}"
        return f"<Region {format_bytes(self.size)}, {self.granted}, {state}>"


def _kinds(huge: str | None, fallback: Sequence[str] | None) -> list[PageKind]:
    """List the kinds of pages to try, in order."""
    first = BASE if huge is None else parse_kind(huge)
    if fallback is not None:
        return [first, *map(parse_kind, fallback)]
    if first.is_hugetlb:
        return [first, parse_kind("thp"), BASE]
    return [first, BASE] if first.is_transparent else [first]
