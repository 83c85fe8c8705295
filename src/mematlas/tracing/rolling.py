"""The writer of a rolling recording: a folder of segments, each a recording of its own, the oldest of which go."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mematlas.errors import UsageError
from mematlas.recording import Writer
from mematlas.recording.model import NUMBER_OF_KIND, Kind, Past, Segment
from mematlas.recording.segments import (
    LOOK,
    SegmentFile,
    joined_files,
    list_segments,
    pending_files,
    segment_path,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MOST_SEGMENT_S = 600.0
_LEAST_SEGMENT_S = 5.0
_SEGMENTS = 48  # of the time that is kept
_PARTS = 16  # of the disk that a segment may take
_LEAST_BYTES, _MOST_BYTES = 256 << 10, 64 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Kinds that no stack is said to own.
_UNOWNED = {NUMBER_OF_KIND[Kind.ARENA], NUMBER_OF_KIND[Kind.TOUCHED]}
_MOST_LOOKS = 20
_LOOKS_PART = 4  # of the disk that looks may take
# It ends when this process does. "$0" to "$6": the command, the folder and what it may hold.
_LOOP = 'trap "" INT HUP PIPE; while read -r run number; do "$0" "$@" "$run" "$number"; echo; done'
_THINNING_S = 60.0  # that the end of a recording waits for


class RollingWriter(Writer):
    """Writes segment after segment into a folder.

    After a write that failed for lack of space nothing is written until the next segment begins: chunks
    refer to those before them.
    """

    def __init__(
        self,
        folder: str,
        header: Mapping[str, Any],
        *,
        keep_s: float,
        disk_bytes: int,
    ) -> None:
        """Begin a run in a folder, which is made if there is none; `header` has the arguments of Writer.

        Raises:
            UsageError: there is something else.
            OSError: as of open().
        """
        self.folder = Path(folder)
        self._header = dict(header)
        self._keep_s, self._disk_bytes = keep_s, disk_bytes
        self.segment_s = min(max(keep_s / _SEGMENTS, _LEAST_SEGMENT_S), _MOST_SEGMENT_S)
        self._segment_bytes = min(max(disk_bytes // _PARTS, _LEAST_BYTES), _MOST_BYTES)
        self.lacks_space = False
        self.past = Past()  # as the next segment begins with
        self.messages: list[str] = []  # for the user, each once in a run
        self.losses: list[str] = []  # notes for the recording
        self._make_folder()
        self._lock = self._take_lock()
        for path in (*joined_files(self.folder), *pending_files(self.folder)):
            path.unlink(missing_ok=True)  # of a mematlas that was killed
        files = list_segments(self.folder)
        self._run, self._number = max((each.run for each in files), default=0) + 1, 1
        self._open(0.0)
        self._thinner = _Thinner(self.folder, keep_s, disk_bytes)

    def _make_folder(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(
                f"{self.folder} is a file; --keep writes a folder: name another with -o"
            )
        made = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        if not made and any(self.folder.iterdir()) and not list_segments(self.folder):
            raise UsageError(
                f"{self.folder} holds other files and no recording; name another folder with -o"
            )

    def _take_lock(self) -> int:
        """Lock the folder: two writers would remove and thin each other's segments."""
        lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise UsageError(
                f"another mematlas records into {self.folder}; name another folder with -o"
            ) from None
        except OSError:  # a file system without locks
            pass
        return lock

    def _open(self, start_s: float) -> None:
        segment = Segment(self._number, self._number, start_s, past=self.past)
        self.start_s, self._trimmed_at = start_s, 0
        super().__init__(self.path, **self._header, segment=segment)

    @property
    def path(self) -> Path:
        """The file of the current segment."""
        return segment_path(self.folder, self._run, self._number)

    def is_due(self, now_s: float) -> bool:
        """Return whether the next segment is to begin, for its time or its size."""
        return (
            self.lacks_space
            or now_s >= self.start_s + self.segment_s
            or self.size >= self._segment_bytes
        )

    def add_past(self, rows: bytes, faults: Sequence[float]) -> None:
        """Add a process to the sums that the next segment begins with: what it has in this one (TOTALS_DTYPE).

        `faults`: minor and major ones, of a process that has ended.
        """
        view = memoryview(rows)
        # As in the sums of a report.
        owned = [kind not in _UNOWNED for kind in view.cast("I")[1::24]]
        values = view.cast("d")
        past = self.past
        self.past = Past(
            past.allocated_bytes + sum(compress(values[1::12], owned)),
            past.allocations + sum(compress(values[2::12], owned)),
            past.minor_faults + faults[0],
            past.major_faults + faults[1],
        )

    def begin_segment(self, start_s: float) -> Path:
        """End the segment and begin the next; return the path of the one that ended."""
        ended = self.path
        self.end()
        self._number += 1
        self.lacks_space = False
        try:
            self._open(start_s)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._lack_space()
        self.trim()
        self._thinner.begin(self._run, self._number)
        return ended

    def keep_look(self, segment: Path, stamp: str) -> Path:
        """Keep a segment that has ended beyond its time; return its other name."""
        look = self.folder / f"{LOOK}{stamp}.atlas"
        with suppress(FileExistsError):
            os.link(segment, look)
        self._trim_looks()
        return look

    def _trim_looks(self) -> int:
        """Remove the oldest looks but the last one, if they are too many or too large; return the bytes of the rest."""
        looks = sorted(self.folder.glob(f"{LOOK}*.atlas"))
        sizes = [_size(path) for path in looks]
        while len(looks) > 1 and (
            len(looks) > _MOST_LOOKS or sum(sizes) > self._disk_bytes // _LOOKS_PART
        ):
            looks.pop(0).unlink(missing_ok=True)
            sizes.pop(0)
        return sum(sizes)

    def trim(self) -> None:
        """Remove segments that are older than what is kept, then the oldest until the rest fits the disk."""
        files = [each for each in list_segments(self.folder) if each.path != self.path]
        oldest_s = time.time() - self._keep_s
        kept: list[SegmentFile] = []
        for each in files:
            if _modified_s(each.path) < oldest_s:
                each.path.unlink(missing_ok=True)
            else:
                kept.append(each)
        used = self.size + sum(each.bytes for each in kept)
        used += self._trim_looks()
        while kept and used > self._disk_bytes:
            oldest = kept.pop(0)
            used -= oldest.bytes
            oldest.path.unlink(missing_ok=True)

    def trim_if_due(self) -> None:
        """Trim once the current segment has grown by a part of what is left."""
        if self.size >= self._trimmed_at + self._segment_bytes // 8:
            self._trimmed_at = self.size
            self.trim()

    def end(self) -> None:
        """Write the end chunk of the segment and close it, unless it could not be written whole."""
        if not self.lacks_space:
            super().end()
        self.close()

    def finish(self) -> None:
        """End the last segment, resolve the names of all and thin them."""
        self.end()
        self._thinner.end()
        from mematlas.recording.thinning import Limits, thin_folder

        limits = Limits(self._keep_s, self._disk_bytes)
        thin_folder(self.folder, self._run, self._number + 1, limits)
        for path in joined_files(self.folder):
            path.unlink(missing_ok=True)
        os.close(self._lock)

    def stop_thinning(self) -> None:
        """Wait until nothing thins the segments any more."""
        self._thinner.end()

    def discard(self) -> None:
        """Remove what this run has written: nothing was recorded."""
        self.close()
        self._thinner.end()
        for each in list_segments(self.folder):
            if each.run == self._run:
                each.path.unlink(missing_ok=True)
        with suppress(OSError):  # other runs are in it
            self.folder.rmdir()
        os.close(self._lock)

    def _write(self, data: bytes) -> None:
        if self.lacks_space:
            return
        try:
            super()._write(data)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._make_space(data)

    def _make_space(self, data: bytes) -> None:
        """Write again after the oldest segments are removed; if there are none, leave it."""
        for each in list_segments(self.folder):
            self.cut()
            if each.path == self.path:
                break
            self.tell(f"the disk of {self.folder} is full; the recording keeps less time")
            each.path.unlink(missing_ok=True)
            with suppress(OSError):
                super()._write(data)
                return
        self.cut()
        self._lack_space()

    def _lack_space(self) -> None:
        self.lacks_space = True
        self.tell(
            f"the disk of {self.folder} is full; nothing is recorded until there is space, the program goes on"
        )
        loss = "the disk was full at times: what happened then is missing"
        if loss not in self.losses:
            self.losses.append(loss)

    def tell(self, text: str) -> None:
        """Add a message, unless the user was told so before."""
        if text not in self.messages:
            self.messages.append(text)


