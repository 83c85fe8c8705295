"""The recording a run is written to: its head at the start, its names at the end."""

from __future__ import annotations

import datetime as dt
import os
import platform
from typing import TYPE_CHECKING, Any

from mematlas import _core
from mematlas.recording import Writer
from mematlas.recording.model import Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.recording.model import Recording
    from mematlas.tracing.settings import Settings


def open_recording(path: str, command: Sequence[str], settings: Settings) -> Writer:
    """Create the file and write how it came to be. OSError as from open()."""
    return Writer(
        path,
        command=command,
        started=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        machine=_machine(),
        sampling=Sampling(
            mode="exact" if settings.exact else "sampled",
            sample_bytes=0 if settings.exact else settings.sample_bytes,
            interval_s=settings.interval_s,
            fault_period=settings.fault_period,
        ),
    )


def write_names(writer: Writer, path: str) -> Recording:
    """Resolve names while the files they come from are as they were, end the file, and read it back."""
    from mematlas.recording import read
    from mematlas.recording.frames import Resolver, used_words

    recording, resolver = read(path), Resolver()
    for index, nodes in recording.nodes.items():
        frames = resolver.resolve(
            used_words(nodes), recording.modules.get(index, []), recording.codes.get(index, [])
        )
        writer.frames(index, frames)
        recording.frames[index] = frames
    writer.notes(resolver.notes)
    writer.end()
    recording.complete = True
    return recording


def _machine() -> dict[str, Any]:
    pages = os.sysconf("SC_PHYS_PAGES") * _core.PAGE
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_bytes": pages,
    }
