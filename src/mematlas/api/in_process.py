"""Tracing of a block of this program's own code: `with mematlas.trace() as traced:`."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Self

from mematlas.errors import MematlasError, UsageError
from mematlas.tracing.child import library
from mematlas.tracing.settings import INTERVAL_S, SAMPLE_BYTES, TraceSettings

if TYPE_CHECKING:
    from mematlas.api.recording import Recording
    from mematlas.report.model.leaks import Leaks
    from mematlas.report.model.report import Report

_BUSY = "this process is traced already, by `mematlas run`, `mematlas attach` or another mematlas.trace()"


class Trace:
    """A traced `with` block of this program, as `mematlas.trace` returns it.

    `path` is the name of the recording. After the block, `recording`, `report()` and `leaks()` give
    its content. A Trace serves one block.

    >>> import mematlas, tempfile, os
    >>> with mematlas.trace(os.path.join(tempfile.mkdtemp(), "block.atlas")) as traced:
    ...     data = bytes(32 << 20)
    >>> traced.recording.complete
    True
    """

    __module__ = "mematlas"

    def __init__(self, output: str | os.PathLike[str] | None, settings: TraceSettings) -> None:
        """Store the settings; nothing is traced yet."""
        self.path = os.fspath(output) if output else f"mematlas-{os.getpid()}.atlas"
        self._settings = settings
        self._recorder: subprocess.Popen[str] | None = None
        self._tracer: _Tracer | None = None
        self._done = False
        self._recording: Recording | None = None

    def __enter__(self) -> Self:
        """Start the recorder process, and hook the allocators of this process.

        Raises:
            UsageError: this process is traced already, or this Trace was used before.
            MematlasError: the recording cannot be written.
        """
        if self._recorder or self._done:
            raise UsageError("a Trace serves one block; call mematlas.trace() again")
        request = {"pid": os.getpid(), "output": self.path, "settings": asdict(self._settings)}
        self._recorder = subprocess.Popen(
            [sys.executable, "-m", "mematlas.tracing.recorder", json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            session = self._await_reply("session ")
            self._tracer = _Tracer(library())
            error = self._tracer.attach(session)
        except BaseException:
            self._close_recorder()
            raise
        if error:
            self._close_recorder()
            raise (
                UsageError(_BUSY)
                if error == errno.EBUSY
                else MematlasError(f"this process cannot be traced: {os.strerror(error)}")
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Take the last snapshot, unhook the allocators, and wait until the recording is complete.

        Raises:
            MematlasError: the recording is cut short. An exception of the block takes precedence.
        """
        self._done = True
        if self._recorder is None or self._tracer is None:
            return
        try:
            self._send("snapshot")
            self._await_reply("snapshot done")
            self._tracer.detach()
            self._send("finish")
            self._await_reply("finished")
        except MematlasError:
            if kind is None:
                raise
        finally:
            self._tracer.detach()  # does nothing if detached already
            self._close_recorder()

    @property
    def recording(self) -> Recording:
        """The recording of the block, read at the first access.

        Raises:
            UsageError: the block has not ended.

        >>> import mematlas
        >>> traced = mematlas.trace()
        >>> traced.recording
        Traceback (most recent call last):
        mematlas.UsageError: the traced block has not ended; read its recording after the `with`
        """
        if not self._done:
            raise UsageError("the traced block has not ended; read its recording after the `with`")
        if self._recording is None:
            from mematlas.api.recording import open as open_recording

            self._recording = open_recording(self.path)
        return self._recording

    def report(self) -> Report:
        """Return the report on the block, as `mematlas report` prints it.

        Short for `recording.report()`. Raises UsageError before the block has ended.

        >>> import mematlas, tempfile, os
        >>> with mematlas.trace(os.path.join(tempfile.mkdtemp(), "b.atlas"), exact=True) as traced:
        ...     data = bytes(32 << 20)
        >>> max(stack.live_bytes for stack in traced.report().stacks) >= 32 << 20
        True
        """
        return self.recording.report()

    def leaks(self) -> Leaks:
        """Return what the block left live, as `mematlas leaks` prints it.

        Short for `recording.leaks()`. Raises UsageError before the block has ended.

        >>> import mematlas, tempfile, os
        >>> with mematlas.trace(os.path.join(tempfile.mkdtemp(), "b.atlas"), exact=True) as traced:
        ...     data = bytes(32 << 20)
        >>> traced.leaks().live_bytes >= 32 << 20
        True
        """
        return self.recording.leaks()

    def _send(self, word: str) -> None:
        assert self._recorder
        assert self._recorder.stdin
        try:
            self._recorder.stdin.write(word + "\n")
            self._recorder.stdin.flush()
        except BrokenPipeError:
            raise MematlasError(f"{self.path} is cut short: its recorder has ended") from None

    def _await_reply(self, start: str) -> str:
        """Wait for a line of the recorder, and return what follows its start."""
        assert self._recorder
        assert self._recorder.stdout
        line = self._recorder.stdout.readline().rstrip("\n")
        if line.startswith(start):
            return line[len(start) :]
        assert self._recorder.stderr
        said = self._recorder.stderr.read().strip().splitlines()
        reason = said[-1] if said else "its recorder ended without a reason"
        raise MematlasError(f"{self.path} cannot be written: {reason}")

    def _close_recorder(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        for pipe in (recorder.stdin, recorder.stdout, recorder.stderr):
            with suppress(BrokenPipeError):  # a word that was never read
                if pipe:
                    pipe.close()
        recorder.wait()


class _Tracer:
    """The tracer's library, loaded into this process.

    By ctypes.PyDLL instead of the cffi core, for two reasons. The core must not be linked to the
    tracer, which would then be in every process that imports mematlas. And PyDLL keeps the GIL
    during the call, which exchanging the hooks of Python's allocators needs; cffi releases the GIL.
    """

    def __init__(self, path: str) -> None:
        """Load the library and declare its two functions, as attach.c defines them."""
        loaded = ctypes.PyDLL(path)
        self._attach, self._detach = loaded.mematlas_attach, loaded.mematlas_detach
        for function in (self._attach, self._detach):
            function.argtypes = (ctypes.c_char_p, ctypes.c_int)
            function.restype = ctypes.c_int

    def attach(self, session: str) -> int:
        """Join the session and hook this process; return 0 or an errno."""
        return -int(self._attach(os.fsencode(session), 1))  # 1: the caller holds the GIL

    def detach(self) -> None:
        """Unhook this process; nothing happens if it is not hooked."""
        self._detach(None, 1)


def trace(
    output: str | os.PathLike[str] | None = None,
    *,
    exact: bool = False,
    sample_bytes: int = SAMPLE_BYTES,
    interval_s: float = INTERVAL_S,
) -> Trace:
    """Trace the allocations of a `with` block, of all threads of this process, with residency.

    Arguments:
        output: the recording to write; default mematlas-PID.atlas in the working directory.
        exact: record every allocation, instead of a sample.
        sample_bytes: mean number of allocated bytes between two samples; default 512 KiB.
        interval_s: seconds between two snapshots of residency; default 1.

    Memory allocated before the block counts as allocator slack in the report. Page faults are not
    sampled. Programs that the block starts by exec are not traced.

    Raises:
        UsageError: `sample_bytes` is below 1; on entry, this process is traced already.
        MematlasError: on entry, the recording cannot be written.

    >>> import mematlas, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "load.atlas")
    >>> with mematlas.trace(path, exact=True) as traced:
    ...     squares = [number * number for number in range(100_000)]
    >>> traced.report().complete
    True
    """
    if sample_bytes < 1:
        raise UsageError(
            "sample_bytes must be at least 1; use exact=True to record every allocation"
        )
    settings = TraceSettings(
        exact=exact, sample_bytes=sample_bytes, interval_s=interval_s, fault_period=0
    )
    return Trace(output, settings)


trace.__module__ = "mematlas"
