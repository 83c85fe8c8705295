"""The pytest plugin: `pytest --mematlas`, and markers that limit the memory of a test.

What a suite imports of it are the types of a filter for `limit_leaks`, as pytest-memray has them:

    from mematlas.pytest import LeaksFilterFunction, Stack, StackFrame
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ["LeaksFilterFunction", "Stack", "StackFrame"]


class StackFrame(NamedTuple):
    """One frame of a call stack. `function` and `filename` are "???" and `lineno` is 0 where unknown."""

    function: str
    filename: str
    lineno: int


class Stack(NamedTuple):
    """The call stack of an allocation, most recent frame first."""

    frames: tuple[StackFrame, ...]


class LeaksFilterFunction(Protocol):
    """A filter of `limit_leaks`: returns whether memory of this stack counts."""

    def __call__(self, stack: Stack) -> bool:
        """Return True if memory of this stack is to be reported, False to let it pass."""
        ...
