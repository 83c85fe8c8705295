"""Judge the owners of a run by what a developer of the program would name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .catalogue import Program

_ALLOCATORS = re.compile(
    r"(?i)^(\w*_)?(z|x|g_|av_|safe|sys|tracked|u)*(m|c|re|mem|v)?alloc(ate|_usable|_array|z|0)?$"
    r"|safesys\w*alloc|^mmap|_mmap$|^operator new|\+0x[0-9a-f]+$|^unknown"
)
"""Functions that allocate for others, and code without a name: never what a developer would name."""


def strange_owners(program: Program, owners: Iterable[tuple[str, str]]) -> list[str]:
    """List the functions among owners, (function, place), that a developer would not name."""
    return [
        function
        for function, place in owners
        if _ALLOCATORS.search(function)
        or (program.owners and not re.search(program.owners, _text(function, place)))
    ]


def _text(function: str, place: str) -> str:
    """Return what `owners` is matched against: the name of the program's own file says nothing."""
    return f"{function} {place}" if ":" in place else function
