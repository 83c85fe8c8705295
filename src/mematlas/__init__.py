"""mematlas accounts for every resident byte of a Linux program and names the line that owns it.

    trace()      trace a block of this program
    mark()       name a moment of this program, for its recording
    open()       read a recording: report, leaks, diff, window, export
    observe      read the memory of processes and of the machine
    heap         heap(pid): what holds the memory of a process
    serve()      trace this program and serve its figures over HTTP
    memory       allocate memory in chosen pages and nodes
    bench        measure what memory costs on this machine
    errors       the errors that all of them raise

The parts are imported at the first access, so that `import mematlas` is quick.

PYTEST_DONT_REWRITE: a program may import this package before it runs pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mematlas._version import __version__
from mematlas.errors import (
    AccessError,
    MematlasError,
    TargetError,
    UnsupportedError,
    UsageError,
)

if TYPE_CHECKING:
    from mematlas import bench, errors, heap, memory, observe
    from mematlas.api.in_process import Trace, trace
    from mematlas.api.marks import mark
    from mematlas.api.recording import Recording, open  # noqa: A004 - as in gzip.open
    from mematlas.serve.service import Service, serve

__all__ = [
    "AccessError",
    "MematlasError",
    "Recording",
    "Service",
    "TargetError",
    "Trace",
    "UnsupportedError",
    "UsageError",
    "__version__",
    "bench",
    "errors",
    "heap",
    "mark",
    "memory",
    "observe",
    "open",
    "serve",
    "trace",
]

_MODULES = {
    "Recording": "mematlas.api.recording",
    "Service": "mematlas.serve.service",
    "Trace": "mematlas.api.in_process",
    "mark": "mematlas.api.marks",
    "open": "mematlas.api.recording",
    "trace": "mematlas.api.in_process",
}


if not TYPE_CHECKING:  # else a type checker would accept any name

    def __getattr__(name: str) -> Any:
        """Import a public name at its first access."""
        if name not in __all__:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        found: Any = (
            getattr(import_module(_MODULES[name]), name)
            if name in _MODULES
            else import_module(f"mematlas.{name}")
        )
        globals()[name] = found
        return found


def load_ipython_extension(shell: Any) -> None:
    """Register `%%mematlas` and `%mematlas_report`, as `%load_ext mematlas` asks."""
    import_module("mematlas.notebook.magics").load(shell)


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)
