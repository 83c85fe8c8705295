"""Tracing a block of this program's own code: `with mematlas.trace() as traced:`."""

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
    from mematlas.report.model.leaks import Leaks
    from mematlas.report.model.report import Report

_BUSY = "this process is traced already: by `mematlas run`, `mematlas attach`, or another trace()"


class Block:
    """A part of this program that is traced, all its threads, and what became of it.

    `path` is the recording, for the commands of mematlas. What was allocated before counts as allocator
    slack in the account; frees of it are not recorded.
    """

    def __init__(self, output: str | os.PathLike[str] | None, settings: TraceSettings) -> None:
        """Trace nothing yet."""
        self.path = os.fspath(output) if output else f"mematlas-{os.getpid()}.atlas"
        self._settings = settings
        self._recorder: subprocess.Popen[str] | None = None
        self._tracer: ctypes.PyDLL | None = None
        self._done = False

    def __enter__(self) -> Self:
        """Start the recorder beside this process, and hook the allocators.

        UsageError if this process is traced already; MematlasError if the recording cannot be written.
        """
        if self._recorder or self._done:
            raise UsageError("a block can be traced once; call mematlas.trace() again")
        facts = {"pid": os.getpid(), "output": self.path, "settings": asdict(self._settings)}
        self._recorder = subprocess.Popen(
            [sys.executable, "-m", "mematlas.tracing.recorder", json.dumps(facts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            session = self._answer("session ")
            self._tracer = ctypes.PyDLL(
                library()
            )  # with the interpreter's lock held: hooks need it
            error = self._tracer.mematlas_attach(os.fsencode(session), 1)
        except BaseException:
            self._give_up()
            raise
        if error:
            self._give_up()
            raise (
                UsageError(_BUSY)
                if error == -errno.EBUSY
                else MematlasError(f"this process cannot be traced: {os.strerror(-error)}")
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Take a last look, unhook, and wait until the recording is whole.

        MematlasError if it is cut short, unless the block itself failed: that says more.
        """
        self._done = True
        if self._recorder is None or self._tracer is None:
            return
        try:
            self._tell("snapshot")
            self._answer("snapshot done")
            self._tracer.mematlas_detach(None, 1)
            self._tell("finish")
            self._answer("finished")
        except MematlasError:
            if kind is None:
                raise
        finally:
            self._tracer.mematlas_detach(None, 1)  # once more does no harm
            self._give_up()

    def report(self) -> Report:
        """Report on the block, as `mematlas report` does."""
        from mematlas.recording import read
        from mematlas.report.analyse.report import make_report

        return make_report(read(self._finished()))

    def leaks(self) -> Leaks:
        """Tell what the block left live, as `mematlas leaks` does."""
        from mematlas.recording import read
        from mematlas.report.analyse.leaks import find_leaks

        return find_leaks(read(self._finished()))

    def _finished(self) -> str:
        if not self._done:
            raise UsageError("the block still runs; ask for its report after the `with`")
        return self.path

    def _tell(self, word: str) -> None:
        assert self._recorder
        assert self._recorder.stdin
        try:
            self._recorder.stdin.write(word + "\n")
            self._recorder.stdin.flush()
        except BrokenPipeError:
            raise MematlasError(f"{self.path} is cut short: its recorder is gone") from None

    def _answer(self, start: str) -> str:
        """Wait for a line of the recorder's, and give what follows its start."""
        assert self._recorder
        assert self._recorder.stdout
        line = self._recorder.stdout.readline().rstrip("\n")
        if line.startswith(start):
            return line[len(start) :]
        assert self._recorder.stderr
        said = self._recorder.stderr.read().strip().splitlines()
        raise MematlasError(
            f"{self.path} cannot be written: {said[-1] if said else 'no reason given'}"
        )

    def _give_up(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        for pipe in (recorder.stdin, recorder.stdout, recorder.stderr):
            with suppress(BrokenPipeError):  # a word that nobody took
                if pipe:
                    pipe.close()
        recorder.wait()


def trace(
    output: str | os.PathLike[str] | None = None,
    *,
    exact: bool = False,
    sample_bytes: int = SAMPLE_BYTES,
    interval_s: float = INTERVAL_S,
) -> Block:
    """Trace the `with` block: allocations of all threads of this process, with residency.

    `output` is the recording, default mematlas-PID.atlas here; `exact` records every allocation, else one in
    about `sample_bytes` is; `interval_s` lies between looks at residency. Page faults are not sampled.
    """
    if sample_bytes < 1:
        raise UsageError("sample_bytes must be at least 1; use exact=True to record everything")
    settings = TraceSettings(
        exact=exact, sample_bytes=sample_bytes, interval_s=interval_s, fault_period=0
    )
    return Block(output, settings)
