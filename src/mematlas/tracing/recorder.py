"""The recorder beside a process that traces itself: `python -m mematlas.tracing.recorder FACTS`.

A process of its own, as `mematlas run` is: what it keeps does not count as the program's memory, and the
end of either does the other no harm. It writes `session PATH` and then obeys two words on its standard
input: `look` has it take a last look, `end` has it finish the recording, each answered by a line.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from pathlib import Path

from mematlas.tracing.follow import Follower, open_collector
from mematlas.tracing.loop import ROOM
from mematlas.tracing.output import open_recording, write_names
from mematlas.tracing.session import session_directory
from mematlas.tracing.settings import Settings


def main(facts: str) -> int:
    """Record the process that the facts name until it says so, or is gone."""
    asked = json.loads(facts)
    pid, path, settings = int(asked["pid"]), str(asked["output"]), Settings(**asked["settings"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal means the program
    with session_directory(ROOM * settings.ring_bytes) as session:
        collector = open_collector(session, settings)
        try:
            try:
                writer = open_recording(path, command_of(pid), settings)
            except OSError as error:
                sys.exit(error.strerror)
            follower = Follower(collector, writer, session, pid)
            _say(f"session {session}")
            follower.follow(lambda: _is_told_to_end(follower), lambda: None)
            follower.finish(None)
        finally:
            collector.stop()
            collector.close()
    write_names(writer, path)
    _say("done")
    return 0


def command_of(pid: int) -> list[str]:
    """Give the command line of a process; empty for one that is gone."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(word) for word in text.rstrip(b"\0").split(b"\0")]


def _is_told_to_end(follower: Follower) -> bool:
    while select.select([sys.stdin], [], [], 0)[0]:
        word = sys.stdin.readline()
        if word != "look\n":  # the process's end of the pipe may also just be closed
            return True
        follower.look_once_more()
        _say("looked")
    return False


def _say(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the program is gone; its recording is not
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
