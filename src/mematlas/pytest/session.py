"""Measuring the tests of this process: the pytest side of `recorder`."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mematlas.errors import MematlasError
from mematlas.tracing.own_tracer import OwnTracer, recorder_command

if TYPE_CHECKING:
    from collections.abc import Mapping

_STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """What of a test is recorded: every allocation, or one in so many bytes."""

    exact: bool
    sample_bytes: int = 1


@dataclass(frozen=True, slots=True)
class TestFigures:
    """What one test allocated, in bytes; `*_error_bytes` are one standard error, 0 if exact.

    `sample_bytes`: mean bytes between two samples; 0: exact. `resident_bytes`: by how much the highest RSS during the
    test exceeded that at its start; None: not measured.
    """

    __test__ = False  # for pytest, which takes it for a class of tests

    peak_bytes: int
    peak_error_bytes: int
    allocated_bytes: int
    allocated_error_bytes: int
    allocations: int
    live_bytes: int
    live_error_bytes: int
    sample_bytes: int
    resident_bytes: int | None = None


class TestRecorder:
    """The tracer of this process, and the process that keeps its records. Both start at the first test.

    A forked child of this process measures nothing: `is_owner` is False there.
    """

    __test__ = False

    def __init__(self) -> None:
        """Start nothing yet."""
        self._pid = os.getpid()
        self._process: subprocess.Popen[str] | None = None
        self._tracer: OwnTracer | None = None
        self._sampling: Sampling | None = None
        self._number = 0  # of the last command

    @property
    def is_owner(self) -> bool:
        """Whether this is the process that was to be measured."""
        return os.getpid() == self._pid

    def start(self) -> None:
        """Start the recorder process, so that it is ready at the first test."""
        if self._process is None:
            self._process = subprocess.Popen(
                recorder_command("mematlas.pytest.recorder", json.dumps({"pid": self._pid})),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
            )

    def begin(self, sampling: Sampling, path: str | None) -> None:
        """Begin a test; `path`: of its recording with pages, None: none is wanted.

        Raises:
            MematlasError: this process cannot be traced, as when it is already.
        """
        self.start()
        if sampling != self._sampling:
            self._leave()
            session = self._ask("open", exact=sampling.exact, sample_bytes=sampling.sample_bytes)
            self._tracer = self._tracer or OwnTracer()
            self._tracer.attach(session["session"])
            self._sampling = sampling
        self._ask("begin", path=path)

    def end(self, path: str | None = None, least: int = 0) -> tuple[dict[str, int], str | None]:
        """Return the figures of the test, and the path of its recording if one was written.

        `path`: where to write one if the test held `least` bytes at its peak.
        """
        found = self._ask("end", path=path, least=least)
        return found["figures"], found["path"]

    def stacks(self, metric: str, least: int) -> list[dict[str, Any]]:
        """Return the stacks of the test that has just ended: their bytes of a metric, largest first."""
        return list(self._ask("stacks", metric=metric, least=least)["stacks"])

    def lines(self, path: str, top: int) -> list[dict[str, Any]]:
        """Return the lines of a recording that held most at the peak."""
        return list(self._ask("lines", path=path, metric="peak", top=top)["lines"])

    def close(self) -> None:
        """Unhook this process and end the recorder. In a forked child, nothing happens."""
        if not self.is_owner or self._process is None:
            return
        with suppress(MematlasError):
            self._leave()
            self._ask("exit")  # forked children may have the pipe, too, so closing it is not enough
        process, self._process = self._process, None
        for pipe in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):
                if pipe:
                    pipe.close()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _leave(self) -> None:
        if self._sampling is None:
            return
        self._sampling = None
        if self._tracer:
            self._tracer.detach()
        self._ask("close")

    def _ask(self, command: str, **arguments: Any) -> Mapping[str, Any]:
        process = self._process
        assert process
        assert process.stdin
        self._number += 1
        request = {"do": command, "number": self._number, **arguments}
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise MematlasError("the recorder of mematlas has ended") from None
        found = self._await_answer()
        if "error" in found:
            raise MematlasError(found["error"])
        return found

    def _await_answer(self) -> Mapping[str, Any]:
        """Wait for the answer to the last command.

        Those to earlier ones are dropped: an exception, as of a time limit, ended the wait for them.
        """
        assert self._process
        assert self._process.stdout
        while line := self._process.stdout.readline():
            found: Mapping[str, Any] = json.loads(line)
            if found["number"] == self._number:
                return found
        raise MematlasError("the recorder of mematlas has ended")
