"""The tracer's library in this process, for programs that trace themselves."""

from __future__ import annotations

import ctypes
import errno
import os
import sys

from mematlas.errors import MematlasError, UsageError
from mematlas.tracing.child import library

_BUSY = "this process is traced already, by `mematlas run`, `mematlas attach` or another mematlas.trace()"


class OwnTracer:
    """The tracer's library, loaded into this process.

    By ctypes.PyDLL instead of the cffi core, for two reasons. The core must not be linked to the
    tracer, which would then be in every process that imports mematlas. And PyDLL keeps the GIL
    during the call, which exchanging the hooks of Python's allocators needs; cffi releases the GIL.
    """

    def __init__(self) -> None:
        """Load the library and declare its two functions, as attach.c defines them."""
        loaded = ctypes.PyDLL(library())
        self._attach, self._detach = loaded.mematlas_attach, loaded.mematlas_detach
        for function in (self._attach, self._detach):
            function.argtypes = (ctypes.c_char_p, ctypes.c_int)
            function.restype = ctypes.c_int

    def attach(self, session: str) -> None:
        """Join the session of a collector and hook this process.

        Raises:
            UsageError: this process is traced already.
            MematlasError: the session cannot be reached, or there is no memory for the hooks.
        """
        error = -int(self._attach(os.fsencode(session), 1))  # 1: the caller holds the GIL
        if error == errno.EBUSY:
            raise UsageError(_BUSY)
        if error:
            raise MematlasError(f"this process cannot be traced: {os.strerror(error)}")

    def detach(self) -> None:
        """Unhook this process; nothing happens if it is not hooked."""
        self._detach(None, 1)


def recorder_command(module: str, request: str) -> list[str]:
    """Return the command of a recorder process of this program.

    `-P`: a module of the working directory that is named as one of Python's own must not be imported there.
    `tracemalloc=0`: PYTHONTRACEMALLOC is meant for the program.
    """
    return [sys.executable, "-P", "-X", "tracemalloc=0", "-m", module, request]
