"""Advice to the kernel, by the names of madvise(2)."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from mematlas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

ADVICE = {
    "normal": 0,
    "random": 1,
    "sequential": 2,
    "willneed": 3,
    "dontneed": 4,
    "free": 8,
    "remove": 9,
    "dontfork": 10,
    "dofork": 11,
    "mergeable": 12,
    "unmergeable": 13,
    "hugepage": 14,
    "nohugepage": 15,
    "wipeonfork": 18,
    "keeponfork": 19,
    "cold": 20,
    "pageout": 21,
    "populate_read": 22,
    "populate_write": 23,
    "collapse": 25,
}
_PRIVATE_ONLY = ("free", "wipeonfork", "keeponfork")
_SHARED_ONLY = ("remove",)


def check_advice(name: str, *, shared: bool) -> None:
    """Refuse, in words, what the kernel would answer with a bare EINVAL."""
    if name not in ADVICE:
        message = f"no such advice: {name!r}; one of {', '.join(ADVICE)}"
        raise UsageError(message)
    if name in (_PRIVATE_ONLY if shared else _SHARED_ONLY):
        kind, other = ("shared", "private") if shared else ("private", "shared")
        hint = "; dontneed() drops private pages" if name == "remove" else ""
        message = f"{name}() is for {other} memory, this region is {kind}{hint}"
        raise UsageError(message)


def _method(name: str) -> Callable[..., None]:
    def method(self: Advised, offset: int = 0, length: int | None = None) -> None:
        self._advise(name, offset, length)

    method.__name__ = name
    method.__qualname__ = f"Region.{name}"
    method.__doc__ = f"MADV_{name.upper()} of madvise(2), for the whole region or a part of it."
    return method


class Advised:
    """The methods; each takes an offset and a length in bytes, whole pages of the region."""

    normal = _method("normal")
    random = _method("random")
    sequential = _method("sequential")
    willneed = _method("willneed")
    dontneed = _method("dontneed")
    free = _method("free")
    remove = _method("remove")
    dontfork = _method("dontfork")
    dofork = _method("dofork")
    mergeable = _method("mergeable")
    unmergeable = _method("unmergeable")
    hugepage = _method("hugepage")
    nohugepage = _method("nohugepage")
    wipeonfork = _method("wipeonfork")
    keeponfork = _method("keeponfork")
    cold = _method("cold")
    pageout = _method("pageout")
    populate_read = _method("populate_read")
    populate_write = _method("populate_write")
    collapse = _method("collapse")

    @abstractmethod
    def _advise(self, name: str, offset: int, length: int | None) -> None:
        """Give one advice for a part of the memory."""
