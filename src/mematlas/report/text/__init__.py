"""Terminal views of reports. A view is imported at its first use: a run prints the summary alone."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mematlas.report.text.leaks import render_leaks
    from mematlas.report.text.report import render_report
    from mematlas.report.text.summary import render_summary
    from mematlas.report.text.window import render_window

__all__ = ["render_leaks", "render_report", "render_summary", "render_window"]


if not TYPE_CHECKING:  # else a type checker would accept any name

    def __getattr__(name: str) -> Any:
        """Import a view at its first use."""
        if name not in __all__:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        module = import_module(f"{__name__}.{name.removeprefix('render_')}")
        found = globals()[name] = getattr(module, name)
        return found
