"""Judge the figures of a run by what a developer of the program would name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .catalogue import Program
    from .figures import Figures

_ALLOCATORS = re.compile(
    r"(?i)^(\w*_)?(z|x|g_|av_|safe|sys|tracked|u)*(m|c|re|mem|v)?alloc(ate|_usable|_array|z|0)?$"
    r"|safesys\w*alloc|^mmap|_mmap$|(^|::)operator new|^unknown|^\[|no line known"
)
"""Functions that allocate for others: never what a developer would name."""
_UNNAMED = re.compile(r"(^|\+)0x[0-9a-f]+$")


def explained(figures: Figures | None) -> float:
    """Return the share of RSS that has an owner, a named file or a named allocator."""
    return figures.owned + figures.files + figures.slack if figures else 0.0


def unnamed_owners(figures: Figures | None) -> list[str]:
    """List the functions among the largest owners of which only the address is known."""
    owners = figures.owners if figures else ()
    return [function for function, *_ in owners if _UNNAMED.search(function)]


def strange_owners(program: Program, figures: Figures | None) -> list[str]:
    """List the named functions among the largest owners that a developer would not name."""
    unnamed = unnamed_owners(figures)
    return [
        function
        for function, place, _ in (figures.owners if figures else ())
        if function not in unnamed
        and (
            _ALLOCATORS.search(function)
            or (program.owners and not re.search(program.owners, _text(function, place)))
        )
    ]


def _text(function: str, place: str) -> str:
    """Return what `owners` is matched against: the name of the program's own file says nothing."""
    return f"{function} {place}" if ":" in place else function
