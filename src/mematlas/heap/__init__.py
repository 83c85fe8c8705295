"""The heap graph of a process: live blocks, the pointers between them, and what keeps them alive.

The module is callable: `mematlas.heap(pid)` is `mematlas.heap.look(pid)`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mematlas.heap.api import Look, look

__all__ = ["Look", "look"]


class _Heap(ModuleType):
    """This module, which is a function, too."""

    def __call__(self, pid: int) -> Look:
        """Return the heap of a process."""
        from mematlas.heap.api import look

        return look(pid)


def __getattr__(name: str) -> Any:
    """Import a public name at its first access."""
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from mematlas.heap import api

    return getattr(api, name)


sys.modules[__name__].__class__ = _Heap
