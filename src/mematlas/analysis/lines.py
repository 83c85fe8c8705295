"""Which line of code owns a stack's memory, and what each line owns in all.

The innermost frame is `malloc`, the outermost `main`: neither says where memory went. The owner is
the innermost frame of the program's own code; failing that of a library's; failing that the leaf.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from mematlas.model.report import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.model.recording import Frame
    from mematlas.model.report import StackFigures

OWN, LIBRARY, RUNTIME = 0, 1, 2
"""Whose code a frame is: the program's, a library's, or that of the language's own machinery."""

_PACKAGES = ("/site-packages/", "/dist-packages/")
_STDLIB = re.compile(r"^<frozen |/lib(64)?/python3(\.\d+)?/")
_CPYTHON = re.compile(r"(^|/)Python-3[^/]*/(Modules|Objects|Parser|Programs|Python|Include)/")
_SYSTEM = re.compile(r"^/(usr/(?!local/|src/|s?bin/)|lib|lib64/|opt/rh/)|^\[")
_RUNTIME_MODULE = re.compile(
    r"^(libc|libstdc\+\+|libc\+\+|libm|libgcc_s|libpthread|ld-linux.*|ld-musl.*|libpython3.*"
    r"|libmematlas_trace|python3?(\.\d+)?t?|linux-vdso|\[vdso\]|libjemalloc|libtcmalloc|libmimalloc)"
    r"($|[.-])"
)
_RUNTIME_NAME = re.compile(
    r"^(\(anonymous namespace\)::)?(std::|__gnu_cxx::|operator (new|delete)|__libc_|_start$"
    r"|x?(m|c|re|rec)alloc(array)?$|g_(try_)?(m|re)alloc|posix_memalign$|aligned_alloc$|mmap(64)?$|strn?dup$|free$"
    r"|(core|alloc|std|hashbrown)::|<(alloc|core|std)::|__rust|_Py[A-Z]|Py[A-Z]|\[)"
)


@lru_cache(maxsize=1 << 16)
def tier(frame: Frame) -> int:
    """Whose code this is: OWN, LIBRARY or RUNTIME."""
    file, module = frame.file or "", frame.module or ""
    if any(mark in file or mark in module for mark in _PACKAGES):
        return LIBRARY
    if frame.kind == "python":
        return LIBRARY if not file or _STDLIB.search(file) else OWN
    return _native_tier(frame.function, file, module)


def _native_tier(function: str, file: str, module: str) -> int:
    base = module.rsplit("/", 1)[-1]
    if _STDLIB.search(module) or _CPYTHON.search(file):
        return RUNTIME
    if _RUNTIME_MODULE.match(base) or _RUNTIME_NAME.match(function):
        return RUNTIME
    if _SYSTEM.match(file) or (not file and _SYSTEM.match(module)):
        return LIBRARY
    return OWN if file or module else LIBRARY


def _rank(frame: Frame) -> int:
    """Order frames by how well they name an owner: own code first, then Python before native."""
    whose = tier(frame)
    return 0 if whose == OWN else 2 * whose + (frame.kind != "python")


def owner(frames: tuple[Frame, ...], ranks: dict[int, int] | None = None) -> int | None:
    """Index of the frame that owns the stack's memory; None for a stack that was not seen.

    `ranks` remembers frames by identity between calls; they must stay alive meanwhile.
    """
    ranks = {} if ranks is None else ranks
    best, chosen = 1 << 30, None
    for index, frame in enumerate(frames):
        rank = ranks.get(id(frame))
        if rank is None:
            rank = ranks[id(frame)] = _rank(frame)
        if rank < best:
            best, chosen = rank, index
            if rank == 0:
                break
    return chosen


@dataclass(slots=True)
class Line:
    """One line of code and the sums of the stacks it owns. `frame` is None for stacks not seen."""

    frame: Frame | None
    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(METRICS, 0))
    live_count: int = 0
    allocations: int = 0
    variance: float = 0.0  # of live bytes, in bytes squared
    stacks: list[StackFigures] = field(default_factory=list)

    @property
    def error_bytes(self) -> int:
        """One standard error of the live bytes; 0 where they are exact."""
        return round(math.sqrt(self.variance))

    def heaviest(self, by: str) -> StackFigures:
        """Return the stack that has most of this metric."""
        return max(self.stacks, key=lambda stack: stack.metric(by))


def lines(stacks: Iterable[StackFigures], by: str) -> list[Line]:
    """Sum the stacks by the line that owns them, the largest in `by` first."""
    found: dict[Frame | None, Line] = {}
    ranks: dict[int, int] = {}
    for stack in stacks:
        index = owner(stack.frames, ranks)
        frame = None if index is None else stack.frames[index]
        line = found.get(frame)
        if line is None:
            line = found[frame] = Line(frame)
        _add(line, stack)
    return sorted(found.values(), key=lambda line: -line.bytes[by])


def _add(line: Line, stack: StackFigures) -> None:
    for name in METRICS:
        line.bytes[name] += stack.metric(name)
    line.live_count += stack.live_count
    line.allocations += stack.allocations
    line.variance += float(stack.error_bytes) ** 2
    line.stacks.append(stack)
