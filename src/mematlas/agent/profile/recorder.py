"""The process that records the targets of the agent: `python -m mematlas.agent.profile.recorder REQUEST`.

A process of its own: it goes on while the agent is upgraded or was killed, and an agent that starts takes it over. It
ends when it is told to, when it has no target left, or when no agent has run for two minutes. REQUEST is JSON, as Request.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.linux.file_lock import is_locked

if TYPE_CHECKING:
    from mematlas.tracing.attach import StopSignals
    from mematlas.tracing.entries import Entries

_POLL_S = 2.0
_ALONE_S = 120.0  # without an agent
_EMPTY_S = 900.0  # without a target: a start costs as much CPU time as a minute may
_INTERVAL_S = 5.0  # between two snapshots of residency


@dataclass(frozen=True, slots=True)
class Request:
    """What a recorder is asked for. `status` is written by the recorder, `targets` and `lock` by the agent."""

    output: str
    targets: str  # a file: [[PID, start time], ...]
    status: str
    lock: str
    sample_bytes: int
    budget: float  # share of one CPU that snapshots may take


def main(text: str) -> int:
    """Record until the end; return 0, or 1 with a line on standard error."""
    from mematlas.errors import MematlasError
    from mematlas.tracing.attach import StopSignals
    from mematlas.tracing.attach_group import Waits, attach_group
    from mematlas.tracing.output import write_names
    from mematlas.tracing.settings import TraceSettings

    request = Request(**json.loads(text))
    settings = TraceSettings(
        sample_bytes=request.sample_bytes,
        interval_s=_INTERVAL_S,
        fault_period=0,
        budget=request.budget,
    )
    os.nice(5)
    with StopSignals() as stop:
        try:
            writer = attach_group(
                Targets(request.targets),
                settings,
                request.output,
                stop,
                on_attached=lambda entries: _begin(entries, request, stop),
                waits=Waits(_POLL_S, _EMPTY_S),
            )
            write_names(writer, request.output)
        except (MematlasError, OSError) as error:
            print(f"mematlas: {error}", file=sys.stderr)  # noqa: T201
            return 1
    return 0


class Targets:
    """The processes that the agent chose, from a file that it replaces."""

    name = "the targets of the agent"

    def __init__(self, path: str) -> None:
        """Read the file when it has changed."""
        self._path = path
        self._stamp = (0, 0)
        self._targets: list[tuple[int, int]] = []

    def read(self) -> list[int]:
        """Read the PIDs of now; a process that took the PID of a target is none."""
        from mematlas.linux.processes import read_started

        with contextlib.suppress(OSError, ValueError):
            status = os.stat(self._path)  # noqa: PTH116
            stamp = status.st_ino, status.st_mtime_ns
            if stamp != self._stamp:
                found = json.loads(Path(self._path).read_bytes())
                self._targets = [(int(pid), int(started)) for pid, started in found]
                self._stamp = stamp
        return sorted(pid for pid, started in self._targets if read_started(pid) == started)


def _begin(entries: Entries, request: Request, stop: StopSignals) -> None:
    threading.Thread(target=_tell, args=(entries, request, stop), daemon=True).start()


def _tell(entries: Entries, request: Request, stop: StopSignals) -> None:
    """Write which processes are recorded, and end the recording where no agent has run for a while."""
    written, agent_at = "", time.monotonic()
    while True:
        refused = {str(each.pid): each.reason for each in list(entries.refusals.values())}
        entered = sorted({*entries.entered, *entries.traced})
        text = json.dumps({"entered": entered, "refused": refused})
        if text != written:
            with contextlib.suppress(OSError):
                replace_file(request.status, text.encode())
                written = text
        if is_locked(request.lock):
            agent_at = time.monotonic()
        elif time.monotonic() - agent_at > _ALONE_S:
            stop.received = True
        time.sleep(_POLL_S)


def replace_file(path: str, content: bytes) -> None:
    """Write a file whole: who reads it sees the old content or the new."""
    part = f"{path}.new"
    with open(part, "wb", opener=_private) as file:
        file.write(content)
    os.replace(part, path)  # noqa: PTH105


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def request_text(request: Request) -> str:
    """Format a request."""
    return json.dumps(asdict(request))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
