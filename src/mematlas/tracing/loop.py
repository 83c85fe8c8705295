"""Tracing a program from its start to its end."""

from __future__ import annotations

import os
import resource
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.tracing import child
from mematlas.tracing.follow import Follower, open_collector
from mematlas.tracing.program import check_program, find_program
from mematlas.tracing.untraced import UntracedWatch

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

    from mematlas.recording import Writer
    from mematlas.tracing.settings import TraceSettings

_POLL_S = 0.1
_INTERRUPTS_TO_STOP = 2  # the first Ctrl-C is left to the program
_KILLED_BY_INTERRUPT = (
    -2
)  # return code of a program that still runs when the user stops the recording


@dataclass(frozen=True, slots=True)
class RunResult:
    """The end of a run: the program's exit status, and the error that cut the recording short, if any."""

    status: int
    failure: OSError | None = None


def run(
    command: Sequence[str],
    settings: TraceSettings,
    open_writer: Callable[[int], Writer],
    on_look: Callable[[str], object] = lambda _: None,
) -> RunResult:
    """Run a program under the tracer until it ends, and record it.

    Args:
        command: the program and its arguments.
        settings: what to record.
        open_writer: called with the program's PID once it runs; the writer it returns is left open, so
            that the caller can add the resolved names.
        on_look: called with a line that tells of a look that was kept.

    Raises:
        MematlasError: the program cannot be found, started or traced; the class tells which.
    """
    program = find_program(command)
    left = check_program(program)
    collector = open_collector(settings)
    with closing(collector), child.forward_signals() as signals:
        untraced = UntracedWatch()  # before the program starts, which inherits it
        process = child.start(command, program, collector.session, left)
        signals.set_child(process)
        failure = None
        try:
            follower = Follower(
                collector,
                open_writer(process.pid),
                process.pid,
                idle_s=settings.idle_s,
                untraced=untraced,
                when=settings.when,
                on_look=on_look,
                graphs=settings.graphs,
            )
            reaped = _Reaped(process)
            follower.follow(lambda: _is_stopped(signals), reaped.wait)
            follower.finish(process.returncode, reaped.peak_rss_bytes)
        except OSError as error:  # a full disk must not end the program
            failure = error
        finally:
            collector.stop()
            _wait(process, signals)
    status = process.returncode
    return RunResult(child.exit_status(_KILLED_BY_INTERRUPT if status is None else status), failure)


class _Reaped:
    """The end of the program. `peak_rss_bytes` is its highest RSS, if the kernel's figure can be of it alone."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.peak_rss_bytes: int | None = None

    def wait(self) -> None:
        """Wait for the program.

        The kernel's figure is the highest of the program, of what it waited for, and of this process, which it was before
        its exec.
        """
        if self._process.returncode is not None:
            return
        try:
            _, status, usage = os.wait4(self._process.pid, 0)
        except ChildProcessError:  # a signal was forwarded meanwhile, and found that it had ended
            self._process.wait()
            return
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if usage.ru_maxrss > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
            self.peak_rss_bytes = usage.ru_maxrss * 1024


def _is_stopped(signals: child.SignalForwarder) -> bool:
    return signals.interrupts >= _INTERRUPTS_TO_STOP


def _wait(process: subprocess.Popen[bytes], signals: child.SignalForwarder) -> None:
    """Wait for the program to end, even if its recording failed."""
    while process.poll() is None and not _is_stopped(signals):
        time.sleep(_POLL_S)
