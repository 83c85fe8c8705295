"""The recorder process of a pytest process: `python -m mematlas.pytest.recorder REQUEST`.

One for all tests, since starting one takes longer than most tests do. It reads a command a line from its
standard input and answers each by a line, both JSON. REQUEST is {"pid"}. A command has a "number", and so has its answer.

    {"do": "open", "exact", "sample_bytes"}   begin a session             {"session"}
    {"do": "begin", "path"}                   begin a test                {}
    {"do": "end", "path", "least"}            the figures of the test     {"figures", "path"}
    {"do": "stacks", "metric", "least"}       what its stacks hold        {"stacks"}
    {"do": "lines", "path", "metric", "top"}  the lines of a recording    {"lines"}
    {"do": "close"}                           end the session             {}
    {"do": "exit"}                            end the process             {}

An answer {"error"} says why a command failed.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mematlas._core import Event
from mematlas.errors import MematlasError, TargetError
from mematlas.tracing.follow import open_collector
from mematlas.tracing.output import open_recording
from mematlas.tracing.process import ProcessRecorder
from mematlas.tracing.recorder import command_of
from mematlas.tracing.settings import TraceSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mematlas._core import Collector
    from mematlas.recording import Writer
    from mematlas.recording.model import Frame
    from mematlas.report.model.report import StackStats

_POLL_S = 1.0
_JOIN_S = 10.0  # in which a process joins that says that it has
_DESCRIPTOR = 0  # of the commands
_TRIGGERS = {Event.INTERVAL: "interval", Event.PEAK: "peak", Event.STOPPED: "interval"}


class Session:
    """One session of the tracer. Between two tests of different sampling it is replaced."""

    def __init__(self, pid: int, settings: TraceSettings) -> None:
        """Create a session that the process can join."""
        self._pid = pid
        self._settings = settings
        self._collector: Collector = open_collector(settings)
        self._collector.wake_by(_DESCRIPTOR)
        self._collector.watch(pid)
        self._index: int | None = None
        self._writer: Writer | None = None
        self._recorder: ProcessRecorder | None = None
        self.path: str | None = None  # of the test's recording, once there is one

    @property
    def name(self) -> str:
        """The text by which the process joins."""
        return self._collector.session

    def follow(self, timeout_s: float = _POLL_S) -> None:
        """Read the rings until a command may have come, and handle what has happened."""
        event, index = self._collector.poll(timeout_s)
        if event is Event.PROCESS and self._index is None:
            if self._collector.process(index).pid == self._pid:
                self._index = index
        elif event is Event.EXITING:
            self._collector.release(index)
        elif event is Event.ENDED:
            self._collector.forget(index)
        elif event is Event.MARK:
            for mark in self._collector.marks(index):
                self._collector.answer(index, mark)
        elif event in _TRIGGERS:
            self._look(index, _TRIGGERS[event])

    def begin(self, path: str | None) -> None:
        """Forget what was before, and begin a recording with pages if a path is given."""
        end = time.monotonic() + _JOIN_S
        while self._index is None:
            if time.monotonic() > end:
                raise TargetError("the tracer did not start in this process")
            self.follow(0.1)
        self._drop_recording()  # of a test that did not come to its end
        self._collector.restart(self._index, looks=path is not None)
        if path is not None:
            self._open(path)

    def end(self, path: str | None, least: float) -> dict[str, Any]:
        """Return the figures of the test; write its recording if there is a path and it holds enough."""
        assert self._index is not None
        sums = self._collector.sums(self._index)
        if self._recorder is not None:
            self._close(pages=True)
        elif path is not None and sums.peak_bytes >= least:
            self.write(path)
        return {
            "peak_bytes": round(sums.peak_bytes),
            "peak_error_bytes": round(math.sqrt(max(sums.peak_variance, 0.0))),
            "allocated_bytes": round(sums.allocated_bytes),
            "allocated_error_bytes": round(math.sqrt(max(sums.allocated_variance, 0.0))),
            "allocations": round(sums.allocations),
            "live_bytes": round(sums.live_bytes),
            "live_error_bytes": round(math.sqrt(max(sums.live_variance, 0.0))),
            "sample_bytes": 0 if self._settings.exact else self._settings.sample_bytes,
        }

    def write(self, path: str) -> None:
        """Write what the test has allocated, without the pages."""
        self._open(path)
        self._close(pages=False)

    def close(self) -> None:
        """End the session. The process has left it before."""
        self._drop_recording()
        self._collector.stop()
        self._collector.close()

    def _drop_recording(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = self._recorder = self.path = None

    def _open(self, path: str) -> None:
        assert self._index is not None
        self._writer = open_recording(path, command_of(self._pid), self._settings)
        self._recorder = ProcessRecorder(self._collector, self._writer, self._index)
        self.path = path

    def _close(self, *, pages: bool) -> None:
        assert self._writer is not None
        assert self._recorder is not None
        try:
            if pages:
                self._recorder.snapshot("exit")
                self._recorder.close(None)
            else:
                self._recorder.close_without_pages()
            self._writer.end()
        except BaseException:
            self._drop_recording()
            raise
        self._writer = self._recorder = None

    def _look(self, index: int, trigger: str) -> None:
        """Read the pages: the process may wait for that."""
        with suppress(OSError):
            if index == self._index and self._recorder is not None:
                self._recorder.snapshot(trigger)
            else:
                self._collector.snapshot(index)


class Server:
    """The commands of one pytest process."""

    def __init__(self, pid: int) -> None:
        """Serve a process."""
        self._pid = pid
        self._session: Session | None = None
        self._pending = b""
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "open": self._open,
            "begin": self._begin,
            "end": self._end,
            "stacks": self._stacks,
            "lines": self._lines,
            "close": self._close,
            "exit": self._close,
        }

    def serve(self) -> None:
        """Obey commands until one ends the process, or the pipe is closed."""
        try:
            while line := self._read_line():
                asked = json.loads(line)
                try:
                    answer = self._commands[asked["do"]](asked)
                except (MematlasError, OSError) as error:
                    answer = {"error": str(error)}
                sys.stdout.write(json.dumps({"number": asked["number"], **answer}) + "\n")
                sys.stdout.flush()
                if asked["do"] == "exit":
                    return
        except BrokenPipeError:
            sys.stdout = Path(os.devnull).open("w", encoding="utf-8")
        finally:
            self._close({})
            if self._folder:
                self._folder.cleanup()

    def _read_line(self) -> bytes:
        """Return the next command; empty at the end of the pipe. The rings are read meanwhile."""
        while b"\n" not in self._pending:
            while self._session and not select.select([_DESCRIPTOR], [], [], 0)[0]:
                self._session.follow()
            more = os.read(_DESCRIPTOR, 1 << 16)
            if not more:
                return b""
            self._pending += more
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _open(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._close({})  # one that the process could not join
        settings = TraceSettings(
            exact=asked["exact"], sample_bytes=asked["sample_bytes"], interval_s=0.0, fault_period=0
        )
        self._session = Session(self._pid, settings)
        return {"session": self._session.name}

    def _begin(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._of_test().begin(asked["path"])
        return {}

    def _end(self, asked: dict[str, Any]) -> dict[str, Any]:
        figures = self._of_test().end(asked["path"], asked["least"])
        return {"figures": figures, "path": self._of_test().path}

    def _stacks(self, asked: dict[str, Any]) -> dict[str, Any]:
        session = self._of_test()
        if session.path is None:
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="mematlas-")
            session.write(str(Path(self._folder.name, "test.atlas")))
        assert session.path is not None
        found = [
            {"bytes": stack.metric(asked["metric"]), "frames": _frames(stack)}
            for stack in _read(session.path)
            if stack.metric(asked["metric"]) >= max(asked["least"], 1)
        ]
        return {"stacks": sorted(found, key=lambda each: -each["bytes"])}

    @staticmethod
    def _lines(asked: dict[str, Any]) -> dict[str, Any]:
        from mematlas.report.analyse.lines import lines
        from mematlas.report.frame_names import function_name

        metric = asked["metric"]
        ranked = lines(_read(asked["path"]), metric)[: asked["top"]]
        return {
            "lines": [
                {
                    "bytes": each.bytes[metric],
                    "function": function_name(each.frame) if each.frame else "unknown stack",
                    "file": (each.frame.file or each.frame.module) if each.frame else None,
                    "line": each.frame.line if each.frame else None,
                }
                for each in ranked
                if each.bytes[metric] > 0
            ]
        }

    def _close(self, _: dict[str, Any]) -> dict[str, Any]:
        session, self._session = self._session, None
        if session:
            session.close()
        return {}

    def _of_test(self) -> Session:
        if self._session is None:
            raise TargetError("no session is open")
        return self._session


def _read(path: str) -> Sequence[StackStats]:
    from mematlas.api.recording import open as open_file

    return open_file(path).report().stacks


def _frames(stack: StackStats) -> list[list[Any]]:
    """Return the frames of a stack; of a Python function the name alone, as filters of pytest-memray expect."""
    return [
        [_name(frame), frame.file or frame.module or "???", frame.line or 0]
        for frame in stack.frames
    ]


def _name(frame: Frame) -> str:
    name = frame.function or "???"
    return name.rpartition(".")[2] if frame.kind == "python" else name


def main(request: str) -> int:
    """Serve the requested process until it closes the pipe, or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for pytest
    Server(int(json.loads(request)["pid"])).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
