"""Recordings that a command reads."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.api.recording import Recording


def open_recording(path: str, skip: Sequence[str] = (), keep: Sequence[str] = ()) -> Recording:
    """Read a recording and resolve its symbols.

    The cyclic collector stays off: the process ends soon, and a report has a million live objects.
    """
    from mematlas.api.recording import open as open_file

    gc.disable()
    return open_file(path, skip=skip, keep=keep)
