"""The recording of a traced run: its header at the start, its names at the end."""

from __future__ import annotations

import datetime as dt
import os
import platform
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from mematlas import _core
from mematlas._version import __version__
from mematlas.recording import Writer
from mematlas.recording.model import Run, Sampling
from mematlas.tracing.rolling import RollingWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mematlas.recording.model import RecordingData
    from mematlas.tracing.settings import TraceSettings


def open_recording(path: str, command: Sequence[str], settings: TraceSettings) -> Writer:
    """Create a recording and write its header: command, start time, machine, sampling, and the run.

    OSError as of open().
    """
    # A time of day asks for the second of a segment.
    precision = "milliseconds" if settings.rolls else "seconds"
    started = dt.datetime.now(dt.UTC).isoformat(timespec=precision)
    header: dict[str, Any] = {
        "command": command,
        "started": started,
        "runs": [Run(os.urandom(8).hex(), platform.node(), __version__, started, settings.labels)],
        "machine": _machine(),
        "sampling": Sampling(
            mode="exact" if settings.exact else "sampled",
            sample_bytes=0 if settings.exact else settings.sample_bytes,
            interval_s=settings.interval_s,
            fault_period=settings.fault_period,
        ),
    }
    if settings.rolls:
        return RollingWriter(path, header, keep_s=settings.keep_s, disk_bytes=settings.disk_bytes)
    return Writer(path, **header)


def pending_path(path: str) -> str:
    """Return the name of a recording until it is known that there is one: beside `path`, hidden.

    `path` itself where that is a pipe or device, or where its directory takes no other file.
    """
    folder, name = os.path.split(os.path.realpath(path))
    special = os.path.exists(path) and not os.path.isfile(path)  # noqa: PTH110, PTH113
    if special or not os.access(folder, os.W_OK):
        return path
    return f"{folder}/.{name}.{os.getpid()}"


@contextmanager
def begun_recording(path: str, command: Sequence[str], settings: TraceSettings) -> Iterator[Writer]:
    """Yield the writer of a recording, which has its name at the end of the block. After an error nothing of it is left.

    A rolling one is a folder, in which earlier runs may be, and which is written in its place.
    """
    if not settings.rolls:
        with published(path) as pending:
            writer = open_recording(pending, command, settings)
            writer.name = path  # by which it is found from then on
            yield writer
        return
    writer = open_recording(path, command, settings)
    try:
        yield writer
    except BaseException:
        if isinstance(writer, RollingWriter):
            writer.discard()
        raise


@contextmanager
def published(path: str) -> Iterator[str]:
    """Yield the name of a pending recording; rename it to `path` at the end, remove it after an error."""
    pending = pending_path(path)
    try:
        yield pending
        if pending != path:
            os.replace(pending, os.path.realpath(path))  # noqa: PTH105
    except BaseException:
        if pending != path:
            with suppress(FileNotFoundError):
                os.unlink(pending)  # noqa: PTH108
        raise


def write_names(writer: Writer, path: str) -> RecordingData:
    """Resolve the names of functions and lines, end the recording, and return it as read back.

    Names are resolved now because the files they come from may be replaced later.
    """
    from mematlas.recording import read
    from mematlas.recording.frames import Resolver, used_words

    if isinstance(writer, RollingWriter):
        writer.finish()
        return read(path)
    recording, resolver = read(path), Resolver()
    for index, nodes in recording.nodes.items():
        known = recording.frames.setdefault(index, {})  # those of JIT compilers
        modules, codes = recording.modules.get(index, []), recording.codes.get(index, [])
        frames = resolver.resolve(used_words(nodes), modules, codes, known)
        writer.frames(index, frames)
        known.update(frames)
    writer.notes(resolver.notes)
    writer.end()
    recording.complete = not recording.lossy
    return recording


def _machine() -> dict[str, Any]:
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * _core.PAGE,
    }
