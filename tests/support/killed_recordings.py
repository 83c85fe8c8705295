"""Rolling recordings that are killed: a program that tells what it has allocated, and what a recording has of it."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attachments import tree
from mematlas.recording import read
from mematlas.recording.segments import list_segments
from waiting import WAIT_S, wait_until

if TYPE_CHECKING:
    from mematlas.recording.model import CodeObject, RecordingData, Rows

KILLED = ("recorder", "program", "all")
_ENTRY = struct.Struct("<dQ")  # CLOCK_MONOTONIC, blocks allocated until then
_BLOCK = 65_536
_PROGRAM = """
import os, struct, sys, time
held = []
def hold(size):
    held.append(bytearray(size))
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
while len(held) < 20000:
    hold(int(sys.argv[2]))
    os.write(out, struct.pack("<dQ", time.monotonic(), len(held)))
    time.sleep(0.01)
"""


def kill_round(folder: Path, what: str, after_s: float) -> list[tuple[float, int]]:
    """Record the program into folder/rolling, kill `what` some time after its first block.

    Return what the program told until the kill: times, and blocks held by then.
    """
    program, told = folder / "held.py", folder / "told"
    program.write_text(_PROGRAM)
    command = [sys.executable, "-m", "mematlas", "run", "--exact", "--keep", "1m", "--disk", "16M"]
    command += [
        "-o",
        str(folder / "rolling"),
        "--",
        sys.executable,
        str(program),
        str(told),
        str(_BLOCK),
    ]
    recorder = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    family: list[int] = []
    try:
        wait_until(lambda: told.exists() and told.stat().st_size >= 10 * _ENTRY.size, "ten blocks")
        wait_until(lambda: _has_blocks(folder / "rolling"), "some are recorded", 0.2)
        time.sleep(after_s)
        target = _program_of(recorder.pid, program)
        family = tree(recorder.pid)
        killed_s = time.monotonic()
        for pid in {"recorder": [recorder.pid], "program": [target]}.get(what, tree(recorder.pid)):
            _kill(pid)
        recorder.wait(WAIT_S)
    finally:
        for pid in reversed(tree(recorder.pid)):
            _kill(pid)
        recorder.wait(WAIT_S)
        # The program runs on without its recorder, and what thins the folder goes on for a while.
        for pid in (each for root in family for each in reversed(tree(root))):
            _kill(pid)
    return [
        entry for entry in _ENTRY.iter_unpack(_whole(told.read_bytes())) if entry[0] <= killed_s
    ]


def check_files(folder: Path, history: list[tuple[float, int]]) -> int:
    """Read each file and all together; return how many blocks of the program the recording has."""
    for each in list_segments(folder):
        if each.bytes > 16 and _begins(each.path):
            read(each.path)
    found = _count_blocks(read(folder))
    assert found <= history[-1][1] + 50, "more blocks than the program has allocated"
    return found


def _count_blocks(recording: RecordingData) -> int:
    found = 0.0
    for index, totals in recording.totals.items():
        nodes, codes = np.asarray(recording.nodes[index]), recording.codes.get(index, [])
        for row in np.asarray(totals.rows):
            is_block = row["live_bytes"] >= _BLOCK * row["live_count"] > 0
            if is_block and _is_hold(nodes, codes, int(row["stack"])):
                found += float(row["live_count"])
    return round(found)


def seconds_missing(found: int, history: list[tuple[float, int]]) -> float:
    """Return how long before the kill the program held as many blocks as were found."""
    then = [time_s for time_s, blocks in history if blocks <= found]
    return history[-1][0] - (then[-1] if then else history[0][0])


def _has_blocks(folder: Path) -> bool:
    try:
        return _count_blocks(read(folder)) > 0
    except Exception:  # noqa: BLE001 - it has only begun
        return False


def _begins(path: Path) -> bool:
    """Return whether a file has its header: a recorder that is killed at its begin leaves it without."""
    return path.read_bytes()[16:20] == b"HEAD" and path.stat().st_size > 200


def _is_hold(nodes: Rows, codes: list[CodeObject], stack: int) -> bool:
    """Return whether a stack runs through the function that allocates the blocks."""
    while stack:
        word = int(nodes["word"][stack])
        number = word >> 32 & 0x7FFFFFFF
        if word >> 63 and 0 < number <= len(codes) and codes[number - 1].name == "hold":
            return True
        stack = int(nodes["parent"][stack])
    return False


def _whole(data: bytes) -> bytes:
    return data[: len(data) // _ENTRY.size * _ENTRY.size]


def _program_of(pid: int, program: Path) -> int:
    """Return the child of the recorder that runs the program."""
    return next(
        each
        for each in tree(pid)[1:]
        if Path(f"/proc/{each}/cmdline").read_bytes().split(b"\0")[1:2] == [os.fsencode(program)]
    )


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def main() -> int:
    """Run the rounds."""
    rounds = int(sys.argv[1])
    draw = random.Random(rounds)
    missing: dict[str, list[float]] = {what: [] for what in KILLED}
    for number in range(rounds):
        what = KILLED[number % len(KILLED)]
        with tempfile.TemporaryDirectory() as folder:
            after_s = draw.uniform(1.0, 9.0)
            history = kill_round(Path(folder), what, after_s)
            found = check_files(Path(folder, "rolling"), history)
            missing[what].append(seconds_missing(found, history))
        print(
            f"{number + 1:4} {what:9} after {after_s:4.1f} s: {missing[what][-1]:5.2f} s missing",
            flush=True,
        )
    for what, seconds in missing.items():
        if seconds:
            ordered = sorted(seconds)
            print(
                f"{what}: median {ordered[len(ordered) // 2]:.2f} s, most {ordered[-1]:.2f} s of {len(seconds)}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