class _Thinner:
    """The processes that thin ended segments, one after the other, so that this one stays small.

    A shell that begins before the traced program starts them: what this process starts later counts as the program's.
    """

    def __init__(self, folder: Path, keep_s: float, disk_bytes: int) -> None:
        """Start the shell; without memory for one nothing is thinned before the end."""
        self._busy = False
        self._shell: subprocess.Popen[bytes] | None = None
        command = [sys.executable, "-P", "-m", "mematlas.recording.thinning"]
        with suppress(OSError):
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", _LOOP, *command, str(folder), str(keep_s), str(disk_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            if self._shell.stdout:
                os.set_blocking(self._shell.stdout.fileno(), False)

    def begin(self, run: int, number: int) -> None:
        """Thin the segments below a number, unless the thinning before goes on."""
        if not (self._shell and self._shell.stdin and self._shell.stdout):
            return
        with suppress(OSError):  # it is not done yet, or it was killed
            if self._busy:
                os.read(self._shell.stdout.fileno(), 1 << 12)
            self._busy = True
            os.write(self._shell.stdin.fileno(), f"{run} {number}\n".encode())

    def end(self) -> None:
        """Stop the shell, and wait for what goes on; end it after a minute: two that join the same files lose some."""
        if self._shell is None:
            return
        for pipe in (self._shell.stdin, self._shell.stdout):
            if pipe:
                pipe.close()
        try:
            self._shell.wait(_THINNING_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._shell.pid, signal.SIGKILL)  # its own session
            self._shell.wait()


def _modified_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
