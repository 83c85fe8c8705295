"""NumPy data handlers (NEP 49): created by the C core, installed by NumPy's own functions.

ctypes passes pointers only; the callbacks are C.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

_SET_HANDLER, _DEFAULT_HANDLER = 304, 306  # indices of NumPy's API table, since 1.22
_HUGE = {None: 0, "thp": 1, "2M": 2}
_LOCK = {False: 0, True: 1, "onfault": 2}
STEPS = {1: "mapping", 2: "hugetlb", 3: "advising", 4: "binding", 5: "locking"}


@dataclass(frozen=True, slots=True)
class ArrayStats:
    """Counts of a data handler.

    Blocks and bytes in use, bytes cached, blocks mapped and reused since it was created; failures, with
    size in bytes, step and errno of the last one (0: none).

    >>> from mematlas import memory
    >>> memory.numpy().stats().failures
    0
    """

    blocks: int
    bytes: int
    cached_bytes: int
    mapped: int
    reused: int
    failures: int
    failed_size: int
    failed_step: int
    failed_errno: int


class _Interface:
    """Functions of NumPy and Python that install a handler."""

    def __init__(self) -> None:
        try:
            core: Any = import_module("numpy._core._multiarray_umath")
        except ImportError:  # NumPy 1
            core = import_module("numpy.core._multiarray_umath")
        python = ctypes.pythonapi
        python.PyCapsule_GetPointer.restype = ctypes.c_void_p
        python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
        python.PyCapsule_New.restype = ctypes.py_object
        python.PyCapsule_New.argtypes = [ctypes.c_void_p] * 3
        table = python.PyCapsule_GetPointer(core._ARRAY_API, None)  # noqa: SLF001 - its one way in
        entries = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))
        swap = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)
        self.swap: Any = swap(entries[_SET_HANDLER] or 0)
        capsule = ctypes.cast(entries[_DEFAULT_HANDLER] or 0, ctypes.POINTER(ctypes.py_object))
        self.default = python.PyCapsule_GetPointer(capsule.contents, b"mem_handler")
        reader = ctypes.cast(python.PyCapsule_GetPointer, ctypes.c_void_p).value
        lib.mematlas_arrays_set_capsule_reader(ffi.cast("void *", reader))

    def make_capsule(self, handler: Any) -> Any:
        """Return a capsule that owns a handler. Every array made with the handler keeps the capsule."""
        pointers = (
            handler,
            lib.mematlas_arrays_capsule_name(),
            ffi.addressof(lib, "mematlas_arrays_capsule_destructor"),
        )
        return ctypes.pythonapi.PyCapsule_New(*(int(ffi.cast("uintptr_t", p)) for p in pointers))


@cache
def _interface() -> _Interface:
    return _Interface()


def swap_handler(capsule: Any) -> Any:
    """Set the data handler of this context and return the previous one."""
    return _interface().swap(capsule)


class ArrayHandler:
    """A data handler that places arrays by a configuration."""

    def __init__(
        self,
        *,
        huge: str | None,
        lock: bool | str,
        mode: int,
        nodes: Sequence[int],
        min_size: int,
        cache_bytes: int,
    ) -> None:
        rules = ffi.new("struct mematlas_arrays_config *")
        rules.min_size, rules.cache_bytes = min_size, cache_bytes
        rules.huge, rules.lock, rules.mode = _HUGE[huge], _LOCK[lock], mode
        for node in nodes:
            rules.nodes[node // 64] |= 1 << node % 64
        made = ffi.new("struct mematlas_arrays **")
        interface = _interface()
        check(lib.mematlas_arrays_create(rules, ffi.cast("void *", interface.default), made))
        self._arrays: Any = made[0]
        self.capsule = interface.make_capsule(self._arrays)

    def set_cache(self, size: int) -> None:
        """Set how many bytes of freed blocks are kept for the next arrays."""
        lib.mematlas_arrays_set_cache(self._arrays, size)

    def stats(self) -> ArrayStats:
        """Count blocks and bytes."""
        stats = ffi.new("struct mematlas_arrays_stats *")
        lib.mematlas_arrays_read_stats(self._arrays, stats)
        return ArrayStats(**{name: getattr(stats, name) for name in ArrayStats.__slots__})
