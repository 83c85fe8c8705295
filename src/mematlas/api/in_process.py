"""Tracing of this program's own code: a `with` block, a function, or from start() to stop()."""

from __future__ import annotations

import functools
import inspect
import json
import os
import subprocess
import threading
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self, TypeVar

from mematlas.errors import MematlasError, UsageError
from mematlas.tracing.own_tracer import OwnTracer, recorder_command
from mematlas.tracing.settings import INTERVAL_S, SAMPLE_BYTES, TraceSettings, checked_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mematlas.api.recording import Recording
    from mematlas.report.model.leaks import Leaks
    from mematlas.report.model.report import Report


_P = ParamSpec("_P")
_R_co = TypeVar("_R_co", covariant=True)


class TracedFunction(Protocol[_P, _R_co]):
    """A function whose calls are traced. `traced` is the Trace of the last call that has ended; None: none has."""

    traced: Trace | None

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co:
        """Call the function."""
        ...


class Trace:
    """A traced part of this program, as `mematlas.trace` returns it.

    A `with` or `async with` block, a decorated function, or what runs from `start()` to `stop()`.

    `path` is the name of the recording. After the block, `recording`, `report()` and `leaks()` give
    its content. A Trace serves one block; as a decorator it makes another one for each call.

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
        self._tracer: OwnTracer | None = None
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
            recorder_command("mematlas.tracing.recorder", json.dumps(request)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            session = self._await_reply("session ")
            tracer = OwnTracer()
            tracer.attach(session)
        except BaseException:
            with suppress(MematlasError):  # a recorder that is left waits for those that read
                self._send("finish")
            self._close_recorder()
            raise
        self._tracer = tracer
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

    def _repr_html_(self) -> str | None:
        """Return the report as notebooks show it; None before the block has ended."""
        return self.recording._repr_html_() if self._done else None

    async def __aenter__(self) -> Self:
        """Do as `__enter__`. All tasks are traced, those of other threads too."""
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Do as `__exit__`."""
        self.__exit__(kind, *rest)

    def start(self) -> Self:
        """Begin to trace, as the start of a `with` block does.

        >>> import mematlas, tempfile, os
        >>> traced = mematlas.trace(os.path.join(tempfile.mkdtemp(), "cells.atlas")).start()
        >>> data = bytes(32 << 20)
        >>> traced.stop().recording.complete
        True
        """
        return self.__enter__()

    def stop(self) -> Self:
        """End the tracing, as the end of a `with` block does.

        Raises:
            UsageError: it has not begun, or has ended.
            MematlasError: the recording is cut short.

        >>> import mematlas, tempfile, os
        >>> traced = mematlas.trace(os.path.join(tempfile.mkdtemp(), "cells.atlas")).start()
        >>> traced.stop().recording.complete
        True
        """
        if self._recorder is None:
            raise UsageError("stop() ends what start() began; nothing is traced now")
        self.__exit__(None)
        return self

    def __call__(self, function: Callable[_P, _R_co]) -> TracedFunction[_P, _R_co]:
        """Trace each call of a function, or of a coroutine function until it is awaited to its end.

        The first call writes `path`, the next ones "NAME.2.atlas" and so on. `function.traced` is the Trace of the
        last call that has ended. A call within another is part of that one.

        Raises:
            UsageError: the function is a generator, whose code runs at each `next()`.

        >>> import mematlas, tempfile, os
        >>> @mematlas.trace(os.path.join(tempfile.mkdtemp(), "load.atlas"))
        ... def load():
        ...     return bytes(32 << 20)
        >>> data = load()
        >>> load.traced.recording.complete
        True
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise UsageError("a generator runs when it is iterated; trace the loop by `with`")
        calls = _Calls(self, self._settings)
        wrapper: Any

        if inspect.iscoroutinefunction(function):

            async def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                traced = calls.begin()
                try:
                    with traced or nullcontext():
                        return await function(*args, **kwargs)
                finally:
                    calls.end(traced)
        else:

            def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                traced = calls.begin()
                try:
                    with traced or nullcontext():
                        return function(*args, **kwargs)
                finally:
                    calls.end(traced)

        wrapper = functools.wraps(function)(wrapper)
        calls.wrapper, wrapper.traced = wrapper, None
        found: TracedFunction[_P, _R_co] = wrapper
        return found

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


class _Calls:
    """The calls of a decorated function: one is traced at a time."""

    def __init__(self, first: Trace, settings: TraceSettings) -> None:
        self._first = first
        self._settings = settings
        self._count = 0
        self._running = threading.Lock()
        self.wrapper: Any = None

    def begin(self) -> Trace | None:
        """Return the Trace of a call; None if another call is traced."""
        if not self._running.acquire(blocking=False):
            return None
        self._count += 1
        path = PurePath(self._first.path)
        if self._count > 1:
            path = path.with_suffix(f".{self._count}{path.suffix}")
        return Trace(path, self._settings)

    def end(self, traced: Trace | None) -> None:
        """Note that a call has ended; one that could not be traced is none."""
        if traced is not None:
            if traced._done:  # noqa: SLF001 - of the same module
                self.wrapper.traced = traced
            self._running.release()


def trace(
    output: str | os.PathLike[str] | None = None,
    *,
    exact: bool = False,
    sample_bytes: int = SAMPLE_BYTES,
    interval_s: float = INTERVAL_S,
    labels: Mapping[str, str] | None = None,
) -> Trace:
    """Trace the allocations of a part of this program, of all threads, with residency.

    The part is a `with` or `async with` block, each call of a function that `@mematlas.trace()` decorates, or what
    runs from `start()` to `stop()`.

    Arguments:
        output: the recording to write; default mematlas-PID.atlas in the working directory.
        exact: record every allocation, instead of a sample.
        sample_bytes: mean number of allocated bytes between two samples; default 512 KiB.
        interval_s: seconds between two snapshots of residency; default 1.
        labels: names and values for the rows of exports, such as {"version": "1.4"}.

    Memory allocated before the block counts as allocator slack in the report. Page faults are not
    sampled. Programs that the block starts by exec are not traced.

    Raises:
        UsageError: `sample_bytes` is below 1, or a label has a malformed name; on entry, this process is traced already.
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
        exact=exact,
        sample_bytes=sample_bytes,
        interval_s=interval_s,
        fault_period=0,
        labels=checked_labels(labels or {}),
    )
    return Trace(output, settings)


trace.__module__ = "mematlas"
