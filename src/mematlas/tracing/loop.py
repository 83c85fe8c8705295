"""The run: start the program and follow it to its end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.tracing import child
from mematlas.tracing.follow import Follower, open_collector
from mematlas.tracing.session import session_directory
from mematlas.tracing.target import check_program, find_program

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

    from mematlas.recording import Writer
    from mematlas.tracing.settings import Settings

_POLL_S = 0.1
ROOM = 128  # rings there should be room for in shared memory


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `failure` is why the recording is cut short, if it is."""

    status: int
    failure: OSError | None = None


def run(
    command: Sequence[str], settings: Settings, open_writer: Callable[[int], Writer]
) -> Outcome:
    """Trace a program to its end. The writer is left open, for the names to follow.

    `open_writer` is called with the program's PID once it runs.
    """
    program = find_program(command)
    check_program(program)
    with session_directory(ROOM * settings.ring_bytes) as session:
        collector = open_collector(session, settings)
        with child.signals_passed_on() as interrupts:
            process = child.start(command, program, session)
            interrupts.started(process)
            failure = None
            try:
                follower = Follower(
                    collector,
                    open_writer(process.pid),
                    session,
                    process.pid,
                    cold_s=settings.cold_s,
                )
                follower.follow(lambda: interrupts.count >= 2, process.wait)
                follower.finish(process.returncode)
            except OSError as error:  # the program must not suffer from a full disk of ours
                failure = error
            finally:
                collector.stop()
                _await(process, interrupts)
                collector.close()
    status = process.returncode
    return Outcome(child.exit_status(-2 if status is None else status), failure)


def _await(process: subprocess.Popen[bytes], interrupts: child.Interrupts) -> None:
    """Wait for the program even when recording it failed."""
    while process.poll() is None and interrupts.count < 2:
        time.sleep(_POLL_S)
