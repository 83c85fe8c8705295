"""The recorder process of a program that traces itself: `python -m mematlas.tracing.recorder REQUEST`.

A process of its own, as `mematlas run` is: its memory does not count as the program's, and neither process
is harmed when the other ends. It prints `session TEXT`, and then obeys two commands on its standard input,
each answered by a line: `snapshot` writes a last snapshot and prints `snapshot done`; `finish` ends the
recording and prints `finished`. REQUEST is JSON: {"pid", "output", "settings"}, the last as TraceSettings.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.tracing.follow import Follower, open_collector
from mematlas.tracing.output import open_recording, write_names
from mematlas.tracing.rolling import RollingWriter
from mematlas.tracing.settings import TraceSettings

if TYPE_CHECKING:
    from mematlas.recording import Writer

_READER_S = 30.0


def main(request: str) -> int:
    """Record the requested process until it sends `finish`, closes the pipe, or ends."""
    asked = json.loads(request)
    pid, path = int(asked["pid"]), str(asked["output"])
    labels = tuple((name, value) for name, value in asked["settings"].pop("labels"))
    asked["settings"]["graphs"] = tuple(asked["settings"].get("graphs", ()))
    settings = TraceSettings(**asked["settings"], labels=labels)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the program
    collector = open_collector(settings)
    try:
        try:
            writer = open_recording(path, command_of(pid), settings)
        except OSError as error:
            sys.exit(error.strerror)
        follower = Follower(collector, writer, pid, graphs=settings.graphs)
        commands = _Commands(follower)
        _reply(f"session {collector.session}")
        follower.follow(commands.obey, lambda: None)
        follower.finish(None)
    except OSError:  # of the disk
        if settings.temporary:
            shutil.rmtree(path, ignore_errors=True)
        raise
    finally:
        collector.stop()
        collector.close()
    if not settings.temporary:
        write_names(writer, path)
    elif (
        commands.finished and settings.reader
    ):  # the program ends the reader and removes the folder
        _end(writer)
    else:
        _remove(writer, path, settings.reader)
    _reply("finished")
    return 0


def _end(writer: Writer) -> None:
    """Write the end of a rolling recording; nothing writes into its folder any more."""
    try:
        writer.end()
    finally:
        if isinstance(writer, RollingWriter):
            writer.stop_thinning()


def _remove(writer: Writer, path: str, reader: int) -> None:
    """Remove a rolling recording that nobody wants to keep, once the process that pushes it has read the end."""
    try:
        _end(writer)
        if reader:
            _wait_for(reader)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _wait_for(pid: int) -> None:
    """Wait for the end of a process, for half a minute at most."""
    try:
        process = os.pidfd_open(pid)
    except OSError:  # it has ended
        return
    select.select([process], [], [], _READER_S)
    os.close(process)


def command_of(pid: int) -> list[str]:
    """Read the command line of a process; empty if the process is gone."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(word) for word in text.rstrip(b"\0").split(b"\0")]


class _Commands:
    """The commands of the program. `finished`: the last was `finish`, and the program goes on."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self.finished = False

    def obey(self) -> bool:
        """Obey the commands that have come; return whether the recording is to end."""
        while select.select([sys.stdin], [], [], 0)[0]:
            line = sys.stdin.readline()
            if line != "snapshot\n":  # `finish`, or the program closed the pipe
                self.finished = line == "finish\n"
                return True
            self._follower.snapshot_all()
            _reply("snapshot done")
        return False


def _reply(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the program ended; its recording is still to be finished
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
