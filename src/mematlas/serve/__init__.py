"""A recording over HTTP while it grows: metrics, heap profiles, the report; and pushes to collectors.

The module is callable: `mematlas.serve(address)` is `mematlas.serve.service.serve(address)`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mematlas.serve.service import Service, serve

__all__ = ["Service", "serve"]


class _Serve(ModuleType):
    """This module, which is a function, too."""

    def __call__(self, *arguments: Any, **named: Any) -> Service:
        """Trace this program and serve its figures."""
        from mematlas.serve.service import serve

        return serve(*arguments, **named)


def __getattr__(name: str) -> Any:
    """Import a public name at its first access."""
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from mematlas.serve import service

    return getattr(service, name)


sys.modules[__name__].__class__ = _Serve
