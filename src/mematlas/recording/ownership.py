"""The owner of a stack: the frame that its memory is attributed to.

The innermost frame is `malloc`, the outermost `main`: neither tells where memory went. The owner is
the innermost frame of the program's own code, else of a library, else the leaf. Allocation wrappers
are looked through. A function with a name comes before one that only has an address, since the memory
was asked for on its behalf, and before a function that runs the code of others. A program of the
system is code of the same rank as its libraries: `ruby` only starts libruby.

"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from mematlas.recording.wrapper_names import is_dispatcher, is_wrapper

if TYPE_CHECKING:
    from mematlas.recording.model import Frame

OWN, LIBRARY, RUNTIME = 0, 1, 2
"""Tiers of code: the program's own, a library's, the language runtime's."""

_PACKAGES = ("/site-packages/", "/dist-packages/", "/node_modules/")
_IMPORT_SYSTEM = "<frozen importlib"
_GENERATED = re.compile(  # files that a library names for code it compiles; unknown ones are the program's own
    r"<(.* generated .*>|.*> compilation \d+$|(decorator-gen|makefun-gen|lambdifygenerated)-\d+>|.* internals>)"
)
_MAKER = "__create_fn__"  # dataclasses compile their methods in <string>, as `python -c` does the program
_STDLIB = re.compile(r"^<frozen |/lib(64)?/python3(\.\d+)?/")
_CPYTHON = re.compile(r"(^|/)Python-3[^/]*/(Modules|Objects|Parser|Programs|Python|Include)/")
_SYSTEM = re.compile(r"^/(usr/(?!local/|src/)|s?bin/|lib|lib64/|opt/rh/)|^\[")
_RUNTIME_MODULE = re.compile(
    r"^(libc|libstdc\+\+|libc\+\+|libm|libgcc_s|libpthread|ld-linux.*|ld-musl.*|libpython3.*"
    r"|libmematlas_trace|python3?(\.\d+)?t?|linux-vdso|\[vdso\]|libjemalloc|libtcmalloc|libmimalloc"
    r"|libgc|libglib-2|libgobject-2|libtalloc|libapr-1|libgomp|libasan|libtsan|liblsan|libubsan|libhwasan)"
    r"($|[.-])"
)
_RUNTIME_NAME = re.compile(
    r"^(\(anonymous namespace\)::)?(std::|__gnu_cxx::|operator (new|delete)|__libc_|_start$"
    r"|x?(m|c|re|rec)alloc(array)?$|g_(try_)?(m|re)alloc|posix_memalign$|aligned_alloc$|mmap(64)?$|strn?dup$|free$"
    r"|(core|alloc|std|hashbrown)::|<(alloc|core|std)::|__rust|_Py[A-Z]|Py[A-Z]|\[)"
)


_UNNAMED = re.compile(r"(.*\+)?0x[0-9a-f]+$")
_RANKS = {
    # tier, named: rank; the lowest owns, and of equal ones the innermost
    (OWN, True): 0,
    (OWN, False): 1,
    (LIBRARY, True): 3,
    (LIBRARY, False): 4,
    (RUNTIME, True): 8,
    (RUNTIME, False): 8,
}
_PYTHON_LIBRARY, _OWN_DISPATCHER, _DISPATCHER, _MARKED = 2, 5, 6, 7


def tier(frame: Frame) -> int:
    """Return the tier of a frame: OWN, LIBRARY or RUNTIME. Allocation wrappers belong to the runtime."""
    if frame.wrapper:
        return RUNTIME
    file, module = frame.file or "", frame.module or ""
    if frame.kind == "python":
        generated = file == "<string>" and frame.function.startswith(_MAKER)
        return LIBRARY if generated else _python_tier(file, module)
    return _native_tier("" if frame.kept else frame.function, file, module)


def is_native_runtime(frame: Frame) -> bool:
    """Return whether a frame is native code of a language runtime, or an allocation wrapper."""
    return frame.kind != "python" and tier(frame) == RUNTIME


def rank(frame: Frame) -> int:
    """Return the owner rank of a frame; lower is better. Of equal ranks the innermost frame owns."""
    if frame.wrapper:
        return _MARKED
    whose = tier(frame)
    if frame.kind == "python":
        return {OWN: 0, LIBRARY: _PYTHON_LIBRARY}.get(whose, _MARKED)
    if whose != RUNTIME and is_dispatcher(frame.function):
        return _OWN_DISPATCHER if whose == OWN else _DISPATCHER
    return _RANKS[whose, not is_unnamed(frame)]


def is_unnamed(frame: Frame) -> bool:
    """Return whether only the address of a function is known."""
    return frame.file is None and _UNNAMED.match(frame.function) is not None


def is_import_system(frame: Frame) -> bool:
    """Return whether a frame is of the machinery that runs `import`, which no module is."""
    return frame.kind == "python" and (frame.file or "").startswith(_IMPORT_SYSTEM)


@lru_cache(maxsize=1 << 14)
def _python_tier(file: str, module: str) -> int:
    if file.startswith(_IMPORT_SYSTEM):
        return RUNTIME
    if any(mark in file or mark in module for mark in _PACKAGES):
        return LIBRARY
    if not file or _STDLIB.search(file) or _GENERATED.match(file):
        return LIBRARY
    return OWN


@lru_cache(maxsize=1 << 16)
def _native_tier(function: str, file: str, module: str) -> int:
    """Return the tier of native code. Without a name (""), the place of the code alone decides."""
    if any(mark in file or mark in module for mark in _PACKAGES):
        return RUNTIME if is_wrapper(function, library=True) else LIBRARY
    base = module.rsplit("/", 1)[-1]
    if _STDLIB.search(module) or _CPYTHON.search(file):
        return RUNTIME
    if _RUNTIME_MODULE.match(base) or _RUNTIME_NAME.match(function):
        return RUNTIME
    library = bool(_SYSTEM.match(file) or _SYSTEM.match(module)) or not (file or module)
    if is_wrapper(function, library=library):
        return RUNTIME
    return LIBRARY if library else OWN


def known_rank(frame: Frame, ranks: dict[int, int]) -> int:
    """Return the owner rank of a frame.

    `ranks` caches ranks by id() of frames between calls; the frames must stay alive meanwhile.
    """
    found = ranks.get(id(frame))
    if found is None:
        found = ranks[id(frame)] = rank(frame)
    return found


def owner(frames: tuple[Frame, ...]) -> int | None:
    """Return the index of the owning frame; None for an unknown stack."""
    least, chosen = 1 << 30, None
    for index, frame in enumerate(frames):
        mine = rank(frame)
        if mine < least:
            least, chosen = mine, index
            if mine == 0:
                break
    return chosen


def owning_frame(frames: tuple[Frame, ...]) -> Frame | None:
    """Return the owning frame; None for an unknown stack."""
    index = owner(frames)
    return None if index is None else frames[index]
