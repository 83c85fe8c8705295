"""mematlas: every resident byte of a Linux program, and the line of code that owns it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mematlas._version import __version__

if TYPE_CHECKING:
    from mematlas.api import trace

__all__ = ["__version__", "trace"]


def __getattr__(name: str) -> Any:
    """Import what only some need when it is first asked for."""
    if name == "trace":
        from mematlas.api import trace

        return trace
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
